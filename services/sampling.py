"""When the counters of a running service are read into its history of traffic.

Theory of operation. At the end of each interval, as long as something moves: packets pay
nothing for it, and a service in which nothing moves sleeps. After QUIET intervals without
a byte no timer runs but those that the service has anyway; then it is news of a link,
such a timer, or who asks for the history, that has the counters read. What began to move
meanwhile is spread over the time since the last look. The gateway collects what devices use
twice a minute while one is connected; the client's link looks after its session a few seconds
after anything was sent by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from control.traffic import INTERVAL, Reading, TrafficBook

QUIET = 2
"""Intervals without a byte after which nothing ticks."""


class Sampler:
    """Reads the counters of a running service into its book."""

    def __init__(self, look: Callable[[], Reading], now: Callable[[], float]) -> None:
        """`look` reads the counters; `now` is a monotonic clock. While nothing moves somebody
        else calls `look`."""
        self._read = look
        self._now = now
        self._book: TrafficBook | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._quiet = 0

    def start(self) -> None:
        """Begin the history. From within the event loop, once the counters are there."""
        self._book = TrafficBook(self._read(), self._now())
        self.look()

    def stop(self) -> None:
        self._book = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def wake(self) -> None:
        """There is news of a link: something may begin to move."""
        self._quiet = 0
        self.look()

    def look(self) -> None:
        """Read the counters now, and go on at the ends of the intervals if anything moves."""
        if self._book is None:
            return
        now, reading = self._now(), self._read()
        if self._book.note(reading, now):
            self._quiet = 0
        self._plan(reading.linked, now)

    def read(self, device: str | None, limit: int) -> tuple[int, list[tuple[int, int]]]:
        """The number of the last whole interval; and bytes from and to the tunnel in it and
        those before it, the oldest first."""
        self.look()
        now = self._now()
        samples = [] if self._book is None else self._book.read(device, limit, now)
        return int(now // INTERVAL) - 1, samples

    def _tick(self) -> None:
        self._timer = None
        self._quiet += 1
        self.look()

    def _plan(self, linked: bool, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if linked and self._quiet < QUIET:
            delay = INTERVAL - now % INTERVAL
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)
