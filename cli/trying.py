"""`vpnshare demo`: see the product at work on one machine, then have nothing left of it."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

from cli.running import need_terminal, open_console
from control.errors import Code, ControlError
from control.exits import Exit
from control.output import print_json, tell
from services import demo


def run(args: argparse.Namespace) -> int:
    if reason := demo.why_not():
        raise ControlError(Code.REFUSED, reason, "On Linux: sudo vpnshare demo")
    if not args.no_console:
        need_terminal("vpnshare demo --no-console")
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _interrupt)
    with demo.Demo() as shown, _unhindered():
        status = shown.begin(lambda text: _tell(args, text))
        os.environ["VPNSHARE_HOME"] = str(shown.home)
        if not args.json:
            print(f"The device is connected: {status.interface}, by {status.transport}.")
        if args.no_console:
            if not args.json:
                tell(f"Look with: VPNSHARE_HOME={shown.home} vpnshare status    (end: Ctrl-C)")
            sys.stdout.flush()
            interrupted = _stay(args.seconds)
            found = demo.totals(shown)
            if args.json:
                print_json(found)
            else:
                print(f"{found['to_device_bytes']:,} bytes went to the device and "
                      f"{found['from_device_bytes']:,} from it, all through the VPN.")  # fmt: skip
            return Exit.INTERRUPTED if interrupted else Exit.OK
        return _look(args.seconds)


def _tell(args: argparse.Namespace, text: str) -> None:
    if not args.json:
        print(text, flush=True)


def _stay(seconds: float | None) -> bool:
    """Wait so long, or until Ctrl-C; whether it was that."""
    until = None if seconds is None else time.monotonic() + seconds
    try:
        while until is None or time.monotonic() < until:
            time.sleep(0.2 if until is None else min(0.2, max(0.0, until - time.monotonic())))
    except KeyboardInterrupt:
        return True
    return False


def _look(seconds: float | None) -> int:
    """The console in front, for so long or until its user leaves it."""
    over = threading.Event()

    def end() -> None:
        over.set()
        os.kill(os.getpid(), signal.SIGTERM)

    if seconds is not None:
        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
    try:
        return open_console(["gateway", "client"])
    except KeyboardInterrupt:
        if over.is_set():
            return Exit.OK
        raise


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End as by Ctrl-C, which the console knows how to follow, so that everything is removed.

    Also where Ctrl-C is for somebody else: a shell's background jobs begin with it ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if console := sys.modules.get("tui.terminal"):
        console.terminate()
    signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def _unhindered() -> Iterator[None]:
    """What comes after it is not interrupted: a second Ctrl-C must not stop the removal."""
    try:
        yield
    finally:
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, signal.SIG_IGN)
