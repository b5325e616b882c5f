"""Speed limits with real devices: a client of ours and the WireGuard app, beside each other.

All transports, limits and numbers of flows, for longer: `python -m benchmarks.speed_limits`.

What is counted is what the devices' own interfaces count. The client does no offload, so that its
interface sees packets as they would be on a wire. A rate may never be above the limit by 5 %, and
must be seen within 5 % below it before a deadline: what else the machine does can only slow it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.netns.conftest import opened
from tests.netns.hosts import Host
from tests.netns.processes import Process, wait_for
from tests.netns.product import Client, Gateway
from tests.netns.wireguard_app import app_of, missing
from tests.netns.world import SERVER, Shape

SECOND_LAN = "10.1.1.2"
MBIT = 1_000_000
LIMIT = 20
"""Mbit/s."""
WINDOW = 1.0
"""Seconds over which a rate is taken."""
DEADLINE = 20.0
PORTS = {
    ("ours", "up"): "5201",
    ("ours", "down"): "5202",
    ("app", "up"): "5203",
    ("app", "down"): "5204",
}
"""A server for each transfer: one whose client was ended is busy for a while."""

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@dataclass
class Device:
    """A connected device, and its interface in the tunnel."""

    name: str
    host: Host
    interface: str

    def count(self, way: str) -> int:
        """IP bytes so far."""
        # Of the thread, which is what is in the host's namespace.
        table = self.host.inside(lambda: Path("/proc/thread-self/net/dev").read_text())
        fields = table.partition(f"{self.interface}:")[2].split()
        return int(fields[8 if way == "up" else 0])

    def begin(self, way: str, flows: int) -> Process:
        options = ["-R"] if way == "down" else []
        return self.host.start(
            [
                "iperf3",
                "-c",
                SERVER,
                "-t",
                "0",
                "-P",
                str(flows),
                *options,
                "-p",
                PORTS[self.name, way],
            ],
            name=f"iperf-{self.name}-{way}",
        )

    def echo(self) -> float:
        """Seconds of a connect, a question and its answer."""
        began = time.monotonic()
        with self.host.connect(SERVER, 7) as one:
            one.sendall(b"?" * 100)
            assert one.recv(4096)
        return time.monotonic() - began


@dataclass
class Home:
    gateway: Gateway
    ours: Device
    app: Device

    def limit(self, up: str, down: str) -> None:
        """For both devices."""
        for peer in self.gateway.peers():
            self.gateway.command("rules", peer["id"], "--limit-up", up, "--limit-down", down)


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with (
        opened(Shape(second_client=True)) as world,
        world.serving(secure=False),
        Gateway(world) as gateway,
        Client(world) as client,
    ):
        for port in PORTS.values():
            served = world.server.start(["iperf3", "-s", "-p", port, "--forceflush"], name=port)
            served.wait_for_log("Server listening")
        gateway.share()
        client.configure("[client]\noffload = false\n")
        client.start()
        client.join(gateway)
        assert world.second is not None
        with app_of(gateway, world, world.second, SECOND_LAN) as app:
            yield Home(
                gateway,
                Device("ours", world.client, client.status()["interface"]),
                Device("app", world.second, app.interface),
            )


def echoes_soon(device: Device) -> bool:
    return statistics.median([device.echo() for _ in range(11)]) < 0.05


@dataclass
class Watch:
    """How fast a device is one way, from now on."""

    device: Device
    way: str

    def __post_init__(self) -> None:
        self.began, self.first = time.monotonic(), self.device.count(self.way)

    def reaches(self) -> None:
        """It comes within 5 % of the limit."""
        seen: list[float] = []

        def held() -> bool:
            began, before = time.monotonic(), self.device.count(self.way)
            time.sleep(WINDOW)
            passed = self.device.count(self.way) - before
            seen.append(passed * 8 / (time.monotonic() - began) / MBIT)
            return seen[-1] >= 0.95 * LIMIT

        wait_for(held, f"{LIMIT} Mbit/s {self.way} of {self.device.name}", DEADLINE, 0.0)

    def exceeded(self) -> float:
        """Mbit/s since the beginning, but for a burst of a tenth of a second."""
        passed = (self.device.count(self.way) - self.first) * 8 / MBIT - LIMIT / 10
        return passed / (time.monotonic() - self.began)


@pytest.mark.parametrize(("ours", "theirs", "flows"), [("down", "up", 10), ("up", "down", 1)])
def test_limits_are_held_by_both_kinds_beside_small_answers(
    home: Home, ours: str, theirs: str, flows: int
) -> None:
    home.limit(f"{LIMIT}mbit", f"{LIMIT}mbit")
    watches = [Watch(home.ours, ours), Watch(home.app, theirs)]
    bulks = [watch.device.begin(watch.way, flows) for watch in watches]
    try:
        for watch in watches:
            watch.reaches()
        for watch in watches:
            wait_for(
                partial(echoes_soon, watch.device),
                f"{watch.device.name} to connect and echo in 50 ms", DEADLINE, 0.0,
            )  # fmt: skip
            assert watch.exceeded() < 1.05 * LIMIT
        assert all(bulk.running() for bulk in bulks), [bulk.tail() for bulk in bulks]
    finally:
        for bulk in bulks:
            bulk.kill()
