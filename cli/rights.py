"""Root's rights for the receiving side: the command runs itself again through sudo.

It says why before sudo asks. What was on the command line and is secret does not go
through sudo's command line, which sudo writes into the system's log: it goes through
a pipe, as standard input.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from cli.asking import hide_from_others
from control import calling
from control.errors import Code, ControlError
from services.start import own_command

_KEPT = ("VPNSHARE_HOME", "VPNSHARE_DEBUG", calling.CALLED, "NO_COLOR")
"""Our variables, which sudo does not hand on by itself."""


def become_root(words: Sequence[str], why: str, secret: str | None = None) -> None:
    """Run `vpnshare WORDS` as root in place of this process; returns at once as root.

    `why` is what the rights are for, as the end of a sentence. `secret` is what
    the new process reads on standard input. Raises `ControlError` with the fix
    where there is no sudo, or nobody whom it could ask.
    """
    if os.geteuid() == 0:
        return
    fix = f"Run it as root: {calling.name()} {words[0]}"
    sudo = shutil.which("sudo")
    if sudo is None:
        raise ControlError(
            Code.REFUSED, f"Root's rights are needed {why}, and there is no sudo here.", fix
        )
    if not _may_ask() and not _asks_nobody(sudo):
        raise ControlError(
            Code.REFUSED,
            f"Root's rights are needed {why}, and sudo has no terminal to ask for a password.",
            fix,
        )
    sys.stderr.write(f"Root's rights are needed {why}: going on through sudo.\n")
    sys.stderr.flush()
    if secret is not None:
        _feed(secret)
    kept = [f"{name}={os.environ[name]}" for name in _KEPT if os.environ.get(name)]
    python, *rest = own_command()
    # -B: no compiled files of root's in the folder of a user.
    os.execv(sudo, [sudo, "--", "env", *kept, python, "-B", *rest, *words])


def _may_ask() -> bool:
    """Whether there is a terminal; sudo asks there, wherever standard input comes from."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _asks_nobody(sudo: str) -> bool:
    """Whether sudo does it without a password."""
    done = subprocess.run(
        [sudo, "-n", "true"], check=False, stdin=subprocess.DEVNULL, capture_output=True
    )
    return done.returncode == 0


def _feed(secret: str) -> None:
    hide_from_others(secret)
    reading, writing = os.pipe()
    os.write(writing, secret.encode())  # a URI is far shorter than what a pipe takes
    os.close(writing)
    os.dup2(reading, 0)
    os.close(reading)
