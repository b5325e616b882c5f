"""The wheel beside packages with our rooms' names, where everything around it is hostile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.trust import rooms
from services.version import VERSION
from tests.fakes.ports import free_port
from tests.packages.conftest import run

THEIRS = ("services", "control", "cli", "tui", "themes", "eventloop")
"""Other people's packages of these names exist."""


class Installed:
    """The wheel in an environment of its own, and a folder full of traps to stand in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.venv = folder / "venv"
        self.sprung = folder / "sprung"
        """Who was imported and should not have been."""
        self.trap = folder / "trap"
        mark = f"open({str(self.sprung)!r}, 'a').write(__name__ + '\\n')\n"
        for package in (*rooms(), "textual", "cryptography"):
            (self.trap / package).mkdir(parents=True)
            (self.trap / package / "__init__.py").write_text(mark)
        for module in ("argparse", "json"):
            (self.trap / f"{module}.py").write_text(mark)
        run(sys.executable, "-I", "-m", "venv", "--without-pip", self.venv, cwd=folder)
        # What it depends on is the tests' own; their path files are not read from here.
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        self.site = self.venv / "lib" / version / "site-packages"
        (self.site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        self.pip("install", *(self._foreign(name, mark) for name in THEIRS))

    def _foreign(self, name: str, mark: str) -> Path:
        """A wheel of somebody else's."""
        path = self.folder / f"{name}-9.0-py3-none-any.whl"
        info = f"{name}-9.0.dist-info"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{name}/__init__.py", mark)
            about = f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.0\n"
            archive.writestr(f"{info}/METADATA", about)
            tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            archive.writestr(f"{info}/WHEEL", tags)
            archive.writestr(f"{info}/RECORD", "")
        return path

    def pip(self, verb: str, *words: str | Path) -> None:
        more = ("--no-deps", "--no-index") if verb == "install" else ("-y",)
        run(
            sys.executable, "-I", "-m", "pip", "--python", self.venv / "bin" / "python", "-q",
            "--disable-pip-version-check", verb, *more, *words, cwd=self.folder,
        )  # fmt: skip

    def files(self) -> set[str]:
        return {str(path.relative_to(self.venv)) for path in self.venv.rglob("*")}

    @property
    def env(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(self.trap)}

    def command(self, *words: str) -> str:
        """`vpnshare WORDS`, standing in the trap with PYTHONPATH leading there, too."""
        done = subprocess.run(
            [self.venv / "bin" / "vpnshare", *words], cwd=self.trap, env=self.env,
            capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Installed; and at the end removed, when nothing of it may be left."""
    there = Installed(tmp_path_factory.mktemp("installed"))
    before = there.files()
    there.pip("install", wheel)
    added = there.files() - before
    assert {path.parts[3] for path in map(Path, added) if path.parts[0] == "lib"} == {
        "vpnshare", f"vpnshare-{VERSION}.dist-info",
    }  # fmt: skip
    yield there
    there.pip("uninstall", "vpnshare")
    assert there.files() == before
    assert not there.sprung.exists(), there.sprung.read_text()


def test_all_rooms_are_in_it_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [Path(name) for name in archive.namelist()]
    ours = [name for name in names if name.parts[:2] == ("vpnshare", "rooms")]
    assert {name.parts[2] for name in ours} == set(rooms())
    assert {name.suffix for name in ours} == {".py", ".toml", ".tcss", ".txt"}
    rest = {str(name) for name in names if name.parts[0] == "vpnshare"} - set(map(str, ours))
    assert rest == {"vpnshare/__init__.py", "vpnshare/__main__.py"}
    info = f"vpnshare-{VERSION}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"{info}/METADATA").decode()
        assert "Apache License" in archive.read(f"{info}/licenses/LICENSE").decode()
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert f"\nVersion: {VERSION}\n" in metadata


def test_the_command_and_its_children_are_of_the_wheel(installed: Installed, home: Path) -> None:
    assert installed.command("--version") == f"vpnshare {VERSION}\n"
    try:
        installed.command("up", "--no-console", f"--listen=127.0.0.1:{free_port()}")
        status = json.loads(installed.command("status", "--json"))
        assert status["version"] == VERSION
        start = Path(f"/proc/{status['pid']}/cmdline").read_text().split("\0")
        assert "gateway" in start
        assert start[1] == "-I" and start[2].startswith(str(installed.site / "vpnshare" / "rooms"))
        assert_console_is_drawn(installed)
    finally:
        installed.command("down")
    python = installed.venv / "bin" / "python"
    assert run(python, "-m", "vpnshare", "--version", cwd=installed.trap) == f"vpnshare {VERSION}\n"


def assert_console_is_drawn(installed: Installed) -> None:
    """With a theme of the wheel's, in a terminal."""
    near, far = os.openpty()
    installed.command("set", "console.theme", "light")
    process = subprocess.Popen(
        [installed.venv / "bin" / "vpnshare", "console"],
        stdin=far, stdout=far, stderr=far, start_new_session=True, cwd=installed.trap,
        env=installed.env | {"TERM": "xterm-256color", "COLORTERM": "truecolor"},
    )  # fmt: skip
    os.close(far)
    try:
        ground = background(installed.site / "vpnshare" / "rooms" / "themes" / "light.toml")
        seen = b""
        while b"Overview" not in seen or ground not in seen:
            seen += os.read(near, 65536)
    finally:
        process.kill()
        process.wait()
        os.close(near)


def background(theme: Path) -> bytes:
    """The theme's ground, as a terminal is told."""
    (line,) = [line for line in theme.read_text().splitlines() if line.startswith("background")]
    red, green, blue = bytes.fromhex(line.split("#")[1][:6])
    return f"48;2;{red};{green};{blue}m".encode()


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip") or not Path("/dev/net/tun").exists(),
    reason="needs root and a virtual network interface",
)
def test_the_demonstration_runs_from_it(installed: Installed, home: Path) -> None:
    installed.command("demo", "--no-console", "--seconds", "0", "--json")


def test_what_takes_the_source_is_told(installed: Installed) -> None:
    done = subprocess.run(
        [installed.venv / "bin" / "vpnshare", "service", "install", "--role", "client", "--copy"],
        capture_output=True, text=True, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    if os.geteuid() == 0:
        assert "installed as a package" in done.stderr
    done = subprocess.run(
        [installed.venv / "bin" / "vpnshare", "bundle"], capture_output=True, text=True,
        cwd=installed.folder,
    )  # fmt: skip
    assert done.returncode == 1 and "made from its source" in done.stderr
