"""Programs of a test world: started in a namespace, watched through /proc, stopped by pid.

Every program writes to a log file of its own, so that a failed test can show
what all of them said. Nothing is ever stopped by name.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")


class Failed(AssertionError):
    """A program of the world did not do what the test needs it to do."""


def wait_for(
    condition: Callable[[], object], what: str, seconds: float = 10.0, every: float = 0.05
) -> None:
    """Wait until `condition()` is true; Failed, naming `what`, when that takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"waited {seconds:g} s in vain for {what}")
        time.sleep(every)


class Process:
    """A program that runs beside the test."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with open(log, "ab") as output:
            self.popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        self.pid = self.popen.pid

    def running(self) -> bool:
        return self.popen.poll() is None

    def tail(self, lines: int = 40) -> str:
        """The end of what it wrote."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def wait_for_log(self, text: str, seconds: float = 10.0) -> None:
        """Wait until it has written `text`; Failed if it ends or stays silent."""

        def said() -> bool:
            if text in self.log.read_text(errors="replace"):
                return True
            if not self.running():
                raise Failed(f"{self.name} ended with {self.popen.returncode}:\n{self.tail()}")
            return False

        wait_for(said, f"{self.name} to say {text!r}", seconds)

    def stop(self, with_signal: int = signal.SIGTERM, seconds: float = 10.0) -> int:
        """End it and return its exit status; killed, with Failed, if it does not go in time."""
        if self.running():
            self.popen.send_signal(with_signal)
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise Failed(
                f"{self.name} ignored signal {with_signal} for {seconds:g} s:\n{self.tail()}"
            ) from None

    def kill(self) -> None:
        """End it without asking, with the children it may have left in its session."""
        for member in session_members(self.pid):
            try:
                os.kill(member, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.popen.wait()

    def rss(self) -> int:
        """Resident memory, bytes."""
        return rss(self.pid)

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        return cpu_seconds(self.pid)

    def descriptors(self) -> int:
        """Open file descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def rss(pid: int) -> int:
    """Resident memory of a process, bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_SIZE


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, all its threads, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def wake_ups(pid: int) -> int:
    """Times that any thread of a process slept and was woken again, so far."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


def switches(pid: int) -> int:
    """Times that any thread of a process gave up its processor so far, by itself or not."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            status = (task / "status").read_text()
        except FileNotFoundError:
            # A thread that has ended meanwhile.
            continue
        for line in status.splitlines():
            if "voluntary_ctxt_switches" in line:
                total += int(line.split()[1])
    return total


def session_members(leader: int) -> list[int]:
    """Processes of the session that `leader` opened, itself included."""
    members = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = Path(f"/proc/{entry}/stat").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[3]) == leader:
            members.append(int(entry))
    return members
