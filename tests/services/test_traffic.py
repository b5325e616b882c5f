"""The history of traffic: rings, their bounds, and when the counters are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.errors import Code, ControlError
from control.methods import PeerTrafficParams
from control.schema import Finding
from control.traffic import (
    INTERVAL,
    MAX_DEVICES,
    SAMPLES,
    Counts,
    Reading,
    TrafficBook,
    TrafficRing,
)
from eventloop.clock import SYSTEM, Clock
from gateway.gateway import Gateway
from gateway.model import MemoryStore
from services.config import Config
from services.doctor.doctor import Doctor
from services.gateway_api import GatewayApi
from services.logs import Ring
from services.sampling import QUIET, Sampler
from services.settings import Settings
from services.wake import WakeLock
from tests.gateway.devices import CONFIG, paired

NONE = Counts(0, 0)


def test_an_interval_is_shown_once_it_is_over() -> None:
    ring = TrafficRing(Counts(1_000, 5_000), 10.0)
    assert ring.note(Counts(1_100, 5_700), 11.0)
    assert ring.read(SAMPLES, 11.9) == [], "the interval is under way; what came before is not ours"
    assert ring.read(SAMPLES, 12.0) == [(100, 700)]
    assert not ring.note(Counts(1_100, 5_700), 13.0)
    assert ring.read(SAMPLES, 14.5) == [(100, 700), (0, 0)]


def test_what_came_between_two_readings_is_spread_evenly() -> None:
    ring = TrafficRing(NONE, 0.0)
    ring.note(Counts(600, 60), 6.0)
    assert ring.read(SAMPLES, 6.0) == [(200, 20)] * 3
    ring.note(Counts(1_000, 60), 8.0)
    ring.note(Counts(2_000, 60), 9.0)
    ring.note(Counts(2_100, 60), 11.0)
    assert ring.read(SAMPLES, 12.0)[3:] == [(400, 0), (1_050, 0), (50, 0)]


def test_gaps_are_zeros() -> None:
    ring = TrafficRing(NONE, 0.0)
    ring.note(Counts(7, 9), 1.0)
    assert ring.read(SAMPLES, 9.0) == [(7, 9), (0, 0), (0, 0), (0, 0)]
    ring.note(Counts(8, 9), 9.0)
    assert ring.read(SAMPLES, 10.0)[-1] == (1, 0), "reading has taken the zeros before it"


def test_a_clock_that_stands_or_goes_back_loses_nothing() -> None:
    ring = TrafficRing(NONE, 4.5)
    ring.note(Counts(10, 1), 4.5)
    ring.note(Counts(20, 2), 3.0)
    assert ring.read(SAMPLES, 1.0) == []
    assert ring.read(SAMPLES, 6.0) == [(20, 2)]


def test_counters_that_begin_anew() -> None:
    """A device whose session ended and began again has counters from zero."""
    ring = TrafficRing(Counts(1_000, 9_000), 0.0)
    ring.note(Counts(30, 40), 1.0)
    assert ring.read(SAMPLES, 2.0) == [(30, 40)]


def test_the_ring_is_bounded_and_a_long_silence_is_cheap() -> None:
    ring = TrafficRing(NONE, 0.0)
    for step in range(1, SAMPLES * 2 + 1):
        ring.note(Counts(step, 0), step * INTERVAL)
    whole = ring.read(SAMPLES * 9, SAMPLES * 2 * INTERVAL)
    assert whole == [(1, 0)] * SAMPLES
    assert ring.read(7, SAMPLES * 2 * INTERVAL) == whole[:7]
    assert ring.read(0, SAMPLES * 2 * INTERVAL) == []
    year = 365 * 86_400.0
    assert ring.read(SAMPLES, year) == [(0, 0)] * SAMPLES
    ring.note(Counts(SAMPLES * 2 + 10**9, 0), 2 * year)
    late = ring.read(SAMPLES, 2 * year)
    share = 10**9 * INTERVAL / year
    assert len(late) == SAMPLES and all(abs(up - share) <= 1 for up, _ in late)


@given(
    st.lists(
        st.tuples(st.floats(0.0, 30.0), st.integers(0, 10**9), st.integers(0, 10**9)), max_size=20
    )
)
def test_no_byte_is_lost_or_counted_twice(steps: list[tuple[float, int, int]]) -> None:
    ring, now, up, down = TrafficRing(NONE, 0.0), 0.0, 0, 0
    for seconds, more_up, more_down in steps:
        now, up, down = now + seconds, up + more_up, down + more_down
        if now > (SAMPLES - 1) * INTERVAL:
            break
        ring.note(Counts(up, down), now)
        samples = ring.read(SAMPLES, now)
        assert len(samples) == int(now // INTERVAL)
        assert min((min(each) for each in samples), default=0) >= 0
        over = ring.read(SAMPLES, now + INTERVAL)
        now += INTERVAL
        assert (sum(u for u, _ in over), sum(d for _, d in over)) == (up, down)


def test_a_device_more_than_there_is_room_for_replaces_the_one_that_was_quiet_longest() -> None:
    names = [f"d{number}" for number in range(MAX_DEVICES)]
    book = TrafficBook(Reading(NONE, [(name, NONE) for name in names]), 0.0)
    moved = [(name, Counts(5, 5)) for name in names if name != "d7"]
    assert book.note(Reading(Counts(5, 5), moved), 1.0)
    book.note(Reading(Counts(5, 5), [("new", NONE)]), 1.5)
    assert book.read("d7", SAMPLES, 4.0) == []
    assert book.read("d8", SAMPLES, 4.0) == [(5, 5), (0, 0)]
    assert book.read("new", SAMPLES, 4.0) == [(0, 0), (0, 0)]
    assert book.read(None, SAMPLES, 4.0) == [(5, 5), (0, 0)]


class Timers:
    """The loop's timers and clock, moved by the test."""

    def __init__(self) -> None:
        self.now = 0.0
        self.armed: list[Timer] = []

    def call_later(self, delay: float, what: Callable[[], None]) -> Timer:
        self.armed.append(Timer(self, self.now + delay, what))
        return self.armed[-1]

    def run(self, until: float) -> int:
        """Let time pass; how often a timer fired."""
        fired = 0
        while due := [timer for timer in self.armed if timer.at <= until]:
            timer = min(due, key=lambda each: each.at)
            self.armed.remove(timer)
            self.now = max(self.now, timer.at)
            timer.what()
            fired += 1
        self.now = until
        return fired


