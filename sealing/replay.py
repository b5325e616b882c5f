"""The replay window: which datagram counters have been seen.

RFC 6479's idea with whole counters in the ring instead of bits: a counter's
slot is its low bits, and the slot holds the last counter that landed there. So
nothing has to be cleared when the window moves, and both questions are one
look-up.
"""

from __future__ import annotations

from array import array

REPLAY_WINDOW = 4096
"""How far behind the newest counter a datagram may still arrive."""
NO_COUNTER = 2**64 - 1
"""No datagram has this counter: Noise reserves it for rekeying."""
assert REPLAY_WINDOW & (REPLAY_WINDOW - 1) == 0


class ReplayWindow:
    """Remembers the last `REPLAY_WINDOW` counters. Check first, commit when authenticated."""

    __slots__ = ("_ring", "newest")

    def __init__(self) -> None:
        self._ring = array("Q", [NO_COUNTER]) * REPLAY_WINDOW
        self.newest = -1
        """The largest counter committed, -1 before the first."""

    def check(self, counter: int) -> str | None:
        """Why this counter cannot be taken (`too_old`, `replayed`), or None."""
        if counter + REPLAY_WINDOW <= self.newest or counter == NO_COUNTER:
            return "too_old"
        if self._ring[counter & (REPLAY_WINDOW - 1)] == counter:
            return "replayed"
        return None

    def commit_row(self, counters: list[int]) -> None:
        """These datagrams authenticated; each counter is greater than the one before it and than
        all that were committed."""
        ring, first, count = self._ring, counters[0], len(counters)
        at = first & (REPLAY_WINDOW - 1)
        if counters[-1] - first == count - 1 and at + count <= REPLAY_WINDOW:
            ring[at : at + count] = array("Q", counters)
        else:
            for counter in counters:
                ring[counter & (REPLAY_WINDOW - 1)] = counter
        self.newest = counters[-1]

    def commit(self, counter: int) -> bool:
        """The datagram authenticated; True when it is the newest so far."""
        self._ring[counter & (REPLAY_WINDOW - 1)] = counter
        if counter > self.newest:
            self.newest = counter
            return True
        return False
