"""Who else could change what a service runs.

A unit of the system's manager is started as root, at every boot, without anybody
looking: whoever can write one of the files that it runs is root from then on. So
every file of the program and of its Python, and every folder on the way to them,
has to be root's, and nobody else's to write.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
"""The tree that this program is of."""
_MAX_LINKS = 16
_NOT_RUN = ("benchmarks", "tests")


def rooms(tree: Path = SOURCE) -> tuple[str, ...]:
    """The folders of a tree that hold the program."""
    found = (path.parent.name for path in tree.glob("*/__init__.py"))
    return tuple(sorted(name for name in found if name not in _NOT_RUN))


def read_by_it() -> list[Path]:
    """The folders all of which the program reads, whoever it runs as."""
    return [*(SOURCE / name for name in rooms()), Path(sysconfig.get_path("purelib"))]


def program() -> list[Path]:
    """What running this program reads: its packages, its environment, the Python behind it."""
    ours = [SOURCE / name for name in rooms()]
    library = Path(sysconfig.get_path("stdlib"))
    return [*ours, Path(sys.prefix), Path(sys.executable), library]


def changeable(paths: list[Path], owner: int = 0) -> tuple[Path, str] | None:
    """The first thing that somebody but root and `owner` may write, and who that is.

    Folders are looked at with all that is in them.
    """
    seen: set[Path] = set()
    for path in paths:
        for step in _way(path):
            if step not in seen and (who := _writer(step, owner)):
                return step, who
            seen.add(step)
        for inner in _inside(path.resolve()):
            if who := _writer(inner, owner):
                return inner, who
            if inner.is_symlink():
                for step in _way(inner):
                    if step not in seen and (who := _writer(step, owner)):
                        return step, who
                    seen.add(step)
    return None


def hidden(paths: list[Path], through: list[Path]) -> Path | None:
    """The first thing that not everybody may read: of `paths` with all that is in them, of
    `through` and of the ways to either."""
    for path in (*paths, *through):
        for step in _way(path):
            if not _readable(step, final=False):
                return step
    for path in paths:
        for inner in (path.resolve(), *_inside(path.resolve())):
            # What is compiled can be done without.
            if "__pycache__" not in inner.parts and not _readable(inner, final=True):
                return inner
    return None


def _readable(path: Path, final: bool) -> bool:
    """By everybody; a folder that is not `final` is to be passed through."""
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return True
    needed = 0o001 if stat.S_ISDIR(mode) else 0o004
    if stat.S_ISDIR(mode) and final:
        needed = 0o005
    return mode & needed == needed


def _writer(path: Path, owner: int) -> str:
    """Who else may write it, or exchange what is in it; empty for nobody."""
    status = os.lstat(path)
    if status.st_uid not in (0, owner):
        try:
            return pwd.getpwuid(status.st_uid).pw_name
        except KeyError:
            return f"user {status.st_uid}"
    if stat.S_ISLNK(status.st_mode):
        return ""
    if status.st_mode & 0o002 and not status.st_mode & stat.S_ISVTX:
        return "everybody"
    # A user's own group is the user (umask 002). Debian's /usr/local is a group's without members.
    if status.st_mode & 0o020 and not owner:
        return _member(status.st_gid)
    return ""


def _member(group: int) -> str:
    """Somebody who is in a group; empty for one of root alone."""
    members = [entry.pw_name for entry in pwd.getpwall() if entry.pw_gid == group and entry.pw_uid]
    with contextlib.suppress(KeyError):
        members += [name for name in grp.getgrgid(group).gr_mem if name != "root"]
    return members[0] if members else ""


def _way(path: Path) -> Iterator[Path]:
    """Every folder and link that is passed on the way to a path, and the path itself."""
    walked = Path("/")
    left = list(Path(os.path.abspath(path)).parts[1:])
    links = 0
    while left:
        step = walked / left.pop(0)
        yield step
        walked = step
        if step.is_symlink():
            links += 1
            if links > _MAX_LINKS:
                raise OSError(f"There are too many links on the way to {path}.")
            there = Path(os.path.normpath(step.parent / os.readlink(step)))
            left = [*there.parts[1:], *left]
            walked = Path("/")


def _inside(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        return
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            yield Path(folder) / name
