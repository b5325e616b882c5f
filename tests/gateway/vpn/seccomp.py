"""Run a program under a policy that refuses system calls, as a phone or an old kernel would.

    python tests/gateway/vpn/seccomp.py PROGRAM ARGUMENTS...

Seccomp filters, for the program and all that it starts. Device binding:
setsockopt(SOL_SOCKET, SO_BINDTODEVICE or SO_BINDTOIFINDEX) fails with EPERM; that
is what the command line installs. Netlink binding: bind with an address of a
netlink address's length fails with EACCES (no other family's is 12 bytes long).
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
ALLOW, ERRNO_EPERM, ERRNO_EACCES = 0x7FFF0000, 0x00050001, 0x0005000D
BIND = {"x86_64": 49, "aarch64": 200}
SETSOCKOPT = {"x86_64": 54, "aarch64": 208}
SOCKADDR_NL_SIZE = 12
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
OFFSET_NUMBER, OFFSET_ARGUMENTS = 0, 16

Step = tuple[int, int, int, int]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse_device_binding() -> None:
    """From now on, for this process and its children."""
    install(
        [
            (LOAD, 0, 0, OFFSET_NUMBER),
            (JUMP_EQUAL, 0, 6, SETSOCKOPT[platform.machine()]),
            (LOAD, 0, 0, OFFSET_ARGUMENTS + 8),
            (JUMP_EQUAL, 0, 4, 1),
            (LOAD, 0, 0, OFFSET_ARGUMENTS + 16),
            (JUMP_EQUAL, 1, 0, 25),
            (JUMP_EQUAL, 0, 1, 62),
            (RETURN, 0, 0, ERRNO_EPERM),
            (RETURN, 0, 0, ALLOW),
        ]
    )


def refuse_netlink_binding() -> None:
    """From now on, for this process and its children."""
    install(
        [
            (LOAD, 0, 0, OFFSET_NUMBER),
            (JUMP_EQUAL, 0, 3, BIND[platform.machine()]),
            (LOAD, 0, 0, OFFSET_ARGUMENTS + 16),
            (JUMP_EQUAL, 0, 1, SOCKADDR_NL_SIZE),
            (RETURN, 0, 0, ERRNO_EACCES),
            (RETURN, 0, 0, ALLOW),
        ]
    )


def install(code: list[Step]) -> None:
    """Add a filter to those in force. Raises OSError."""
    packed = b"".join(struct.pack("=HBBI", *step) for step in code)
    program = _Program(len(code), packed)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")


if __name__ == "__main__":
    refuse_device_binding()
    os.execvp(sys.argv[1], sys.argv[1:])
