"""Dead links are noticed while traffic flows; idle ones are left to sleep."""

from __future__ import annotations

from eventloop.poller import NEVER
from tests.vshp.dialogue import Pair, connected, drain, events, feed
from vshp.config import CloseReason
from vshp.constants import (
    IDLE_PERIODS_BEFORE_DEAD,
    KEEPALIVE_STREAM,
    SILENCE_BEFORE_DEAD,
    SILENCE_BEFORE_PING,
)
from vshp.events import LinkDead, PeerClosed, RttMeasured
from vshp.frames import FrameType
from vshp.liveness import Liveness, RttEstimator


def settle(both: Pair, now: float) -> None:
    """Let both sides see that all is answered."""
    for _ in range(3):
        both.exchange(now)
        both.client.handle_timer(now)
        both.gateway.handle_timer(now)
    events(both.client)
    events(both.gateway)


def run(both: Pair, start: float, end: float, cut: bool, sending: bool) -> tuple[int, float | None]:
    """Follow the client's timer; (wake-ups, when the link was found dead)."""
    wakeups, now = 0, start
    while now < end and not both.client.closed:
        if sending:
            both.client.writer.reserve_packet(40)
            both.client.writer.flush()
        due = both.client.get_timer()
        assert due is not None
        step = max(now, min(due, now + 0.25 if sending else due))
        if due <= step:
            both.client.handle_timer(step)
            wakeups += 1
        now = step if step > now else now + 0.01
        if cut:
            drain(both.client)
        else:
            both.exchange(now)
            both.gateway.handle_timer(now)
    dead = [e for e in events(both.client) if isinstance(e, LinkDead)]
    return wakeups, now if dead else None


def test_a_silent_cut_under_traffic_is_found_within_seconds() -> None:
    both = connected()
    settle(both, 100.0)
    _, dead_at = run(both, 100.0, 130.0, cut=True, sending=True)
    assert dead_at is not None
    assert SILENCE_BEFORE_DEAD <= dead_at - 100.0 <= SILENCE_BEFORE_DEAD + 1.5
    assert both.client.closed


def test_a_single_unanswered_packet_on_an_idle_link_finds_out_too() -> None:
    both = connected()
    settle(both, 100.0)
    both.client.writer.reserve_packet(40)
    both.client.writer.flush()
    _, dead_at = run(both, 200.0, 300.0, cut=True, sending=False)
    assert dead_at is not None
    assert dead_at - 200.0 <= SILENCE_BEFORE_DEAD + 1.5


def test_an_answered_link_under_one_way_traffic_lives() -> None:
    """UDP upward only: the pings are what is answered."""
    both = connected()
    settle(both, 100.0)
    _, dead_at = run(both, 100.0, 160.0, cut=False, sending=True)
    assert dead_at is None
    assert not both.client.closed
    assert not both.gateway.closed


def test_it_ticks_twice_a_second_however_packets_and_answers_alternate() -> None:
    """An upload: a record answers each batch, and is itself unanswered until the next one."""
    both = connected()
    settle(both, 100.0)
    calls, now, alarm = 0, 101.0, NEVER
    while now < 111.0:
        both.client.writer.reserve_packet(40)
        both.client.writer.flush()
        feed(both.gateway, drain(both.client), now)
        if alarm <= now:
            both.gateway.handle_timer(now)
            calls += 1
        both.gateway.writer.reserve_packet(40)
        both.gateway.writer.flush()
        drain(both.gateway)
        due = both.gateway.get_timer()
        assert due is not None
        alarm = due
        now += 0.005
    assert 19 <= calls <= 21


def test_an_idle_client_sleeps() -> None:
    both = connected()
    settle(both, 100.0)
    hours = 6
    wakeups, dead_at = run(both, 100.0, 100.0 + hours * 3600, cut=False, sending=False)
    assert dead_at is None
    periods = hours * 3600 / KEEPALIVE_STREAM
    assert wakeups <= 4 * periods
    assert not both.gateway.closed


def test_an_idle_cut_is_found_at_the_next_keepalive() -> None:
    both = connected()
    settle(both, 100.0)
    _, dead_at = run(both, 100.0, 1000.0, cut=True, sending=False)
    assert dead_at is not None
    assert dead_at - 100.0 <= KEEPALIVE_STREAM + SILENCE_BEFORE_DEAD + 2


def test_the_gateway_gives_up_a_client_that_never_comes_back() -> None:
    both = connected()
    settle(both, 100.0)
    due = both.gateway.get_timer()
    assert due is not None
    assert due >= 100.0 + IDLE_PERIODS_BEFORE_DEAD * KEEPALIVE_STREAM - 1
    both.gateway.handle_timer(due)
    assert [type(e) for e in events(both.gateway)] == [LinkDead]


def test_a_side_that_gives_up_says_so_in_case_only_one_direction_is_broken() -> None:
    both = connected()
    settle(both, 100.0)
    due = both.gateway.get_timer()
    assert due is not None
    both.gateway.handle_timer(due)
    feed(both.client, drain(both.gateway), due)
    closed = [e for e in events(both.client) if isinstance(e, PeerClosed)]
    assert [e.reason for e in closed] == [CloseReason.LINK_DEAD]


def test_pongs_nobody_asked_for_are_counted() -> None:
    both = connected()
    both.client.ping(1.0)
    up = drain(both.client)
    feed(both.gateway, up, 1.0)
    feed(both.client, drain(both.gateway), 1.1)
    assert [type(e) for e in events(both.client)] == [RttMeasured]
    both.gateway._send_ping(FrameType.PONG, 99)
    both.gateway.writer.flush()
    both.exchange(2.0)
    assert both.client.counters["pong__unasked__ignored"] == 1
    assert events(both.client) == []


def test_estimator_follows_rfc_6298() -> None:
    estimator = RttEstimator()
    estimator.sample(0.1)
    assert (estimator.smoothed, estimator.variation) == (0.1, 0.05)
    estimator.sample(0.2)
    assert estimator.smoothed == 0.1 + (0.2 - 0.1) / 8


def test_remembered_pings_are_bounded() -> None:
    liveness = Liveness(0.0, 25.0, True)
    for _ in range(100):
        liveness.pinged(0.0)
    assert len(liveness._pings) == 16
    assert SILENCE_BEFORE_PING < SILENCE_BEFORE_DEAD
