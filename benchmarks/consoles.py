"""What ten consoles cost a gateway at work, one of them stopped in the middle of its screen.

A real gateway and client are built from namespaces (root, Linux). TCP through the
tunnel is measured in turns: alone, with ten consoles on Flows and Overview, one of
them stopped by SIGSTOP so that it reads nothing, and with all of them stopped, which
leaves out the processor time that the consoles themselves take from a small machine.
A round begins and ends with the first, so that what changes slowly touches all alike;
the answer is the median of the rounds' ratios, and the processor time that was used.

Run: python -m benchmarks.consoles [--consoles 10] [--rounds 5] [--seconds 3]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.netns.processes import wait_for
from tests.netns.product import EXECUTABLE, Client, Gateway
from tests.netns.world import PROJECT, SERVER, World

SETTLE = 1.0
"""Seconds that consoles have to come to rest after their start."""


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


def throughput(world: World, seconds: float) -> float:
    """Mbit/s of one TCP connection to the device."""
    return float(measured(world, seconds)["sum_received"]["bits_per_second"]) / 1e6


def measured(world: World, seconds: float) -> dict[str, Any]:
    """What iperf3 says at its end."""
    argv = ["iperf3", "-c", SERVER, "-R", "-t", str(seconds), "-O", "1", "-J"]
    answer: dict[str, Any] = json.loads(world.client.run(argv, check=False).stdout)
    return answer["end"]  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--consoles", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    alone: list[float] = []
    watched: list[float] = []
    paused: list[float] = []
    cores = {"consoles": 0.0, "gateway_alone": 0.0, "gateway_watched": 0.0}
    with World() as world, world.serving(secure=False), Gateway(world) as gateway, \
            Client(world) as client:  # fmt: skip
        gateway.share()
        client.start()
        client.join(gateway)
        world.server.start(["iperf3", "-s"], name="iperf3")
        # Some flows that move, so that the consoles have something to draw.
        world.client.start([sys.executable, str(PROJECT / "tests/netns/mixed_traffic.py"),
                            SERVER, "fd09::1"])  # fmt: skip
        wait_for(lambda: "sum_received" in measured(world, 1), "a first measurement", 30)
        for _ in range(options.rounds):
            first = throughput(world, options.seconds)
            cores["gateway_alone"] += busy([gateway.pid])
            with consoles(gateway, options.consoles) as opened:
                time.sleep(SETTLE)
                processes = [console.process for console in opened[1:]]
                pids = [process.pid for process in processes]
                cores["gateway_watched"] += busy([gateway.pid])
                before = used(pids)
                watched.append(throughput(world, options.seconds))
                cores["consoles"] += (used(pids) - before) / options.seconds
                for process in processes:
                    process.send_signal(signal.SIGSTOP)
                paused.append(throughput(world, options.seconds))
            alone.append((first + throughput(world, options.seconds)) / 2)
    print(json.dumps({
        "consoles": options.consoles,
        "mbit_alone": round(statistics.median(alone)),
        "mbit_watched": round(statistics.median(watched)),
        "mbit_all_stopped": round(statistics.median(paused)),
        "ratio_watched": middle(ratios(watched, alone)),
        "ratio_all_stopped": middle(ratios(paused, alone)),
        "rounds_watched": ratios(watched, alone),
        "rounds_all_stopped": ratios(paused, alone),
        "percent_of_a_core": {
            name: round(100 * each / options.rounds, 1) for name, each in cores.items()
        },
    }))  # fmt: skip


def ratios(some: list[float], others: list[float]) -> list[float]:
    """Of each round."""
    return [round(a / b, 3) for a, b in zip(some, others, strict=True)]


def middle(values: list[float]) -> float:
    """Their median."""
    return round(statistics.median(values), 3)


def used(pids: list[int]) -> float:
    """Processor seconds of some processes so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def busy(pids: list[int], seconds: float = 2.0) -> float:
    """Share of a core that they use while nothing is measured, only the light traffic goes on."""
    before = used(pids)
    time.sleep(seconds)
    return (used(pids) - before) / seconds


if __name__ == "__main__":
    main()
