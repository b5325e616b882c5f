"""Dialogues between a client and a gateway, by state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sealing.errors import AuthFailed, LocalMisuse, PeerViolation
from tests.vshp.dialogue import (
    CLIENT_PUBLIC,
    GATEWAY_PUBLIC,
    HELLO,
    LEASE,
    Pair,
    Session,
    connected,
    drain,
    events,
    feed,
    pair,
)
from vshp.config import (
    DEFAULT_ROUTES,
    CloseReason,
    GatewayStatus,
    LeaseConfig,
    Resume,
    Route,
    Suite,
)
from vshp.constants import (
    DECISION_TIMEOUT,
    EARLY_RECEIVE_BUFFER,
    FRAME_HEADER_SIZE,
    HANDSHAKE_TIMEOUT,
    MAX_NAME,
    MAX_QUEUED,
    MAX_RECORD_PLAINTEXT,
    MAX_ROUTES,
    MAX_TICKET,
    RECEIVE_BUFFER_MIN_FREE,
)
from vshp.errors import FrameMisplaced, FrameTruncated, Refused
from vshp.events import (
    ApprovalPending,
    CodeAgreed,
    CodeShown,
    Confirmed,
    Handshaken,
    HelloReceived,
    LeaseChanged,
    LeaseGranted,
    PeerClosed,
    RttMeasured,
    StatusReceived,
)
from vshp.frames import FrameType, encode_config
from vshp.pairing import OneTimeSecrets, secret_id
from vshp.session import ClientSession
from vshp.states import TABLE, Role, State, Step, after

SUITES = list(Suite)
OFFLOAD_LEASE = replace(LEASE, offload=True, mtu=1500)


def packet(size: int, fill: int = 0x45) -> bytes:
    return bytes((fill,)) * size


# --- states ----------------------------------------------------------------------------------


def test_every_state_ends_and_no_illegal_step_changes_anything() -> None:
    for role in Role:
        for state, steps in TABLE[role].items():
            assert (Step.ENDED in steps) == (state is not State.CLOSED)
            for step in Step:
                if step in steps:
                    assert after(role, state, step) is steps[step]
                else:
                    with pytest.raises(LocalMisuse, match="state"):
                        after(role, state, step)


@pytest.mark.parametrize("call", ["pending", "approve", "deny", "change", "status", "ping"])
def test_decisions_before_hello_are_misuse_and_change_nothing(call: str) -> None:
    both = pair()
    arguments = {
        "pending": (60.0, 0.0),
        "approve": (LEASE, 0.0),
        "deny": (CloseReason.DENIED, 0.0),
        "change": (LEASE, 0.0),
        "status": (GatewayStatus(), 0.0),
        "ping": (0.0,),
    }[call]
    with pytest.raises(LocalMisuse):
        getattr(both.gateway, call)(*arguments)
    assert both.gateway.state is State.PREAMBLE
    assert not drain(both.gateway)
    both.exchange()
    assert both.hello().label == "work laptop"


# --- IK --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("step", [1, 7, 1 << 30])
def test_known_peer_is_connected_in_one_round_trip(suite: Suite, step: int) -> None:
    both = pair(suite=suite)
    feed(both.gateway, drain(both.client), step=step)
    hello = both.hello()
    assert hello == HelloReceived(
        CLIENT_PUBLIC, HELLO.label, HELLO.platform, HELLO.capabilities, 65535, "known", None, None,
        "tcp",
    )  # fmt: skip
    both.gateway.approve(LEASE, 0.0)
    feed(both.client, drain(both.gateway), step=step)
    assert events(both.client) == [Handshaken(GATEWAY_PUBLIC), LeaseGranted(LEASE)]
    assert events(both.gateway) == []
    feed(both.gateway, drain(both.client), step=step)
    assert events(both.gateway) == [Confirmed()]
    assert both.client.state is both.gateway.state is State.OPEN


def test_pending_then_approved() -> None:
    both = pair()
    both.exchange()
    both.hello()
    both.gateway.pending(60, 0.0)
    both.exchange()
    seen = events(both.client)
    assert seen[:2] == [Handshaken(GATEWAY_PUBLIC), ApprovalPending(None, 60.0)]
    both.gateway.approve(LEASE, 5.0)
    both.exchange(5.0)
    assert LeaseGranted(LEASE) in events(both.client)


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("reason", [CloseReason.DENIED, CloseReason.NOT_PAIRED, CloseReason.BUSY])
def test_denied_with_a_named_reason(asked: bool, reason: CloseReason) -> None:
    both = pair()
    both.exchange()
    both.hello()
    if asked:
        both.gateway.pending(60, 0.0)
        both.exchange()
    both.gateway.deny(reason, 1.0, "ask again [later]")
    both.exchange(1.0)
    assert events(both.client)[-1] == PeerClosed(reason, "ask again (later)")
    assert both.client.closed
    assert both.gateway.closed


def test_largest_lease_and_ticket_do_not_need_to_fit_message_two() -> None:
    huge = replace(
        LEASE,
        name="n" * MAX_NAME,
        ticket=bytes(MAX_TICKET),
        routes=tuple(Route(bytes(16), n) for n in range(MAX_ROUTES)),
    )
    resume = Resume(LEASE.session_id, bytes(MAX_TICKET), LEASE)
    both = pair(resume=resume)
    both.exchange()
    assert both.hello().resume == Resume(LEASE.session_id, bytes(MAX_TICKET))
    both.gateway.approve(huge, 0.0)
    both.exchange()
    assert LeaseGranted(huge) in events(both.client)


def test_resume_takes_one_round_trip_and_a_delta() -> None:
    old = connected()
    resume = Resume(LEASE.session_id, LEASE.ticket, LEASE)
    both = pair(resume=resume)
    feed(both.gateway, drain(both.client))
    assert both.hello().resume == Resume(LEASE.session_id, LEASE.ticket)
    again = replace(LEASE, ticket=b"second", resumed=True, expires_in=50)
    both.gateway.approve(again, 0.0, base=LEASE)
    answer = drain(both.gateway)
    assert len(answer) < 120
    feed(both.client, answer)
    assert events(both.client)[-1] == LeaseGranted(again)
    old.gateway.close(CloseReason.REPLACED, 0.0)
    old.exchange()
    assert events(old.client)[-1] == PeerClosed(CloseReason.REPLACED)


def test_packets_right_behind_the_confirmation_reach_a_driver_that_takes_it_at_once() -> None:
    both = pair()
    feed(both.gateway, drain(both.client))
    both.hello()
    both.gateway.approve(LEASE, 0.0)
    feed(both.client, drain(both.gateway))
    both.client.writer.reserve_packet(40)
    both.client.writer.flush()
    later: list[bytes] = []

    def confirmed() -> None:
        assert both.gateway.next_event() == Confirmed()
        both.gateway.on_packet = lambda buf, start, end, offload: later.append(
            bytes(buf[start:end])
        )

    both.gateway.on_confirmed = confirmed
    feed(both.gateway, drain(both.client))
    assert (len(later), both.at_gateway) == (1, [])


def test_a_driver_may_close_at_the_confirmation() -> None:
    both = pair()
    feed(both.gateway, drain(both.client))
    both.hello()
    both.gateway.approve(LEASE, 0.0)
    feed(both.client, drain(both.gateway))
    both.client.writer.reserve_packet(40)
    both.client.writer.flush()
    both.gateway.on_confirmed = lambda: both.gateway.close(CloseReason.REVOKED, 0.0)
    feed(both.gateway, drain(both.client))
    assert both.at_gateway == []
    feed(both.client, drain(both.gateway))
    assert events(both.client)[-1] == PeerClosed(CloseReason.REVOKED)


# --- IKpsk1 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES)
def test_pairing_by_secret(suite: Suite) -> None:
    secrets = OneTimeSecrets(GATEWAY_PUBLIC)
    secret = secrets.issue(0.0)
    both = pair(secret=secret, secrets=secrets, suite=suite)
    both.exchange()
    hello = both.hello()
    assert (hello.proof, hello.secret_id) == ("secret", secret_id(secret))
    secrets.consume(secret_id(secret), 0.0)
    both.gateway.approve(LEASE, 0.0)
    both.exchange()
    assert LeaseGranted(LEASE) in events(both.client)


@pytest.mark.parametrize(
    ("now", "consumed", "reason"),
    [
        (1.0, True, CloseReason.SECRET_USED),
        (121.0, False, CloseReason.SECRET_EXPIRED),
        (1.0, None, CloseReason.SECRET_UNKNOWN),
    ],
)
def test_bad_secret_is_refused_with_its_reason(
    now: float, consumed: bool | None, reason: CloseReason
) -> None:
    secrets = OneTimeSecrets(GATEWAY_PUBLIC)
    secret = secrets.issue(0.0)
    if consumed:
        secrets.consume(secret_id(secret), 0.0)
    if consumed is None:
        secret = bytes(16)
    both = pair(secret=secret, secrets=secrets, now=now)
    with pytest.raises(Refused) as caught:
        feed(both.gateway, drain(both.client), now)
    assert caught.value.reason == reason
    assert both.gateway.closed
    feed(both.client, drain(both.gateway), now)
    assert events(both.client) == [PeerClosed(reason, authenticated=False)]


def test_right_id_with_wrong_secret_proves_nothing() -> None:
    secrets = OneTimeSecrets(GATEWAY_PUBLIC)
    secret = secrets.issue(0.0)
    both = pair(secret=secret, secrets=secrets)
    both.gateway._secrets = lambda name: bytes(32)
    with pytest.raises(AuthFailed):
        both.exchange()
    assert events(both.gateway) == []
    assert not drain(both.gateway)
    assert secrets.lookup(secret_id(secret), 0.0)


# --- XX --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("step", [1, 1 << 30])
def test_first_contact_shows_the_same_code_on_both_sides(suite: Suite, step: int) -> None:
    both = pair(known=False, suite=suite)
    both.exchange(step=step)
    hello = both.hello()
    assert hello.proof == "none"
    assert hello.public_key == CLIENT_PUBLIC
    assert events(both.gateway) == [Confirmed()]
    both.gateway.pending(120, 0.0)
    both.exchange(step=step)
    seen = events(both.client)
    assert seen[0] == Handshaken(GATEWAY_PUBLIC)
    assert ApprovalPending(hello.code, 120.0) in seen
    assert hello.code is not None and CodeShown(hello.code) in seen
    both.client.agree(0.0)
    both.exchange(step=step)
    assert events(both.gateway) == [CodeAgreed()]
    both.gateway.approve(LEASE, 0.0)
    both.exchange(step=step)
    assert LeaseGranted(LEASE) in events(both.client)


def shown(known: bool = False) -> Pair:
    """First contact up to where both screens show the digits; nobody has said anything."""
    both = pair(known=known)
    both.exchange()
    both.hello()
    events(both.gateway)
    return both


def test_the_owner_may_be_first() -> None:
    both = shown()
    with pytest.raises(LocalMisuse, match="not_agreed"):
        both.gateway.approve(LEASE, 0.0)
    both.gateway.approved(60, 0.0)
    both.exchange()
    assert both.client.state is State.CONSENT and both.client.lease is None
    both.client.agree(50.0)
    both.exchange(50.0)
    assert events(both.gateway) == [CodeAgreed()]
    both.gateway.approve(LEASE, 50.0)
    both.exchange(50.0)
    assert LeaseGranted(LEASE) in events(both.client)


def test_the_device_s_user_may_be_first() -> None:
    both = shown()
    both.client.agree(0.0)
    both.exchange()
    assert both.client.state is State.PENDING
    both.gateway.pending(60, 0.0)
    both.exchange()
    both.gateway.approve(LEASE, 0.0)
    both.exchange()
    assert LeaseGranted(LEASE) in events(both.client)


def test_agreeing_is_said_once_and_only_where_there_are_digits() -> None:
    both = shown()
    both.client.agree(0.0)
    with pytest.raises(LocalMisuse):
        both.client.agree(0.0)
    both.client.writer.frame(FrameType.CODE_AGREED, b"")
    both.client.writer.flush()
    with pytest.raises(FrameMisplaced, match="CODE_AGREED"):
        both.exchange()
    known = shown(known=True)
    with pytest.raises(LocalMisuse):
        known.client.agree(0.0)
    known.gateway.pending(60, 0.0)
    known.exchange()
    known.client.writer.frame(FrameType.CODE_AGREED, b"")
    known.client.writer.flush()
    with pytest.raises(FrameMisplaced, match="CODE_AGREED"):
        known.exchange()


def test_who_says_that_the_digits_differ_is_heard() -> None:
    both = shown()
    both.client.close(CloseReason.CODE_REFUSED, 0.0)
    both.exchange()
    assert events(both.gateway) == [PeerClosed(CloseReason.CODE_REFUSED)]


@pytest.mark.parametrize("approved", [True, False])
def test_digits_that_nobody_looks_at_are_given_up(approved: bool) -> None:
    both = shown()
    if approved:
        both.gateway.approved(60, 0.0)
    else:
        both.gateway.pending(60, 0.0)
    both.exchange()
    events(both.client)
    assert run_out(both, both.client, 70.0).reason is CloseReason.CODE_EXPIRED
    events(both.gateway)
    late = CloseReason.CODE_EXPIRED if approved else CloseReason.APPROVAL_EXPIRED
    assert run_out(both, both.gateway, 60.0).reason is late


def test_whoever_answers_and_says_nothing_more_is_not_waited_for() -> None:
    both = shown()
    assert run_out(both, both.client, HANDSHAKE_TIMEOUT).reason is CloseReason.HANDSHAKE_TIMEOUT


# --- OPEN ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("step", [1, 1000, 1 << 30])
def test_packets_both_ways_in_order(suite: Suite, step: int) -> None:
    both = connected(suite=suite)
    sent = []
    for writer in (both.client.writer, both.gateway.writer):
        for size in (20, 1500, 9000, 65535, 40, 4096, 4095, 21):
            data = packet(size, size % 250)
            sent.append(data)
            buffer = bytearray(64) + data
            writer.send_packet(buffer, 64, 64 + size)
        at = writer.reserve_packet(30)
        writer.buffer[at : at + 30] = packet(30, 9)
        sent.append(packet(30, 9))
        writer.flush()
    both.exchange(step=step)
    assert both.at_gateway + both.at_client == sent


def test_offload_header_travels_as_linux_lays_it_out() -> None:
    both = connected(OFFLOAD_LEASE)
    writer = both.gateway.writer
    at = writer.reserve_packet(60, gso_type=1, gso_size=1448, hdr_len=52, csum_start=20,
                               csum_offset=16)  # fmt: skip
    writer.buffer[at : at + 60] = packet(60)
    big = bytearray(64) + packet(60000)
    writer.send_packet(big, 64, 60064, 4, 1428, 72, 40, 16)
    writer.send_packet(bytearray(64) + packet(100), 64, 164)
    pieces = -(-(60_000 - 72) // 1428)
    assert writer.packet_bytes == 60 + 60_000 + (pieces - 1) * 72 + 100
    writer.flush()
    both.exchange()
    headers = [data[:10].hex() for data in both.at_client]
    assert headers == [
        "01013400a80514001000",
        "010448009405" + "28001000",
        "00" * 10,
    ]
    assert [len(data) for data in both.at_client] == [70, 60010, 110]


@pytest.mark.parametrize("lease", [LEASE, OFFLOAD_LEASE], ids=["plain", "offload"])
def test_nic_reads_straight_into_the_batch(lease: LeaseConfig) -> None:
    both = connected(lease)
    writer = both.client.writer
    front = bytes(10) if lease.offload else b""
    sizes = [50, 65535, 100, 65535, 65535]
    waiting = iter(sizes)

    def read(view: memoryview) -> int:
        assert len(view) >= 10 + 65535
        size = next(waiting, 0)
        data = front + packet(size) if size else b""
        view[: len(data)] = data
        return len(data)

    # The queue is as long as it should be, with the last packet as it comes.
    assert writer.room() == MAX_QUEUED
    assert writer.read_packets(read) == sum(sizes[:4])
    assert writer.room() <= 0
    assert writer.read_packets(read) == 0
    writer.flush()
    both.exchange()
    assert writer.read_packets(read) == 65535
    assert writer.read_packets(read) == 0
    writer.flush()
    both.exchange()
    assert both.at_gateway == [front + packet(size) for size in sizes]
    assert writer.packet_bytes == sum(sizes)


def test_buffers_are_small_before_a_lease_and_large_after() -> None:
    both = pair()
    assert len(both.gateway.receive_buffer()) <= EARLY_RECEIVE_BUFFER
    both.exchange()
    both.hello()
    both.gateway.pending(60, 0.0)
    both.exchange()
    for session in (both.client, both.gateway):
        assert 0 < len(session.receive_buffer()) <= EARLY_RECEIVE_BUFFER
    both.gateway.approve(LEASE, 0.0)
    both.exchange()
    for session in (both.client, both.gateway):
        assert len(session.receive_buffer()) >= RECEIVE_BUFFER_MIN_FREE


def test_packets_right_behind_the_lease_arrive() -> None:
    both = pair()
    both.exchange()
    both.hello()
    both.gateway.pending(60, 0.0)
    both.exchange()
    both.gateway.approve(LEASE, 0.0)
    both.gateway.writer.send_packet(bytearray(64) + packet(65000), 64, 65064)
    for step in (1500,):
        both.exchange(step=step)
    assert both.at_client == [packet(65000)]


def test_lease_change_and_status_reach_the_client() -> None:
    both = connected()
    lease = replace(LEASE, mtu=1400, offload=True, expires_in=10, routes=DEFAULT_ROUTES[:1])
    both.gateway.change(lease, 1.0)
    both.gateway.status(GatewayStatus(vpn_up=False, quota_left=5), 1.0)
    both.exchange(1.0)
    assert events(both.client) == [
        LeaseChanged(lease),
        StatusReceived(GatewayStatus(vpn_up=False, quota_left=5)),
    ]
    assert (both.client.writer.mtu, both.client.writer.offload) == (1400, True)
    assert both.client.lease == both.gateway.lease == lease


def test_ping_measures() -> None:
    both = connected()
    both.client.ping(10.0)
    up = drain(both.client)
    feed(both.gateway, up, 10.1)
    feed(both.client, drain(both.gateway), 10.25)
    (event,) = events(both.client)
    assert isinstance(event, RttMeasured)
    assert event.rtt == pytest.approx(0.25)
    assert both.client.rtt > 0


@pytest.mark.parametrize("side", ["client", "gateway"])
def test_close_reaches_the_other_side_and_is_idempotent(side: str) -> None:
    both = connected()
    near, far = (both.client, both.gateway) if side == "client" else (both.gateway, both.client)
    near.close(CloseReason.DISCONNECTED, 0.0)
    near.close(CloseReason.SHUTDOWN, 0.0)
    both.exchange()
    assert events(far) == [PeerClosed(CloseReason.DISCONNECTED)]
    assert near.closed
    assert far.closed
    assert near.get_timer() is None
    near.writer.send_packet(bytearray(5000), 64, 5000)
    near.writer.reserve_packet(40)
    near.writer.flush()
    assert not drain(near)
    assert near.counters["writer__session_closed__dropped"] == 2
    assert near.writer.packet_bytes == 0
    feed(near, b"late bytes")


def test_optional_frames_are_skipped_and_others_close() -> None:
    both = connected()
    both.client.writer.frame(0xEE, b"from the future")
    both.client.writer.reserve_packet(20)
    both.client.writer.flush()
    both.exchange()
    assert len(both.at_gateway) == 1
    assert both.gateway.counters["frame__unknown_optional__skipped"] == 1
    both.client.writer.frame(0x6E, b"from the future")
    both.client.writer.flush()
    with pytest.raises(PeerViolation) as caught:
        both.exchange()
    assert caught.value.reason == "frame_unknown"
    both.exchange()
    assert events(both.client) == [PeerClosed(CloseReason.PROTOCOL_ERROR, "frame_unknown")]


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        (FrameType.HELLO, b"", "frame_misplaced"),
        (FrameType.AUTH, b"\x01" + bytes(4), "frame_misplaced"),
        (FrameType.CODE_REVEAL, bytes(32), "frame_misplaced"),
        (FrameType.REKEY, b"x", "rekey_not_last"),
        (FrameType.RELIABLE, bytes(8), "frame_misplaced"),
        (FrameType.IP_PACKET, bytes(19), "packet_too_short"),
        (FrameType.IP_PACKET_OFFLOAD, bytes(60), "offload_not_negotiated"),
        (FrameType.PING, bytes(3), "field_size"),
        (FrameType.CLOSE, b"", "close_truncated"),
    ],
)
def test_violations_close_with_their_name(kind: int, body: bytes, reason: str) -> None:
    both = connected()
    both.client.writer.frame(kind, body)
    both.client.writer.flush()
    with pytest.raises(PeerViolation) as caught:
        both.exchange()
    assert caught.value.reason == reason
    assert both.gateway.counters[f"session__{reason}__closed"] == 1
    both.exchange()
    assert events(both.client) == [PeerClosed(CloseReason.PROTOCOL_ERROR, reason)]


@pytest.mark.parametrize("short", [1, 40, 60, 61, 63])
def test_a_frame_that_its_record_cuts_off_is_truncated(short: int) -> None:
    """Also where a whole frame of the record before lies behind the end of this one."""
    both = connected()
    writer = both.client.writer
    for missing in (0, short):
        writer.frame(FrameType.IP_PACKET, bytes(60))
        writer._fill -= missing
        writer.flush()
    with pytest.raises(FrameTruncated, match="frame_truncated"):
        both.exchange()
    assert len(both.at_gateway) == 1


def test_so_is_a_header_that_begins_with_the_last_byte_of_the_longest_record() -> None:
    both = connected()
    writer = both.client.writer
    writer.frame(FrameType.PADDING, bytes(MAX_RECORD_PLAINTEXT - FRAME_HEADER_SIZE - 1))
    writer.buffer[-1] = FrameType.IP_PACKET
    writer._fill += 1
    writer.flush()
    with pytest.raises(FrameTruncated, match="frame_truncated"):
        both.exchange()


def test_terms_that_change_in_a_record_hold_for_the_rest_of_it() -> None:
    lease = replace(LEASE, offload=True)
    both = connected(lease)
    writer = both.gateway.writer
    for delta in (b"", encode_config(replace(lease, offload=False), lease)):
        if delta:
            writer.frame(FrameType.CONFIG, delta)
        writer.frame(FrameType.IP_PACKET_OFFLOAD, bytes(60))
        writer.flush()
    with pytest.raises(PeerViolation, match="offload_not_negotiated"):
        both.exchange()
    assert len(both.at_client) == 1


def test_either_kind_of_packet_of_any_length_is_taken_where_packets_are_offloaded() -> None:
    both = connected(replace(LEASE, offload=True))
    for kind, least in ((FrameType.IP_PACKET, 20), (FrameType.IP_PACKET_OFFLOAD, 30)):
        for size in (least, 1500, 65535 + least - 20, 65536 + least):
            body = bytes(range(256)) * (size // 256) + bytes(size % 256)
            both.client.writer.frame(kind, body)
            both.client.writer.flush()
            both.exchange()
            assert both.at_gateway.pop() == body
    both.client.writer.frame(FrameType.IP_PACKET_OFFLOAD, bytes(29))
    both.client.writer.flush()
    with pytest.raises(PeerViolation, match="packet_too_short"):
        both.exchange()


def test_packets_before_the_lease_are_a_violation() -> None:
    both = pair()
    both.exchange()
    both.hello()
    both.gateway.pending(60, 0.0)
    both.exchange()
    both.client.writer.reserve_packet(40)
    both.client.writer.flush()
    with pytest.raises(PeerViolation, match="frame_misplaced"):
        both.exchange()
    assert both.at_gateway == []


# --- time ------------------------------------------------------------------------------------


def run_out(both: Pair, session: Session, now: float) -> PeerClosed:
    session.handle_timer(now)
    (event,) = [e for e in events(session) if isinstance(e, PeerClosed)]
    return event


def test_silent_strangers_are_timed_out() -> None:
    both = pair()
    assert both.gateway.get_timer() == HANDSHAKE_TIMEOUT
    both.gateway.handle_timer(HANDSHAKE_TIMEOUT - 0.1)
    assert not both.gateway.closed
    assert run_out(both, both.gateway, HANDSHAKE_TIMEOUT).reason is CloseReason.HANDSHAKE_TIMEOUT
    assert run_out(both, both.client, HANDSHAKE_TIMEOUT).reason is CloseReason.HANDSHAKE_TIMEOUT
    assert both.gateway.closed


def test_an_undecided_hello_is_given_up() -> None:
    both = pair()
    both.exchange()
    assert both.gateway.get_timer() == DECISION_TIMEOUT
    assert run_out(both, both.gateway, DECISION_TIMEOUT)
    assert both.gateway.closed
    feed(both.client, drain(both.gateway), 1.0)
    assert events(both.client)[-1] == PeerClosed(CloseReason.HANDSHAKE_TIMEOUT)


def test_an_unanswered_request_expires_with_its_name() -> None:
    both = pair()
    both.exchange()
    both.hello()
    both.gateway.pending(60, 0.0)
    both.exchange()
    events(both.client)
    assert run_out(both, both.gateway, 60.0).reason is CloseReason.APPROVAL_EXPIRED
    both.exchange(60.0)
    assert events(both.client) == [PeerClosed(CloseReason.APPROVAL_EXPIRED)]


# --- misuse ----------------------------------------------------------------------------------


def test_constructor_misuse() -> None:
    key = bytes(range(32))
    with pytest.raises(LocalMisuse, match="gateway_key_missing"):
        ClientSession(key, None, HELLO, now=0.0, secret=bytes(16))
    with pytest.raises(LocalMisuse, match="secret_size"):
        ClientSession(key, key, HELLO, now=0.0, secret=b"short")
    with pytest.raises(LocalMisuse, match="handshake_keys"):
        ClientSession(b"short", key, HELLO, now=0.0)
    both = connected()
    with pytest.raises(LocalMisuse, match="received_too_much"):
        both.client.received(1 << 20, 0.0)
    with pytest.raises(LocalMisuse, match="lease_too_large"):
        both.gateway.change(replace(LEASE, ticket=bytes(500)), 0.0)
    assert both.gateway.lease == LEASE
    assert isinstance(LEASE.with_ticket(b"x"), LeaseConfig)
