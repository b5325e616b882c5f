"""Datagram sessions: over a good path, a bad one, and with a stranger on it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealing.errors import LocalMisuse, PeerViolation
from tests.vshp.dialogue import GATEWAY_PUBLIC, HELLO, LEASE
from tests.vshp.lossy import SERVER, World, connected, split
from vshp import datagram_writer
from vshp.config import CloseReason, GatewayStatus, Resume, Suite
from vshp.constants import (
    CHALLENGE_RETRY,
    CHALLENGE_SIZE,
    DATAGRAM_OVERHEAD,
    INITIATION_SIZE,
    LOAD_HALF_OPEN,
    MAX_EARLY_RECORDS,
    MAX_HALF_OPEN,
    MAX_QUEUED,
    MAX_QUEUED_DATAGRAMS,
    OLD_KEY_SECONDS,
)
from vshp.datagram_session import DatagramClientSession, DatagramGatewaySession
from vshp.errors import FrameMisplaced
from vshp.events import (
    ApprovalPending,
    CodeAgreed,
    Confirmed,
    HelloReceived,
    LeaseChanged,
    LeaseGranted,
    LinkDead,
    PathPayloadFound,
    PeerClosed,
    StatusReceived,
)
from vshp.frames import FrameType, encode_config
from vshp.pairing import OneTimeSecrets, secret_id
from vshp.path_mtu import PathSearch
from vshp.path_proof import PathProof
from vshp.reliable import ControlReceiver, ControlSender
from vshp.states import State

SUITES = list(Suite)


def hellos(world: World) -> list[HelloReceived]:
    return [e for e in world.gateway_events if isinstance(e, HelloReceived)]


def ask(world: World, session: DatagramGatewaySession, hello: HelloReceived) -> None:
    session.pending(60, world.now)


# --- handshakes ------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES)
def test_known_peer(suite: Suite) -> None:
    world = World(suite=suite)
    world.run(0.03)
    assert world.granted()
    assert world.gateway_events[1:] == [Confirmed()]
    assert hellos(world)[0].transport == "udp"


def test_resume_in_one_round_trip() -> None:
    world = World(resume=Resume(LEASE.session_id, LEASE.ticket, LEASE))
    world.decide = lambda w, session, hello: session.approve(
        replace(LEASE, resumed=True, ticket=b"n"), w.now, base=LEASE
    )
    world.run(0.012)
    assert LeaseGranted(replace(LEASE, resumed=True, ticket=b"n")) in world.client_events


def test_pairing_by_secret_and_its_refusals() -> None:
    secrets = OneTimeSecrets(GATEWAY_PUBLIC)
    secret = secrets.issue(0.0)
    world = World(secret=secret, secrets=secrets)
    world.run(0.1)
    assert hellos(world)[0].proof == "secret"
    secrets.consume(secret_id(secret), 0.0)
    again = World(secret=secret, secrets=secrets)
    again.run(0.1)
    assert again.client_events == [PeerClosed(CloseReason.SECRET_USED, authenticated=False)]
    assert again.listener.counters == {"initiation__secret_used__refused": 1}


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("seed", range(4))
def test_first_contact_over_a_bad_path_shows_one_code(suite: Suite, seed: int) -> None:
    world = World(
        known=False, suite=suite, loss=0.25, duplicate=0.2, jitter=0.05, seed=seed, decide=ask
    )
    world.run(9.0)
    (hello,) = hellos(world)
    assert ApprovalPending(hello.code, 60.0) in world.client_events
    world.client.agree(world.now)
    world.run(9.0)
    assert CodeAgreed() in world.gateway_events
    world.session.approve(LEASE, world.now)
    world.run(9.0)
    assert world.granted()


@pytest.mark.parametrize("early", [True, False])
def test_who_grants_by_himself_gives_nothing_over_datagrams(
    early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(known=False, decide=ask)
    while not world.listener.sessions:
        world.run(0.001)
    (session,) = world.listener.sessions.values()

    def grant(*said: object) -> None:
        session._send_frame(FrameType.CONFIG, encode_config(LEASE))
        session._flush(world.now)

    with pytest.raises(PeerViolation, match="config_before_consent"):
        if early:
            # In the place of his share of the code.
            monkeypatch.setattr(session, "admit_code", lambda now: False)
            monkeypatch.setattr(session, "close", grant)
        else:
            while world.client.state is not State.CONSENT:
                world.run(0.001)
            grant()
        world.run(1.0)
    assert world.client.closed and not world.granted()
    assert world.client.counters["session__config_before_consent__closed"] == 1


@pytest.mark.parametrize("seed", range(6))
def test_lost_and_repeated_control_frames_arrive_once_and_in_order(seed: int) -> None:
    world = World(loss=0.3, duplicate=0.3, jitter=0.05, seed=seed)
    world.run(9.0)
    assert world.granted()
    for n in range(10):
        world.session.change(replace(LEASE, expires_in=n, mtu=1400), world.now)
        world.session.status(GatewayStatus(quota_left=n), world.now)
    world.run(30.0)
    changed = [e.lease.expires_in for e in world.client_events if isinstance(e, LeaseChanged)]
    status = [e.status.quota_left for e in world.client_events if isinstance(e, StatusReceived)]
    assert changed == status == list(range(10))
    assert not world.client.closed


def test_who_waits_can_send_few_datagrams() -> None:
    world = World(decide=ask)
    world.run(0.1)
    with pytest.raises(PeerViolation, match="early_records_flooded"):
        for _ in range(2 * MAX_EARLY_RECORDS):
            world.client.writer.frame(FrameType.PADDING, b"")
            world.client.writer.flush()
            for data in split(world.client.datagrams_to_send()):
                world.session.receive_datagram(memoryview(data), world.session.address, world.now)
    assert world.session.closed and world.session.records == MAX_EARLY_RECORDS + 1


def test_denial_reaches_the_client() -> None:
    world = World(decide=lambda w, s, h: s.deny(CloseReason.DENIED, w.now))
    world.run(0.1)
    assert world.client_events[-1] == PeerClosed(CloseReason.DENIED)
    world = connected()
    world.session.close(CloseReason.REVOKED, world.now)
    world.run(0.1)
    assert world.client_events == [PeerClosed(CloseReason.REVOKED)]


def test_nobody_there() -> None:
    world = World(cut=True)
    world.run(11.0)
    assert world.client_events == [PeerClosed(CloseReason.HANDSHAKE_TIMEOUT)]
    assert 4 <= world.client.counters["handshake__unanswered__resent"] <= 8


# --- packets ---------------------------------------------------------------------------------


def test_small_packets_share_a_datagram_and_full_ones_fill_it() -> None:
    world = connected(World(lease=replace(LEASE, mtu=1400)))
    writer = world.client.writer
    for n in range(20):
        at = writer.reserve_packet(60)
        writer.buffer[at : at + 60] = bytes((n,)) * 60
    writer.flush()
    assert [size for _, size in writer.output()] == [20 * 64 + 32]
    for n in range(130):
        writer.send_packet(bytearray(64) + bytes((n,)) * 1400, 64, 1464)
    writer.flush()
    runs = writer.output()
    assert [size for _, size in runs] == [1436, 1436, 1436]
    assert max(len(run) for run, _ in runs) <= 65507
    for data in split(runs):
        world.send("gateway", data, world.address)
    world.run(0.1)
    assert world.at_gateway == [bytes((n,)) * 1400 for n in range(130)]
    assert world.client.writer.room() <= MAX_QUEUED


def test_packets_too_long_for_the_path_are_dropped_and_counted() -> None:
    world = connected()
    writer = world.client.writer
    writer.reserve_packet(40)
    writer.send_packet(bytearray(5000), 64, 5000)
    read = reading([bytes(3000), b"\x07" * 1500])
    assert writer.read_packets(read) == 1500
    assert writer.counters["writer__packet_too_long__dropped"] == 2
    world.run(0.1)
    assert [len(p) for p in world.at_gateway] == [40, 1500]
    assert world.at_gateway[1] == b"\x07" * 1500


def reading(packets: list[bytes]) -> Callable[[memoryview], int]:
    """A NIC that has these packets."""
    waiting = iter(packets)

    def read(view: memoryview) -> int:
        packet = next(waiting, b"")
        view[: len(packet)] = packet
        return len(packet)

    return read


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(st.sampled_from([20, 40, 1400, 1476, 1477, 1500, 3000]), st.integers(20, 1600)),
        max_size=12,
    )
)
def test_what_is_read_from_a_nic_arrives_in_its_order(sizes: list[int]) -> None:
    world = connected()
    writer = world.client.writer
    payload = writer._limit
    packets = [bytes((number,)) * size for number, size in enumerate(sizes)]
    fits = [packet for packet in packets if len(packet) + 4 <= payload]
    at = writer.reserve_packet(40)
    writer.buffer[at : at + 40] = b"\xaa" * 40
    read = reading(packets)
    taken = 0
    while part := writer.read_packets(read):
        taken += part
        runs = writer.output()
        assert sum(len(run) for run, _ in runs) < MAX_QUEUED_DATAGRAMS + 2 * 1600
        for data in split(runs):
            world.send("gateway", data, world.address)
    assert taken == sum(map(len, fits))
    world.run(0.1)
    assert world.at_gateway == [b"\xaa" * 40, *fits]
    assert writer.packet_bytes == 40 + taken
    dropped = len(packets) - len(fits)
    assert writer.counters.get("writer__packet_too_long__dropped", 0) == dropped


def test_small_packets_from_a_nic_share_a_datagram() -> None:
    world = connected()
    writer = world.client.writer
    writer.read_packets(reading([bytes(60)] * 10 + [bytes(1400)] + [bytes(60)]))
    assert [len(data) for data in split(writer.output())] == [640 + 32, 1404 + 64 + 32]


def test_a_nic_is_read_no_more_once_the_queue_is_long_enough() -> None:
    world = connected()
    writer = world.client.writer
    packets = [bytes(1400)] * 100
    read = reading(packets)
    taken = writer.read_packets(read)
    assert MAX_QUEUED_DATAGRAMS - 1400 <= taken <= MAX_QUEUED_DATAGRAMS + 1400
    assert writer.room() <= 0
    assert writer.read_packets(read) == 0


def test_what_is_read_from_a_nic_counts_for_the_next_key() -> None:
    world = connected()
    writer = world.client.writer
    writer._rekey_bytes_left = 10_000
    for _ in range(3):
        writer.read_packets(reading([bytes(1400)] * 8))
        writer.output()
    assert writer.counters["record__rekey__sent"] == 1
    assert writer.epoch == 1


def test_queue_is_bounded() -> None:
    world = connected()
    for _ in range(1000):
        world.client.writer.send_packet(bytearray(1400), 64, 1400)
    assert world.client.writer.room() < 0
    assert world.client.writer.counters["writer__queue_full__dropped"] > 0
    assert len(world.client.writer._runs.buffer) <= 256 * 1024
    world.client.writer.flush()
    world.run(0.1)
    assert world.client.writer.packet_bytes == sum(map(len, world.at_gateway)) > 0


def test_packets_over_a_bad_path_are_never_changed_or_doubled() -> None:
    world = connected(World(seed=3))
    world.loss, world.duplicate, world.jitter = 0.2, 0.3, 0.05
    for n in range(300):
        world.client.writer.send_packet(bytearray(64) + n.to_bytes(2, "big") * 600, 64, 1264)
        world.client.writer.flush()
        world.run(0.002)
    world.run(0.5)
    assert len(world.at_gateway) == len(set(world.at_gateway))
    assert 150 < len(world.at_gateway) < 300
    assert world.session.counters["datagram__replayed__dropped"] > 10
    assert not world.session.closed


def test_packets_that_overtake_the_lease_are_dropped_not_punished() -> None:
    world = World(decide=ask)
    world.run(0.1)
    world.session.approve(LEASE, world.now)
    world.session.datagrams_to_send()
    world.session.writer.reserve_packet(40)
    world.session.writer.flush()
    world.run(0.1)
    assert world.client.counters["packet__before_lease__dropped"] == 1
    assert world.at_client == []
    world.run(1.0)
    assert world.granted()


# --- roaming, rekey, liveness, path ----------------------------------------------------------


def test_an_authenticated_datagram_moves_the_peer_and_nothing_else_does() -> None:
    world = connected()
    world.client.writer.reserve_packet(40)
    world.client.writer.flush()
    (old,) = split(world.client.datagrams_to_send())
    world.address = ("10.9.9.9", 1)
    world.client.ping(world.now)
    world.run(0.1)
    assert world.session.address == ("10.9.9.9", 1)
    assert world.session.counters["datagram__address__roamed"] == 1
    assert world.elsewhere == [("10.9.9.9", 1)]
    forged = bytearray(old)
    forged[8:16] = (10_000).to_bytes(8, "little")
    for data in (old, bytes(forged)):
        # An older one from elsewhere may carry packets, but does not move the peer back.
        world.listener.receive_datagram(memoryview(data), ("6.6.6.6", 6), world.now)
    assert world.session.address == ("10.9.9.9", 1)
    assert world.session.counters["datagram__forged__dropped"] == 1
    assert len(world.at_gateway) == 1


def test_who_sends_a_datagram_on_under_another_address_moves_nothing() -> None:
    """Somebody on the path, who would have the bulk sent to a victim."""
    world = connected()
    for n in range(5):
        world.client.ping(world.now)
        (stolen,) = split(world.client.datagrams_to_send())
        world.listener.receive_datagram(memoryview(stolen), ("6.6.6.6", 6), world.now)
        assert world.session.address == world.address
        world.session.writer.send_packet(bytearray(64) + bytes(1000), 64, 1064)
        world.session.writer.flush()
        world.run(0.3)
        assert len(world.at_client) == n + 1, "the bulk goes where it went"
    assert world.elsewhere == [("6.6.6.6", 6)] * 5
    assert "datagram__address__roamed" not in world.session.counters
    # The answer, sent on from a third place, is no proof of that place.
    world.address = ("10.9.9.9", 1)
    world.client.ping(world.now)
    (moved,) = split(world.client.datagrams_to_send())
    world.listener.receive_datagram(memoryview(moved), world.address, world.now)
    ((challenge, there),) = world.session.datagrams_elsewhere()
    assert there == world.address
    world.client.receive_datagram(memoryview(challenge), SERVER, world.now)
    (answer,) = split(world.client.datagrams_to_send())
    world.listener.receive_datagram(memoryview(answer), ("6.6.6.6", 6), world.now)
    assert world.session.address == ("192.168.1.9", 5555)
    world.run(1.0)


def test_what_two_copies_of_a_session_seal_alike() -> None:
    """A machine that was copied while connected: one keystream, and one of the two is taken."""
    world = connected()
    writer = world.client.writer
    counter = writer.records
    sealed = []
    for text in (b"\x45 attack at dawn -- one", b"\x45 retreat at dusk -- two"):
        assert writer._sealing is not None
        writer._sealing.counter = counter
        writer.send_packet(bytearray(64) + text.ljust(40), 64, 104)
        writer.flush()
        sealed += split(world.client.datagrams_to_send())
    first, second = sealed
    assert first[:16] == second[:16]
    start, stop = 16 + 4, 16 + 4 + 40
    mixed = bytes(a ^ b for a, b in zip(first[start:stop], second[start:stop], strict=True))
    one, two = b"\x45 attack at dawn -- one".ljust(40), b"\x45 retreat at dusk -- two".ljust(40)
    assert mixed == bytes(a ^ b for a, b in zip(one, two, strict=True))
    for data in sealed:
        world.listener.receive_datagram(memoryview(data), world.address, world.now)
    assert world.at_gateway == [one]
    assert world.session.counters["datagram__replayed__dropped"] == 1


def test_a_path_is_asked_again_but_not_at_once() -> None:
    proof = PathProof(lambda n: bytes(n - 1) + b"x")
    token = proof.challenge("a", 0.0)
    assert token is not None and len(token) == CHALLENGE_SIZE
    assert proof.challenge("a", CHALLENGE_RETRY - 0.01) is None
    assert proof.challenge("a", CHALLENGE_RETRY) == token
    assert not proof.proven(token, "b") and not proof.proven(bytes(8), "a")
    assert proof.proven(token, "a") and not proof.proven(token, "a")


@pytest.mark.parametrize("loss", [0.0, 0.4])
def test_a_peer_that_moves_is_followed_over_a_bad_path(loss: float) -> None:
    world = connected()
    world.loss = loss
    for n in range(5):
        world.address = (f"10.9.9.{n}", n)
        world.client.ping(world.now)
        for _ in range(40):
            world.client.writer.reserve_packet(40)
            world.client.writer.flush()
            world.run(0.1)
        assert world.session.address == world.address
    assert world.session.counters["datagram__address__roamed"] == 5


@pytest.mark.parametrize("limit", ["REKEY_AFTER_BYTES", "REKEY_AFTER_RECORDS"])
def test_rekey_without_a_pause(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagram_writer, limit, {"REKEY_AFTER_BYTES": 20_000}.get(limit, 10))
    world = connected()
    world.jitter = 0.01
    for n in range(600):
        world.client.writer.send_packet(bytearray(64) + n.to_bytes(2, "big") * 500, 64, 1064)
        world.client.writer.flush()
        world.run(0.002)
    world.run(0.1)
    assert sorted(world.at_gateway) == [n.to_bytes(2, "big") * 500 for n in range(600)]
    rekeys = world.client.counters["record__rekey__sent"]
    assert rekeys > 8
    world.client.ping(world.now)
    world.run(0.1)
    assert world.session.counters["record__rekey__received"] == rekeys
    assert world.client.writer.epoch == world.session._epoch


def test_epochs_wrap_in_the_header() -> None:
    world = connected()
    for _ in range(300):
        world.client.writer.rekey()
        world.client.writer.reserve_packet(20)
        world.client.writer.flush()
        world.run(0.01)
    assert len(world.at_gateway) == 300
    assert world.session._epoch == 300


def test_the_previous_key_is_good_for_a_while() -> None:
    world = connected()
    late = []
    for _ in range(2):
        world.client.writer.reserve_packet(40)
        world.client.writer.flush()
        late += split(world.client.datagrams_to_send())
    world.client.writer.rekey()
    world.client.ping(world.now)
    world.run(0.1)
    world.listener.receive_datagram(memoryview(late[0]), world.address, world.now)
    assert len(world.at_gateway) == 1
    world.run(OLD_KEY_SECONDS + 1)
    world.listener.receive_datagram(memoryview(late[1]), world.address, world.now)
    assert len(world.at_gateway) == 1
    assert world.session.counters["datagram__epoch_unknown__dropped"] == 1


def test_a_cut_is_noticed_and_idleness_is_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    world = connected()
    world.run(3.0)
    calls = 0
    original = world.client.handle_timer

    def counted(now: float) -> None:
        nonlocal calls
        calls += 1
        original(now)

    monkeypatch.setattr(world.client, "handle_timer", counted)
    world.run(600.0)
    assert calls / 600 < 0.2
    assert not world.client.closed
    assert not world.session.closed
    world.cut = True
    start = world.now
    while not world.client.closed and world.now < start + 20:
        world.client.writer.reserve_packet(40)
        world.client.writer.flush()
        world.run(0.2)
    assert any(isinstance(event, LinkDead) for event in world.client_events)
    assert world.now - start < 7


@pytest.mark.parametrize("limit", [65507, 1472, 1452, 1400, 1330, 1316])
def test_path_search_finds_what_passes_both_ways(limit: int) -> None:
    world = connected(World(lease=replace(LEASE, mtu=1280)))
    world.path_payload = limit
    world.session.search_path(world.now)
    world.run(60.0)
    (found,) = [e for e in world.gateway_events if isinstance(e, PathPayloadFound)]
    assert min(limit, 1472) - 16 <= found.payload <= limit
    assert found.payload - DATAGRAM_OVERHEAD >= 1280
    world.session.change(replace(LEASE, mtu=found.payload - DATAGRAM_OVERHEAD), world.now)
    world.run(1.0)
    size = found.payload - DATAGRAM_OVERHEAD
    world.client.writer.send_packet(bytearray(64 + size), 64, 64 + size)
    world.client.writer.flush()
    world.run(1.0)
    assert [len(p) for p in world.at_gateway] == [size]
    assert not world.client.closed


def test_path_search_survives_loss_and_ignores_strange_answers() -> None:
    search = PathSearch(1316, 1472, 0.0)
    assert not search.passed(1472, 0.0)
    assert search.due(0.0) == (1472, False)
    assert not search.passed(9999, 0.0)
    assert search.due(1.0) == (1472, False)
    assert search.passed(1472, 1.5)
    assert search.payload == 1472
    assert search.deadline is None


# --- strangers -------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=1300), st.integers(0, 7))
def test_junk_never_ends_a_session(junk: bytes, kind: int) -> None:
    world = connected()
    index = world.session.index.to_bytes(4, "little")
    for data in (junk, bytes((kind, 0, 0, 0)) + index + junk, bytes((kind,)) + junk[1:]):
        world.listener.receive_datagram(memoryview(data), ("6.6.6.6", 6), world.now)
        mine = bytes((kind, 0, 0, 0)) + world.client.index.to_bytes(4, "little") + junk
        for each in (data, mine):
            world.client.receive_datagram(memoryview(each), ("6.6.6.6", 6), world.now)
    assert not world.client.closed
    assert not world.session.closed
    assert world.client.address == SERVER
    assert world.session.address == world.address


def test_a_flipped_bit_at_any_offset_changes_nothing_but_a_counter() -> None:
    world = connected()
    world.client.writer.reserve_packet(40)
    world.client.writer.flush()
    (good,) = split(world.client.datagrams_to_send())
    for offset in range(len(good)):
        for bit in range(8):
            data = bytearray(good)
            data[offset] ^= 1 << bit
            before = sum((world.session.counters | world.listener.counters).values())
            world.listener.receive_datagram(memoryview(data), ("6.6.6.6", 6), world.now)
            counters = world.session.counters | world.listener.counters
            assert sum(counters.values()) == before + 1, (offset, bit)
    for cut in range(len(good)):
        world.listener.receive_datagram(memoryview(good[:cut]), ("6.6.6.6", 6), world.now)
    assert world.at_gateway == []
    assert world.session.address == world.address
    world.listener.receive_datagram(memoryview(good), world.address, world.now)
    before = world.session.counters["datagram__replayed__dropped"]
    world.listener.receive_datagram(memoryview(good), world.address, world.now)
    assert len(world.at_gateway) == 1
    assert world.session.counters["datagram__replayed__dropped"] == before + 1


def test_damaged_handshakes_lead_to_nothing() -> None:
    probe = World()
    (question,) = split(probe.client.datagrams_to_send())
    assert len(question) == INITIATION_SIZE
    end = 24 + int.from_bytes(question[2:4], "little")
    for offset in range(0, end, 3):
        world = World()
        (data,) = split(world.client.datagrams_to_send())
        damaged = bytearray(data)
        damaged[offset] ^= 0x10
        world.listener.receive_datagram(memoryview(damaged), world.address, 0.0)
        for reply, _ in world.listener.replies():
            assert len(reply) <= len(damaged)
        if offset in range(4, 24):
            continue  # Sender index and cookie are not part of what Noise protects.
        world.run(0.0)
        assert hellos(world) == [], offset
        assert sum(world.listener.counters.values()) == 1


def test_a_forged_answer_costs_the_client_one_new_attempt() -> None:
    world = World()
    world.pump()
    forged = b"\x02\0\x30\0" + world.client.index.to_bytes(4, "little") + bytes(4) + os.urandom(48)
    world.client.receive_datagram(memoryview(forged), SERVER, 0.0)
    assert world.client.counters["handshake__forged_answer__restarted"] == 1
    world.run(1.0)
    assert world.granted()


def test_forged_answers_without_end_give_up_by_name() -> None:
    world = World()
    with pytest.raises(Exception, match="handshake_failed"):
        for _ in range(50):
            forged = b"\x02\0\x30\0" + world.client.index.to_bytes(4, "little") + bytes(52)
            world.client.receive_datagram(memoryview(forged), SERVER, 0.0)
    assert world.client.closed


def initiation() -> bytes:
    client = DatagramClientSession(os.urandom(32), GATEWAY_PUBLIC, HELLO, address=SERVER, now=0.0)
    (data,) = split(client.datagrams_to_send())
    return data


def test_a_flood_is_asked_for_cookies_bounded_and_the_owner_gets_in() -> None:
    world = World(cut=True)
    questions = [initiation() for _ in range(LOAD_HALF_OPEN + 40)]
    for n, data in enumerate(questions):
        world.listener.receive_datagram(memoryview(data), ("6.6.6.6", n), 0.0)
    assert len(world.listener.sessions) == LOAD_HALF_OPEN
    replies = world.listener.replies()
    assert len(replies) == 40
    assert all(len(reply) == 24 for reply, _ in replies)
    assert world.listener.counters["initiation__cookie_missing__asked"] == 40
    world.cut = False
    world.run(2.0)
    assert world.granted()
    assert world.client.counters["handshake__cookie__answered"] == 1


def test_under_load_the_driver_is_asked_only_for_those_who_bring_a_cookie() -> None:
    world = World()
    asked: list[object] = []

    def admit(address: object, now: float) -> bool:
        asked.append(address)
        return len(asked) > 1

    world.listener.admit = admit
    world.listener.under_load = True
    for n in range(50):
        world.listener.receive_datagram(memoryview(initiation()), ("forged", n), 0.0)
    assert asked == []
    world.run(0.1)
    assert len(asked) == 1
    assert world.listener.counters["initiation__not_admitted__dropped"] == 1
    world.run(2.0)
    assert world.granted()


def test_half_open_sessions_are_bounded_even_with_cookies() -> None:
    world = World(cut=True)
    for n in range(MAX_HALF_OPEN + 30):
        address = ("6.6.6.6", n)
        data = bytearray(initiation())
        data[8:24] = world.listener._jar.make(repr(address).encode(), 0.0)
        world.listener.receive_datagram(memoryview(data), address, 0.0)
    assert len(world.listener.sessions) == MAX_HALF_OPEN
    assert world.listener.counters["session__half_open_full__closed"] == 30


def test_confirmed_sessions_are_not_pushed_out() -> None:
    world = World(decide=ask)
    world.run(0.2)
    waiting = world.session
    for n in range(MAX_HALF_OPEN + 10):
        address = ("6.6.6.6", n)
        data = bytearray(initiation())
        data[8:24] = world.listener._jar.make(repr(address).encode(), world.now)
        world.listener.receive_datagram(memoryview(data), address, world.now)
    assert waiting.index in world.listener.sessions
    assert not waiting.closed
    world.listener.forget(waiting)
    assert waiting.index not in world.listener.sessions


def test_a_repeated_question_gets_the_same_answer_and_no_second_session() -> None:
    world = World()
    (data,) = split(world.client.datagrams_to_send())
    answers = []
    for _ in range(3):
        session = world.listener.receive_datagram(memoryview(data), world.address, 0.0)
        assert session is not None
        if session.next_event():
            session.approve(LEASE, 0.0)
        answers += split(session.datagrams_to_send())
    assert len(world.listener.sessions) == 1
    assert len(answers) == 3
    assert len(set(answers)) == 1
    world.listener.receive_datagram(memoryview(data), ("6.6.6.6", 6), 0.0)
    (only,) = world.listener.sessions.values()
    assert split(only.datagrams_to_send()) == []


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        (FrameType.CONFIG, b"\x01", "frame_not_reliable"),
        (FrameType.RELIABLE, b"\0\0\0", "reliable_truncated"),
        (FrameType.RELIABLE, b"\0\0\0\0\0", "frame_truncated"),
        (FrameType.RELIABLE, b"\0\0\0\0\x06\x01\0\0", "frame_truncated"),
        (FrameType.RELIABLE, b"\0\0\0\0\x06\0\0\0", "frame_not_reliable"),
        (FrameType.ACK, b"", "ack_size"),
        (FrameType.HELLO, b"", "frame_misplaced"),
        (FrameType.REKEY, b"", "frame_misplaced"),
        (FrameType.IP_PACKET, bytes(19), "packet_too_short"),
        (0x6E, b"", "frame_unknown"),
    ],
)
def test_only_the_authenticated_peer_can_break_the_protocol(
    kind: int, body: bytes, reason: str
) -> None:
    world = connected()
    world.client.writer.frame(kind, body)
    world.client.writer.flush()
    with pytest.raises(PeerViolation) as caught:
        world.run(0.1)
    assert caught.value.reason == reason
    world.run(0.1)
    assert world.client_events[-1] == PeerClosed(CloseReason.PROTOCOL_ERROR, reason)


# --- small parts -----------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_reliable_channel_against_any_order(data: st.DataObject) -> None:
    sender, receiver = ControlSender(), ControlReceiver()
    start = data.draw(st.sampled_from([0, 2**32 - 3]))
    sender._next = receiver.expected = start
    sent = [bytes((n,)) for n in range(8)]
    path = [body for body in map(sender.push, sent) if body is not None]
    got: list[bytes] = []
    for _ in range(200):
        if len(got) == len(sent):
            break
        body = data.draw(st.sampled_from(path))
        frame = receiver.take(body)
        if frame is not None:
            got.append(frame)
        sender.acknowledged(data.draw(st.sampled_from([receiver.expected, start, 77])), 0.0)
        path = sender.expired(0.0) or path
    assert got == sent[: len(got)]
    sender.acknowledged(receiver.expected, 0.0)
    assert len(sender.expired(0.0)) == len(sent) - len(got)


def test_misuse() -> None:
    world = World()
    with pytest.raises(LocalMisuse):
        world.client.search_path(0.0)
    with pytest.raises(LocalMisuse):
        world.client.writer.rekey()
    assert issubclass(FrameMisplaced, PeerViolation)
