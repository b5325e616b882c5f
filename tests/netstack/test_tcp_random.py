"""Random events on one connection: whatever comes, its invariants hold and nothing but
LocalMisuse, for calls that the state does not allow, is raised."""

from __future__ import annotations

from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from netstack.tcp.config import CloseReason, TcpConfig
from netstack.tcp.constants import KEEP_WHOLE, MAX_REASSEMBLY_BLOCKS, MAX_SACKED_RANGES
from netstack.tcp.errors import LocalMisuse
from netstack.tcp.states import State
from netstack.tcp_segment import TcpSegment
from tests.netsim.out import PacketLog
from tests.netsim.simulation import segment_of
from tests.netstack.tcp.dialogue import BUILDERS, Dialogue

WINDOW = 6000
IN_FLIGHT = 8000
STREAM = bytes(i * 13 & 0xFF for i in range(40_000))
"""What the peer sends: any byte always has the same value."""

OFFSET = st.integers(-200, 900) | st.integers(-5, 5) | st.integers(-(1 << 31), 1 << 31)
FLAGS = st.sampled_from(["A", "A", "PA", "FA", "R", "RA", "S", "SA", "", "F", "SFA"])
SEGMENTS = st.tuples(
    st.just("segment"),
    FLAGS,
    OFFSET,
    OFFSET,
    st.integers(0, 700),
    st.sampled_from([0, 10, 4000, 60000]),
    st.lists(st.tuples(st.integers(-10, 5000), st.integers(-10, 5000)), max_size=2),
    st.integers(-2, 3),
)
EVENT = (
    st.tuples(st.just("send"), st.integers(1, 5000))
    | st.tuples(st.just("consume"), st.integers(0, 3000))
    | st.tuples(st.just("wait"), st.sampled_from([0.0, 0.01, 0.3, 2.0, 30.0, 400.0]))
    | st.tuples(st.just("limit"), st.integers(0, 2 * WINDOW))
    | st.sampled_from([("fin",), ("break",), ("resume",), ("accept",), ("flush",), ("output",)])
)
EVENTS = st.lists(SEGMENTS | EVENT, max_size=40)


class Watched(Dialogue):
    """A dialogue that checks everything that is delivered and emitted."""

    def deliver(self, data: memoryview) -> None:
        assert self.conn.state in (State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2)
        assert not self.fins and not self.reasons
        at = len(self.delivered)
        assert data == STREAM[at : at + len(data)], "bytes come once, in order"
        super().deliver(data)

    def closed(self, reason: CloseReason) -> None:
        assert not self.reasons, "closed is called once"
        super().closed(reason)


def perform(d: Watched, event: tuple[object, ...]) -> None:
    """Let one random event happen."""
    match event:
        case (
            "segment",
            str(flags),
            int(seq),
            int(ack),
            int(size),
            int(window),
            list(sack),
            int(t),
        ):
            rcv, snd = d.conn.rcv, d.conn.snd
            at = rcv.nxt - rcv.irs - 1 + seq
            data = STREAM[at : at + size] if 0 <= at < len(STREAM) else b""
            base = snd.una - d.iss - 1
            kept = [] if "S" in flags else sack  # a SYN has no room for them
            sacks = tuple((base + a, base + b) for a, b in kept)
            d.stamp += t
            seg = d.segment(flags, at, base + ack, data, window=window, sack=sacks)
            if d.state is State.LISTEN:
                if flags == "S":
                    d.conn.syn_arrived(seg, d.now)
            else:
                d.arrive(seg)
        case ("send", int(size)):
            room = d.conn.sendable()
            assert 0 <= room <= IN_FLIGHT
            if room:
                d.send(bytes(min(size, room)))
        case ("consume", int(n)):
            d.conn.consumed(min(n, d.conn.unread), d.now)
        case ("wait", float(seconds)):
            d.wait(seconds)
        case ("limit", int(n)):
            d.conn.set_receive_limit(n)
        case ("fin",):
            d.fin()
        case ("break",):
            d.conn.out = None
        case ("resume",):
            d.conn.link_resumed(d.log, d.now)
        case ("accept",):
            d.conn.accept(d.now)
        case ("flush",):
            d.conn.flush_ack(d.now)
        case ("output",):
            d.conn.output(d.now)


def check(d: Watched, edge: int) -> None:
    """What always holds."""
    conn, snd, rcv = d.conn, d.conn.snd, d.conn.rcv
    assert snd.una <= snd.nxt
    assert conn.in_flight <= IN_FLIGHT + 1, "bounded, and one for the FIN"
    assert rcv.adv >= edge, "the right edge does not move back"
    assert 0 <= rcv.unread <= len(d.delivered)
    if rcv.queue is not None:
        blocks = rcv.queue.recent_blocks(MAX_REASSEMBLY_BLOCKS + 1)
        assert 0 < len(blocks) <= MAX_REASSEMBLY_BLOCKS
        assert all(rcv.nxt < start < end <= rcv.adv for start, end in blocks)
    if snd.recovery is not None:
        assert len(snd.recovery.sacked) <= MAX_SACKED_RANGES
        assert all(snd.una <= start < end <= snd.nxt for start, end in snd.recovery.sacked)
        assert snd.recovery.pipe(snd.una, snd.nxt, snd.mss, snd.sack) >= 0
    if conn.state is State.CLOSED:
        assert conn.get_timer() is None
        assert d.pool.taken == 0
        assert len(snd.flight) == 0 and rcv.queue is None
    elif conn.out is not None and conn.in_flight and conn.state > State.SYN_HELD:
        assert conn.get_timer() is not None, "what is in flight is watched"
    assert d.pool.taken * KEEP_WHOLE <= IN_FLIGHT + KEEP_WHOLE
    for packet in d.log.take():
        segment_of(packet)


