"""Speed limits of a device: a proxy's stack behind a link in memory, against the gateway's NAT.

What is measured is what the link carries: IP packets with data, in bytes, of as many packets as a
joined one is cut into. Time is the world's own.
"""

from __future__ import annotations

from functools import partial

import pytest

from client.outlet.proxy.udp_port import UdpPort
from gateway.nat.limits import Limits
from splice.throttle import LEAST_BURST, Meter, Throttle
from tests.client.outlet.proxy.tunnel import HOST4, HOST6, Link, Tunnel
from tests.fakes.outward import FakeStream
from tests.netsim.simulation import Direction

MBIT = 1_000_000
EMPTY = 80
"""Bytes that a packet without data has at most."""


class Home(Tunnel):
    """A tunnel that counts what it carries."""

    carried_up = 0
    carried_down = 0

    def _into_nat(self, link: Link, data: memoryview, start: int, offload: bool) -> None:
        self.carried_up += packet_bytes(data, start)
        super()._into_nat(link, data, start, offload)

    def _into_stack(self, link: Link, data: memoryview, start: int, offload: bool) -> None:
        self.carried_down += packet_bytes(data, start)
        super()._into_stack(link, data, start, offload)

    def limit(self, up: float | None, down: float | None) -> None:
        """In Mbit/s."""
        assert self.peer is not None
        self.peer.set_speed_limits(
            None if up is None else int(up * MBIT), None if down is None else int(down * MBIT),
            self.now,
        )  # fmt: skip

    def rates(self, seconds: float) -> tuple[float, float]:
        """Mbit/s up and down in the seconds that come."""
        up, down = self.carried_up, self.carried_down
        self.run(seconds)
        factor = 8 / MBIT / seconds
        return (self.carried_up - up) * factor, (self.carried_down - down) * factor

    def uploads(self, flows: int, size: int) -> list[tuple[FakeStream, FakeStream]]:
        """So many flows begin to send; the local program's end and the far host's of each."""
        ends = [self.opened() for _ in range(flows)]
        for local, _ in ends:
            local.receive(bytes(size), self.now)
        return ends

    def downloads(self, flows: int, size: int) -> list[tuple[FakeStream, FakeStream]]:
        ends = [self.opened() for _ in range(flows)]
        for _, far in ends:
            far.receive(bytes(size), self.now)
        return ends

    def port(self) -> tuple[UdpPort, list[float]]:
        """A UDP port, and when datagrams have come to it."""
        came: list[float] = []
        port = self.stack.open_udp(
            lambda _host, _port, _data: came.append(self.now), lambda *_: None
        )
        assert port is not None
        return port, came

    def echo(self) -> float:
        """Seconds of a connect, a small question and its answer."""
        began = self.now
        local, far = self.opened()
        local.receive(b"?" * 40, self.now)
        assert self.run(5, lambda: len(far.sent) == 40)
        far.receive(b"!" * 40, self.now)
        assert self.run(5, lambda: len(local.sent) == 40)
        return self.now - began

    def count(self, name: str) -> int:
        return self.nat_counters.total()[name]


