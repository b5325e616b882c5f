"""Commands in a locale without UTF-8, with streams that are closed, and without a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cli.commands import COMMANDS
from control.encoding import REPLACING, can_show
from control.exits import Exit
from tests.fakes import services as fakes
from tests.fakes.services import PretendClient, PretendGateway
from tests.services.test_cli import ROOT, Terminal
from tests.tui.pictures import read_qr

TIOCGPTN = 0x80045430
"""Tells the number of a terminal (ioctl_tty(2)); `termios` has it from Python 3.12 on."""
NAME = "Küche 厨房 🍲"

LOOKS = [
    ["--help"], ["status"], ["requests"], ["peers"], ["leases"], ["flows", "--role", "gateway"],
    ["flows", "--role", "client"], ["gateways"], ["endpoints"], ["history"], ["settings"],
    ["logs", "--role", "gateway"], ["doctor"], ["pair"], ["version"], ["share"], ["unshare"],
    ["relisten"], ["connect", "--wait", "0"], ["disconnect"], ["approve", "r1"],
    ["rename", "r9", NAME], ["revoke", "r9"], ["discover", "--seconds", "0"],
    ["service", "status", "--root", "/nowhere"], ["service", "install", "--dry-run"],
    ["set", "gateway.name", NAME], ["control", "--probe"], ["forget", "r9"], ["deny", "r9"],
    ["console"], ["demo", "--seconds", "0"], ["frobnicate", NAME],
]  # fmt: skip
HELPS = """
import sys
from cli.main import main
for name in sys.argv[1:]:
    print(end=f"== {name}\\n", flush=True)
    try:
        main([name, "--help"])
    except SystemExit as end:
        assert not end.code, name
"""
"""All of them in one Python: what its streams can take is what its locale says."""


@pytest.fixture(scope="module")
def locale(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a person whose locale is en_US.ISO-8859-1."""
    env = {"PYTHONUTF8": "0", "LC_ALL": "en_US.ISO-8859-1"}
    folder = tmp_path_factory.mktemp("locales")
    make = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(folder / env["LC_ALL"])]
    if shutil.which("localedef") and not subprocess.run(make, capture_output=True).returncode:
        return env | {"LOCPATH": str(folder)}
    return env | {"PYTHONIOENCODING": "iso-8859-1"}  # what such a locale gives the streams


@pytest.fixture
def busy(gateway: PretendGateway, client: PretendClient) -> Iterator[None]:
    """Both services, with a name in every table that ISO-8859-1 has no letters for."""
    gateway.waiting += [fakes.request("r1", NAME), fakes.request("r2", "\u202e" + NAME)]
    gateway.peers = [replace(peer, label=NAME) for peer in gateway.peers]
    gateway.findings[0] = replace(gateway.findings[0], found=f"All is well in the {NAME}.")
    yield


@pytest.mark.usefixtures("busy")
def test_every_command_works_in_latin1(locale: dict[str, str]) -> None:
    for words in LOOKS:
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *words], cwd=ROOT, env=os.environ | locale,
            stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        said = (done.stdout + done.stderr).decode("iso-8859-1")
        assert "unexpectedly" not in said and "Traceback" not in said, (words, said)
        assert said, words


