"""Wheel, sdist and bundle, built once.

The wheel is made from the sdist, as packagers do. The bundle is made without a network, from
the wheels of another one: they are the tests' own packages, packed again, and the lock files of
the tree that is bundled name them by the hashes that they have so.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from services.bundle import EXTRAS, NEEDED, tree
from services.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
MACHINE = os.uname().machine


def run(*words: str | Path, cwd: Path, **env: str) -> str:
    """A command that has to succeed; what it prints."""
    done = subprocess.run(
        words, cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, unpacked."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-I", "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (archive,) = folder.glob("vpnshare-*.tar.gz")
    run("tar", "-xzf", archive, cwd=folder)
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="session")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-I", "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=sdist)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own for services and commands."""
    folder = tmp_path / "h"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("VPNSHARE_HOME", str(folder))
    return folder


def pack(name: str, folder: Path) -> tuple[str, Path]:
    """An installed package as a wheel: its release, and the file."""
    found = distribution(name)
    tags = re.findall(r"^Tag: (\S+)-(\S+)-(\S+)$", found.read_text("WHEEL") or "", re.MULTILINE)
    tag = "-".join([*tags[0][:2], ".".join(each[2] for each in tags)])
    path = folder / f"{name.replace('-', '_')}-{found.version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in found.files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                archive.write(str(found.locate_file(file)), file)
    return found.version, path


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of a bundle that was unpacked here."""
    return packed(tmp_path_factory.mktemp("source"))


def packed(top: Path) -> Path:
    """The tree, with the packages that it needs, in the folder `top`."""
    for path in tree(ROOT):
        copy = top / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    wheels = top / "wheels"
    wheels.mkdir()
    for lock in (*NEEDED, *EXTRAS):
        path = top / "requirements" / f"{lock}.txt"
        entries = ""
        for name in re.findall(r"^([a-z0-9-]+)==", path.read_text(), re.MULTILINE):
            try:
                release, wheel = pack(name, wheels)
            except PackageNotFoundError:
                assert lock in EXTRAS or name == "colorama", f"{name} is not installed"
                continue
            digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
            entries += f"{name}=={release} --hash=sha256:{digest}\n"
        path.write_text(entries)
    return top


def bundle(source: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(source / "services" / "start.py"), "cli.main"]
    return subprocess.run(
        [*command, "bundle", *words], env=os.environ | env, capture_output=True, text=True,
        timeout=240, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(scope="session")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    done = bundle(source, str(folder), "--python", PYTHON, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    path = Path(told["file"])
    assert path == folder / f"vpnshare-{VERSION}-{MACHINE}.tar"
    assert told["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert told["wheels"] == len(list((source / "wheels").iterdir()))
    assert done.stderr.splitlines() == [
        f"vpnshare: packages for Python {PYTHON} on {MACHINE}", "vpnshare: writing",
    ]  # fmt: skip
    assert os.listdir(folder) == [path.name]
    return path
