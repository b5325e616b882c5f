"""Two of our endpoints over a seeded link that loses, reorders, duplicates and delays."""

from __future__ import annotations

import gc
import hashlib
import random
import tracemalloc
from dataclasses import dataclass
from typing import Literal

import pytest

from netstack.tcp.config import CloseReason, TcpConfig
from tests.netsim.simulation import Direction, Host, Simulation
from tests.netstack.tcp.dialogue import START, established


def transfer(
    size: int,
    *,
    seed: int = 1,
    loss: float = 0.0,
    version: int = 4,
    offload: bool = False,
    reliable: bool = False,
    iss: int | None = None,
    config: TcpConfig | None = None,
    rate: float = 0.0,
    queue: int = 256 * 1024,
) -> tuple[Simulation, Host, Host]:
    """Send `size` bytes each way, close both directions, check that all arrived."""
    link, back = (
        Direction(
            loss=loss,
            reorder=0.02 * bool(loss),
            duplicate=0.01 * bool(loss),
            rate=rate,
            queue=queue,
        )
        for _ in range(2)
    )
    sim = Simulation(seed, link, back)
    config = config or TcpConfig(reliable=reliable)
    data = random.Random(seed).randbytes(2 * size)
    a = sim.add(config, data[:size], version=version, offload=offload, iss=iss)
    b = sim.add(config, data[size:], version=version, offload=offload, iss=iss)
    sim.open()
    sim.run()
    assert b.digest.digest() == hashlib.sha256(data[:size]).digest()
    assert a.digest.digest() == hashlib.sha256(data[size:]).digest()
    for host in (a, b):
        assert host.fin_seen
        assert host.reason is CloseReason.FINISHED
        assert host.pool.taken == 0
    return sim, a, b


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("reliable", [False, True])
def test_clean_link(version: int, offload: bool, reliable: bool) -> None:
    sim, _a, _b = transfer(400_000, version=version, offload=offload, reliable=reliable)
    assert sim.ab.lost == sim.ba.lost == 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("loss", [0.01, 0.05, 0.2])
def test_lossy_link(loss: float, seed: int) -> None:
    sim, _a, _b = transfer(200_000, loss=loss, seed=seed)
    assert sim.ab.lost + sim.ba.lost > 0


@pytest.mark.parametrize("iss", [0, 0xFFFF_FFFF, 0xFFFF_FF00, 0x7FFF_FFF0])
def test_sequence_numbers_wrap(iss: int) -> None:
    transfer(150_000, iss=iss, loss=0.02)


@pytest.mark.parametrize("congestion", ["cubic", "bbr"])
@pytest.mark.parametrize("rate", [125_000, 2_500_000])
def test_a_slow_link_with_a_short_queue(congestion: Literal["cubic", "bbr"], rate: float) -> None:
    """Congestion control fills the link and does not drown it."""
    config = TcpConfig(reliable=False, congestion=congestion)
    size = 1_000_000
    sim, a, _b = transfer(size, config=config, rate=rate, queue=64_000)
    spent = max(host.fin_at for host in sim.hosts) - 100.0
    assert size / rate < spent < 1.5 * size / rate + 2
    assert sim.ab.lost < 0.2 * sim.packets
    assert a.received == size


@dataclass
class Sleepy(Direction):
    """Into the socket of a process that does not run for `asleep` of each `period`."""

    period: float = 0.05
    asleep: float = 0.0
    holds: int = 24
    """Packets that wait in the socket; what comes beyond is lost."""
    wakes: float = 0.0
    waiting: int = 0

    def arrivals(self, size: int, now: float, rng: random.Random) -> list[float]:
        (at,) = super().arrivals(size, now, rng)
        wakes = at - at % self.period + self.asleep
        if at >= wakes:
            return [at]
        if wakes != self.wakes:
            self.wakes, self.waiting = wakes, 0
        self.waiting += 1
        if self.waiting > self.holds:
            self.lost += 1
            return []
        return [wakes]


