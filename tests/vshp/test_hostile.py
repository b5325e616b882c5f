"""What an attacker on the path, or a stranger at the port, can do to a stream: end it, by name."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sealing.errors import AuthFailed, LocalMisuse, PeerViolation, ProtocolError
from sealing.identity import generate_identity, public_key
from tests.vshp.dialogue import (
    CLIENT_KEY,
    GATEWAY_KEY,
    GATEWAY_PUBLIC,
    HELLO,
    LEASE,
    Pair,
    connected,
    drain,
    events,
    feed,
    pair,
)
from tests.vshp.mallory import Rewritten
from vshp.config import GatewayStatus, Suite
from vshp.constants import MAX_EARLY_RECORDS
from vshp.core import MAX_EVENTS
from vshp.errors import Refused
from vshp.events import Confirmed, HelloReceived, LeaseGranted, PeerClosed
from vshp.frames import FrameType, encode_frame, encode_status
from vshp.pairing import OneTimeSecrets, code_commitment, secret_id
from vshp.preamble import decode_preamble
from vshp.session import ClientSession, GatewaySession
from vshp.states import State

ENDINGS = (PeerViolation, AuthFailed, Refused)


def no_secret(name: bytes) -> bytes:
    raise Refused("secret_unknown")


def fresh_gateway() -> GatewaySession:
    return GatewaySession(GATEWAY_KEY, no_secret, 0.0)


# --- junk ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=400), st.integers(1, 100))
@example(bytes(31) + b"\x01\0\0\0", 1)
def test_junk_at_the_port_ends_by_name_or_waits(junk: bytes, step: int) -> None:
    for start in (b"", b"VSHP\x01\x01\x01\x00", b"VSHP\x01\x03\x02\x00\x01\x20\x00"):
        gateway = fresh_gateway()
        try:
            feed(gateway, start + junk, step=step)
        except ENDINGS as error:
            assert gateway.closed
            # Any 32 bytes are a first message of `XX`, which is answered.
            gateway.counters.pop("handshake__key__shown", None)
            assert gateway.counters == {f"session__{error.reason}__closed": 1}
        assert all(not isinstance(event, HelloReceived) for event in events(gateway))


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=1, max_size=300), st.sampled_from(["client", "gateway"]))
def test_junk_inside_an_open_session(junk: bytes, side: str) -> None:
    """Frames of a peer that holds the keys and means no good."""
    both = connected()
    near, far = (both.client, both.gateway) if side == "client" else (both.gateway, both.client)
    writer = near.writer
    writer.buffer[: len(junk)] = junk
    writer._fill = len(junk)
    writer.flush()
    try:
        feed(far, drain(near))
    except PeerViolation:
        assert far.closed


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200))
def test_junk_after_the_handshake(junk: bytes) -> None:
    for both in (connected(), pair()):
        session = both.client
        try:
            feed(session, junk)
        except ENDINGS:
            assert session.closed


@pytest.mark.parametrize(
    ("data", "error", "reason"),
    [
        (b"G", PeerViolation, "bad_magic"),
        (b"VSHX", PeerViolation, "bad_magic"),
        (b"VSHP\x02\x01\x01\x00", Refused, "version_unsupported"),
        (b"VSHP\x01\x01\x01\x80", Refused, "version_unsupported"),
        (b"VSHP\x01\x09\x01\x00", Refused, "pattern_unsupported"),
        (b"VSHP\x01\x01\x09\x00", Refused, "suite_unsupported"),
        (b"VSHP\x01\x02\x01\x00" + bytes(8), Refused, "secret_unknown"),
        (b"VSHP\x01\x01\x01\x01", PeerViolation, "preamble_flags"),
        (b"VSHP\x01\x01\x01\x00\x07\x01\x00", PeerViolation, "message_unknown"),
        (b"VSHP\x01\x01\x01\x00\x02\x01\x00\x01", PeerViolation, "message_unknown"),
        (b"VSHP\x01\x01\x01\x00\x01\xff\xff", PeerViolation, "handshake_message_too_long"),
        (b"VSHP\x01\x01\x01\x00\x01\x00\x00", AuthFailed, "handshake_failed"),
    ],
)
def test_named_endings_before_authentication(
    data: bytes, error: type[ProtocolError], reason: str
) -> None:
    gateway = fresh_gateway()
    with pytest.raises(error) as caught:
        feed(gateway, data)
    assert caught.value.reason == reason
    assert gateway.closed
    assert gateway.counters == {f"session__{reason}__closed": 1}


def test_preamble_waits_for_all_of_itself() -> None:
    whole = b"VSHP\x01\x02\x01\x00" + bytes(8)
    for cut in range(len(whole)):
        assert decode_preamble(whole[:cut]) is None
    assert decode_preamble(whole) is not None


def test_a_talked_down_suite_fails() -> None:
    both = pair(suite=Suite.AESGCM_SHA256)
    data = bytearray(drain(both.client))
    data[6] = Suite.CHACHAPOLY_BLAKE2S
    with pytest.raises(AuthFailed):
        feed(both.gateway, bytes(data))


def test_impatient_data_before_message_two_is_a_violation() -> None:
    both = pair()
    feed(both.gateway, drain(both.client))
    with pytest.raises(PeerViolation, match="data_unexpected"):
        feed(both.gateway, b"x")


def test_a_waiting_stranger_costs_little() -> None:
    both = [fresh_gateway() for _ in range(3)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    held = []
    for _ in range(100):
        gateway = fresh_gateway()
        feed(gateway, b"VSHP\x01\x01\x01\x00\x01\x10\x04" + bytes(900))
        held.append(gateway)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(held) + len(both) == 103
    assert grown / 100 < 16 * 1024


# --- damage on the way -----------------------------------------------------------------------


@dataclass
class Captured:
    """A session's bytes, by direction, from the first to packets both ways."""

    up: bytes
    down: bytes
    make: Callable[[], Pair]


