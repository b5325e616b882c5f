"""What ten consoles cost a gateway at work, one of them stopped in the middle of its screen.

A real gateway and client are built from namespaces (root, Linux). One TCP download
through the tunnel is measured in turns: alone, with ten consoles on Flows and Overview,
one of them stopped by SIGSTOP so that it reads nothing, and with all of them stopped,
which leaves out the processor time that the consoles themselves take from a small
machine. It is one connection all the time, since connections differ by more than what
is looked for, and a round begins and ends with the first turn, so that what changes
slowly touches all alike. The answer is the mean of the rounds' ratios with its standard
error, and the processor time that was used.

Run: python -m benchmarks.consoles [--consoles 10] [--rounds 12] [--seconds 4]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import pty
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.netns.processes import cpu_seconds, wait_for
from tests.netns.product import EXECUTABLE, Client, Gateway
from tests.netns.world import PROJECT, SERVER, World

SETTLE = 1.0
"""Seconds to come to rest after consoles have come or gone."""
WARM_UP = 3.0
"""Seconds that the download has to reach its rate."""


class Console:
    """The console in a terminal of its own, whose screen is read and thrown away."""

    def __init__(self, gateway: Gateway, section_key: bytes) -> None:
        ours, theirs = pty.openpty()
        self._fd = ours
        self.drawn = 0
        """Bytes that it has written to its screen."""
        self.process = subprocess.Popen(
            [str(EXECUTABLE), "console", "--role", "gateway"],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env={**gateway.environment(), "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
        )  # fmt: skip
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_for(lambda: self.drawn > 2000, "the console's first screen", 60)
        os.write(ours, section_key)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._fd, 1 << 16):
                self.drawn += len(data)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(5)
        os.close(self._fd)


@contextlib.contextmanager
def consoles(gateway: Gateway, number: int) -> Iterator[list[Console]]:
    """So many consoles on Flows and Overview; all but the first go on."""
    opened: list[Console] = []
    try:
        for each in range(number):
            opened.append(Console(gateway, b"4" if each % 2 == 0 else b"1"))
        opened[0].process.send_signal(signal.SIGSTOP)
        yield opened
    finally:
        for console in opened:
            console.close()


class Meter:
    """What a network interface of the device has received."""

    def __init__(self, world: World, interface: str) -> None:
        self._host = world.client
        self._start = f"{interface}:"

    def rate(self, seconds: float) -> float:
        """Mbit/s over so long."""
        began, had = time.monotonic(), self._bytes()
        time.sleep(seconds)
        return (self._bytes() - had) * 8 / (time.monotonic() - began) / 1e6

    def _bytes(self) -> int:
        table = self._host.inside(Path("/proc/thread-self/net/dev").read_text)
        (line,) = (line for line in table.splitlines() if line.strip().startswith(self._start))
        return int(line.split(":")[1].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--consoles", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    watched: list[float] = []
    paused: list[float] = []
    cores = {}
    with World() as world, world.serving(secure=False), Gateway(world) as gateway, \
            Client(world) as client:  # fmt: skip
        gateway.share()
        client.start()
        client.join(gateway)
        # Some flows that move, so that the consoles have something to draw.
        world.client.start([sys.executable, str(PROJECT / "tests/netns/mixed_traffic.py"),
                            SERVER, "fd09::1"])  # fmt: skip
        wait_for(lambda: gateway.status()["flows"] > 500, "some flows", 60)
        world.server.start(["iperf3", "-s", "--forceflush"]).wait_for_log("listening")
        download = world.client.start(["iperf3", "-c", SERVER, "-R", "-t", "0"])
        meter = Meter(world, client.status()["interface"])
        time.sleep(WARM_UP)
        taken = 0.0
        alone = [meter.rate(options.seconds)]
        for number in range(options.rounds):
            with consoles(gateway, options.consoles) as opened:
                time.sleep(SETTLE)
                processes = [console.process for console in opened[1:]]
                pids = [process.pid for process in processes]
                before = used(pids)
                watched.append(meter.rate(options.seconds))
                taken += (used(pids) - before) / options.seconds
                for process in processes:
                    process.send_signal(signal.SIGSTOP)
                paused.append(meter.rate(options.seconds))
            time.sleep(SETTLE)
            alone.append(meter.rate(options.seconds))
            print(f"round {number + 1}: {alone[-1]:.0f} Mbit/s alone, {watched[-1]:.0f} watched",
                  file=sys.stderr)  # fmt: skip
        assert download.running(), download.tail()
        download.kill()
        cores["consoles"] = taken / options.rounds
        time.sleep(SETTLE)
        cores["gateway_alone"] = busy([gateway.pid], options.seconds)
        with consoles(gateway, options.consoles):
            time.sleep(SETTLE)
            cores["gateway_watched"] = busy([gateway.pid], options.seconds)
    around = [(a + b) / 2 for a, b in pairwise(alone)]
    print(json.dumps({
        "consoles": options.consoles,
        "mbit_alone": round(statistics.mean(alone)),
        "mbit_watched": round(statistics.mean(watched)),
        "mbit_all_stopped": round(statistics.mean(paused)),
        "watched": summary(ratios(watched, around)),
        "all_stopped": summary(ratios(paused, around)),
        "percent_of_a_core": {name: round(100 * each, 1) for name, each in cores.items()},
    }))  # fmt: skip


def ratios(some: list[float], others: list[float]) -> list[float]:
    """Of each round."""
    return [round(a / b, 3) for a, b in zip(some, others, strict=True)]


def summary(rounds: list[float]) -> dict[str, Any]:
    """Their mean, how far it may be off (one standard error), and each."""
    error = statistics.stdev(rounds) / math.sqrt(len(rounds)) if len(rounds) > 1 else None
    return {
        "ratio": round(statistics.mean(rounds), 3),
        "standard_error": None if error is None else round(error, 3),
        "rounds": rounds,
    }


def used(pids: list[int]) -> float:
    """Processor seconds of some processes so far."""
    return sum(map(cpu_seconds, pids))


def busy(pids: list[int], seconds: float) -> float:
    """Share of a core that they use while only the light traffic goes on."""
    before = used(pids)
    time.sleep(seconds)
    return (used(pids) - before) / seconds


if __name__ == "__main__":
    main()
