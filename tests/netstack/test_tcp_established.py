"""Dialogues in ESTABLISHED: data both ways, windows, forged and confused segments."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netstack.tcp.config import CloseReason, TcpConfig
from netstack.tcp.constants import MASK
from netstack.tcp.errors import LocalMisuse
from netstack.tcp.states import State
from tests.netstack.tcp.dialogue import ISS, established, picture

LOSSY = TcpConfig(reliable=False, congestion="cubic")
RELIABLE = TcpConfig()

# --- receiving -----------------------------------------------------------------------------------


def test_data_are_delivered_and_acknowledged_once_per_batch() -> None:
    d = established()
    for index in range(5):
        d.arrive(d.segment("A", index * 3, 0, b"abc"))
    d.silent()
    assert d.conn.ack_pending
    d.conn.flush_ack(d.now)
    d.conn.flush_ack(d.now)
    d.hear("A", 0, 15)
    assert d.delivered == b"abc" * 5


def test_our_data_carry_the_acknowledgement() -> None:
    d = established()
    d.arrive(d.segment("PA", 0, 0, b"question"))
    d.send(b"answer")
    d.conn.flush_ack(d.now)
    d.hear("PA", 0, 8, b"answer")


def test_out_of_order_data_wait_and_are_reported() -> None:
    d = established()
    d.say("A", 10, 0, b"k" * 10)
    seg = d.hear("A", 0, 0)
    first = d.conn.rcv.nxt
    assert [(a - first & MASK, b - first & MASK) for a, b in seg.sack] == [(10, 20)]
    d.say("A", 30, 0, b"m" * 10)
    seg = d.hear("A", 0, 0)
    assert [(a - first & MASK, b - first & MASK) for a, b in seg.sack] == [(30, 40), (10, 20)]
    assert d.delivered == b""
    d.say("A", 0, 0, b"j" * 10)
    assert d.delivered == b"j" * 10 + b"k" * 10
    d.hear("A", 0, 20)
    d.say("A", 20, 0, b"l" * 10)
    assert bytes(d.delivered[20:]) == b"l" * 10 + b"m" * 10
    assert d.hear("A", 0, 40).sack == ()
    assert d.conn.rcv.queue is None


def test_without_sack_every_segment_out_of_order_gets_its_own_duplicate_ack() -> None:
    d = established(sack=False)
    for index in range(1, 4):
        d.arrive(d.segment("A", index * 10, 0, b"x" * 10))
    assert [seg.ack for seg in d.heard()] == [d.conn.rcv.nxt & MASK] * 3


def test_a_duplicate_is_reported_as_such() -> None:
    """RFC 2883: so that the sender learns that it repeated in vain."""
    d = established()
    d.say("A", 0, 0, b"abcdef")
    d.heard()
    d.say("A", 0, 0, b"abcdef")
    seg = d.hear("A", 0, 6)
    nxt = d.conn.rcv.nxt
    assert seg.sack == (((nxt - 6) & MASK, nxt & MASK),)
    assert d.delivered == b"abcdef"


def test_an_overlapping_segment_adds_only_its_new_bytes() -> None:
    d = established()
    d.say("A", 0, 0, b"abcd")
    d.say("A", 2, 0, b"cdef")
    assert d.delivered == b"abcdef"


def test_a_reader_that_stops_closes_the_window_and_reopens_it() -> None:
    config = replace(LOSSY, receive_window=8000, max_receive_window=8000)
    d = established(config=config)
    d.consume = False
    sent = 0
    while True:
        room = d.conn.rcv.adv - d.conn.rcv.nxt
        if not room:
            break
        size = min(1000, room)
        d.say("A", sent, 0, b"z" * size)
        sent += size
        d.heard()
    assert sent == 8000 == d.conn.unread
    d.say("A", sent, 0, b"!")
    assert d.hear("A", 0, 8000).window == 0, "a probe of the closed window is answered"
    assert len(d.delivered) == 8000
    d.conn.consumed(500, d.now)
    d.silent()
    d.conn.consumed(1500, d.now)
    assert d.hear("A", 0, 8000).window == 2000


def test_the_right_edge_never_moves_back() -> None:
    d = established()
    d.consume = False
    edge = d.conn.rcv.adv
    d.say("A", 0, 0, b"x" * 1000)
    d.heard()
    d.conn.set_receive_limit(2000)
    for index in range(1, 20):
        d.say("A", index * 1000, 0, b"x" * 1000)
        assert d.conn.rcv.adv >= edge
        edge = d.conn.rcv.adv
    assert len(d.delivered) == 20_000, "what was advertised is still taken"
    d.heard()
    d.conn.consumed(20_000, d.now)
    assert d.conn.rcv.adv == edge


def test_data_beyond_the_window_are_cut_off() -> None:
    config = replace(LOSSY, receive_window=1000, max_receive_window=1000)
    d = established(config=config)
    d.consume = False
    d.say("A", 0, 0, b"y" * 1500)
    assert len(d.delivered) == 1000


def test_more_consumed_than_delivered_is_a_mistake() -> None:
    d = established()
    with pytest.raises(LocalMisuse):
        d.conn.consumed(1, d.now)


# --- sending -------------------------------------------------------------------------------------


def test_software_packets_have_the_peers_mss() -> None:
    d = established(config=RELIABLE, mss=1000)
    data = bytes(range(256)) * 10
    d.send(data)
    segments = d.heard()
    assert [seg.end - seg.start for seg in segments] == [1000, 1000, 560]
    assert b"".join(bytes(s.buf[s.start : s.end]) for s in segments) == data
    assert segments[1].seq == (ISS + 1 + 1000) & MASK


def test_offload_sends_one_packet() -> None:
    d = established(config=RELIABLE, offload=True, mss=1000, shift=4)
    d.send(bytes(60_000))
    packets = d.log.take()
    assert len(packets) == 1
    assert (packets[0].gso_type, packets[0].gso_size, packets[0].hdr_len) == (1, 1000, 40)
    assert (packets[0].csum_start, packets[0].csum_offset) == (20, 16)
    assert d.pool.taken == 1, "kept as it is until acknowledged"
    d.say("A", 0, 60_000)
    assert d.pool.taken == 0


def test_the_window_bounds_what_is_sent_and_wakes_the_sender() -> None:
    d = established(config=RELIABLE, window=4000)
    d.send(bytes(4000))
    assert d.conn.sendable() == 0
    with pytest.raises(LocalMisuse):
        d.conn.send(d.pool.take(), 1, d.now)
    d.heard()
    d.say("A", 0, 1000)
    assert d.opened == 0, "a silly little window is not worth a packet"
    d.say("A", 0, 4000)
    assert d.opened == 1


def test_the_bound_in_flight() -> None:
    d = established(config=replace(RELIABLE, max_in_flight=20_000), shift=8)
    assert d.conn.sendable() == 20_000


def test_a_closed_window_is_probed_and_opens() -> None:
    d = established(config=RELIABLE)
    d.say("A", 0, 0, window=0)
    assert d.conn.sendable() == 0
    gaps = []
    for _ in range(4):
        before = d.now
        due = d.conn.get_timer()
        assert due is not None
        d.wait(due - d.now)
        gaps.append(round(d.now - before, 3))
        d.hear("A", -1)
        d.say("A", 0, 0, window=0)
    assert gaps == [0.5, 1.0, 2.0, 4.0]
    d.say("A", 0, 0)
    assert d.opened == 1
    due = d.conn.get_timer()
    assert due is not None and due > d.now + 1000, "nothing but the keep-alive is left"


def test_a_closed_window_may_stay_closed_as_long_as_the_peer_answers() -> None:
    d = established(config=replace(RELIABLE, user_timeout=100.0))
    d.say("A", 0, 0, window=0)
    for _ in range(20):
        d.wait(60)
        if d.heard():
            d.say("A", 0, 0, window=0)
    assert d.state is State.ESTABLISHED


def test_a_peer_that_does_not_answer_probes_is_given_up() -> None:
    d = established(config=replace(RELIABLE, user_timeout=100.0))
    d.say("A", 0, 0, window=0)
    d.wait(200)
    assert d.reasons == [CloseReason.TIMED_OUT]


def test_buffers_return_to_the_pool_when_the_connection_ends() -> None:
    d = established(config=RELIABLE, offload=True, shift=4)
    d.send(bytes(60_000))
    assert d.pool.taken == 1
    d.say("R", 0)
    assert d.pool.taken == 0


def test_a_fin_waits_for_a_closed_window() -> None:
    d = established(config=RELIABLE)
    d.say("A", 0, 0, window=0)
    d.fin()
    d.silent()
    assert d.state is State.ESTABLISHED
    assert d.conn.sendable() == 0
    d.say("A", 0, 0)
    d.hear("FA", 0)
    assert d.conn.state is State.FIN_WAIT_1


# --- forged, confused, old -----------------------------------------------------------------------


def test_a_reset_at_the_very_next_number_is_believed() -> None:
    d = established()
    d.say("R", 0)
    assert d.reasons == [CloseReason.RESET]


def test_a_reset_elsewhere_in_the_window_is_challenged() -> None:
    d = established()
    d.say("R", 100)
    d.hear("A", 0, 0)
    assert d.state is State.ESTABLISHED


def test_a_reset_outside_the_window_is_ignored() -> None:
    d = established()
    d.say("R", -5)
    d.say("R", 70_000_000)
    d.silent()
    assert d.state is State.ESTABLISHED


def test_challenges_are_rate_limited() -> None:
    d = established()
    for _ in range(50):
        d.say("R", 100)
    assert len(d.heard()) == 1
    d.wait(1)
    d.say("R", 100)
    assert len(d.heard()) == 1


def test_a_syn_is_challenged() -> None:
    d = established()
    d.say("A", 0, 0, b"x")
    d.heard()
    before = picture(d)
    d.say("S", -1)
    d.hear("A", 0, 1)
    d.wait(1)
    d.say("S", 50)
    d.hear("A", 0, 1)
    assert picture(d) == before


def test_an_ack_of_the_future_is_answered_and_dropped() -> None:
    d = established()
    d.say("A", 0, 5, b"data")
    d.hear("A", 0, 0)
    assert d.delivered == b""


def test_an_ack_of_the_distant_past_is_dropped() -> None:
    d = established()
    d.say("A", 0, -100_000, b"data")
    d.hear("A", 0, 0)
    assert d.delivered == b""


def test_a_segment_without_ack_is_dropped() -> None:
    d = established()
    d.say("", 0, None, b"data")
    d.silent()
    assert d.delivered == b""


def test_old_timestamps_are_dropped() -> None:
    d = established(stamps=True)
    d.say("A", 0, 0, b"new")
    d.heard()
    d.say("A", 3, 0, b"old", stamp=d.stamp - 1)
    d.hear("A", 0, 3)
    assert d.delivered == b"new"


def test_a_segment_that_lacks_the_agreed_timestamps_is_dropped() -> None:
    d = established(stamps=True)
    d.say("A", 0, 0, b"bare", stamp=-1)
    d.silent()
    assert d.delivered == b""


def test_after_a_month_of_silence_an_old_timestamp_is_believed() -> None:
    d = established(config=replace(LOSSY, keepalive_idle=0), stamps=True)
    d.say("A", 0, 0, b"a")
    d.wait(25 * 24 * 3600)
    d.say("A", 1, 0, b"b", stamp=d.stamp - 1000)
    assert d.delivered == b"ab"


def test_the_timestamp_echoed_is_that_of_the_oldest_unacknowledged_segment() -> None:
    d = established(stamps=True)
    d.arrive(d.segment("A", 0, 0, b"a", stamp=6000))
    d.arrive(d.segment("A", 1, 0, b"b", stamp=6050))
    d.conn.flush_ack(d.now)
    assert d.hear("A", 0, 2).ts_echo == 6000
    d.say("A", 2, 0, b"c", stamp=6100)
    assert d.hear("A", 0, 3).ts_echo == 6100


# --- silence -------------------------------------------------------------------------------------


def test_an_idle_connection_has_only_the_keep_alive() -> None:
    d = established()
    due = d.conn.get_timer()
    assert due == d.now + LOSSY.keepalive_idle
    d.wait(100)
    d.say("A", 0, 0, b"x")
    d.heard()
    d.wait(LOSSY.keepalive_idle - 50)
    d.silent()


def test_keep_alive_probes_and_gives_up() -> None:
    d = established()
    d.wait(LOSSY.keepalive_idle + 1)
    d.hear("A", -1)
    d.say("A", 0, 0)
    d.wait(LOSSY.keepalive_idle + 1)
    d.hear("A", -1)
    d.wait(LOSSY.keepalive_probes * LOSSY.keepalive_interval + 1)
    assert d.reasons == [CloseReason.TIMED_OUT]


def test_the_peers_keep_alive_probe_is_answered_and_told() -> None:
    d = established()
    d.say("A", 0, 0, b"k")
    d.hear("A", 0, 1)
    d.wait(30)
    d.say("A", 0, 0)
    d.hear("A", 0, 1)
    assert d.probed == [30]
    d.wait(40)
    d.say("A", 0, 0, b"\0")
    d.hear("A", 0, 1)
    assert d.probed == [30, 40]
    assert d.delivered == b"k"
    # Soon after, an old byte is only sent again.
    d.wait(1)
    d.say("A", 0, 0, b"k")
    d.hear("A", 0, 1)
    assert d.probed == [30, 40]


def test_no_keep_alive_when_it_is_off() -> None:
    d = established(config=replace(LOSSY, keepalive_idle=0))
    assert d.conn.get_timer() is None


@pytest.mark.parametrize("config", [RELIABLE, LOSSY])
@pytest.mark.parametrize("offload", [True, False])
@pytest.mark.parametrize("in_flight", [0, 1000, 400_000])
def test_room_is_what_is_left_or_nothing(config: TcpConfig, offload: bool, in_flight: int) -> None:
    """Of a window of any size: all of it, if that is worth a packet (RFC 9293, 3.8.6.2.1)."""
    d = established(config=config, offload=offload, shift=6)
    snd = d.conn.snd
    for sent in range(0, in_flight, 50_000):
        d.say("A", 0, None, window=60000)
        d.send(bytes(min(50_000, in_flight - sent, d.conn.sendable())))
    for window in (0, 1, 15, 22, 23, 256, 511, 512, 513, 1023, 1024, 1025, 20_000, 60_000):
        d.say("A", 0, snd.una - d.iss - 1, window=window)
        usable, least = snd._usable(), snd._worthwhile()
        snd.starved = False
        expected = usable if usable > 0 and usable >= least else 0
        assert (d.conn.sendable(), snd.starved) == (expected, not expected)
