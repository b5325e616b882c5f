"""A copy of the program that belongs to root, for units that run it as root.

Only ordinary files of the program are taken, by descriptors and without following
a link: whoever owns the source may exchange things under our hands. The copy then
makes an environment of its own, from the lock file.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from services.trust import SOURCE, rooms

TARGET = Path("/opt/vpnshare")
FILES = ("LICENSE", "README.md", "pyproject.toml", "vpnshare")
FOLDERS = ("requirements", "scripts")
"""Besides the rooms."""
_WHEELS = "wheels"
"""In a bundle, what a set-up takes without a network."""
KINDS = (".py", ".toml", ".tcss", ".sh", ".txt")
MAX_FILE = 32 << 20
"""Bytes; nothing of ours is larger, and no package."""


class CopyError(Exception):
    """The copy could not be made; the text says why."""


def own_command_of(target: Path) -> tuple[str, ...]:
    """How the copy is run."""
    python, start = target / ".venv" / "bin" / "python", target / "services" / "start.py"
    return str(python), "-I", str(start), "cli.main"


def make_copy(target: Path = TARGET, source: Path = SOURCE) -> None:
    """Copy the program, and have the copy set itself up. Raises `CopyError`, `OSError`."""
    if not (source / "requirements").is_dir():
        raise CopyError("This VPN Share was installed as a package, which cannot be copied.")
    folders = (*rooms(source), *FOLDERS)
    if (source / _WHEELS).is_dir():
        folders = (*folders, _WHEELS)
    # Whoever runs it reads it, whatever root's files are for otherwise.
    before = os.umask(0o022)
    try:
        _copy(target, source, folders)
        set_up(target)
    finally:
        os.umask(before)


def _copy(target: Path, source: Path, folders: tuple[str, ...]) -> None:
    target.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".new-") as folder:
        fresh = Path(folder)
        for name in FILES:
            _copy_file(source / name, fresh / name)
        for name in folders:
            _copy_folder(source / name, fresh / name)
        for name in (*folders, *FILES):
            old = target / name
            if old.is_dir() and not old.is_symlink():
                shutil.rmtree(old)
            os.replace(fresh / name, old)


def set_up(target: Path) -> None:
    """Have the copy make, or renew, its environment. Raises `CopyError`."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("VPNSHARE_")}
    done = subprocess.run([target / "vpnshare", "version"], env=env, stdout=subprocess.DEVNULL)
    if done.returncode:
        raise CopyError(f"The copy in {target} could not set itself up.")


def _copy_folder(source: Path, target: Path) -> None:
    for folder, folders, files, descriptor in os.fwalk(source, follow_symlinks=False):
        folders[:] = [name for name in folders if name != "__pycache__"]
        place = target / Path(folder).relative_to(source)
        place.mkdir(mode=0o755, parents=True)
        for name in files:
            if name.endswith((*KINDS, ".whl")):
                _copy_file(Path(name), place / name, descriptor)


def _copy_file(source: Path, target: Path, folder: int | None = None) -> None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(source, flags, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE:
            raise CopyError(f"{source} is no file of ours.")
        target.write_bytes(file.read(MAX_FILE))
    target.chmod(0o755 if status.st_mode & 0o100 else 0o644)
