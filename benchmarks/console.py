"""What the console costs: bytes on the line, processor time, answers to keys, first paint.

A pretend gateway with thousands of flows, all of them moving once a second,
is served on a real control socket; the console runs in a pty of a given size.
Run: python -m benchmarks.console [--flows 5000] [--size 80x24] [--section flows]
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import multiprocessing
import os
import pty
import select
import signal
import statistics
import struct
import sys
import tempfile
import termios
import time
from dataclasses import replace
from pathlib import Path

from control.server import ControlServer
from tests.fakes.services import PretendGateway, make_flows

SETTLE = 3.0
"""Seconds after the first paint that belong to starting."""
PRESSES = 100
WITH_CURSOR = ("peers", "flows", "log")
"""Sections in which `j` and `k` move something."""


def serve(path: str, flows: int) -> None:
    """A gateway whose numbers all move once a second, until it is killed."""

    async def run() -> None:
        gateway = PretendGateway()
        server = ControlServer(Path(path), gateway.registry())
        gateway.flows = make_flows(flows)
        await server.start()
        step = 0
        while True:
            await asyncio.sleep(1)
            step += 1
            wave = 1 + step * 7 % 10
            gateway.status = replace(
                gateway.status,
                uptime=gateway.status.uptime + 1,
                to_tunnel_rate=wave * 6e5,
                from_tunnel_rate=wave * 2e4,
                to_tunnel_bytes=gateway.status.to_tunnel_bytes + wave * 600_000,
            )
            gateway.leases = [
                replace(lease, to_tunnel_rate=wave * 3e5) if lease.connected else lease
                for lease in gateway.leases
            ]
            gateway.flows = make_flows(flows, step)
            server.changed()

    asyncio.run(run())


class Terminal:
    """The console in a pty, and what it writes."""

    def __init__(self, path: str, width: int, height: int, section: str) -> None:
        self.began = time.monotonic()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
            os.environ.pop("NO_COLOR", None)
            program = f"from tui.app import run; run({path!r}, section={section!r})"
            os.execv(sys.executable, [sys.executable, "-c", program])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def read(self, seconds: float) -> bytes:
        """What comes within so many seconds."""
        data = b""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.fd], [], [], left)[0]:
                data += os.read(self.fd, 1 << 16)
        return data

    def first_paint(self) -> float:
        """Seconds from the start until the tabs are on the screen."""
        data = b""
        while b"Overview" not in data:
            data += os.read(self.fd, 1 << 16)
        return time.monotonic() - self.began

    def answer(self, key: bytes) -> float:
        """Seconds from a key press to the first byte that it causes."""
        self.read(0.12)
        pressed = time.monotonic()
        os.write(self.fd, key)
        select.select([self.fd], [], [], 1.0)
        return time.monotonic() - pressed

    def cpu(self) -> float:
        """Processor seconds so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


def measure(flows: int, width: int, height: int, section: str, seconds: float) -> dict[str, float]:
    """One run, as named numbers."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/gateway.sock"
        service = multiprocessing.get_context("spawn").Process(target=serve, args=(path, flows))
        service.start()
        try:
            while not os.path.exists(path):
                time.sleep(0.05)
            terminal = Terminal(path, width, height, section)
            try:
                first = terminal.first_paint()
                started = len(terminal.read(SETTLE))
                before = terminal.cpu()
                data = terminal.read(seconds)
                used = terminal.cpu() - before
                presses = PRESSES if section in WITH_CURSOR else 0
                keys = [terminal.answer(b"jk"[n // 10 % 2 :][:1]) for n in range(presses)]
            finally:
                terminal.close()
        finally:
            service.kill()
            service.join()
    numbers = {
        "first_paint_s": round(first, 3),
        "start_kib": round(started / 1024, 1),
        "kib_per_s": round(len(data) / 1024 / seconds, 2),
        "cpu_percent": round(100 * used / seconds, 1),
    }
    if keys:
        numbers["key_median_ms"] = round(statistics.median(keys) * 1000, 1)
        numbers["key_p95_ms"] = round(sorted(keys)[int(0.95 * len(keys))] * 1000, 1)
    return numbers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--flows", type=int, default=5_000)
    parser.add_argument("--size", default="80x24")
    parser.add_argument("--section", default="flows")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    width, height = (int(part) for part in options.size.split("x"))
    numbers = measure(options.flows, width, height, options.section, options.seconds)
    print(json.dumps({"section": options.section, "size": options.size} | numbers))


if __name__ == "__main__":
    main()
