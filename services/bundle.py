"""One file from which another machine sets VPN Share up without a network.

A tar of the program's tree with a folder `wheels` in it: what the lock files name, for
the Pythons and the kind of processor of the other machine, checked by the locks' hashes
here as they are again there (`scripts/environment.sh`). `pip` is among them, so that a
Debian without python3-venv can do it, too. What is good to have and has no wheel for that
machine is left out.
"""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from services.copying import FILES, FOLDERS, KINDS
from services.start import python
from services.trust import SOURCE, rooms
from services.version import PYTHONS, VERSION

MACHINES = ("x86_64", "aarch64")
WHEELS = "wheels"
NEEDED = ("native", "run", "pip")
"""Lock files; a bundle that lacks one of their packages is of no use."""
EXTRAS = ("discovery", "names", "usb", "client")
_GLIBC = (5, 12, 17, 24, 26, 27, 28, 31, 34)
"""Releases 2.x that wheels are made for; the oldest goes first, since it runs everywhere."""
_DOCUMENTS = ("CHANGELOG.md", "SECURITY.md", "docs")


class BundleError(Exception):
    """It cannot be made; a sentence, and a hint."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Target:
    """What the other machines are."""

    machine: str
    """As `uname -m` says there; systems with glibc."""
    pythons: tuple[str, ...] = PYTHONS

    @property
    def name(self) -> str:
        """What a bundle for it is called."""
        return f"vpnshare-{VERSION}-{self.machine}.tar"


Progress = Callable[[str], None]


def make(file: BinaryIO, target: Target, progress: Progress, source: Path = SOURCE) -> int:
    """Write a bundle; how many wheels it has.

    `progress` is told what is being done. Raises `BundleError`, `OSError`.
    """
    if not (source / "requirements").is_dir():
        raise BundleError(
            "This VPN Share was installed as a package: a bundle is made from its source.",
            "Get a clone or the source archive, and there: ./vpnshare bundle",
        )
    with tempfile.TemporaryDirectory(prefix="vpnshare-bundle-") as name:
        wheels = Path(name) / WHEELS
        wheels.mkdir()
        for version in target.pythons:
            progress(f"packages for Python {version} on {target.machine}")
            _fetch(wheels, version, target.machine, progress, source)
        progress("writing")
        found = sorted(wheels.glob("*.whl"))
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path in tree(source):
                _add(archive, path, str(path.relative_to(source)))
            for path in found:
                _add(archive, path, f"{WHEELS}/{path.name}")
    return len(found)


def tree(source: Path) -> list[Path]:
    """The files of the program that go along, without what only its makers need."""
    files = [source / name for name in (*FILES, *_DOCUMENTS)]
    for name in (*rooms(source), *FOLDERS, "docs"):
        files += sorted((source / name).rglob("*"))
    return [
        path for path in files
        if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts
        and (path.suffix in (*KINDS, ".md") or not path.suffix)
    ]  # fmt: skip


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    """A file, as nobody's in particular."""
    info = archive.gettarinfo(str(path), f"vpnshare-{VERSION}/{name}")
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode = 0o755 if info.mode & 0o100 else 0o644
    with path.open("rb") as file:
        archive.addfile(info, file)


def _fetch(wheels: Path, version: str, machine: str, progress: Progress, source: Path) -> None:
    """Get what the lock files name. Raises `BundleError`."""
    extras = list(EXTRAS)
    while True:
        words = _words(wheels, version, machine, [*NEEDED, *extras], source)
        said, code = _pip(words, wheels.parent, progress)
        if not code:
            return
        lacking = re.search(r"No matching distribution found for ([\w.-]+)==", said)
        looked = "connection broken" not in said
        without = [
            name for name in extras
            if not (lacking and _names(source / "requirements" / f"{name}.txt", lacking[1]))
        ]  # fmt: skip
        if not looked or without == extras:
            raise BundleError(*_why(said, looked, lacking[1] if lacking else None, machine))
        extras = without


def _words(
    wheels: Path, version: str, machine: str, locks: Sequence[str], source: Path
) -> list[str]:
    words = ["-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--no-deps"]
    words += ["--progress-bar", "off", "--require-hashes", "--only-binary", ":all:"]
    words += ["--dest", str(wheels), "--implementation", "cp", "--python-version", version]
    if (source / WHEELS).is_dir():  # a bundle of a bundle
        words += ["--no-index", "--find-links", str(source / WHEELS)]
    for release in _GLIBC:
        words += ["--platform", f"manylinux_2_{release}_{machine}"]
    words += ["--platform", f"manylinux2014_{machine}", "--platform", f"linux_{machine}"]
    for lock in locks:
        words += ["--requirement", str(source / "requirements" / f"{lock}.txt")]
    return python(*words)


def _pip(words: list[str], temporary: Path, progress: Progress) -> tuple[str, int]:
    """What it says, and how it ends."""
    said = []
    process = subprocess.Popen(
        words, env=os.environ | {"TMPDIR": str(temporary)}, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if line.startswith("Collecting "):
                progress(line.strip())
        return "".join(said), process.wait()
    finally:
        process.kill()
        process.wait()


def _names(lock: Path, package: str) -> bool:
    return re.search(rf"^{re.escape(package)}==", lock.read_text(), re.MULTILINE) is not None


def _why(said: str, looked: bool, lacking: str | None, machine: str) -> tuple[str, str]:
    if "DO NOT MATCH THE HASHES" in said:
        what = "A package is not the one that the lock file names; nothing of it was run."
        hint = "Somebody may have exchanged it: try another network."
    elif not looked:
        what = "The packages could not be fetched: the network gives no answer."
        hint = "Make the bundle where there is a network, and carry it over."
    elif lacking:
        what = f"{lacking} has no ready-made wheel for {machine}."
        hint = f"Machines that have all: {', '.join(MACHINES)}."
    else:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        what = f"The packages could not be fetched: {lines[-1] if lines else 'pip failed'}"
        hint = "See what pip needs, and try again."
    return what, hint
