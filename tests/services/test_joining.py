"""`vpnshare join` and `leave` by somebody who is not root: what goes through sudo, and how."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.exits import Exit
from vshp.endpoints import Endpoint
from vshp.uri import PairingUri

ROOT = Path(__file__).resolve().parents[2]
URI = PairingUri(
    bytes(range(32)), bytes(range(16)), "Pixel", (Endpoint.of("any", "192.0.2.1", 47800),)
).encode()
SETPRIV = shutil.which("setpriv") or ""
pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not SETPRIV, reason="needs root and setpriv")

SUDO = f"""#!{sys.executable} -I
import json, pathlib, sys
if sys.argv[1] == "-n":
    sys.exit(PASSWORD)
said = {{"argv": sys.argv[1:], "stdin": sys.stdin.read()}}
pathlib.Path(RECORD).write_text(json.dumps(said))
sys.exit(42)
"""


class Nobody:
    """A user without any right, no terminal, and a pretend sudo first in PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = folder / "record"
        self.home = folder / "home"
        self.home.mkdir()
        os.chown(folder, 65534, 65534)
        os.chown(self.home, 65534, 65534)

    def sudo(self, password: bool) -> None:
        place = self.folder / "bin" / "sudo"
        place.parent.mkdir()
        place.write_text(
            SUDO.replace("PASSWORD", str(int(password))).replace("RECORD", repr(str(self.record)))
        )
        place.chmod(0o755)

    def run(self, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SETPRIV, "--reuid=65534", "--regid=65534", "--clear-groups",
             sys.executable, "-m", "cli.main", *words],
            cwd=ROOT, input=text, capture_output=True, text=True, check=False, timeout=60,
            start_new_session=True,
            env={"PATH": str(self.folder / "bin"), "VPNSHARE_HOME": str(self.home),
                 "VPNSHARE_CALLED": "./vpnshare"},
        )  # fmt: skip

    def asked(self) -> dict[str, object]:
        said: dict[str, object] = json.loads(self.record.read_text())
        return said


@pytest.fixture
def nobody() -> Iterator[Nobody]:
    with tempfile.TemporaryDirectory() as folder:
        yield Nobody(Path(folder))


def test_a_secret_does_not_go_through_sudos_command_line(nobody: Nobody) -> None:
    nobody.sudo(password=False)
    done = nobody.run("join", URI, "--wait", "7", "--no-console", "--json")
    assert done.returncode == 42
    assert "to make the network interface" in done.stderr
    said = nobody.asked()
    assert said["stdin"] == URI
    argv = said["argv"]
    assert isinstance(argv, list) and URI not in " ".join(argv)
    assert argv[:4] == ["--", "env", f"VPNSHARE_HOME={nobody.home}", "VPNSHARE_CALLED=./vpnshare"]
    assert "-I" in argv and "-B" in argv, "isolated, and no files of root's beside the source"
    assert argv[argv.index("join") :] == [
        "join", "--transport", "auto", "--wait", "7.0", "--no-console", "--json", "-",
    ]  # fmt: skip


def test_what_was_piped_goes_on_to_root(nobody: Nobody) -> None:
    nobody.sudo(password=False)
    assert nobody.run("join", "-", text=URI).returncode == 42
    assert nobody.asked()["stdin"] == URI


def test_an_address_with_its_digits_goes_on_to_root(nobody: Nobody) -> None:
    nobody.sudo(password=False)
    nobody.run("join", "192.0.2.7", "--code", "123456")
    argv = nobody.asked()["argv"]
    assert isinstance(argv, list)
    assert argv[argv.index("join") :] == [
        "join", "--transport", "auto", "--code", "123456", "192.0.2.7",
    ]  # fmt: skip


@pytest.mark.parametrize("verb", ["join", "leave"])
def test_without_sudo_the_fix_is_named(nobody: Nobody, verb: str) -> None:
    done = nobody.run(verb)
    assert done.returncode == Exit.REFUSED and "Traceback" not in done.stderr
    assert "there is no sudo here" in done.stderr
    assert f"as root: ./vpnshare {verb}" in done.stderr


def test_without_a_terminal_sudo_is_not_left_waiting(nobody: Nobody) -> None:
    nobody.sudo(password=True)
    done = nobody.run("join", "192.0.2.7")
    assert done.returncode == Exit.REFUSED
    assert "no terminal to ask for a password" in done.stderr
    assert not nobody.record.exists()
