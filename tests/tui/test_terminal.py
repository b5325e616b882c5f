"""A console whose terminal goes away ends, and does not read its end for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tui.terminal import gone

RUN = "import sys; from tui.app import run; sys.exit(run(sys.argv[1]))"


def test_a_terminal_is_there_until_its_other_end_is_closed() -> None:
    near, far = os.openpty()
    assert not gone(far)
    os.close(near)
    assert gone(far)
    os.close(far)
    assert gone(far)


def test_the_console_ends_with_a_terminal_that_does_not_control_it(tmp_path: Path) -> None:
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
    os.close(near)
    # No SIGHUP comes, for the terminal is nobody's controlling one.
    assert process.wait(20) == 0
