"""Dialogues from ESTABLISHED to CLOSED: half-close both ways, simultaneous close, TIME-WAIT."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netstack.tcp.config import CloseReason, TcpConfig
from netstack.tcp.constants import MASK
from netstack.tcp.states import State
from tests.netstack.tcp.dialogue import (
    BUILDERS,
    Dialogue,
    close_wait,
    closed,
    closing,
    established,
    fin_wait_1,
    fin_wait_2,
    last_ack,
    picture,
    time_wait,
)

LOSSY = TcpConfig(reliable=False, congestion="cubic")

# --- CLOSE_WAIT and LAST_ACK: the peer closes first ----------------------------------------------


def test_the_peer_closes_and_we_go_on_sending() -> None:
    d = close_wait()
    assert d.fins == 1
    d.send(b"still here")
    d.hear("PA", 0, 1, b"still here")
    d.say("A", 1, 10)
    d.fin()
    d.hear("FA", 10, 1)
    assert d.state is State.LAST_ACK
    d.say("A", 1, 11)
    assert d.reasons == [CloseReason.FINISHED]
    d.silent()


def test_a_fin_that_arrives_before_the_data_waits_for_them() -> None:
    d = established()
    d.say("FA", 3, 0, b"def")
    assert d.fins == 0
    d.hear("A", 0, 0)
    d.say("A", 0, 0, b"abc")
    assert (bytes(d.delivered), d.fins) == (b"abcdef", 1)
    d.hear("A", 0, 7)
    assert d.state is State.CLOSE_WAIT


def test_a_repeated_fin_is_acknowledged_again() -> None:
    d = close_wait()
    before = picture(d)
    d.say("FA", 0)
    d.hear("A", 0, 1)
    assert picture(d) == before


def test_data_after_the_fin_are_not_taken() -> None:
    d = close_wait()
    d.say("A", 1, 0, b"more")
    d.hear("A", 0, 1)
    assert d.delivered == b""
    d = established()
    d.say("FA", 5, 0)
    d.say("A", 0, 0, b"0123456789")
    assert d.delivered == b""


def test_a_fin_beyond_the_window_is_not_taken() -> None:
    d = established(config=replace(LOSSY, receive_window=1000, max_receive_window=1000))
    d.consume = False
    d.say("FA", 0, 0, b"x" * 1001)
    assert (len(d.delivered), d.fins) == (1000, 0)


def test_fin_and_ack_of_our_fin_in_last_ack() -> None:
    d = last_ack()
    d.say("FA", 0, 0)
    d.hear("A", 1, 1)
    assert d.state is State.LAST_ACK
    d.say("A", 1, 1)
    assert d.reasons == [CloseReason.FINISHED]


def test_the_fin_is_sent_again_until_it_is_acknowledged() -> None:
    d = last_ack()
    d.wait(4)
    assert len(d.heard()) == 2
    d.wait(LOSSY.user_timeout + 200)
    assert d.reasons == [CloseReason.TIMED_OUT]


# --- FIN_WAIT: we close first --------------------------------------------------------------------


def test_we_close_and_the_peer_goes_on_sending() -> None:
    d = fin_wait_2()
    d.say("PA", 0, 1, b"the rest")
    d.hear("A", 1, 8)
    assert d.delivered == b"the rest"
    d.say("FA", 8, 1)
    d.hear("A", 1, 9)
    assert (d.state, d.fins) == (State.TIME_WAIT, 1)


def test_the_fin_follows_data_that_are_still_in_flight() -> None:
    d = established()
    d.send(b"abc")
    d.fin()
    d.fin()
    first, second = d.heard()
    assert second.seq == (first.seq + 3) & MASK
    d.say("A", 0, 3)
    assert d.state is State.FIN_WAIT_1
    d.say("A", 0, 4)
    assert d.conn.state is State.FIN_WAIT_2


def test_fin_with_the_ack_of_ours() -> None:
    d = fin_wait_1()
    d.say("FA", 0, 1)
    d.hear("A", 1, 1)
    assert picture(d) == picture(time_wait())


def test_simultaneous_close() -> None:
    d = closing()
    assert (d.state, d.fins) == (State.CLOSING, 1)
    d.say("A", 1, 1)
    d.silent()
    assert picture(d)["state"] is State.TIME_WAIT


def test_a_user_that_has_closed_cannot_send() -> None:
    d = fin_wait_1()
    assert d.conn.sendable() == 0


def test_silence_in_fin_wait_2_ends() -> None:
    d = fin_wait_2()
    d.wait(LOSSY.fin_wait_2_timeout - 10)
    d.say("PA", 0, 1, b"x")
    d.heard()
    d.wait(LOSSY.fin_wait_2_timeout - 10)
    assert d.state is State.FIN_WAIT_2
    d.wait(20)
    assert d.reasons == [CloseReason.TIMED_OUT]
    d.hear("RA", 1, 1)


# --- TIME_WAIT -----------------------------------------------------------------------------------


def test_time_wait_ends_after_two_msl() -> None:
    d = time_wait()
    assert d.reasons == []
    d.wait(LOSSY.time_wait + 0.1)
    assert d.reasons == [CloseReason.FINISHED]
    d.silent()
    assert picture(d)["state"] is State.CLOSED


def test_a_repeated_fin_begins_time_wait_anew() -> None:
    d = time_wait()
    d.wait(LOSSY.time_wait * 0.9)
    d.say("FA", 0, 1)
    d.hear("A", 1, 1)
    d.wait(LOSSY.time_wait * 0.9)
    assert d.state is State.TIME_WAIT


def test_time_wait_lasts_until_a_backed_off_fin_comes_again() -> None:
    """The peer's time-out doubles each time that our last ACK is lost."""
    d = time_wait()
    d.wait(LOSSY.time_wait * 0.8)
    d.say("FA", 0, 1)
    d.hear("A", 1, 1)
    d.wait(LOSSY.time_wait * 1.6)
    d.say("FA", 0, 1)
    d.hear("A", 1, 1)
    d.wait(LOSSY.time_wait * 5)
    assert d.reasons == [CloseReason.FINISHED]