def packet_bytes(data: memoryview, start: int) -> int:
    size = len(data) - start
    if size <= EMPTY:
        return 0
    segment = int.from_bytes(data[4:6], "little") if start else 0
    if not segment:
        return size
    header = int.from_bytes(data[2:4], "little")
    return size + header * ((size - header - 1) // segment)


def home(up: float | None, down: float | None, delay: float = 0.005, offload: bool = False) -> Home:
    made = Home(offload=offload, up=Direction(delay=delay), down=Direction(delay=delay))
    made.open()
    made.limit(up, down)
    return made


@pytest.mark.parametrize("flows", [1, 10])
@pytest.mark.parametrize(("limit", "seconds"), [(1, 4.0), (20, 1.0), (200, 0.25)])
@pytest.mark.parametrize("way", ["up", "down"])
def test_streams_hold_the_limit_each_way(
    way: str, limit: float, seconds: float, flows: int
) -> None:
    """And share it fairly; the link itself bounds nothing."""
    world = home(limit, limit, offload=limit == 200)
    size = int(limit * MBIT / 8 * (seconds + 2))
    ends = world.uploads(flows, size) if way == "up" else world.downloads(flows, size)
    sinks = [far if way == "up" else local for local, far in ends]
    # The first flows had all the windows' room, and give it back.
    world.run(0.5 if limit == 200 else 1)
    began = [len(sink.sent) for sink in sinks]
    rate = world.rates(seconds)[way == "down"]
    assert rate == pytest.approx(limit, rel=0.02)
    shares = [len(sink.sent) - before for sink, before in zip(sinks, began, strict=True)]
    assert min(shares) > 0.7 * max(shares)
    # Slowed by the window alone: nothing was lost, and nothing sent again.
    assert not [name for name in world.nat_counters.snapshot() if "dropped" in name]


@pytest.mark.parametrize("limit", [1, 20])
@pytest.mark.parametrize("way", ["up", "down"])
def test_the_first_seconds_are_no_exception(way: str, limit: int) -> None:
    """The windows of ten new flows are counted, too, and not twice where they shrink."""
    world = home(limit, limit)
    ends = [world.opened() for _ in range(10)]
    for local, far in ends:
        (local if way == "up" else far).receive(bytes(2_000_000), world.now)
    rate = world.rates(3)[way == "down"]
    assert 0.95 * limit < rate < 1.05 * limit


def test_flows_that_come_and_go_gain_nothing() -> None:
    world = home(1, None)
    end = world.now + 10
    while world.now < end:
        local, far = world.opened()
        local.receive(bytes(20_000), world.now)
        local.finish(world.now)
        assert world.run(5, partial(lambda far: far.finished, far))
        far.finish(world.now)
        assert world.run(5, partial(lambda far: bool(far.closed), far))
    rate = world.carried_up * 8 / (world.now - end + 10) / MBIT
    assert 0.9 < rate < 1.05, "nor do they lose what they had not used of their windows"


@pytest.mark.parametrize("flows", [1, 10])
@pytest.mark.parametrize("way", ["up", "down", "both"])
def test_a_small_flow_is_not_behind_the_devices_own_bulk(way: str, flows: int) -> None:
    """Connect, question and answer take two round trips of the link."""
    world = home(20, 20)
    if way != "down":
        world.uploads(flows, 20_000_000)
    if way != "up":
        world.downloads(flows, 20_000_000)
    world.run(1)
    times = []
    for _ in range(20):
        times.append(world.echo())
        world.run(0.013)
    assert max(times) < 0.02 + 0.02


@pytest.mark.parametrize("limit", [1, 20])
def test_a_keystroke_in_an_open_flow_is_not_behind_bulk(limit: float) -> None:
    """It takes the link's round trip, and no turn of anybody."""
    world = home(limit, limit)
    local, far = world.opened()
    world.downloads(10, 5_000_000)
    world.uploads(10, 5_000_000)
    world.run(1)
    for n in range(1, 21):
        began = world.now
        local.receive(b"k", world.now)
        assert world.run(5, partial(lambda n: len(far.sent) == n, n))
        far.receive(b"K", world.now)
        assert world.run(5, partial(lambda n: len(local.sent) == n, n))
        assert world.now - began < 0.01 + 0.001
        world.run(0.031)


@pytest.mark.parametrize("size", [200, 1200])
def test_datagrams_are_dropped_beyond_the_limit_and_counted(size: int) -> None:
    world = home(2, 2)
    port, came = world.port()
    port.send(HOST4, 9, b"first")
    world.run(0.1)
    sock = world.outward.datagrams[0]
    packet = size + 28
    sent = 0
    for _ in range(2000):
        # 4 Mbit/s each way for 2 seconds.
        for _ in range(max(1, 500 // packet)):
            sent += 1
            port.send(HOST4, 9, bytes(size))
            sock.receive(bytes(size), HOST4, 9, now=world.now)
        world.run(max(1, 500 // packet) * packet / 500_000)
        if world.now > 1002.1:
            break
    seconds = world.now - 1000.1
    world.run(1)
    passed = (
        len(sock.sent) - 1
        if not any(one.size for one in sock.sent)
        else sum(-(-len(one.data) // one.size) if one.size else 1 for one in sock.sent) - 1
    )
    assert passed * packet * 8 / seconds == pytest.approx(2 * MBIT, rel=0.05)
    assert len(came) * packet * 8 / seconds == pytest.approx(2 * MBIT, rel=0.05)
    assert world.count("udp__speed_limit__dropped") == sent - passed
    assert world.count("udp__from_network__speed_limit") == sent - len(came)
    total, forwarded, answered, dropped = world.nat_counters.balance()
    assert total == forwarded + answered + dropped


def test_joined_datagrams_are_cut_where_the_limit_is() -> None:
    world = home(2, 2, offload=True)
    port, came = world.port()
    port.send(HOST4, 9, b"first")
    world.run(1)
    sock = world.outward.datagrams[0]
    sock.receive(bytes(40_000), HOST4, 9, size=1000, now=world.now)
    world.run(0.1)
    dropped = world.count("udp__from_network__speed_limit")
    assert len(came) + dropped == 40
    # A burst, and the last one that overdraws it. The pot of a flow that uses little is deeper.
    assert 10 <= len(came) <= 2 * 13
    # An empty datagram is one, too.
    came.clear()
    sock.receive(b"", HOST4, 9, now=world.now)
    world.run(0.1)
    assert len(came) == 1


def test_a_question_passes_beside_a_flood_of_datagrams() -> None:
    """Each way, as what uses little goes first."""
    world = home(2, 2)
    flood, _ = world.port()
    asker, came = world.port()
    flood.send(HOST4, 9, b"first")
    world.run(0.1)
    sock = world.outward.datagrams[0]
    answered = 0
    for step in range(1000):
        flood.send(HOST4, 9, bytes(1200))
        sock.receive(bytes(1200), HOST4, 9, now=world.now)
        if step % 50 == 25:
            asker.send(HOST6, 53, b"?" * 60)
        world.run(0.001)
        if len(world.outward.datagrams) > 1:
            asked = world.outward.datagrams[1]
            while answered < len(asked.sent):
                answered += 1
                asked.receive(b"!" * 400, HOST6, 53, now=world.now)
    world.run(0.1)
    assert (answered, len(came)) == (20, 20)
    assert world.count("udp__speed_limit__dropped") > 500


def test_a_flood_of_datagrams_leaves_streams_their_half() -> None:
    world = home(8, 8)
    flood, _ = world.port()
    flood.send(HOST4, 9, b"first")
    world.run(0.1)
    sock = world.outward.datagrams[0]
    (local, uploaded), (downloaded, far) = world.opened(), world.opened()
    local.receive(bytes(8_000_000), world.now)
    far.receive(bytes(8_000_000), world.now)
    world.run(0.5)
    before = len(uploaded.sent), len(downloaded.sent)
    for _ in range(1000):
        flood.send(HOST4, 9, bytes(1200))
        flood.send(HOST4, 9, bytes(1200))
        sock.receive(bytes(2400), HOST4, 9, size=1200, now=world.now)
        world.run(0.001)
    assert (len(uploaded.sent) - before[0]) * 8 == pytest.approx(4 * MBIT, rel=0.1)
    assert (len(downloaded.sent) - before[1]) * 8 == pytest.approx(4 * MBIT, rel=0.1)


def test_pings_are_bounded_as_datagrams_are() -> None:
    throttle, meter = Throttle(8 * 100_000, 0.0), Meter()
    passed = sum(throttle.admit(meter, 1, 1000, step / 1000) for step in range(10_000))
    assert passed * 1000 == pytest.approx(100_000 * 10, rel=0.02)


def test_limits_are_changed_and_lifted_on_running_flows() -> None:
    world = home(None, None)
    world.limit(10, 10)
    world.downloads(3, 10_000_000)
    world.uploads(3, 10_000_000)
    for limit in (10, 2, 20):
        world.limit(limit, limit)
        world.run(1)
        up, down = world.rates(1)
        assert up == pytest.approx(limit, rel=0.05)
        assert down == pytest.approx(limit, rel=0.05)
    world.limit(20, None)
    up, down = world.rates(0.2)
    assert up == pytest.approx(20, rel=0.1)
    assert down > 100
    world.limit(None, None)
    assert world.rates(0.2)[0] > 100
    peer = world.peer
    assert peer is not None and peer.datagrams is peer.queue
    assert all(flow.owed == flow.lent == 0 for flow in peer.tcp.values())


def test_a_limit_on_a_running_upload_does_not_silence_it() -> None:
    """What the open window lets in is not counted against it."""
    world = home(None, None, delay=0.02)
    [(_, far)] = world.uploads(1, 60_000_000)
    world.run(0.5)
    world.limit(1, None)
    world.run(0.5)
    for _ in range(5):
        before = len(far.sent)
        world.run(0.5)
        assert (len(far.sent) - before) * 8 / 0.5 == pytest.approx(MBIT, rel=0.12)


def test_datagrams_that_wait_are_read_after_the_limit_has_come_and_gone() -> None:
    world = home(None, None)
    port, came = world.port()
    port.send(HOST4, 9, b"first")
    world.run(0.1)
    sock = world.outward.datagrams[0]
    for up_down in (5, None, 5, 6, None):
        # It becomes readable, and before it is read the limit changes.
        sock.receive(b"waits", HOST4, 9, now=world.now)
        world.limit(up_down, up_down)
        world.run(0.1)
    assert len(came) == 5


def test_a_limited_link_that_breaks_goes_on_as_fast_as_before() -> None:
    world = home(10, 10)
    world.downloads(2, 20_000_000)
    world.uploads(2, 20_000_000)
    world.run(1)
    world.cut()
    world.run(3)
    world.open()
    world.run(1)
    up, down = world.rates(1)
    assert up == pytest.approx(10, rel=0.05)
    assert down == pytest.approx(10, rel=0.05)


def test_a_limit_leaves_nothing_behind() -> None:
    """A flow that ends in whatever way is in no table, and what was lent to it is settled."""
    world = home(5, 5)
    ends = world.uploads(4, 1_000_000)
    world.run(0.3)
    (one, _), (_, two), _, _ = ends
    one.refuse(now=world.now)
    two.refuse(now=world.now)
    peer = world.peer
    assert peer is not None
    world.run(0.3)
    assert len(peer.tcp) == 2
    world.nat.close_flows("test", world.now)
    world.run(1)
    assert not peer.tcp
    assert peer.paced_windows is not None and peer.paced_windows.throttle.streams(world.now)
    assert peer.due() == float("inf")


def test_the_least_limit_still_moves() -> None:
    """8 kbit/s: a packet is more than a second of it."""
    world = home(0.001, 0.001)
    [(_, far)] = world.uploads(1, 100_000)
    [(local, _)] = world.downloads(1, 100_000)
    world.run(5)
    before = len(far.sent), len(local.sent)
    world.run(60)
    assert 40_000 < len(far.sent) - before[0] < 65_000
    assert 40_000 < len(local.sent) - before[1] < 65_000


def test_a_meter_forgets() -> None:
    meter = Meter()
    rate = 1e6
    assert meter.sparse(LEAST_BURST, rate, 0.0)
    assert meter.sparse(100, rate, 1.0)
    assert all(meter.sparse(1_000, rate, 2 + step / 10) for step in range(100))
    many = [meter.sparse(1_000, rate, 20 + step / 1000) for step in range(100)]
    assert many[0] and not many[-1]
    assert meter.sparse(100, rate, 22.0)


def test_windows_of_other_devices_are_as_ever() -> None:
    """A limit bounds its device's windows, and new connections get the usual ones when it goes."""
    world = home(1, None)
    assert world.peer is not None
    first = world.peer.tcp_config(4).receive_window
    world.limit(None, None)
    assert first < 4096 < world.peer.tcp_config(4).receive_window == Limits().receive_window_min
