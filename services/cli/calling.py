"""What a person here types to run a command of this program: for hints that can be pasted.

`./vpnshare` tells the name under which it was called in VPNSHARE_CALLED. The receiving
side's service is root's: who came by sudo needs it for the next command, too.
"""

from __future__ import annotations

import os
import shlex
import shutil

CALLED = "VPNSHARE_CALLED"


def name() -> str:
    """The program, as it was called: `vpnshare` where that is in PATH."""
    called = os.environ.get(CALLED, "")
    if not called or not called.isprintable() or shutil.which("vpnshare") == called:
        return "vpnshare"
    return shlex.quote(called)


def command(words: str) -> str:
    """`vpnshare WORDS`, with sudo where whoever runs us has come by it."""
    if not came_by_sudo():
        return f"{name()} {words}"
    home = os.environ.get("VPNSHARE_HOME")
    return f"sudo {f'VPNSHARE_HOME={shlex.quote(home)} ' if home else ''}{name()} {words}"


def came_by_sudo() -> bool:
    """Whether we are root, and the person is not."""
    return os.geteuid() == 0 and os.environ.get("SUDO_UID", "0") != "0"