def capture() -> Captured:
    """One session recorded; `make` builds the same two ends again, keys and all."""
    ephemeral = [os.urandom(32), os.urandom(32)]

    def make() -> Pair:
        client = ClientSession(CLIENT_KEY, GATEWAY_PUBLIC, HELLO, now=0.0, ephemeral=ephemeral[0])
        gateway = GatewaySession(GATEWAY_KEY, no_secret, 0.0, ephemeral=ephemeral[1])
        return Pair(client, gateway)

    both = make()
    first = drain(both.client)
    feed(both.gateway, first)
    both.gateway.approve(LEASE, 0.0)
    both.gateway.writer.reserve_packet(40)
    both.gateway.writer.flush()
    down = drain(both.gateway)
    feed(both.client, down)
    for _ in range(2):
        both.client.writer.reserve_packet(40)
        both.client.writer.flush()
    return Captured(first + drain(both.client), down, make)


def replay_up(captured: Captured, data: bytes) -> Pair:
    """Feed upward bytes to a gateway of the same keys; it approves as it did."""
    both = captured.make()
    head = len(data) - (len(captured.up) - first_flight(captured))
    feed(both.gateway, data[:head])
    if both.gateway.state is State.DECIDING:
        both.gateway.approve(LEASE, 0.0)
    feed(both.gateway, data[head:])
    return both


def first_flight(captured: Captured) -> int:
    """Length of preamble and message one."""
    return 8 + 3 + int.from_bytes(captured.up[9:11], "little")


