"""`python -m benchmarks.proxy`: the proxy beside the NIC, in one world and one run, in turns.

Two clients of one gateway: one with a NIC, one of an unprivileged user's with a proxy. Each figure
is taken of both in turns, and told as the proxy's share of the NIC's: bytes a second with one
stream and with eight, up and down; the time of a connect with a byte there and back (the NIC's is
straight, the proxy's with SOCKS's greeting and request). Then memory: what the proxy's process
holds for each of many connections that have carried something and are idle.

Needs root, as all of what runs in namespaces.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from benchmarks.measures import LOAD
from tests.netns.hosts import Host
from tests.netns.processes import wait_for
from tests.netns.product import Client, Gateway
from tests.netns.world import SERVER, Shape, World

PROXY_LOAD = str(Path(__file__).with_name("proxy_load.py"))
PORT = 1080
USER = 64_001
ECHO, DISCARD, SOURCE = 7777, 9, 19


class Side:
    """A host, and what its loads are given besides."""

    def __init__(self, host: Host, *words: str) -> None:
        self._host = host
        self._words = words

    def load(self, *words: object) -> float:
        argv = [sys.executable, PROXY_LOAD, *map(str, words), *self._words]
        answer: float = json.loads(self._host.run(argv, timeout=120).stdout)
        return answer

    def hold(self, count: int) -> None:
        words = ["hold", SERVER, ECHO, count]
        argv = [sys.executable, PROXY_LOAD, *map(str, words), *self._words]
        holder = self._host.start(argv, name="holder")
        holder.wait_for_log(f"held {count}", 300)


def resident(pid: int) -> int:
    """Bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no VmRSS")


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def shares(proxy: Side, nic: Side, turns: int, seconds: float) -> dict[str, dict[str, float]]:
    """Of each load the medians of both sides, and the proxy's share."""
    loads: dict[str, tuple[object, ...]] = {
        f"{way}_{streams}": (way, SERVER, DISCARD if way == "up" else SOURCE, seconds, streams)
        for way in ("down", "up")
        for streams in (1, 8)
    }
    loads |= {"echo": ("echo", SERVER, ECHO, 200)}
    figures = {}
    for name, words in loads.items():
        taken: tuple[list[float], list[float]] = ([], [])
        for turn in range(turns):
            for side in (0, 1) if turn % 2 else (1, 0):
                taken[side].append((proxy, nic)[side].load(*words))
        mine, theirs = map(median, taken)
        figures[name] = {"proxy": mine, "nic": theirs, "share": mine / theirs}
        print(f"{name}: {figures[name]}", file=sys.stderr, flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--hold", type=int, default=5000)
    args = parser.parse_args()
    with World(Shape(second_client=True)) as world, world.serving(), Gateway(world) as gateway:
        echo = world.server.start([sys.executable, LOAD, "serve", str(ECHO)], name="echo")
        echo.wait_for_log("ready")
        gateway.share()
        other = world.second
        assert other is not None
        with Client(world) as nic, Client(world, other, "proxied") as proxy:
            proxy.user = USER
            os.chown(proxy.home, USER, USER)
            nic.start().join(gateway)
            proxy.start("--proxy").join(gateway)
            by_proxy = Side(other, str(PORT))
            figures: dict[str, object] = dict(
                shares(by_proxy, Side(world.client), args.turns, args.seconds)
            )
            before = resident(proxy.pid)
            by_proxy.hold(args.hold)
            wait_for(
                lambda: proxy.ask("flows")["total"] >= args.hold, "all flows to be told of", 60
            )
            figures["bytes_a_connection"] = (resident(proxy.pid) - before) / args.hold
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
