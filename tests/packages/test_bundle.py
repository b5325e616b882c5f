"""A bundle sets up a new user without any network; what goes wrong in making one is told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.exits import Exit
from services.trust import rooms
from services.version import VERSION
from tests.fakes.ports import free_port
from tests.packages.conftest import PYTHON, bundle

SOMEBODY = 12345


def test_it_holds_the_program_and_is_nobodys(made: Path) -> None:
    with tarfile.open(made) as archive:
        members = archive.getmembers()
    names = {member.name for member in members}
    assert {name.split("/")[1] for name in names} >= {*rooms(), "vpnshare", "scripts", "wheels"}
    assert all(name.startswith(f"vpnshare-{VERSION}/") for name in names)
    assert all(member.isfile() and member.uid == member.gid == 0 for member in members)
    assert {member.mode for member in members} == {0o644, 0o755}
    for part in ("tests", "benchmarks", ".git"):
        assert not any(name.split("/")[1] == part for name in names)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody reaches."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, and another user")
def test_a_new_user_sets_up_without_any_network(made: Path, folder: Path) -> None:
    """And without ensurepip, as on a Debian that has no python3-venv."""
    subprocess.run(["tar", "-xf", made, "-C", folder], check=True)
    clone = folder / f"vpnshare-{VERSION}"
    python = folder / "python"
    real = os.path.realpath(sys.executable)
    python.write_text(f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1 ;; esac\nexec {real} "$@"\n')
    python.chmod(0o755)
    # Another user, unless the Python lies where only its owner comes.
    entered = all(parent.stat().st_mode & stat.S_IXOTH for parent in Path(real).parents)
    user = SOMEBODY if entered else 0
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user, user)
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "VPNSHARE_PYTHON": str(python)}
    env["PIP_NO_COMPILE"] = "1"  # only what is imported

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["unshare", "--net", "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups",
             clone / "vpnshare", *words],
            env=env, cwd=folder, capture_output=True, text=True, timeout=240,
        )  # fmt: skip

    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"vpnshare {VERSION}\n"), done.stderr
    assert "setting up once" in done.stderr and "instead" not in done.stderr
    try:
        done = run("up", "--no-console", f"--listen=127.0.0.1:{free_port()}")
        assert done.returncode == 0 and "Gateway" in done.stdout, done.stderr
    finally:
        run("down")


def test_another_machine_is_told(source: Path, tmp_path: Path) -> None:
    done = bundle(source, str(tmp_path), "--machine", "riscv64", "--python", PYTHON)
    assert done.returncode == Exit.FAILED
    assert "has no ready-made wheel for riscv64" in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_already_stays(source: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.tar"
    file.write_text("precious")
    done = bundle(source, str(file))
    assert done.returncode == Exit.FAILED and "is there already" in done.stderr
    done = bundle(source, str(file), "--json")
    assert json.loads(done.stdout)["error"]["message"] == f"{file} is there already."
    done = bundle(source, str(tmp_path / "none" / "x.tar"))
    assert done.returncode == Exit.FAILED and "cannot be written" in done.stderr
    assert file.read_text() == "precious"


def test_another_file_than_the_locks_is_refused(source: Path, tmp_path: Path) -> None:
    tampered = tmp_path / "tampered"
    shutil.copytree(source, tampered)
    with next((tampered / "wheels").glob("rich-*")).open("ab") as wheel:
        wheel.write(b"\0")
    done = bundle(tampered, str(tmp_path), "--python", PYTHON)
    assert done.returncode == Exit.FAILED
    assert "not the one that the lock file names" in done.stderr


@pytest.fixture
def without_wheels(source: Path, tmp_path: Path) -> Path:
    """As a clone: what is needed has to be fetched."""
    clone = tmp_path / "clone"
    shutil.copytree(source, clone, ignore=shutil.ignore_patterns("wheels"))
    return clone


def test_without_a_network_it_says_so(without_wheels: Path, tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/"
    env = {"PIP_INDEX_URL": nobody, "PIP_RETRIES": "1", "PIP_CONFIG_FILE": os.devnull}
    done = bundle(without_wheels, str(tmp_path), "--python", PYTHON, **env, PIP_FIND_LINKS="")
    assert done.returncode == Exit.FAILED
    assert "the network gives no answer" in done.stderr


def test_interrupted_it_leaves_nothing(without_wheels: Path, tmp_path: Path) -> None:
    temporary, target = tmp_path / "t", tmp_path / "out"
    temporary.mkdir()
    target.mkdir()
    command = [sys.executable, "-I", str(without_wheels / "services/start.py"), "cli.main"]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        env = {"PIP_INDEX_URL": index, "TMPDIR": str(temporary), "PIP_CONFIG_FILE": os.devnull}
        process = subprocess.Popen(
            [*command, "bundle", str(target)], env=os.environ | env | {"PIP_FIND_LINKS": ""},
            start_new_session=True, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        silent.settimeout(60)
        silent.accept()[0].close()  # pip asks: it is in the midst of it
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == Exit.INTERRUPTED and "Traceback" not in said
    assert list(temporary.iterdir()) == [] and list(target.iterdir()) == []