def test_the_capture_itself_is_good() -> None:
    captured = capture()
    both = replay_up(captured, captured.up)
    assert len(both.at_gateway) == 2
    both = captured.make()
    feed(both.client, captured.down)
    assert len(both.at_client) == 1


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_flipped_bit_at_any_offset_ends_by_name_or_stalls(direction: str) -> None:
    """Packets before the damage may be delivered, none after it, and none changed."""
    captured = capture()
    original = captured.up if direction == "up" else captured.down
    good = len(replay_up(captured, captured.up).at_gateway)
    for offset in range(len(original)):
        data = bytearray(original)
        data[offset] ^= 1 << (offset % 8)
        both = captured.make()
        try:
            if direction == "up":
                both = replay_up(captured, bytes(data))
            else:
                feed(both.client, bytes(data))
        except ENDINGS as error:
            assert error.reason
            continue
        delivered = both.at_gateway if direction == "up" else both.at_client
        # Only a changed length that claims more than came can pass without an error.
        assert len(delivered) < (good if direction == "up" else 1)
        assert all(packet == bytes(40) for packet in delivered)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_truncation_at_any_offset_just_waits(direction: str) -> None:
    captured = capture()
    if direction == "up":
        first = first_flight(captured)
        for cut in range(first):
            gateway = captured.make().gateway
            feed(gateway, captured.up[:cut])
            assert gateway.next_event() is None
        for cut in range(first, len(captured.up)):
            both = captured.make()
            feed(both.gateway, captured.up[:first])
            both.gateway.approve(LEASE, 0.0)
            feed(both.gateway, captured.up[first:cut])
            assert not both.gateway.closed
            assert len(both.at_gateway) < 2
    else:
        for cut in range(len(captured.down)):
            both = captured.make()
            feed(both.client, captured.down[:cut])
            assert not both.client.closed
            assert both.at_client == []


def records(data: bytes) -> list[bytes]:
    found = []
    while data:
        size = 4 + int.from_bytes(data[:4], "little")
        found.append(data[:size])
        data = data[size:]
    return found


@pytest.mark.parametrize("order", [[1, 0], [0, 0], [0, 2], [2]])
def test_records_replayed_reordered_or_left_out_end_the_stream(order: list[int]) -> None:
    both = connected()
    for size in (40, 41, 42):
        both.client.writer.reserve_packet(size)
        both.client.writer.flush()
    sent = records(drain(both.client))
    with pytest.raises(AuthFailed, match="record_forged"):
        feed(both.gateway, b"".join(sent[n] for n in order))
    assert both.gateway.counters == {"session__record_forged__closed": 1}
    assert len(both.at_gateway) == (1 if order[0] == 0 else 0)
    assert not drain(both.gateway), "nobody vouches for who is listening"


def test_records_of_one_direction_or_session_mean_nothing_in_another() -> None:
    one, other = connected(), connected()
    one.client.writer.reserve_packet(40)
    one.client.writer.flush()
    data = drain(one.client)
    for victim in (one.client, other.gateway):
        with pytest.raises(AuthFailed):
            feed(victim, data)


def test_a_replayed_first_message_is_never_confirmed() -> None:
    """It may show an old HELLO again; without a record under the new keys nothing follows."""
    both = pair()
    first = drain(both.client)
    for _ in range(3):
        gateway = fresh_gateway()
        feed(gateway, first)
        assert isinstance(gateway.next_event(), HelloReceived)
        gateway.approve(LEASE, 0.0)
        with pytest.raises(ENDINGS):
            feed(gateway, first)
        assert Confirmed() not in events(gateway)


@pytest.mark.parametrize(("size", "reason"), [(0, "record_too_short"), (16, "record_too_short"),
                                              (1 << 20, "record_too_long")])  # fmt: skip
def test_record_lengths_are_bounded(size: int, reason: str) -> None:
    both = connected()
    with pytest.raises(PeerViolation) as caught:
        feed(both.gateway, size.to_bytes(4, "little") + bytes(64))
    assert caught.value.reason == reason


def test_early_records_are_bounded_smaller() -> None:
    both = pair()
    both.exchange()
    both.hello()
    both.gateway.pending(60, 0.0)
    both.exchange()
    with pytest.raises(PeerViolation, match="record_too_long"):
        feed(both.gateway, (4096).to_bytes(4, "little"))


def test_pings_without_reading_are_not_answered_forever() -> None:
    both = connected()
    for _ in range(8000):
        both.client.ping(0.0)
        feed(both.gateway, drain(both.client))
    assert both.gateway.counters["ping__queue_full__ignored"] > 0
    assert len(both.gateway.writer.output()) < 600_000


def test_a_flood_of_news_is_a_violation() -> None:
    both = connected()
    body = encode_status(GatewayStatus())
    for _ in range(MAX_EVENTS + 1):
        both.gateway.writer.frame(FrameType.STATUS, body)
    both.gateway.writer.flush()
    with pytest.raises(PeerViolation, match="events_flooded"):
        feed(both.client, drain(both.gateway))
    assert len(events(both.client)) == MAX_EVENTS


