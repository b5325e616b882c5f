"""`--watch`: a command that looks, again and again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cli import watching
from cli.commands import COMMANDS, parser_for
from cli.main import main
from control.exits import Exit
from tests.fakes.services import PretendGateway
from tests.services.conftest import serve
from tests.services.test_cli import Terminal

ROOT = Path(__file__).resolve().parents[2]
WATCHED = {
    "status", "requests", "peers", "usage", "leases", "flows", "counters", "endpoints", "history",
    "gateways",
}  # fmt: skip


def test_who_can_be_watched() -> None:
    found = {c.name for c in COMMANDS if "--watch" in parser_for(c).format_usage()}
    assert found == WATCHED
    text = (ROOT / "docs/commands.md").read_text()
    sentence = text.partition("take `--watch [SECONDS]`")[0].rpartition("\n")[2]
    assert {word.strip("`,") for word in sentence.split() if word.startswith("`")} == WATCHED


@pytest.mark.parametrize("wrong", ["0", "0.05", "-1", "soon", "1e9", "nan"])
def test_how_often_is_bounded(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["peers", "--watch", wrong]) == Exit.USAGE
    assert main(["peers", "--watch", "--json"]) == Exit.USAGE
    assert "Traceback" not in capsys.readouterr().err


def test_a_terminal_is_as_it_was(home: Path) -> None:
    """A screen of its own, what is new on it, a service that goes and comes, and Ctrl-C."""
    service = PretendGateway()
    terminal = Terminal("peers", "--watch", "0.1", VPNSHARE_HOME=str(home))
    assert terminal.end() == Exit.NOT_RUNNING
    assert b"\x1b[?1049h" not in terminal.shown, "what does not run is said at once"
    with serve(service, home / "gateway.sock"):
        terminal = Terminal("peers", "--watch", "0.1", VPNSHARE_HOME=str(home))
        terminal.read_until(b"Ctrl-C ends it.")
        assert terminal.shown.startswith(b"\x1b[?1049h")
        service.peers = [replace(service.peers[0], label="another name")]
        terminal.read_until(b"another name")
    terminal.read_until(b"is not running")
    with serve(service, home / "gateway.sock"):
        terminal.shown = b""
        terminal.read_until(b"another name")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == Exit.INTERRUPTED
    _, left, after = terminal.shown.rpartition(b"\x1b[?1049l")
    assert left and b"another name" in after and b"Ctrl-C" not in after
    assert b"\x1b[?25h" in terminal.shown and b"Traceback" not in terminal.shown


def test_who_is_told_to_end_leaves_the_screen(gateway: PretendGateway) -> None:
    terminal = Terminal("status", "--watch")
    terminal.read_until(b"Ctrl-C ends it.")
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.end() == 128 + signal.SIGTERM
    assert b"\x1b[?1049l" in terminal.shown


def test_a_pipe_gets_what_is_new_until_nobody_reads(home: Path) -> None:
    service = PretendGateway()
    service.peers = service.peers[:1]
    with serve(service, home / "gateway.sock"):
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "peers", "--watch", "0.1"], cwd=ROOT,
            env=os.environ | {"VPNSHARE_HOME": str(home)}, stdout=subprocess.PIPE, text=True,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        title, first = process.stdout.readline(), process.stdout.readline()
        assert service.peers[0].label in first
        service.peers = [replace(service.peers[0], label="another name")]
        assert process.stdout.readline() == "\n", "what is the same is not printed again"
        assert process.stdout.readline().split() == title.split()
        assert "another name" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == Exit.FAILED
        assert process.stderr.read() == ""
        process.stderr.close()


def test_what_does_not_fit_is_counted() -> None:
    text = "".join(f"line {number}\n" for number in range(30))
    drawn = watching._drawn(text, 40, 10)
    lines = drawn.split("\n")
    assert len(lines) == 10
    assert lines[7].startswith("line 7") and "… 22 more lines" in lines[8]
    assert watching._drawn("a\n", 40, 10).count("\n") == 1
