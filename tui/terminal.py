"""Whether there is still somebody in front of the console.

A terminal that goes away sends SIGHUP, but only to a console whose controlling
terminal it is. One that was given a terminal without that (by `setsid`, by a
supervisor) would read the end of its input for ever, as fast as it can.
"""

from __future__ import annotations

import select
import sys

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
