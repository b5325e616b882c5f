"""How a package that is not there is got, by a command that can be pasted as it stands.

The program runs in a Python of its own, and only what is installed into that one is found.
"""

from __future__ import annotations

import os
import shlex
import sys

from control.paths import is_termux

_OF_TERMUX = {"cryptography": "python-cryptography"}
"""What cannot be built on a phone, and is packaged there."""


def install(package: str) -> str:
    """The command that installs a package of PyPI's where this program looks for it."""
    if is_termux() and package in _OF_TERMUX:
        return f"pkg install {_OF_TERMUX[package]}"
    try:
        of_root = os.stat(sys.prefix).st_uid == 0
    except OSError:
        of_root = False
    ours = os.geteuid() == 0 and os.environ.get("SUDO_UID", "0") == "0"
    sudo = "sudo " if of_root and not ours else ""
    return f"{sudo}{shlex.quote(sys.executable)} -m pip install {package}"