def test_every_help_works_in_latin1(locale: dict[str, str]) -> None:
    names = [command.name for command in COMMANDS]
    done = subprocess.run(
        [sys.executable, "-c", HELPS, *names], cwd=ROOT, env=os.environ | locale,
        stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    pages = done.stdout.decode("iso-8859-1").split("== ")[1:]
    assert [page.split("\n")[0] for page in pages] == names
    assert all("usage: " in page for page in pages)


@pytest.mark.usefixtures("busy")
def test_json_keeps_what_the_encoding_has_no_place_for(locale: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "peers", "--json"], cwd=ROOT,
        env=os.environ | locale, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert {row["label"] for row in json.loads(done.stdout.decode("iso-8859-1"))} == {NAME}


@pytest.mark.usefixtures("busy")
def test_symbols_become_their_nearest_and_names_keep_what_they_can(locale: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "requests"], cwd=ROOT,
        env=os.environ | locale, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert "Küche ??".encode("iso-8859-1") in done.stdout
    assert "● on · …".encode("iso-8859-1", REPLACING) == b"* on \xb7 ~"
    assert "● on · …".encode("ascii", REPLACING) == b"* on - ~"


@pytest.mark.parametrize("extra", [{}, {"NO_COLOR": "1"}])
def test_the_qr_code_in_latin1_is_read(
    gateway: PretendGateway, locale: dict[str, str], extra: dict[str, str], tmp_path: Path
) -> None:
    """A scanner reads what stands on the terminal."""
    Image = pytest.importorskip("PIL.Image")
    if not shutil.which("zbarimg"):
        pytest.skip("needs zbarimg")
    terminal = Terminal("pair", **locale, **extra)
    assert terminal.end() == Exit.OK
    text = terminal.shown.decode("iso-8859-1").replace("\r\n", "\n")
    rows = []
    for line in text.split("\n"):
        if extra and set(line) <= {"#", " "} and len(line) > 60:
            rows.append([mark == " " for mark in line[::2]])
        elif "48;5" in line:
            cells = line.replace("\x1b[0m", "").split("\x1b[48;5;")[1:]
            rows.append([cell == "16m  " for cell in cells])
    assert len(rows) >= 25
    image = Image.new("1", (len(rows[0]) * 8, len(rows) * 8), 1)
    for y, row in enumerate(rows):
        for x, dark in enumerate(row):
            if dark:
                image.paste(0, (8 * x, 8 * y, 8 * x + 8, 8 * y + 8))
    image.save(tmp_path / "code.png")
    assert read_qr(tmp_path / "code.png") == fakes.URI


def test_the_console_in_latin1(gateway: PretendGateway, locale: dict[str, str]) -> None:
    terminal = Terminal("console", **locale)
    terminal.read_until(b"Pixel 8")
    terminal.write(b"q")
    assert terminal.end() == Exit.OK
    assert "●".encode() not in terminal.shown, "no UTF-8 for who does not read it"
    assert b"* on" in terminal.shown or b"*" in terminal.shown


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_failure(gateway: PretendGateway, closed: str) -> None:
    done = subprocess.run(
        f"exec {sys.executable} -m cli.main share {closed}", shell=True,
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (Exit.OK, "")


@pytest.mark.parametrize("args", [["console"], ["demo"]])
def test_a_console_without_a_terminal_says_so(gateway: PretendGateway, args: list[str]) -> None:
    if args == ["demo"] and os.geteuid():
        pytest.skip("needs root")
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *args], cwd=ROOT,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == Exit.CONFLICT
    assert "needs a terminal" in done.stderr and "\x1b" not in done.stdout


@pytest.mark.parametrize("keys", [0, 40], ids=["idle", "with its hands full"])
def test_a_console_whose_terminal_takes_nothing_ends_by_sigterm(
    gateway: PretendGateway, keys: int
) -> None:
    terminal = Terminal("console")
    terminal.read_until(b"Pixel 8")
    # As by a link that has died: what is written is held up from now on.
    (number,) = struct.unpack("i", fcntl.ioctl(terminal.master, TIOCGPTN, b"\0" * 4))
    far = os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY)
    termios.tcflow(far, termios.TCOOFF)
    for _ in range(keys):
        os.write(terminal.master, b"12")
        time.sleep(0.05)
    terminal.process.send_signal(signal.SIGTERM)
    try:
        assert terminal.process.wait(15) == 128 + signal.SIGTERM
    finally:
        terminal.process.kill()
        os.close(far)
        os.close(terminal.master)


def test_what_an_encoding_can_show() -> None:
    assert can_show("█▀▄●", "utf-8") and not can_show("●", "iso-8859-1")
    assert not can_show("●", None) and not can_show("●", "no such encoding")
