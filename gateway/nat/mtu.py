"""MTU and MSS: what fits, and how to find out (RFC 8899, DPLPMTUD), pure.

TCP ends at the gateway, so its segments are bounded by the lease's MTU alone
and no path behind us matters. Datagrams learn of the path behind us by Packet
Too Big (`datagrams.py`). What is left to find by search is the largest
datagram that a *datagram transport of our own* carries without fragmentation;
that is the state machine here:

    BASE             the base size has to be confirmed before anything else
    SEARCHING        probes between what is confirmed and the limit, by bisection
    SEARCH_COMPLETE  the path is known; searched again after RAISE_TIMER
    ERROR            not even the base size gets through: the least size is used

Probes are padding in packets of their own: the owner asks `next_probe`, sends
one of that size, and reports `acknowledged`. Loss is silence for PROBE_TIMER.
A Packet Too Big from the network is a hint that is only believed within
bounds (RFC 8899 4.6.1). A black hole is reported by the owner when confirmed
packets of the current size stop getting through.
"""

from __future__ import annotations

from enum import Enum

BASE_PLPMTU = 1200
"""RFC 8899 5.1.2: recommended for UDP over IPv4 and IPv6 alike."""
MIN_PLPMTU = 512
"""What is used when even the base size fails; any path for IPv4 carries it."""
MAX_PROBES = 3
"""Probes of a size that may be lost before it counts as too big (RFC 8899 5.1.2)."""
PROBE_TIMER = 2.0
"""Seconds without an answer after which a probe is lost: at least 1, RFC 8899 5.1.1."""
RAISE_TIMER = 600.0
"""Seconds until a completed search is made again (RFC 8899 5.1.1)."""
CONFIRM_TIMER = 30.0
"""Seconds between attempts at the base size while it fails; and how often an owner whose
traffic does not confirm the size by itself calls `confirm` (RFC 8899 5.1.1)."""
SEARCH_STEP = 16
"""A search ends when what is left is narrower than this."""


class Search(Enum):
    """States of RFC 8899 5.2, but DISABLED, which is not having a `PathMtu`."""

    BASE = "base"
    SEARCHING = "searching"
    SEARCH_COMPLETE = "search_complete"
    ERROR = "error"


class PathMtu:
    """The search for one path. Sizes are of the datagram's payload plus what the owner counts."""

    __slots__ = (
        "_ceiling",
        "_confirming",
        "_deadline",
        "_floor",
        "_limit",
        "_probe",
        "_probes",
        "_raise_at",
        "state",
    )

    def __init__(self, limit: int, now: float) -> None:
        """`limit` is the largest size that the local interface would send."""
        self._limit = max(limit, MIN_PLPMTU)
        self._floor = min(BASE_PLPMTU, self._limit)
        self._ceiling = self._limit
        self._probe = 0
        self._probes = 0
        self._confirming = False
        self._deadline = now
        self._raise_at = now
        self.state = Search.BASE

    @property
    def size(self) -> int:
        """The largest size to be used now."""
        return MIN_PLPMTU if self.state is Search.ERROR else self._floor

    def next_probe(self, now: float) -> int | None:
        """The size of a probe to be sent now, or None. Asking counts as sending."""
        if now < self._deadline:
            return None
        if self._probe and self._probes >= MAX_PROBES:
            self._failed(now)
            if now < self._deadline:
                return None
        elif not self._probe and self.state is Search.SEARCH_COMPLETE:
            if self._confirming:
                self._confirming = False
                self._probe = self._floor
            else:
                self._begin_search()
        if not self._probe:
            self._probe = self._choose()
            if not self._probe:
                self._complete(now)
                return None
        self._probes += 1
        self._deadline = now + PROBE_TIMER
        return self._probe

    def acknowledged(self, size: int, now: float) -> None:
        """A probe of `size` has got through."""
        if size != self._probe:
            return
        self._probe = 0
        self._probes = 0
        self._deadline = now
        if self.state is Search.ERROR:
            self._floor = size
            self._ceiling = self._limit
        if size > self._floor:
            self._floor = size
        if self.state is Search.SEARCH_COMPLETE:
            self._deadline = max(now, self._raise_at)
            return
        self.state = Search.SEARCHING
        if not self._choose():
            self._complete(now)

    def too_big(self, mtu: int, now: float) -> None:
        """A Packet Too Big named `mtu`, converted to our sizes. Not believed out of bounds."""
        if not MIN_PLPMTU <= mtu < (self._probe or self._floor + 1):
            return
        self._ceiling = mtu
        self._probe = 0
        self._probes = 0
        if mtu < self._floor:
            # What was confirmed fits no longer: take the hint, and have it confirmed.
            self._floor = mtu
            self._probe = mtu
            self.state = Search.SEARCHING
        self._deadline = now

    def black_hole(self, now: float) -> None:
        """Packets of the current size stopped getting through: start over from the base."""
        self._floor = min(BASE_PLPMTU, self._limit)
        self._ceiling = self._limit
        self._probe = 0
        self._probes = 0
        self._deadline = now
        self.state = Search.BASE

    def confirm(self, now: float) -> None:
        """Have the size in use confirmed by a probe at the next turn."""
        if self.state is Search.SEARCH_COMPLETE and not self._probe:
            self._confirming = True
            self._deadline = now

    def get_timer(self) -> float:
        """When `next_probe` has something to say."""
        return self._deadline

    def _choose(self) -> int:
        """The next size to try; 0 when the search is over."""
        if self.state in (Search.BASE, Search.ERROR):
            return min(BASE_PLPMTU, self._limit)
        if self._ceiling - self._floor < SEARCH_STEP:
            return 0
        if self._ceiling == self._limit and self._floor == min(BASE_PLPMTU, self._limit):
            # Most paths carry what the interface does: try that before halving.
            return self._limit
        return (self._floor + self._ceiling + 1) // 2

    def _failed(self, now: float) -> None:
        """The size probed does not get through."""
        size = self._probe
        self._probe = 0
        self._probes = 0
        if self.state is Search.SEARCH_COMPLETE or size <= self._floor:
            if self.state in (Search.BASE, Search.ERROR):
                self.state = Search.ERROR
                self._deadline = now + CONFIRM_TIMER
            else:
                self.black_hole(now)
            return
        self._ceiling = size - 1

    def _begin_search(self) -> None:
        self._ceiling = self._limit
        self.state = Search.SEARCHING

    def _complete(self, now: float) -> None:
        self.state = Search.SEARCH_COMPLETE
        self._deadline = self._raise_at = now + RAISE_TIMER
