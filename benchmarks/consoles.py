"""What ten consoles cost a gateway at work, one of them stopped in the middle of its screen.

A real gateway and client are built from namespaces (root, Linux). TCP through the
tunnel is measured in turns: alone, then with ten subscribers on the control socket
that watch what the console's Flows section watches, one of them stopped by SIGSTOP
so that it reads nothing. The answer is the ratio of the medians.

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
from collections.abc import Iterator

from tests.netns.processes import wait_for
from tests.netns.product import EXECUTABLE, Client, Gateway
from tests.netns.world import PROJECT, SERVER, World


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
    argv = ["iperf3", "-c", SERVER, "-R", "-t", str(seconds), "-J"]
    answer = json.loads(world.client.run(argv).stdout)
    return float(answer["end"]["sum_received"]["bits_per_second"]) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--consoles", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    alone: list[float] = []
    watched: list[float] = []
    paused: list[float] = []
    with World() as world, world.serving(secure=False), Gateway(world) as gateway, \
            Client(world) as client:  # fmt: skip
        gateway.share()
        client.start()
        client.join(gateway)
        world.server.start(["iperf3", "-s"], name="iperf3")
        # Some flows that move, so that the consoles have something to draw.
        world.client.start([sys.executable, str(PROJECT / "tests/netns/mixed_traffic.py"),
                            SERVER, "fd09::1"])  # fmt: skip
        throughput(world, 1)
        for _ in range(options.rounds):
            alone.append(throughput(world, options.seconds))
        with consoles(gateway, options.consoles) as opened:
            everyone = [console.process for console in opened[1:]]
            for _ in range(options.rounds):
                watched.append(throughput(world, options.seconds))
                # The same with the consoles' own processor time taken away.
                for process in everyone:
                    process.send_signal(signal.SIGSTOP)
                paused.append(throughput(world, options.seconds))
                for process in everyone:
                    process.send_signal(signal.SIGCONT)
            drawn = [console.drawn for console in opened]
        for _ in range(options.rounds):
            alone.append(throughput(world, options.seconds))
    print(json.dumps({
        "consoles": options.consoles,
        "mbit_alone": round(statistics.median(alone)),
        "mbit_watched": round(statistics.median(watched)),
        "mbit_all_stopped": round(statistics.median(paused)),
        "ratio_watched": round(statistics.median(watched) / statistics.median(alone), 3),
        "ratio_all_stopped": round(statistics.median(paused) / statistics.median(alone), 3),
        "drawn_kib": [round(each / 1024) for each in drawn],
    }))  # fmt: skip


if __name__ == "__main__":
    main()
