"""Rates of byte counters, computed when somebody looks and at no other time."""

from __future__ import annotations

MIN_INTERVAL = 0.9
"""Two looks closer together than this get the same answer, in seconds."""


class RateMeter:
    """Turns readings of a growing counter into bytes a second over the last interval.

    It keeps two readings and has no timer, so a gateway that nobody watches
    does no work for it.
    """

    __slots__ = ("_at", "_rate", "_total")

    def __init__(self, now: float, total: int = 0) -> None:
        self._at = now
        self._total = total
        self._rate = 0.0

    def read(self, total: int, now: float) -> float:
        """The rate since the last reading that is at least MIN_INTERVAL ago."""
        elapsed = now - self._at
        if elapsed >= MIN_INTERVAL:
            self._rate = max(0.0, (total - self._total) / elapsed)
            self._at = now
            self._total = total
        return self._rate
