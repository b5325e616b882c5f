"""Run a program under a policy that refuses device binding, as an old kernel would.

    python tests/gateway/vpn/seccomp.py PROGRAM ARGUMENTS...

A seccomp filter makes setsockopt(SOL_SOCKET, SO_BINDTODEVICE or SO_BINDTOIFINDEX)
fail with EPERM, for the program and all that it starts.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
ALLOW, ERRNO_EPERM = 0x7FFF0000, 0x00050001
SETSOCKOPT = {"x86_64": 54, "aarch64": 208}
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
OFFSET_NUMBER, OFFSET_LEVEL, OFFSET_OPTION = 0, 16 + 8, 16 + 16


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse_device_binding() -> None:
    """From now on, for this process and its children."""
    code = [
        (LOAD, 0, 0, OFFSET_NUMBER),
        (JUMP_EQUAL, 0, 6, SETSOCKOPT[platform.machine()]),
        (LOAD, 0, 0, OFFSET_LEVEL),
        (JUMP_EQUAL, 0, 4, 1),
        (LOAD, 0, 0, OFFSET_OPTION),
        (JUMP_EQUAL, 1, 0, 25),
        (JUMP_EQUAL, 0, 1, 62),
        (RETURN, 0, 0, ERRNO_EPERM),
        (RETURN, 0, 0, ALLOW),
    ]
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
