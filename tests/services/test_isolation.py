"""Nothing of the current folder or of PYTHONPATH is run: by the launcher, and by no child."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from control.exits import Exit
from services.start import isolated, own_command
from services.trust import rooms
from tests.fakes.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
ROOMS = rooms(ROOT)
NAMES_PYTHON = {"services/start.py", "services/trust.py", "control/lacking.py"}
"""What starts one, what looks at whose it is, and what tells people which it is."""


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A folder of modules with our names, and Python's, that leave a mark when they are run."""
    folder = tmp_path / "trap"
    mark = f"open({str(tmp_path / 'sprung')!r}, 'a').write(__name__ + '\\n')\n"
    for package in (*ROOMS, "textual", "cryptography", "pip"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(mark)
    for module in ("sitecustomize", "usercustomize", "argparse", "json", "venv"):
        (folder / f"{module}.py").write_text(mark)
    return folder


@pytest.fixture
def launcher(tmp_path: Path) -> Path:
    """The launcher, in a clone whose environment is made already, with this Python."""
    clone = tmp_path / "clone"
    (clone / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "vpnshare", clone)
    (clone / "requirements").mkdir()
    for file in ("pyproject.toml", "requirements/run.txt"):
        (clone / file).write_text("")
        os.utime(clone / file, (0, 0))
    python = clone / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    for room in rooms():
        (clone / room).symlink_to(ROOT / room)
    (clone / ".venv" / ".ready").write_text(f"{clone.resolve()}\n")
    return clone / "vpnshare"


def test_neither_the_current_folder_nor_pythonpath_is_run(
    home: Path, launcher: Path, trap: Path
) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [launcher, *words], cwd=trap, env=os.environ | {"PYTHONPATH": str(trap)},
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    done = run("version")
    assert done.returncode == Exit.OK and done.stdout.startswith("vpnshare ")
    try:
        done = run("up", "--no-console", f"--listen=127.0.0.1:{free_port()}")
        assert done.returncode == Exit.OK, done.stderr
    finally:
        run("down")
    if not os.geteuid() and shutil.which("ip") and Path("/dev/net/tun").exists():
        done = run("demo", "--no-console", "--seconds", "0", "--json")
        assert done.returncode == Exit.OK, done.stderr
    sprung = trap.parent / "sprung"
    assert not sprung.exists(), sprung.read_text()


def test_every_python_that_is_started_is_isolated() -> None:
    start = str(ROOT / "services" / "start.py")
    assert isolated("x", "y") == [sys.executable, "-I", start, "x", "y"]
    assert own_command() == isolated("cli.main")
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            name = str(path.relative_to(ROOT))
            tree = ast.parse(path.read_text())
            uses = [
                node.lineno
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute) and node.attr == "executable"
            ]
            assert not uses or name in NAMES_PYTHON, f"{name}:{uses}: use services.start"


@pytest.mark.parametrize("script", ["vpnshare", "scripts/environment.sh"])
def test_every_python_of_the_scripts_is_isolated(script: str) -> None:
    text = (ROOT / script).read_text()
    starts = re.findall(r'^.*"\$(?:venv/bin/)?(?:python|1)" +-[a-zA-Z-]+ .*$', text, re.M)
    assert starts
    for line in starts:
        assert '" -I ' in line or "--version" in line or " -nt " in line, line


def test_units_of_before_begin_the_command_by_its_former_name() -> None:
    done = subprocess.run(
        isolated("services.cli.main", "--version"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("vpnshare ")