@settings(deadline=None, max_examples=250)
@given(
    start=st.sampled_from(sorted(BUILDERS)),
    events=EVENTS,
    reliable=st.booleans(),
    congestion=st.sampled_from(["cubic", "bbr"]),
    stamps=st.booleans(),
    sack=st.booleans(),
    offload=st.booleans(),
)
def test_random_events(
    start: State,
    events: list[tuple[object, ...]],
    reliable: bool,
    congestion: Literal["cubic", "bbr"],
    stamps: bool,
    sack: bool,
    offload: bool,
) -> None:
    config = TcpConfig(
        reliable=reliable,
        congestion=congestion,
        receive_window=WINDOW,
        max_receive_window=2 * WINDOW,
        max_in_flight=IN_FLIGHT,
    )
    options = {"stamps": stamps, "sack": sack, "offload": offload, "config": config}
    d = BUILDERS[start](kind=Watched, **options)
    assert isinstance(d, Watched)
    d.consume = False
    d.log = PacketLog(offload)
    if d.conn.state is not State.CLOSED:
        d.conn.out = d.log
    edge = d.conn.rcv.adv
    for event in events:
        restarted = d.conn.state <= State.SYN_SENT
        try:
            perform(d, event)
        except LocalMisuse:
            assert event[0] in ("accept", "fin"), "only calls may be refused, segments never"
        check(d, 0 if restarted else edge)
        edge = d.conn.rcv.adv


class Judged(Watched):
    """One whose segments are all parsed and judged in full."""

    def arrive(self, seg: TcpSegment) -> None:
        self.conn.segment_arrived(seg, self.now)


def state_of(d: Dialogue) -> tuple[object, ...]:
    """All that a connection knows; of an object of its own, that it is there."""
    conn = d.conn
    plain = (bool, int, float, str, bytes, tuple, type(None))
    found: list[object] = [bytes(d.delivered), d.fins, d.opened, d.reasons, conn.get_timer()]
    for part in (conn, conn.rcv, conn.snd):
        kept = {name: getattr(part, name) for name in part.__slots__ if name != "user"}
        found.append({k: v if isinstance(v, plain) else type(v) for k, v in kept.items()})
    return tuple(found)


WINDOWS = st.sampled_from([0, 10, 1459, 1460, 1461, 4000, 60000, 65000])
NEXT = st.tuples(
    st.just("segment"),
    st.sampled_from(["A", "PA"]),
    st.just(0),
    st.sampled_from([0, 0, 0, 1, 700]),
    st.sampled_from([700, 1, 100, 2500, 0]),
    WINDOWS,
    st.just([]),
    st.integers(-1, 3),
)
"""What header prediction is for: the next number, and what was sent acknowledged or not."""
NEAR = st.tuples(
    st.just("segment"),
    st.sampled_from(["A", "PA", "A", "PA", "FA"]),
    st.sampled_from([700, -700, -1, 0, 1, 100]),
    st.sampled_from([-1, 0, 100, 700]),
    st.sampled_from([0, 1, 100, 700]),
    WINDOWS,
    st.sampled_from([[], [(100, 700)], [(700, 1400)]]),
    st.integers(-1, 3),
)
"""What comes between: holes, ends, duplicates, reports."""
COURSE = st.lists(
    st.one_of(
        *[NEXT] * 6,
        *[NEAR] * 2,
        st.tuples(st.just("send"), st.sampled_from([700, 5000])),
        st.tuples(st.just("consume"), st.sampled_from([700, 6000])),
        st.tuples(st.just("wait"), st.sampled_from([0.01, 0.3])),
        st.sampled_from([*[("flush",)] * 12, ("output",), ("fin",)]),
    ),
    min_size=25,
    max_size=60,
)


@settings(deadline=None, max_examples=400)
@given(
    events=COURSE,
    reliable=st.booleans(),
    stamps=st.booleans(),
    window=st.sampled_from([0, 500, 1460, 60000]),
)
def test_header_prediction_is_the_full_judgement_told_sooner(
    events: list[tuple[object, ...]], reliable: bool, stamps: bool, window: int
) -> None:
    config = TcpConfig(
        reliable=reliable,
        congestion="cubic",
        receive_window=WINDOW,
        max_receive_window=2 * WINDOW,
        max_in_flight=IN_FLIGHT,
    )
    kinds = (Watched, Judged)
    sides = [
        BUILDERS[State.ESTABLISHED](kind=kind, stamps=stamps, window=window, config=config)
        for kind in kinds
    ]
    for event in events:
        outcomes = []
        for d in sides:
            assert isinstance(d, Watched)
            d.consume = False
            try:
                perform(d, event)
            except LocalMisuse as error:
                outcomes.append(str(error))
        assert len(outcomes) in (0, 2)
        fast, full = sides
        assert [p.data for p in fast.log.take()] == [p.data for p in full.log.take()]
        assert state_of(fast) == state_of(full)
