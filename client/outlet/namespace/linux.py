"""The system calls that Python 3.11 has no name for: namespaces, mounts, capabilities.

Each raises `OSError`. Sources: unshare(2), setns(2), mount(2), prctl(2), capset(2).
"""

from __future__ import annotations

import ctypes
import os
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x2, 0x4, 0x8
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MNT_DETACH = 0x2

_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Put this process into new namespaces."""
    _checked(_libc.unshare(ctypes.c_int(flags)))


def setns(descriptor: int, kind: int) -> None:
    """Put this process into the namespace behind `descriptor`, which has to be of that kind."""
    _checked(_libc.setns(ctypes.c_int(descriptor), ctypes.c_int(kind)))


def mount(
    source: str, target: str, kind: str | None = None, flags: int = 0, data: str = ""
) -> None:
    """See mount(2)."""
    _checked(
        _libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            None if kind is None else kind.encode(),
            ctypes.c_ulong(flags),
            data.encode() or None,
        )
    )


def unmount(target: str, flags: int = 0) -> None:
    """See umount2(2)."""
    _checked(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)))


def give_up_rights() -> None:
    """Keep no capability, and have no program give any back: also none that is setuid.

    The bounding set stays: with an empty one the kernel refuses to run programs that have file
    capabilities, as ping has; without new privileges they run, and get none.
    """
    _checked(_prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL))
    _checked(
        _libc.capset(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), struct.pack("=6I", *(0,) * 6))
    )
    _checked(_prctl(_PR_SET_NO_NEW_PRIVS, 1))


def _prctl(option: int, first: int) -> int:
    words = (ctypes.c_ulong(first), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
    done: int = _libc.prctl(ctypes.c_int(option), *words)
    return done


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
