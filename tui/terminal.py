"""The terminal's end: whether there is still somebody in front of it, and leaving it in order.

A terminal that goes away sends SIGHUP, but only to a console whose controlling
terminal it is. One that was given a terminal without that (by `setsid`, by a
supervisor) would read the end of its input for ever, as fast as it can.

A console that is killed by SIGTERM must give the terminal back first: else its shell
stays on the console's screen, and every movement of the mouse types into it.
"""

from __future__ import annotations

import asyncio
import select
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL


def gone(descriptor: int | None = None) -> bool:
    """Whether the terminal (default: standard input's) has hung up or was closed."""
    if descriptor is None:
        stream = sys.__stdin__
        if stream is None or stream.closed:
            return True
        descriptor = stream.fileno()
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(mask & _GONE for _, mask in poll.poll(0))


_terminated = threading.Event()


def terminate() -> None:
    """Say that the console is to end, from a signal's handler."""
    _terminated.set()


def terminated() -> bool:
    """Whether a signal has asked the console to end."""
    return _terminated.is_set()


def at_termination(leave: Callable[[], None]) -> None:
    """Have `leave` called on the running loop at SIGTERM.

    Whoever runs the console and handles SIGTERM already is left to it. The handler is not
    the loop's: that would have to come round first, and it may wait for a terminal that
    takes nothing (`terminated`).
    """
    on_main_thread = threading.current_thread() is threading.main_thread()
    if not on_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return
    loop = asyncio.get_running_loop()

    def on_signal(number: int, frame: FrameType | None) -> None:
        terminate()
        signal.signal(number, signal.SIG_DFL)  # a second one does not wait
        loop.call_soon_threadsafe(leave)

    signal.signal(signal.SIGTERM, on_signal)
