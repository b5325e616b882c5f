"""A console whose terminal goes away ends; one that is killed gives its terminal back."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tui.terminal import gone

RUN = "import sys; from tui.app import run; sys.exit(run(sys.argv[1]))"


def test_a_terminal_is_there_until_its_other_end_is_closed() -> None:
    near, far = os.openpty()
    assert not gone(far)
    os.close(near)
    assert gone(far)
    os.close(far)
    assert gone(far)


@pytest.fixture
def console(tmp_path: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A console in a terminal that is nobody's controlling one, and its other end."""
    near, far = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path / "none.sock")],
        stdin=far, stdout=far, stderr=far, start_new_session=True,
        env=os.environ | {"TERM": "xterm-256color"}, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    os.close(far)
    seen = b""
    while b"Overview" not in seen:
        seen += os.read(near, 65536)
    assert process.poll() is None
    yield near, process
    process.kill()
    process.wait()


def test_the_console_ends_with_a_terminal_that_does_not_control_it(
    console: tuple[int, subprocess.Popen[bytes]],
) -> None:
    near, process = console
    os.close(near)
    # No SIGHUP comes, for the terminal is nobody's controlling one.
    assert process.wait(20) == 0


def test_a_console_that_is_killed_gives_the_terminal_back(
    console: tuple[int, subprocess.Popen[bytes]],
) -> None:
    near, process = console
    before = termios.tcgetattr(near)[3]
    assert not before & termios.ICANON, "it reads key by key"
    process.terminate()
    seen = b""
    with contextlib.suppress(OSError):  # the end of a terminal that nobody has open
        while data := os.read(near, 65536):
            seen += data
    assert process.wait(20) == 128 + signal.SIGTERM
    for off in (b"\x1b[?1049l", b"\x1b[?1000l", b"\x1b[?2004l", b"\x1b[?25h"):
        assert off in seen, "other screen, mouse, paste and cursor"
    assert termios.tcgetattr(near)[3] & termios.ICANON
    os.close(near)
