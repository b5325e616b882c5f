"""Clocks that a test puts where it wants them."""

from __future__ import annotations

import time

from eventloop.clock import Clock


class Wall:
    """A wall clock that goes as this machine's does until it is set."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.ahead = ahead
        """Seconds before Unix time."""
        self.clock = Clock(time.monotonic, self.read)

    def read(self) -> float:
        return time.time() + self.ahead


class Stopped:
    """Both clocks stand until the test moves them."""

    def __init__(self, now: float = 0.0, wall: float = 0.0) -> None:
        self.now, self.wall = now, wall
        self.clock = Clock(lambda: self.now, lambda: self.wall)
