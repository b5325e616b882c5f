"""Run a program as an app runs on a phone: without privilege and with the doors shut.

    python tests/netns/phone_jail.py NETD USER [--old-kernel] -- PROGRAM ARGUMENTS...

As root, in the namespace of the host that plays the phone. The program gets

- a /proc of processes only (no /proc/net, /proc/stat...) with its own
  /proc/self/net unreadable;
- an empty /etc: no resolv.conf, no passwd;
- a /dev of the few devices an app may open, and in /dev/socket what is in the
  folder NETD: netd's socket;
- this Python's installation in /opt, wherever root keeps it;
- user and group USER, no supplementary groups, no new privileges;
- EACCES from every bind of a netlink socket; with --old-kernel also EPERM from
  the options that tie a socket to a device.

The mounts are in a namespace of their own and vanish with the program.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.gateway.vpn.seccomp import refuse_device_binding, refuse_netlink_binding

CLONE_NEWNS = 0x00020000
MS_NOSUID, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x1000, 0x4000, 0x40000
PYTHON_PREFIX = "/opt"
PYTHON = f"{PYTHON_PREFIX}/bin/python3.{sys.version_info.minor}"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError."""
    words = (source.encode(), target.encode(), kind.encode(), flags, options.encode())
    if _libc.mount(*words[:3], ctypes.c_ulong(flags), words[4]) != 0:
        raise OSError(ctypes.get_errno(), f"mount {target}")


def shut_doors(netd: str) -> None:
    """The mounts, for this process and what it becomes."""
    if _libc.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    mount(sys.base_prefix, PYTHON_PREFIX, "", MS_BIND)
    mount("proc", "/proc", "proc", MS_NOSUID, "subset=pid")
    mount("none", f"/proc/{os.getpid()}/net", "tmpfs", MS_NOSUID, "mode=000")
    # The new /dev is put together on /etc, which is emptied last, then moved into place.
    mount("none", "/etc", "tmpfs", MS_NOSUID, "mode=755")
    new = Path("/etc")
    for name in DEVICES:
        (new / name).touch()
        mount(f"/dev/{name}", str(new / name), "", MS_BIND)
    for name, source in (("pts", "/dev/pts"), ("socket", netd)):
        (new / name).mkdir()
        mount(source, str(new / name), "", MS_BIND)
    (new / "fd").symlink_to("/proc/self/fd")
    mount("/etc", "/dev", "", MS_BIND | MS_REC)
    mount("none", "/etc", "tmpfs", MS_NOSUID, "mode=555")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("netd")
    parser.add_argument("user", type=int)
    parser.add_argument("--old-kernel", action="store_true")
    parser.add_argument("program", nargs="+")
    options = parser.parse_args()
    shut_doors(options.netd)
    os.setgroups([])
    os.setresgid(options.user, options.user, options.user)
    os.setresuid(options.user, options.user, options.user)
    refuse_netlink_binding()
    if options.old_kernel:
        refuse_device_binding()
    os.execve(
        options.program[0],
        options.program,
        {**os.environ, "LD_LIBRARY_PATH": f"{PYTHON_PREFIX}/lib"},
    )


if __name__ == "__main__":
    main()