@pytest.mark.parametrize("asleep", [0.016, 0.024])
def test_a_socket_that_overflows_does_so_seldom(asleep: float) -> None:
    """The window remembers what an app's socket holds; and it stays as fast as it can be."""
    rate, size, settled = 10e6, 12_000_000, 0.3
    sim = Simulation(3, Sleepy(delay=0.0003, rate=rate, queue=1 << 30, asleep=asleep))
    sim.ba.delay = 0.0003
    sender = sim.add(TcpConfig(reliable=False), bytes(size))
    receiver = sim.add(TcpConfig(reliable=False))
    sim.open()
    begin, longest, last, seen = sim.now, 0.0, sim.now, 0
    at_first = packets = 0
    while receiver.received < size:
        assert sim.step()
        if sim.now < begin + settled:
            at_first, packets = sim.ab.lost, sender.sent // 1448
        if receiver.received != seen:
            longest, last, seen = max(longest, sim.now - last), sim.now, receiver.received
    assert sim.ab.lost - at_first < 0.01 * (size // 1448 - packets)
    assert size / (sim.now - begin) > 0.9 * rate * (1 - asleep / 0.05)
    assert longest < 0.1, "nothing waited for a time-out"


@pytest.mark.parametrize(
    "config",
    [
        TcpConfig(reliable=False, timestamps=False),
        TcpConfig(reliable=False, sack=False),
        TcpConfig(reliable=False, sack=False, timestamps=False, window_scaling=False),
        TcpConfig(reliable=False, congestion="cubic"),
    ],
    ids=["no timestamps", "no SACK", "no options", "CUBIC"],
)
def test_without_options(config: TcpConfig) -> None:
    transfer(150_000, loss=0.05, config=config)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("reliable", [False, True])
@pytest.mark.parametrize("offload", [False, True])
def test_a_link_that_breaks_again_and_again(seed: int, reliable: bool, offload: bool) -> None:
    """Whatever was on the way is lost at each break; nothing is lost of the stream."""
    sim = Simulation(seed, Direction(rate=2e6), Direction(rate=2e6))
    config = TcpConfig(reliable=reliable)
    size = 1_500_000
    data = random.Random(seed).randbytes(2 * size)
    a = sim.add(config, data[:size], offload=offload)
    b = sim.add(config, data[size:], offload=offload)
    sim.open()
    for kind in (reliable, True, reliable):
        sim.run(until=sim.now + 0.08 + sim.rng.random() / 10)
        assert a.reason is None
        sim.break_link()
        sim.now += 60.0
        sim.resume_link(kind)
    sim.run()
    assert b.digest.digest() == hashlib.sha256(data[:size]).digest()
    assert a.digest.digest() == hashlib.sha256(data[size:]).digest()
    assert a.reason is b.reason is CloseReason.FINISHED
    assert a.pool.taken == b.pool.taken == 0


@pytest.mark.parametrize("offload", [False, True])
def test_a_slow_reader_holds_the_sender(offload: bool) -> None:
    sim = Simulation(1)
    config = TcpConfig(receive_window=50_000, max_receive_window=50_000)
    data = random.Random(1).randbytes(400_000)
    a = sim.add(config, data, offload=offload)
    b = sim.add(config, offload=offload)
    b.consume = False
    sim.open()
    while b.received < len(data):
        sim.run(until=sim.now + 0.2)
        assert b.conn.unread <= 50_000
        assert a.sent - b.received <= 50_000
        if b.conn.unread:
            b.conn.consumed(min(20_000, b.conn.unread), sim.now)
    sim.run()
    assert b.digest.digest() == hashlib.sha256(data).digest()


def test_an_idle_connection_costs_little_memory_and_no_wake_ups() -> None:
    """Of 10,000 flows of less than 4 KB each, in all, the TCP machine's share."""
    count = 100
    user = established()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        connections = []
        for _ in range(count):
            d = established(stamps=True)
            d.say("PA", 0, 0, b"question")
            d.send(b"answer")
            d.say("A", 8, 6)
            d.conn.user, d.conn.out = user, user.log
            connections.append(d.conn)
        del d
        gc.collect()
        spent = (tracemalloc.get_traced_memory()[0] - before) / count
    finally:
        tracemalloc.stop()
    assert all(conn.in_flight == 0 for conn in connections)
    assert spent < 2600
    assert connections[0].get_timer() == START + TcpConfig().keepalive_idle
