"""Path MTU search for datagrams (RFC 8899), in terms of UDP payload.

The largest size is tried first, for a LAN nearly always takes it; when it is
lost three times, the search halves the distance to what is known to work. A
probe is answered by one of the same size, so both directions are proven. After
a while the search is repeated, because a route may have become better.
"""

from __future__ import annotations

PROBE_TRIES = 3
PROBE_TIMEOUT = 1.0
"""Seconds until a probe counts as lost."""
PROBE_AGAIN = 600.0
"""Seconds between searches (RFC 8899 section 5.1.1, PMTU_RAISE_TIMER)."""
GRAIN = 16
"""The search ends when what works and what fails are this close."""


class PathSearch:
    """Which payload to probe next. `base` works by assumption, `ceiling` is the most to try."""

    __slots__ = ("_ceiling", "_fails", "_now_probing", "_tries", "deadline", "payload")

    def __init__(self, base: int, ceiling: int, now: float) -> None:
        self.payload = base
        """The largest payload known to pass."""
        self._ceiling = ceiling
        self._fails = ceiling + 1
        self._now_probing = ceiling
        self._tries = 0
        self.deadline: float | None = now if ceiling > base else None
        """When `due` wants to be called."""

    def due(self, now: float) -> tuple[int | None, bool]:
        """(payload to probe now or None, whether a search has just ended)."""
        if self.deadline is None or now < self.deadline:
            return None, False
        ended = False
        if self._tries >= PROBE_TRIES:
            self._fails = self._now_probing
            ended = self._step(now)
            if ended:
                return None, True
        self._tries += 1
        self.deadline = now + PROBE_TIMEOUT
        return self._now_probing, ended

    def passed(self, payload: int, now: float) -> bool:
        """The answer to a probe of that size came; True when the search has ended by it."""
        if payload != self._now_probing or self._tries == 0:
            return False
        self.payload = max(self.payload, payload)
        return self._step(now)

    def _step(self, now: float) -> bool:
        """Choose the next size; True when none is worth trying."""
        self._tries = 0
        if self._fails - self.payload <= GRAIN or self.payload >= self._ceiling:
            self._fails = self._ceiling + 1
            self._now_probing = self._ceiling
            self.deadline = now + PROBE_AGAIN if self.payload < self._ceiling else None
            return True
        self._now_probing = (self.payload + self._fails) // 2
        self.deadline = now
        return False
