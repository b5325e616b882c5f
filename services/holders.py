"""Who has a port: the program, where we may look at it, or its user.

The kernel lists sockets with their users (/proc/net/tcp and its like, proc(5)); which
process has one open is told by its descriptors, to those who may look at the process. A
service, whose memory is private, may not even look at itself: a child looks for it.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

from services.start import isolated

_TABLES = {"tcp": ("tcp", "tcp6"), "udp": ("udp", "udp6")}
_LISTEN = "0A"


def holder(transport: str, port: int, proc: Path = Path("/proc")) -> str | None:
    """`nginx (pid 123)`, `ann's VPN Share (pid 123)` or `a program of root's`.

    None where the system does not say.
    """
    for name in _TABLES.get(transport.lower(), ()):
        try:
            lines = (proc / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for words in map(str.split, lines):
            if int(words[1].rpartition(":")[2], 16) != port:
                continue
            if transport.lower() == "tcp" and words[3] != _LISTEN:
                continue
            return _program(f"socket:[{words[9]}]", proc) or f"a program of {_user(words[7])}'s"
    return None


def _program(socket: str, proc: Path) -> str | None:
    for folder in proc.glob("[0-9]*"):
        try:
            if any(os.readlink(each) == socket for each in (folder / "fd").iterdir()):
                return f"{_name(folder)} (pid {folder.name})"
        except OSError:
            continue  # another user's, or gone
    return None


def _name(folder: Path) -> str:
    words = (folder / "cmdline").read_text(errors="replace").split("\0")
    if any(word.endswith("/services/start.py") for word in words[:4]):
        # Its Python says nothing to people.
        status = (folder / "status").read_text().splitlines()
        (uid,) = [line.split()[1] for line in status if line.startswith("Uid:")]
        return f"{_user(uid)}'s VPN Share"
    return (folder / "comm").read_text().strip()


def _user(uid: str) -> str:
    try:
        return pwd.getpwuid(int(uid)).pw_name
    except (KeyError, ValueError):
        return f"user {uid}"


def asked(transport: str, port: int) -> str | None:
    """`holder`, by a child. Blocks for as long as a Python takes to start."""
    try:
        done = subprocess.run(
            isolated("services.holders", transport, str(port)), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


if __name__ == "__main__":
    print(holder(sys.argv[1], int(sys.argv[2])) or "")
