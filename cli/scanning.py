"""The pairing URI from the QR code on the gateway's screen, by this machine's camera.

`zbarcam` looks through the camera and writes what it reads, a code a line. Anybody's code may
come before the camera: only what is a pairing URI is taken, and of anything else a few clean
characters are shown. The URI is a secret, and is never shown.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import IO

from control.errors import Code, ControlError
from control.output import complain, printable, tell
from vshp.uri import MAX_TEXT, PairingUri, UriError

PROGRAM = "zbarcam"
SCAN_SECONDS = 120.0
"""For a code to be seen: as long as a pairing URI is good."""
END_SECONDS = 3.0
"""For the program to end when it is told to."""
_MAX_TOLD = 5
"""Foreign codes that are told of; one that hangs on the wall is seen many times a second."""
_MAX_SHOWN = 40
_MAX_ERROR = 4096


def scan() -> str:
    """The URI that the camera sees first. Raises `ControlError`; Ctrl-C lets go of the camera."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise ControlError(
            Code.FAILED, f"The camera is read by {PROGRAM}, which is not installed here.",
            "Install the package zbar-tools. Or paste the text under the QR code: "
            "vpnshare connect -",
        )  # fmt: skip
    argv = [program, "--raw", "--quiet", "-Sdisable", "-Sqrcode.enable"]
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        argv.append("--nodisplay")
    tell("Hold the QR code of the phone (there: vpnshare pair, or p in the console) before this "
         "machine's camera. Ctrl-C gives up.", stream=sys.stderr)  # fmt: skip
    with tempfile.TemporaryFile() as errors, _running(argv, errors) as process:
        found = _first(process)
        if found is not None:
            tell("A pairing code was read.", stream=sys.stderr)
            return found
        over = process.poll() is None
        if over:
            raise ControlError(
                Code.TIMED_OUT, f"No pairing code was seen within {SCAN_SECONDS:.0f} s.",
                "Make it larger on the phone and hold it steady; or paste the text under it: "
                "vpnshare connect -",
            )  # fmt: skip
        errors.seek(0)
        said = errors.read(_MAX_ERROR).decode("utf-8", "replace").strip().splitlines()
    why = f" It says: {printable(said[-1])[:_MAX_ERROR]}" if said else ""
    raise ControlError(
        Code.FAILED, f"The camera was closed before a pairing code was seen.{why}",
        "Is there a camera that nobody else uses? Or paste the text under the QR code: "
        "vpnshare connect -",
    )  # fmt: skip


@contextlib.contextmanager
def _running(argv: list[str], errors: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    # Ctrl-C waits until somebody is there to end what it would leave behind.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process = _start(argv, errors)
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _start(argv: list[str], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
        )
    except OSError as error:
        raise ControlError(
            Code.FAILED, f"{PROGRAM} cannot be run: {error.strerror}.",
            "Paste the text under the QR code: vpnshare connect -",
        ) from None  # fmt: skip


def _first(process: subprocess.Popen[bytes]) -> str | None:
    """The first pairing URI that it writes; None when it ends before, or the time is over."""
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    deadline = time.monotonic() + SCAN_SECONDS
    told: set[str] = set()
    pending, foreign = b"", False
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([descriptor], [], [], left)[0]:
            continue
        data = os.read(descriptor, MAX_TEXT)
        if not data:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
            return None
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace").strip()
            if not foreign and _is_pairing(text):
                return text
            if text and len(told) < _MAX_TOLD and text not in told:
                told.add(text)
                complain(f"That is another QR code: {printable(text[:_MAX_SHOWN])}")
            foreign = False
        if len(pending) > MAX_TEXT:
            # Longer than any URI: no part of it is looked at.
            pending, foreign = b"", True
    return None


def _is_pairing(text: str) -> bool:
    try:
        PairingUri.decode(text)
    except UriError:
        return False
    return True