# --- the man in the middle (his tries to match codes: test_man_in_the_middle.py) -------------


def test_who_waits_can_send_few_records() -> None:
    both = pair(known=False)
    both.exchange()
    both.gateway.pending(120, 0.0)
    both.exchange()
    sent = both.client.writer.records
    with pytest.raises(PeerViolation, match="early_records_flooded"):
        for _ in range(2 * MAX_EARLY_RECORDS):
            both.client.writer.frame(FrameType.PADDING, b"")
            both.client.writer.flush()
            sent += 1
            feed(both.gateway, drain(both.client))
    assert sent == MAX_EARLY_RECORDS + 1
    open_ = connected()
    for _ in range(2 * MAX_EARLY_RECORDS):
        open_.client.writer.frame(FrameType.PADDING, b"")
        open_.client.writer.flush()
        feed(open_.gateway, drain(open_.client))
    assert not open_.gateway.closed


def test_a_share_that_was_not_committed_to_is_refused() -> None:
    """Without this the attacker could choose his share after seeing the gateway's."""
    both = pair(known=False)
    # By hand up to the reveal.
    feed(both.gateway, drain(both.client))
    feed(both.client, drain(both.gateway))
    both.client._share = os.urandom(32)
    feed(both.gateway, drain(both.client))
    feed(both.client, drain(both.gateway))
    with pytest.raises(PeerViolation, match="code_commit_mismatch"):
        feed(both.gateway, drain(both.client))
    assert all(not isinstance(event, HelloReceived) for event in events(both.gateway))


def test_hello_without_commitment_is_refused() -> None:
    both = pair(known=False)
    both.client._rng = lambda n: bytes(n)
    commit = encode_frame(FrameType.CODE_COMMIT, code_commitment(bytes(32)))
    feed(both.gateway, drain(both.client))
    both.client._handshake = Rewritten(
        both.client._handshake, lambda payload: payload.removesuffix(commit)
    )
    feed(both.client, drain(both.gateway))
    with pytest.raises(PeerViolation, match="code_commit_missing"):
        feed(both.gateway, drain(both.client))


def test_with_a_qr_code_the_man_in_the_middle_is_refused() -> None:
    """He has neither the gateway's private key nor the secret."""
    secrets = OneTimeSecrets(GATEWAY_PUBLIC)
    secret = secrets.issue(0.0)
    victim = pair(secret=secret, secrets=secrets)
    identity = generate_identity()
    toward_client = GatewaySession(identity, lambda name: bytes(32), 0.0)
    toward_gateway = ClientSession(identity, GATEWAY_PUBLIC, HELLO, now=0.0, secret=bytes(16))
    with pytest.raises(AuthFailed):
        feed(toward_client, drain(victim.client))
    # His own guess at the secret is unknown to the gateway; with its right name it does not prove.
    with pytest.raises(Refused):
        feed(victim.gateway, drain(toward_gateway))
    # What he makes up as message two does not convince the client.
    with pytest.raises(AuthFailed):
        feed(victim.client, b"\x01\x30\x00" + os.urandom(48))
    assert all(not isinstance(e, LeaseGranted) for e in events(victim.client))
    assert secrets.lookup(secret_id(secret), 0.0)


def test_a_forged_refusal_is_marked_as_unauthenticated() -> None:
    both = pair()
    feed(both.client, b"\x02\x01\x00\x0a")
    (event,) = events(both.client)
    assert isinstance(event, PeerClosed)
    assert not event.authenticated


def test_known_key_of_another_gateway_is_refused() -> None:
    """IK to the wrong gateway: the client expects another key."""
    client = ClientSession(CLIENT_KEY, public_key(generate_identity()), HELLO, now=0.0)
    with pytest.raises(AuthFailed):
        feed(fresh_gateway(), drain(client))


def test_misuse_is_not_the_peers_fault() -> None:
    both = connected()
    with pytest.raises(LocalMisuse):
        both.gateway.writer.consumed(1)
    assert not both.gateway.closed
