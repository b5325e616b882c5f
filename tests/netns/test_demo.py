"""`vpnshare demo` as a user runs it: it works, and nothing is left of it, however it ends."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services import demo
from tests.netns.processes import wait_for
from tests.netns.product import EXECUTABLE


def traces(pid: int) -> list[str]:
    """What the demonstration of that process has left on the machine."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    mine = f"{demo.PREFIX}{pid}-"
    found = [line for line in listed.splitlines() if line.startswith(mine)]
    found += [str(path) for path in demo.ETC.glob(f"{mine}*")]
    found += [str(path) for path in Path(tempfile.gettempdir()).glob(f"{mine}*")]
    return found


def test_everything_goes_through_the_vpn_and_nothing_is_left() -> None:
    process = subprocess.Popen(
        [str(EXECUTABLE), "demo", "--no-console", "--seconds", "4", "--json"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    found = json.loads(out)
    assert found["to_device_bytes"] > 1_000_000
    assert found["from_device_bytes"] > 100_000
    assert found["flows"] > 0
    assert found["alarms"] == []
    assert traces(process.pid) == []


@pytest.mark.parametrize(
    ("ending", "of_ctrl_c"),
    [
        pytest.param(signal.SIGINT, signal.SIG_DFL, id="ctrl-c"),
        pytest.param(signal.SIGTERM, signal.SIG_DFL, id="term"),
        pytest.param(signal.SIGTERM, signal.SIG_IGN, id="term in the background"),
    ],
)
def test_it_can_be_interrupted_at_any_time(
    ending: signal.Signals, of_ctrl_c: signal.Handlers
) -> None:
    process = subprocess.Popen(
        [str(EXECUTABLE), "demo", "--no-console"], stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, of_ctrl_c),
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()  # it has begun to build
    wait_for(lambda: len(traces(process.pid)) >= 2, "the first namespace")
    process.send_signal(ending)
    assert process.wait(30) == 130
    assert traces(process.pid) == []


def test_the_next_one_removes_what_a_killed_one_left() -> None:
    process = subprocess.Popen([str(EXECUTABLE), "demo", "--no-console"], stdout=subprocess.PIPE)
    wait_for(lambda: len(traces(process.pid)) >= 4, "the first two namespaces")
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    assert traces(process.pid) != []
    demo.remove_stale()
    assert traces(process.pid) == []


def test_the_console_in_front(in_terminal: Callable[..., tuple[int, bytes, int]]) -> None:
    pid, output, status = in_terminal([str(EXECUTABLE), "demo"], b"Demo tablet", b"q")
    assert os.waitstatus_to_exitcode(status) == 0
    assert b"Overview" in output
    assert output.count(b"\x1b[?1049l") >= 1, "the terminal was given back"
    assert traces(pid) == []


@pytest.mark.parametrize("of_ctrl_c", [signal.SIG_DFL, signal.SIG_IGN], ids=["front", "background"])
def test_the_console_ends_by_itself(
    in_terminal: Callable[..., tuple[int, bytes, int]], of_ctrl_c: signal.Handlers
) -> None:
    argv = [str(EXECUTABLE), "demo", "--seconds", "9"]
    pid, output, status = in_terminal(argv, b"Demo tablet", b"4", of_ctrl_c)
    assert os.waitstatus_to_exitcode(status) == 0
    assert output.count(b"\x1b[?1049l") >= 1, "the terminal was given back"
    assert traces(pid) == []


@pytest.fixture
def in_terminal() -> Callable[..., tuple[int, bytes, int]]:
    """Run a program in a terminal, press a key when a text has come; pid, output, status."""

    def run(
        argv: list[str], text: bytes, key: bytes, of_ctrl_c: signal.Handlers = signal.SIG_DFL
    ) -> tuple[int, bytes, int]:
        pid, fd = pty.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, of_ctrl_c)
            os.environ.update(TERM="xterm-256color", COLUMNS="100", LINES="30")
            os.execv(argv[0], argv)
        output = b""
        pressed = False
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if select.select([fd], [], [], 0.2)[0]:
                try:
                    output += os.read(fd, 1 << 16)
                except OSError:
                    break  # its end of the terminal is closed
            if not pressed and text in output:
                os.write(fd, key)
                pressed = True
        else:
            os.kill(pid, signal.SIGTERM)
        os.close(fd)
        _, status = os.waitpid(pid, 0)
        assert pressed, f"{text!r} did not come:\n{output[-2000:]!r}"
        return pid, output, status

    return run
