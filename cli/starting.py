"""A service in the background: started in a session of its own, and waited for until it answers."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from cli.services import dial
from control import paths
from control.errors import Code, ControlError, ServiceUnavailable
from control.oneshot import OneShot
from control.output import last_words
from services import account
from services.start import own_command
from storage import own

START_TIMEOUT = 20.0
"""Seconds until a service that was started must answer."""
MAX_LOG = 4 * 1024 * 1024
"""Bytes of a background service's log after which it starts anew; one old file is kept."""


def start(role: str, words: Sequence[str], foreground: str) -> OneShot:
    """Run `vpnshare ROLE WORDS` in the background; a connection to it.

    `foreground`: the command that a person runs to see what it does. Raises
    `ControlError` with the service's own last words when it ends at once.
    """
    place = paths.find()
    place.make()
    log = place.log(role)
    before = _rotate(log)
    descriptor = own.open_own(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        process = subprocess.Popen(
            [*own_command(), role, *words],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        try:
            return dial(role)
        except ServiceUnavailable:
            pass
        if process.poll() is not None:
            raise ControlError(Code.FAILED, *_last_words(role, log, before, foreground))
        time.sleep(0.05)
    process.terminate()
    raise ControlError(
        Code.TIMED_OUT, f"The {role} service was not ready within {START_TIMEOUT:.0f} s.",
        f"Start it in the foreground to see what it does: {foreground}",
    )  # fmt: skip


def start_unit() -> OneShot:
    """Have the system's manager start the whole machine's gateway; a connection to it.

    Raises `ControlError`.
    """
    command = ["systemctl", "start", account.UNIT.stem]
    see = f"See why: journalctl -u {account.UNIT.stem} -n 20"
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    except FileNotFoundError:
        raise ControlError(
            Code.FAILED, "The gateway is a unit of systemd's, which is not here.",
            "Remove the unit: vpnshare service uninstall",
        ) from None  # fmt: skip
    if done.returncode:
        raise ControlError(Code.FAILED, f"{' '.join(command)} failed.", see)
    try:
        # A unit is started once its service has said that it is ready.
        return dial("gateway")
    except ServiceUnavailable as exc:
        raise ControlError(Code.FAILED, exc.message, see) from None


def _rotate(log: Path) -> int:
    """Keep the log from growing for ever; its size from now on."""
    try:
        size = log.stat().st_size
    except FileNotFoundError:
        return 0
    if size > MAX_LOG:
        log.replace(log.with_suffix(".log.old"))
        return 0
    return size


def _last_words(role: str, log: Path, begin: int, foreground: str) -> tuple[str, str | None]:
    """What the service said before it ended: the sentence, and the hint."""
    with os.fdopen(own.open_own(log, os.O_RDONLY), "rb") as file:
        file.seek(begin)
        lines = file.read(65536).decode("utf-8", "replace").splitlines()
    return last_words(lines) or (
        f"The {role} service ended at once.",
        f"Start it in the foreground to see what it does: {foreground}",
    )
