"""Packets seen on an interface, by tcpdump."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.netns.hosts import Host, command
from tests.netns.processes import Process, wait_for

SETTLE_SECONDS = 0.3
"""What tcpdump may take to fetch the last packets from the kernel."""


class Capture:
    """A running tcpdump that writes to a file, packet by packet."""

    def __init__(self, process: Process, path: Path) -> None:
        self._process = process
        self.path = path

    @classmethod
    @contextlib.contextmanager
    def of(cls, host: Host, interface: str, expression: str = "") -> Iterator[Capture]:
        """Capture on `interface` of `host` until the context is left."""
        path = host.logs / f"{host.name}-{interface}-{len(host.processes)}.pcap"
        process = host.start(
            ["tcpdump", "-i", interface, "-n", "-U", "--immediate-mode", "-Z", "root",
             "-B", "8192", "-w", str(path), *([expression] if expression else [])]
        )  # fmt: skip
        process.wait_for_log("listening on")
        try:
            yield cls(process, path)
        finally:
            process.kill()
            path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Stop capturing; everything seen is in the file then."""
        if self._process.running():
            time.sleep(SETTLE_SECONDS)
            self._process.stop(signal.SIGINT)
            wait_for(self.path.exists, "the capture file")

    def lines(self, *options: str, expression: str = "") -> list[str]:
        """What tcpdump prints for the packets, after the capture has ended."""
        self.finish()
        text = command(
            ["tcpdump", "-n", "-r", str(self.path), *options, *([expression] if expression else [])]
        )
        return [line for line in text.splitlines() if line]

    def so_far(self) -> list[str]:
        """What tcpdump prints for the packets that it has by now, while it goes on."""
        # The last one may be half written, which it says and is no fault.
        argv = ["tcpdump", "-n", "-t", "-r", str(self.path)]
        done = subprocess.run(argv, capture_output=True, text=True)
        return [line for line in done.stdout.splitlines() if line]

    def count(self) -> int:
        """How many packets there were."""
        return len(self.lines("-t"))
