"""Dialogues from LISTEN to ESTABLISHED: the SYN, its options, its refusal."""

from __future__ import annotations

from itertools import pairwise

import pytest

from netstack.tcp.config import CloseReason, TcpConfig
from netstack.tcp.constants import MASK
from netstack.tcp.errors import LocalMisuse
from netstack.tcp.states import State
from netstack.tcp_segment import SYN
from tests.netstack.tcp.dialogue import (
    IRS,
    Dialogue,
    established,
    picture,
    syn_held,
    syn_received,
    syn_sent,
)

LOSSY = TcpConfig(reliable=False, mss=1360)

# --- SYN_HELD ------------------------------------------------------------------------------------


def test_a_held_syn_is_not_answered_until_accepted() -> None:
    d = syn_held()
    d.say("S", -1)
    d.silent()
    assert d.conn.sendable() == 0
    d.conn.accept(d.now)
    d.hear("SA", -1, 0)
    assert d.state is State.SYN_RECEIVED


def test_refusal_is_a_reset_of_the_syn() -> None:
    d = syn_held()
    d.conn.refuse(d.now)
    seg = d.hear("RA", None, 0)
    assert seg.seq == 0
    assert d.reasons == [CloseReason.REFUSED]


def test_a_new_attempt_replaces_the_held_one() -> None:
    d = syn_held()
    d.say("S", 4999)
    d.conn.accept(d.now)
    assert d.hear("SA", -1).ack == (IRS + 5001) & MASK


def test_the_peer_withdraws_its_syn() -> None:
    d = syn_held()
    d.say("R", 77)
    assert d.state is State.SYN_HELD
    d.say("R", 0)
    assert d.reasons == [CloseReason.RESET]
    d.silent()


def test_a_held_syn_does_not_wait_for_ever() -> None:
    d = syn_held()
    d.wait(LOSSY.hold_timeout + 1)
    assert d.reasons == [CloseReason.TIMED_OUT]


def test_a_connection_that_is_dropped_says_nothing() -> None:
    d = syn_held()
    d.conn.drop()
    d.silent()
    assert d.reasons == []
    assert d.conn.get_timer() is None


def test_listen_takes_a_syn_only() -> None:
    d = Dialogue()
    with pytest.raises(LocalMisuse):
        d.conn.syn_arrived(d.segment("SA", -1, 0), d.now)
    assert d.state is State.LISTEN


# --- SYN_RECEIVED --------------------------------------------------------------------------------


def test_syn_ack_repeats_the_options_that_were_offered() -> None:
    d = syn_held(config=LOSSY, stamps=True, shift=7)
    d.conn.accept(d.now)
    seg = d.hear("SA")
    assert (seg.mss, seg.window_shift, seg.sack_permitted) == (1360, 7, True)
    assert seg.has_timestamps and seg.ts_echo == d.stamp


def test_options_that_were_not_offered_are_not_used() -> None:
    d = Dialogue(sack=False)
    seg = d.segment("S", -1)
    seg.window_shift, seg.mss = -1, 0
    d.conn.syn_arrived(seg, d.now)
    d.conn.accept(d.now)
    answer = d.hear("SA")
    assert (answer.window_shift, answer.sack_permitted) == (-1, False)
    assert not answer.has_timestamps
    assert d.conn.snd.mss == 536, "RFC 9293: a peer without MSS option takes 536"
    d.say("A", 0, 0)
    d.say("A", 0, 0, b"x", window=100)
    assert d.hear("A").window <= 65535 == d.conn.rcv.limit


def test_a_repeated_syn_is_answered_again() -> None:
    d = syn_received()
    before = picture(d)
    d.say("S", -1)
    d.hear("SA", -1, 0)
    assert picture(d) == before


def test_syn_ack_is_sent_again_with_back_off() -> None:
    d = syn_received()
    moments = []
    for _ in range(30):
        d.wait(1.0)
        moments += [d.now for seg in d.heard() if seg.flags & SYN]
    assert [round(b - a) for a, b in pairwise(moments)] == [2, 4, 8]


def test_a_handshake_that_is_never_completed_times_out() -> None:
    d = syn_received()
    d.wait(LOSSY.handshake_timeout + 1)
    assert d.reasons == [CloseReason.TIMED_OUT]
    assert d.heard()[-1].flags & 4


def test_an_ack_of_something_never_sent_is_reset() -> None:
    d = syn_received()
    d.say("A", 0, 500)
    d.hear("R", 500)
    assert d.state is State.SYN_RECEIVED


def test_a_reset_ends_the_handshake() -> None:
    d = syn_received()
    d.say("R", 0)
    assert d.reasons == [CloseReason.RESET]


def test_data_with_the_ack_of_the_handshake() -> None:
    d = syn_received()
    d.say("PA", 0, 0, b"hello")
    assert d.state is State.ESTABLISHED
    assert d.delivered == b"hello"
    d.hear("A", 0, 5)


def test_the_window_of_a_syn_is_not_scaled_and_the_next_is() -> None:
    d = syn_received(shift=4, window=5000)
    assert d.conn.snd.wnd == 5000
    d.say("A", 0, 0)
    assert d.conn.snd.wnd == 5000 << 4


def test_a_user_that_closes_early_has_its_fin_sent_after_the_handshake() -> None:
    d = syn_received()
    d.fin()
    d.silent()
    d.say("A", 0, 0)
    d.hear("FA", 0, 0)
    assert d.state is State.FIN_WAIT_1


def test_who_waits_to_send_is_woken_when_the_handshake_is_complete() -> None:
    d = syn_received()
    assert d.conn.sendable() == 0
    d.say("A", 0, 0)
    assert d.opened == 1
    assert d.conn.sendable() > 0


# --- SYN_SENT ------------------------------------------------------------------------------------


def test_active_open() -> None:
    d = syn_sent()
    d.say("SA", -1, 0)
    d.hear("A", 0, 0)
    assert d.state is State.ESTABLISHED
    other = established()
    assert picture(d)["snd"] == picture(other)["snd"]
    assert (d.conn.rcv.nxt, d.conn.rcv.shift) == (other.conn.rcv.nxt, other.conn.rcv.shift)


def test_active_open_refused() -> None:
    d = syn_sent()
    d.say("RA", -1, 0)
    assert d.reasons == [CloseReason.RESET]
    d.silent()


def test_a_blind_reset_of_a_syn_is_ignored() -> None:
    d = syn_sent()
    d.say("R", -1)
    d.say("RA", -1, 77)
    assert d.state is State.SYN_SENT
    d.silent()


def test_an_old_syn_ack_is_reset() -> None:
    d = syn_sent()
    d.say("SA", -1, 77)
    d.hear("R", 77)
    assert d.state is State.SYN_SENT


def test_simultaneous_open() -> None:
    d = syn_sent()
    d.say("S", -1)
    d.hear("SA", -1, 0)
    assert d.state is State.SYN_RECEIVED
    d.say("SA", -1, 0)
    assert d.conn.state is State.ESTABLISHED


def test_syn_is_sent_again_and_then_given_up() -> None:
    d = syn_sent()
    d.wait(LOSSY.handshake_timeout + 1)
    syns = [seg for seg in d.heard() if seg.flags & SYN]
    assert len(syns) == 4
    assert d.reasons == [CloseReason.TIMED_OUT]


def test_a_peer_with_a_tiny_mss_is_believed_so_far_only() -> None:
    d = syn_received(mss=1)
    d.say("A", 0, 0)
    assert d.conn.snd.mss >= 36
