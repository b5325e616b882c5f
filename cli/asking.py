"""Secrets that do not stand on a command line, where every user of the machine reads them."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
from collections.abc import Iterator

from control.errors import Code, ControlError
from vshp.uri import MAX_TEXT, PairingUri, UriError

PROMPT = "Pairing URI (it begins with VSHP: and is not shown): "
_GOES_ON = 0.5
"""Seconds after a line that was pasted until the next one of the same paste is there."""


def ask_for_uri() -> str:
    """The URI from standard input: all of it, or, on a terminal, what is typed or pasted.

    Raises `ControlError` when there is none.
    """
    text = _from_terminal() if sys.stdin.isatty() else sys.stdin.read(MAX_TEXT + 1)
    if not text.strip():
        raise ControlError(
            Code.INVALID_PARAMS, "No pairing URI came on standard input.",
            "It stands under the QR code: vpnshare pair, on the gateway.",
        )  # fmt: skip
    return text


def ask_for_word(what: str) -> str:
    """A line from standard input: a secret that is called `what`, not shown where it is typed.

    Raises `ControlError` when there is none.
    """
    if sys.stdin.isatty():
        sys.stderr.write(f"{what} (it is not shown): ")
        sys.stderr.flush()
        try:
            with _no_echo(sys.stdin.fileno()):
                text = sys.stdin.readline()
        finally:
            sys.stderr.write("\n")
    else:
        text = sys.stdin.readline()
    word = text.strip()
    if not word:
        raise ControlError(
            Code.INVALID_PARAMS, f"No {what} came on standard input.", "Nothing was changed."
        )
    return word


def _from_terminal() -> str:
    """What is pasted, over as many lines as a narrow terminal or a mail broke it into."""
    sys.stderr.write(PROMPT)
    sys.stderr.flush()
    descriptor = sys.stdin.fileno()
    text = ""
    with _no_echo(descriptor):
        try:
            while len(text) < MAX_TEXT:
                data = os.read(descriptor, MAX_TEXT)
                text += data.decode("utf-8", "replace")
                whole = _is_whole(text) or not data
                if whole or not select.select([descriptor], [], [], _GOES_ON)[0]:
                    break
        finally:
            sys.stderr.write("\n")
    return text


def _is_whole(text: str) -> bool:
    try:
        PairingUri.decode(text)
    except UriError:
        return False
    return True


@contextlib.contextmanager
def _no_echo(descriptor: int) -> Iterator[None]:
    before = termios.tcgetattr(descriptor)
    silent = termios.tcgetattr(descriptor)
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(descriptor, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        # What is left of a paste is nothing for the shell.
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)


def hide_from_others(secret: str) -> None:
    """Blot `secret` out of this process's command line (/proc/PID/cmdline), if that can be done."""
    words = secret.encode(sys.getfilesystemencoding(), "surrogateescape")
    with contextlib.suppress(OSError, ValueError):
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        begin, end = int(fields[45]), int(fields[46])  # arg_start and arg_end, proc(5)
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(begin)
            line = memory.read(end - begin)
            # A short one may be part of another word, too.
            at = line.find(b"\0" + words + b"\0") + 1 or line.find(words)
            if at >= 0:
                memory.seek(begin + at)
                memory.write(b"*" * len(words))
