"""Files of an instance, and the one way in which they are opened.

Theory of operation. What lies in an instance's folders says what a service shall
do, as root perhaps, and a service writes there by name. Whoever else can write
in such a folder could put a link in the place of a file, and have root empty or
fill one of the system's. So a folder is used only if it is ours: it is opened
itself, without following a link, and its owner and mode are looked at. A file is
then opened relative to that descriptor, again without following a link, and has
to be an ordinary file of ours. Nothing between the look and the use can be
exchanged by anybody else.

For root the way to the folder counts, too: who owns a folder above it could lead
us to another one. For an ordinary user that way is what the system gives.

The one link that may stand for a file is one to a configuration that its owner
keeps elsewhere (`target`); it leads to a folder that has to be ours as well.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

FOLDER_MODE = 0o700
FILE_MODE = 0o600
_MAX_LINKS = 16
"""Links followed on the way to a folder; the kernel's bound is 40."""


class NotOurs(OSError):
    """Somebody else could have put it there, or exchange it: a sentence, and what to do."""

    def __init__(self, path: str | os.PathLike[str], sentence: str, hint: str = "") -> None:
        super().__init__(errno.EPERM, sentence, os.fspath(path))
        self.hint = hint


@contextlib.contextmanager
def folder(path: Path, make: bool = False) -> Iterator[int]:
    """A descriptor of a folder that is ours. Raises `OSError`, also as `NotOurs`."""
    if make:
        path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    if os.geteuid() == 0:
        _check_way(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and path.is_symlink():
            raise NotOurs(path, "it is a link, not a folder", f"Name {path.resolve()}.") from None
        raise
    try:
        _check_folder(path, os.fstat(descriptor))
        yield descriptor
    finally:
        os.close(descriptor)


def open_own(path: Path, flags: int, make: bool = False) -> int:
    """A descriptor of a file that is ours, in a folder that is; made with mode 0600.

    `make` makes the folder, too. Raises `OSError`, also as `NotOurs`.
    """
    # Not O_TRUNC: nothing is emptied before it was looked at.
    emptied = flags & os.O_TRUNC
    flags = flags & ~os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    with folder(path.parent, make) as place:
        try:
            descriptor = os.open(path.name, flags, FILE_MODE, dir_fd=place)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise NotOurs(path, "it is a link, and none of ours is", "Look at it.") from None
            raise type(error)(error.errno, error.strerror, str(path)) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotOurs(path, "it is no ordinary file", "Move it away.")
        if status.st_uid not in (0, os.geteuid()):
            raise NotOurs(path, f"it belongs to {_user(status.st_uid)}", "Look at it.")
        if emptied:
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read(path: Path, limit: int) -> bytes:
    """At most `limit` bytes of a file that is ours. Raises `OSError`, also as `NotOurs`."""
    with os.fdopen(open_own(path, os.O_RDONLY), "rb") as file:
        return file.read(limit)


def replace(path: Path, data: bytes, mode: int | None = None) -> None:
    """Have the file hold `data`, durably; at every moment it is the old one or the new one.

    An existing file keeps its mode, unless one is given. Raises `OSError`, also as `NotOurs`.
    """
    fresh = f".{path.name}.{os.getpid()}.new"
    with folder(path.parent, make=True) as place:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=place)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(fresh, flags, FILE_MODE, dir_fd=place)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                if mode is None:
                    with contextlib.suppress(FileNotFoundError):
                        there = os.stat(path.name, dir_fd=place, follow_symlinks=False)
                        mode = stat.S_IMODE(there.st_mode) & 0o777
                if mode is not None:
                    os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            os.replace(fresh, path.name, src_dir_fd=place, dst_dir_fd=place)
            os.fsync(place)
        except BaseException as error:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh, dir_fd=place)
            if isinstance(error, OSError):
                raise type(error)(error.errno, error.strerror, str(path)) from None
            raise


def target(path: Path) -> Path:
    """Where a file really is that its owner may keep elsewhere, with a link in its place.

    The link has to be in a folder that is ours. Raises `OSError`, also as `NotOurs`.
    """
    if not path.is_symlink():
        return path
    with folder(path.parent):
        return path.resolve()


def _check_folder(path: Path, status: os.stat_result) -> None:
    if status.st_uid not in (0, os.geteuid()):
        raise NotOurs(
            path, f"the folder belongs to {_user(status.st_uid)}, who could exchange what is in it",
            "Name a folder of your own, by VPNSHARE_HOME for instance.",
        )  # fmt: skip
    # A group is often the user's own (umask 002); root's is not.
    others = 0o022 if os.geteuid() == 0 else 0o002
    if status.st_mode & others:
        raise NotOurs(
            path, "others may write in the folder, and could exchange what is in it",
            f"chmod go-w {path}",
        )  # fmt: skip


def _check_way(path: Path) -> None:
    """That nobody but root decides where `path` leads. Raises `NotOurs`."""
    walked = Path("/")
    left = list(Path(os.path.abspath(path)).parts[1:])
    links = 0
    while left:
        name = left.pop(0)
        if name == "..":
            walked = walked.parent
            continue
        step = walked / name
        status = os.lstat(step)
        if status.st_uid and (left or stat.S_ISLNK(status.st_mode)):
            raise NotOurs(
                path, f"{step} belongs to {_user(status.st_uid)}, who could lead root elsewhere",
                "Name a folder whose parents are root's, by VPNSHARE_HOME for instance.",
            )  # fmt: skip
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > _MAX_LINKS:
                raise NotOurs(path, "there are too many links on the way to it")
            there = Path(os.readlink(step))
            left = [part for part in there.parts if part != "/"] + left
            walked = Path("/") if there.is_absolute() else walked
            continue
        if left and status.st_mode & 0o002 and not status.st_mode & stat.S_ISVTX:
            raise NotOurs(
                path, f"everybody may write in {step}, and could lead root elsewhere",
                f"chmod o-w {step}",
            )  # fmt: skip
        walked = step


def _user(uid: int) -> str:
    """A user's name, or number."""
    import pwd

    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"user {uid}"
