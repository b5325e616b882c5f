"""Loss and what is done about it: dialogues on a lossy link, a reliable one, a broken one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from netstack.tcp.config import CloseReason, TcpConfig
from netstack.tcp.constants import MASK
from netstack.tcp.states import State
from tests.netsim.out import PacketLog
from tests.netstack.tcp.dialogue import ISS, Dialogue, established, fin_wait_1, syn_received

LOSSY = TcpConfig(reliable=False, congestion="cubic")
RELIABLE = TcpConfig()
MSS = 1000


def sent(d: Dialogue) -> list[tuple[int, int]]:
    """Ranges of the data segments that were emitted, in segments."""
    spans = []
    for seg in d.heard():
        start = (seg.seq - ISS - 1) & MASK
        if seg.end > seg.start:
            spans.append((start // MSS, -(-(start + seg.end - seg.start) // MSS)))
    return spans


def flying(segments: int, **options: object) -> Dialogue:
    """Established, with so many segments of MSS bytes in flight."""
    options.setdefault("config", LOSSY)
    d = established(mss=MSS, shift=4, **options)
    d.send(bytes(MSS * segments))
    assert len(d.heard()) >= 1
    return d


# --- with SACK -----------------------------------------------------------------------------------


def test_three_sacked_segments_prove_a_loss() -> None:
    d = flying(8)
    d.say("A", 0, 0, sack=((1000, 2000),))
    d.say("A", 0, 0, sack=((1000, 3000),))
    assert sent(d) == []
    d.say("A", 0, 0, sack=((1000, 4000),))
    assert sent(d) == [(0, 1)]
    assert d.conn.snd.congestion is not None
    assert d.conn.snd.congestion.cwnd == pytest.approx(0.7 * 8000)


def test_a_hole_in_the_middle_is_filled_and_nothing_else() -> None:
    d = flying(8)
    d.say("A", 0, 2000)
    d.say("A", 0, 2000, sack=((3000, 7000),))
    assert sent(d) == [(2, 3)]
    d.say("A", 0, 7000)
    assert sent(d) == []
    d.say("A", 0, 8000)
    assert d.conn.snd.recovery is None


def test_several_holes_are_filled_in_order() -> None:
    d = flying(10)
    d.say("A", 0, 0, sack=((1000, 2000), (3000, 4000), (5000, 10000)))
    assert sent(d) == [(0, 1), (2, 3), (4, 5)]
    d.say("A", 0, 10_000)
    assert d.conn.snd.recovery is None
    assert d.conn.in_flight == 0


def test_a_lost_retransmission_is_sent_again_without_a_time_out() -> None:
    d = flying(10)
    d.say("A", 0, 0, sack=((1000, 10_000),))
    assert sent(d) == [(0, 1)]
    room = d.conn.sendable()
    assert room >= 5 * MSS
    d.send(bytes(5 * MSS))
    assert sent(d) == [(n, n + 1) for n in range(10, 15)]
    d.say("A", 0, 0, sack=((1000, 12_000),))
    assert sent(d) == []
    d.say("A", 0, 0, sack=((1000, 13_000),))
    assert sent(d) == [(0, 1)]


def test_limited_transmit() -> None:
    """RFC 3042: the first duplicate ACKs let new segments out."""
    d = flying(10)
    assert d.conn.sendable() == 0
    d.say("A", 0, 0, sack=((1000, 2000),))
    assert d.conn.sendable() == MSS


def test_sacks_of_nonsense_are_ignored() -> None:
    d = flying(8)
    d.say("A", 0, 0, sack=((50_000, 60_000), (-3000, -2000), (4000, 3000)))
    assert d.conn.snd.recovery is None
    assert sent(d) == []


def test_a_time_out_sends_again_what_was_not_sacked() -> None:
    d = flying(6)
    d.say("A", 0, 0, sack=((2000, 3000),))
    assert sent(d) == []
    d.wait(1.5)
    assert sent(d) == [(0, 1)]
    d.say("A", 0, 1000, sack=((2000, 3000),))
    assert sent(d) == [(1, 2), (3, 4)]
    d.say("A", 0, 4000)
    assert sent(d) == [(4, 5), (5, 6)]
    d.say("A", 0, 6000)
    assert d.conn.get_timer() == d.now + LOSSY.keepalive_idle or d.conn.in_flight == 0


def test_time_outs_back_off_and_end() -> None:
    d = flying(1)
    moments = []
    while d.state is State.ESTABLISHED:
        due = d.conn.get_timer()
        assert due is not None
        d.wait(due - d.now)
        moments.append(d.now)
    gaps = [round(b - a) for a, b in pairwise(moments)]
    assert gaps[:6] == [2, 4, 8, 16, 32, 60]
    assert d.reasons == [CloseReason.TIMED_OUT]
    assert moments[-1] - 1000 >= LOSSY.user_timeout


def test_reneged_sacks_do_not_stall_the_sender() -> None:
    """A peer may drop what it had SACKed (RFC 2018, 8)."""
    d = flying(4)
    d.say("A", 0, 0, sack=((1000, 4000),))
    assert sent(d) == [(0, 1)]
    d.say("A", 0, 1000)
    sent(d)
    d.wait(10)
    assert (1, 2) in sent(d)


# --- without SACK --------------------------------------------------------------------------------


def test_three_duplicate_acks() -> None:
    d = flying(8, sack=False)
    for _ in range(2):
        d.say("A", 0, 0)
    assert sent(d) == []
    d.say("A", 0, 0)
    assert sent(d) == [(0, 1)]


def test_a_partial_ack_sends_the_next_hole() -> None:
    """RFC 6582."""
    d = flying(8, sack=False)
    for _ in range(6):
        d.say("A", 0, 0)
    assert sent(d) == [(0, 1)]
    d.say("A", 0, 3000)
    assert sent(d) == [(3, 4)]
    d.say("A", 0, 8000)
    assert d.conn.snd.recovery is None


def test_window_updates_are_not_duplicate_acks() -> None:
    d = flying(8, sack=False)
    for window in range(5):
        d.say("A", 0, 0, window=50_000 + window)
    assert sent(d) == []


# --- a reliable link -----------------------------------------------------------------------------


def test_nothing_is_sent_again_while_the_link_is_up() -> None:
    d = flying(8, config=RELIABLE)
    for _ in range(10):
        d.say("A", 0, 0)
    d.wait(RELIABLE.stall_timeout * 0.9)
    assert sent(d) == []
    assert d.conn.srtt is None


def test_what_the_peer_itself_dropped_is_sent_again() -> None:
    d = flying(8, config=RELIABLE)
    d.say("A", 0, 0, sack=((4000, 5000),))
    assert sent(d) == [(0, 1), (1, 2), (2, 3), (3, 4)]
    d.say("A", 0, 0, sack=((4000, 6000),))
    assert sent(d) == []


def test_the_watchdog_over_a_peer_that_dropped_the_tail() -> None:
    d = flying(2, config=RELIABLE)
    d.say("A", 0, 1000)
    d.wait(RELIABLE.stall_timeout + 0.1)
    assert sent(d) == [(1, 2)]


def test_the_watchdog_waits_while_the_link_itself_is_behind() -> None:
    d = flying(2, config=RELIABLE)
    d.log.left = 0
    d.wait(RELIABLE.stall_timeout * 3)
    assert sent(d) == []
    assert d.state is State.ESTABLISHED


# --- a broken link -------------------------------------------------------------------------------


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("reliable", [False, True])
def test_after_a_break_everything_unacknowledged_is_sent_again(
    offload: bool, reliable: bool
) -> None:
    d = established(config=RELIABLE, mss=MSS, shift=4, offload=offload)
    data = bytes(range(250)) * 4 * 48
    d.send(data[:40_000])
    d.send(data[40_000:])
    d.say("A", 0, 5000)
    d.heard()
    d.conn.out = None
    assert d.conn.get_timer() is None
    assert d.conn.sendable() == 0
    d.wait(3600)
    d.conn.handle_timer(d.now)
    d.log = PacketLog(offload)
    d.conn.link_resumed(d.log, d.now, reliable)
    arrived = bytearray(len(data))
    for _ in range(200):
        segments = [seg for seg in d.heard() if seg.end > seg.start]
        if not segments:
            break
        top = 0
        for seg in segments:
            start = (seg.seq - ISS - 1) & MASK
            arrived[start : start + seg.end - seg.start] = seg.buf[seg.start : seg.end]
            top = max(top, start + seg.end - seg.start)
        d.say("A", 0, top)
    assert arrived[5000:] == data[5000:]
    assert d.conn.in_flight == 0
    assert d.pool.taken == 0


def test_calls_during_a_break_take_effect_after_it() -> None:
    d = established(config=RELIABLE)
    d.consume = False
    d.say("A", 0, 0, b"x" * 3000)
    d.heard()
    d.conn.out = None
    d.conn.consumed(3000, d.now)
    d.fin()
    assert d.state is State.FIN_WAIT_1
    d.conn.link_resumed(d.log, d.now)
    flags = [seg.flags for seg in d.heard()]
    assert flags == [0x11, 0x10], "the FIN, and where we stand"


def test_a_break_during_the_handshake() -> None:
    d = syn_received(config=RELIABLE)
    d.conn.out = None
    d.wait(1000)
    d.conn.link_resumed(d.log, d.now)
    d.hear("SA", -1, 0)
    assert d.state is State.SYN_RECEIVED


def test_a_fin_is_sent_again_after_a_break() -> None:
    d = fin_wait_1(config=RELIABLE)
    d.conn.out = None
    d.conn.link_resumed(d.log, d.now)
    fin, ack = d.heard()
    d.check(fin, "FA", 0, 0, None)
    d.check(ack, "A", 1, 0, None)


def test_resending_waits_for_room_on_the_link() -> None:
    d = established(config=RELIABLE, mss=MSS, shift=4)
    for _ in range(4):
        d.send(bytes(40_000))
    d.heard()
    d.conn.out = None
    d.log = PacketLog(room=50_000)
    d.conn.link_resumed(d.log, d.now)
    assert d.conn.output_pending
    assert d.conn.sendable() == 0, "new data wait behind the old"
    first = len(sent(d))
    assert 40 <= first <= 81
    d.log.left = 1 << 30
    d.conn.output(d.now)
    assert len(sent(d)) == 160 - first
    assert not d.conn.output_pending


def test_resending_goes_on_by_itself() -> None:
    d = established(config=RELIABLE, mss=MSS, shift=4)
    for _ in range(3):
        d.send(bytes(40_000))
    d.heard()
    d.conn.out = None
    d.log = PacketLog(room=50_000)
    d.conn.link_resumed(d.log, d.now)
    assert d.conn.sendable() == 0
    d.log.left = 1 << 30
    d.wait(0.2)
    assert not d.conn.output_pending
    assert d.opened == 1
    assert len(sent(d)) == 120
    d.wait(5)
    assert sent(d) == []


def test_all_acknowledged_while_resending_waits() -> None:
    """The peer had received everything; only its ACKs were lost with the link."""
    d = established(config=RELIABLE, mss=MSS, shift=4)
    for _ in range(3):
        d.send(bytes(40_000))
    d.heard()
    d.conn.out = None
    d.log = PacketLog(room=1)
    d.conn.link_resumed(d.log, d.now)
    assert d.conn.sendable() == 0
    d.say("A", 0, 120_000)
    assert d.opened == 1
    assert not d.conn.output_pending


def test_the_user_timeout_is_configurable() -> None:
    d = flying(1, config=replace(LOSSY, user_timeout=3.0))
    d.wait(10)
    assert d.reasons == [CloseReason.TIMED_OUT]