def test_a_reset_in_time_wait_is_a_good_end() -> None:
    d = time_wait()
    d.say("R", 1)
    assert d.reasons == [CloseReason.FINISHED]


@pytest.mark.parametrize(
    ("seq", "stamps", "stamp", "answer"),
    [(100, False, 0, True), (-100, False, 0, False), (-100, True, 1, True), (100, True, -2, False)],
)
def test_who_may_reuse_the_ports(seq: int, stamps: bool, stamp: int, answer: bool) -> None:
    d = time_wait(stamps=stamps)
    assert d.conn.reusable_by(d.segment("S", seq, stamp=d.stamp + stamp)) is answer
    assert not d.conn.reusable_by(d.segment("A", seq, stamp=d.stamp + stamp))
    assert not established().conn.reusable_by(d.segment("S", seq))


# --- resets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state",
    [s for s in State if s > State.SYN_RECEIVED and s is not State.TIME_WAIT],
)
def test_the_peers_reset_ends_every_synchronized_state(state: State) -> None:
    d = BUILDERS[state]()
    d.say("R", d.conn.rcv.nxt - d.conn.rcv.irs - 1)
    assert d.reasons == [CloseReason.RESET]
    assert d.conn.get_timer() is None
    d.silent()


def test_abort_tells_the_peer_where_we_are() -> None:
    d = established()
    d.send(b"abc")
    d.heard()
    d.conn.abort(d.now)
    d.hear("RA", 3, 0)
    assert d.reasons == [CloseReason.ABORTED]


def test_a_closed_connection_takes_nothing() -> None:
    d = closed()
    before = picture(d)
    d.say("A", 0, 0, b"late")
    d.say("FA", 0, 0)
    d.say("S", 100)
    d.fin()
    d.conn.consumed(0, d.now)
    d.wait(10_000)
    assert picture(d) == before
    d.silent()


class Quitter(Dialogue):
    """A user that aborts as soon as it is given anything."""

    def deliver(self, data: memoryview) -> None:
        super().deliver(data)
        self.conn.abort(self.now)


def test_a_user_may_abort_while_data_are_delivered() -> None:
    d = Quitter()
    d.conn.syn_arrived(d.segment("S", -1), d.now)
    d.conn.accept(d.now)
    d.say("A", 0, 0)
    d.say("A", 3, 0, b"def")
    d.heard()
    d.say("FA", 0, 0, b"abc")
    d.hear("RA", 0, 3)
    assert (bytes(d.delivered), d.fins) == (b"abc", 0)
    assert d.reasons == [CloseReason.ABORTED]