class Timer:
    def __init__(self, timers: Timers, at: float, what: Callable[[], None]) -> None:
        self.timers, self.at, self.what = timers, at, what

    def cancel(self) -> None:
        self.timers.armed.remove(self)


class Tunnel:
    """Counters that the test moves."""

    def __init__(self) -> None:
        self.reading = Reading(NONE)

    def move(self, up: int, down: int, linked: bool = True) -> None:
        self.reading = Reading(Counts(up, down), [("d1", Counts(up, down))], linked)

    def look(self) -> Reading:
        return self.reading


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    made = Timers()
    monkeypatch.setattr("services.sampling.asyncio.get_running_loop", lambda: made)
    return made


def test_it_ticks_while_something_moves_and_sleeps_when_nothing_does(timers: Timers) -> None:
    tunnel = Tunnel()
    sampler = Sampler(tunnel.look, lambda: timers.now)
    sampler.start()
    assert timers.run(60.0) == QUIET and not timers.armed, "nothing moves: it sleeps"
    tunnel.move(10, 20)
    sampler.look()
    assert timers.run(62.0) == 1, "something moved: it ticks again"
    tunnel.move(30, 20)
    timers.run(64.0)
    assert sampler.read(None, 2) == (31, [(0, 0), (20, 0)])
    assert timers.run(200.0) <= QUIET + 1 and not timers.armed
    sampler.wake()
    assert timers.run(300.0) == QUIET, "news of a link: it looks for a while"


