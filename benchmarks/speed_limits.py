"""Speed limits held: each limit, each way, with one flow and ten, by each transport.

    sudo .venv/bin/python -m benchmarks.speed_limits [--seconds 5] [--limits 1,20,200]
        [--transports tcp,udp,wireguard] [--flows 1,10]

Namespaces, the product and iperf3, as in `python -m benchmarks`; the limits are changed live, by
`vpnshare rules`. A figure is the rate of IP packets that arrived, from what iperf3's receiver
counts and the headers of full packets, as a share of the limit. Beside it, at 20 Mbit/s: connect
and echo of the same device meanwhile. `datagrams` is iperf3's UDP, sent at one and a half times
the limit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.__main__ import serving
from benchmarks.measures import IPERF_ATTEMPTS, load, whole_seconds
from benchmarks.paths import ECHO_PORT, Path
from tests.netns.processes import Failed, Process
from tests.netns.product import Client, Gateway
from tests.netns.wireguard_app import app_of
from tests.netns.world import SERVER, World

TRANSPORTS = ("tcp", "udp", "wireguard")
LATENCY_AT = 20
"""Mbit/s."""
SETTLING = 1
"""Seconds of each transfer that are not counted."""
TCP_HEADERS = 52
UDP_HEADERS = 28
PAYLOAD = 1200


@dataclass
class Limited:
    """A connected device."""

    path: Path
    gateway: Gateway
    device: str
    mtu: int
    count: int = 0
    """Of transfers so far."""

    def limit(self, mbit: int | None) -> None:
        rate = "none" if mbit is None else f"{mbit}mbit"
        self.gateway.command("rules", self.device, "--limit-up", rate, "--limit-down", rate)

    def iperf(self, seconds: float, flows: int, way: str, *options: str) -> Process:
        argv = ["iperf3", "-c", SERVER, "-t", whole_seconds(seconds), "-P", str(flows), "--json",
                *options, *["-R"] * (way == "down")]  # fmt: skip
        self.count += 1
        return self.path.world.client.start(argv, name=f"iperf-{self.count}")

    def report(self, process: Process, seconds: float) -> Any:
        process.popen.wait(seconds + 60)
        report = json.loads(process.log.read_text())
        if "error" in report:
            raise Failed(f"iperf3: {report['error']}")
        return report["end"]


@contextlib.contextmanager
def limited(transport: str) -> Iterator[Limited]:
    with World() as world, serving(world), Gateway(world) as gateway:
        gateway.share()
        if transport == "wireguard":
            with app_of(gateway, world, world.client, "10.1.0.2"):
                yield described(world, gateway)
            return
        with Client(world) as client:
            client.start()
            client.join(gateway, "--transport", transport)
            yield described(world, gateway)


def described(world: World, gateway: Gateway) -> Limited:
    [peer] = gateway.ask("peers")
    [lease] = gateway.leases()
    return Limited(Path(world), gateway, peer["id"], lease["mtu"])


def streams(device: Limited, mbit: int, seconds: float, flows: int, way: str) -> str:
    for attempt in range(IPERF_ATTEMPTS):
        bulk = device.iperf(
            seconds, flows, way, "-l", "1K" if mbit < 10 else "8K", "-O", str(SETTLING)
        )
        echo = None
        try:
            if mbit == LATENCY_AT:
                echo = load(device.path, "latency", SERVER, ECHO_PORT, seconds)
            end = device.report(bulk, seconds)
            break
        except Failed:
            if attempt + 1 == IPERF_ATTEMPTS:
                raise
        finally:
            bulk.kill()
    payload = device.mtu - TCP_HEADERS
    rate = end["sum_received"]["bits_per_second"] * device.mtu / payload / 1e6
    said = f"{rate / mbit:7.1%}"
    if echo is not None:
        said += f"   connect + echo p50 {echo['p50'] * 1e3:.1f} ms, p99 {echo['p99'] * 1e3:.1f} ms"
        said += f" of {echo['samples']}"
    return said


def datagrams(device: Limited, mbit: int, seconds: float, way: str) -> str:
    for attempt in range(IPERF_ATTEMPTS):
        # All of it: of what was lost in the first second iperf3 would count a part.
        bulk = device.iperf(seconds, 1, way, "-u", "-l", str(PAYLOAD), "-b", f"{mbit * 1500}K")
        try:
            total = device.report(bulk, seconds)["sum"]
            break
        except Failed:
            if attempt + 1 == IPERF_ATTEMPTS:
                raise
        finally:
            bulk.kill()
    arrived = (total["packets"] - total["lost_packets"]) / total["seconds"]
    rate = arrived * (PAYLOAD + UDP_HEADERS) * 8 / 1e6
    return f"{rate / mbit:7.1%}   dropped {total['lost_percent']:.0f} %"


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each transfer")
    parser.add_argument("--limits", type=numbers, default=[1, 20, 200], help="Mbit/s")
    parser.add_argument("--flows", type=numbers, default=[1, 10])
    parser.add_argument("--transports", default=",".join(TRANSPORTS))
    options = parser.parse_args()
    if os.geteuid():
        parser.error("needs root: it builds network namespaces")
    for transport in options.transports.split(","):
        with limited(transport) as device:
            for mbit in options.limits:
                device.limit(mbit)
                for way in ("up", "down"):
                    case = f"{transport:9} {mbit:4} Mbit/s {way:4}"
                    for flows in options.flows:
                        said = streams(device, mbit, options.seconds, flows, way)
                        print(f"{case} {flows:3} flows  {said}", flush=True)
                    said = datagrams(device, mbit, options.seconds, way)
                    print(f"{case} datagrams  {said}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
