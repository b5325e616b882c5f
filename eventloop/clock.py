"""The two clocks that a service goes by, as one value that it is given.

What is judged by time takes the time as a parameter (`now`). What has to know it at a moment of
its own choosing (a timer that it sets, a line that it writes down) has it from here: a service is
composed with one `Clock`, which is handed on to whoever asks for it. So a test puts the clocks
where it wants them, and nobody else's are moved.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """Both in seconds."""

    now: Callable[[], float]
    """Monotonic, the loop's and the poller's: deadlines, pauses, ages. It says nothing to another
    process, nor to people."""
    wall: Callable[[], float]
    """Unix time: what people are shown, what is written down. It may be set at any moment, either
    way, so nothing is timed by it."""

    def epoch(self) -> float:
        """Unix time when `now` was 0, as it looks at this moment."""
        return self.wall() - self.now()


SYSTEM = Clock(time.monotonic, time.time)
"""This machine's."""