def test_what_began_while_it_slept_is_spread_over_the_time_since_the_last_look(
    timers: Timers,
) -> None:
    tunnel = Tunnel()
    sampler = Sampler(tunnel.look, lambda: timers.now)
    sampler.start()
    assert timers.run(60.0) == QUIET
    sampler.look()
    assert not timers.armed, "a look by somebody else's timer starts none of its own"
    tunnel.move(0, 300)
    timers.now = 90.0
    sampler.look()
    assert timers.armed, "something moved"
    assert [down for _, down in sampler.read(None, 15)[1]] == [20] * 15


def test_without_a_link_no_timer_runs(timers: Timers) -> None:
    tunnel = Tunnel()
    tunnel.move(0, 0, linked=False)
    sampler = Sampler(tunnel.look, lambda: timers.now)
    assert sampler.read(None, SAMPLES)[1] == [], "not started"
    sampler.start()
    assert not timers.armed
    tunnel.move(0, 0)
    sampler.wake()
    assert len(timers.armed) == 1
    sampler.stop()
    sampler.look()
    assert not timers.armed and sampler.read(None, SAMPLES)[1] == []


async def nobody_is_ill() -> list[Finding]:
    return []


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = Gateway(CONFIG, MemoryStore())
    await gateway.start()
    yield gateway
    await gateway.stop()


async def test_a_gateway_tells_the_history_of_all_and_of_each_device(gateway: Gateway) -> None:
    now = SYSTEM.now()
    gateway.clock = Clock(lambda: now, SYSTEM.wall)
    settings = Settings("gateway", Path("nowhere"), Config({}))
    api = GatewayApi(
        gateway, Ring(), lambda: None, settings, WakeLock(False), Doctor(nobody_is_ill)
    )
    api.traffic_history.start()
    gateway.on_change = api.traffic_history.wake
    first, _ = await paired(gateway)
    second, _ = await paired(gateway)
    one, other = gateway.snapshots.tunnels()
    one.nat_peer.from_tunnel_bytes += 100
    for tunnel, sent in ((one, 7_000), (other, 50)):
        assert tunnel.nat_peer.out is not None
        tunnel.nat_peer.out.reserve_packet(sent)
    now += INTERVAL
    whole = api.traffic(PeerTrafficParams())
    now += INTERVAL
    whole = api.traffic(PeerTrafficParams())
    assert (whole.interval, whole.peer) == (INTERVAL, None)
    assert whole.newest == int(now // INTERVAL) - 1
    assert sum(whole.from_tunnel) == 100 and sum(whole.to_tunnel) == 7_050
    mine = api.traffic(PeerTrafficParams(peer=one.lease.peer_id[:6]))
    assert mine.peer == one.lease.peer_id
    assert sum(mine.from_tunnel) == 100 and sum(mine.to_tunnel) == 7_000
    assert sum(api.traffic(PeerTrafficParams(peer=other.lease.peer_id)).to_tunnel) == 50
    assert len(api.traffic(PeerTrafficParams(limit=1)).to_tunnel) == 1
    with pytest.raises(ControlError) as caught:
        api.traffic(PeerTrafficParams(peer="zz"))
    assert caught.value.code == Code.NOT_FOUND
    first.leave()
    second.leave()
    api.traffic_history.stop()


async def test_the_gateways_own_timer_looks_when_nothing_else_does(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.collector.USAGE_SECONDS", 0.1)
    looked = asyncio.Event()
    gateway.on_usage = looked.set
    device, _ = await paired(gateway)
    await asyncio.wait_for(looked.wait(), 10)
    device.leave()


@pytest.mark.parametrize("limit", [-1, SAMPLES + 1])
def test_no_more_is_asked_than_is_kept(limit: int) -> None:
    with pytest.raises(ValueError, match="limit"):
        PeerTrafficParams(limit=limit)
