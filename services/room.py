"""Why a place on disk cannot be written, in words, and what to do: room, rights, read-only."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from storage import own

LEAST_ROOM = 64 * 1024
"""Bytes below which a file system counts as full: what SQLite takes for a transaction."""


@dataclass(frozen=True, slots=True)
class Room:
    """A file system as this user may use it."""

    free: int
    """Bytes."""
    files: int | None
    """Files that can still be made; None where there is no such number."""
    read_only: bool

    @property
    def full(self) -> bool:
        return self.free < LEAST_ROOM or self.files == 0


def room(path: Path) -> Room | None:
    """Of the file system under the path, or under the nearest folder above it that is there."""
    for folder in (path, *path.parents):
        try:
            found = os.statvfs(folder)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        free = found.f_bavail * found.f_frsize
        files = found.f_favail if found.f_files else None
        return Room(free, files, bool(found.f_flag & os.ST_RDONLY))
    return None


def refusal(error: Exception, path: Path) -> tuple[str, str]:
    """Why the file cannot be written (the end of a sentence), and what to do about it.

    Errors that name no cause (SQLite's) are read from the state of the file system.
    """
    if isinstance(error, own.NotOurs):
        return error.strerror or "it is not ours", error.hint
    number = error.errno if isinstance(error, OSError) else None
    there = room(path)
    if number in (errno.ENOSPC, errno.EDQUOT) or (number is None and there and there.full):
        if there and there.files == 0:
            return "its file system can hold no more files", f"Remove some: df -i {path.parent}"
        return "no space is left on its file system", f"Make room: df -h {path.parent}"
    if number == errno.EROFS or (number is None and there and there.read_only):
        return (
            "its file system is read-only",
            f"See why (dmesg), and mount it writable: findmnt -T {path.parent}",
        )
    if number in (errno.EACCES, errno.EPERM) or (number is None and not _permitted(path)):
        return "this user may not write it", f"Give it back: chown -R $(id -un) {path.parent}"
    said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return f"{said[0].lower()}{said[1:]}", f"Look at the disk under {path.parent}: dmesg"


_OTHER_CAUSES = {
    errno.ENOENT: ("it is not there", ""),
    errno.ENOTDIR: ("something on the way to it is no folder", "Look at {folder}"),
    errno.EISDIR: ("it is a folder", "Move it away: {path}"),
    errno.ENAMETOOLONG: ("its name is too long", "Choose a shorter VPNSHARE_HOME."),
    errno.EMFILE: ("too many files are open", "Raise the limit: ulimit -n"),
    errno.ENFILE: ("the system has too many files open", "Raise fs.file-max (sysctl)."),
}


def explain(error: OSError) -> tuple[str, str | None]:
    """What the system refused, as a sentence, and what to do about it."""
    path = error.filename
    if not isinstance(path, str):
        said = error.strerror or str(error)
        return f"{said.rstrip('.')}.", None
    why, fix = _OTHER_CAUSES.get(error.errno or 0) or refusal(error, Path(path))
    fix = fix.replace("{folder}", os.path.dirname(path)).replace("{path}", path)
    return f"{path} cannot be used: {why}.", fix or None


def _permitted(path: Path) -> bool:
    return os.access(path if path.exists() else path.parent, os.W_OK)
