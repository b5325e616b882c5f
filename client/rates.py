"""Bytes a second, over about the last two seconds, from a counter that is looked at now and then.

Nothing ticks: a sample is taken when somebody looks, so an idle client sleeps.
"""

from __future__ import annotations

WINDOW = 2.0
"""Seconds."""
MIN_STEP = 0.25
"""Seconds between samples; who looks more often sees the same figure."""


class RateMeter:
    """One counter's rate."""

    __slots__ = ("_at", "_count", "_rate")

    def __init__(self) -> None:
        self._at: float | None = None
        self._count = 0
        self._rate = 0.0

    def sample(self, count: int, now: float) -> float:
        """The rate at `now`, when the counter stands at `count`."""
        if self._at is None or count < self._count:
            self._at, self._count, self._rate = now, count, 0.0
            return 0.0
        elapsed = now - self._at
        if elapsed >= MIN_STEP:
            fresh = (count - self._count) / elapsed
            weight = min(1.0, elapsed / WINDOW)
            self._rate += (fresh - self._rate) * weight
            self._at, self._count = now, count
        return self._rate
