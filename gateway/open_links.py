"""Who is in: the links of VSHP's sessions that are open, strangers' among them.

A stranger holds a place until he has a lease, waits for one, or goes (`Doorman`). It is
counted who came in by which of our addresses, which is how `doctor` knows whether clients
can reach this device at all.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.link import Link, SessionLink
from gateway.listeners import Doorman
from gateway.records import Knocks
from vshp.config import CloseReason

MAX_KNOCKS = 64
"""Local addresses of which it is remembered whether somebody came in by them."""


class OpenLinks:
    """All of a gateway's."""

    def __init__(self, doorman: Doorman, clock: Callable[[], float]) -> None:
        self.doorman = doorman
        self.by_id: dict[int, Link] = {}
        """By `id`."""
        self._clock = clock
        self._knocks: dict[tuple[str, str], Knocks] = {}

    def all(self) -> list[Link]:
        """To be walked while links are closed."""
        return list(self.by_id.values())

    def entered(self, link: SessionLink, now: float) -> None:
        """A stranger's link was opened."""
        self.by_id[id(link)] = link
        host, doorman = link.host, self.doorman
        link.limit_codes(lambda now: doorman.admit_code(host, now))
        place = link.transport, link.local
        knocks = self._knocks.get(place)
        self._knocks[place] = Knocks(*place, 1 if knocks is None else knocks.count + 1, now)
        while len(self._knocks) > MAX_KNOCKS:
            del self._knocks[next(iter(self._knocks))]
        doorman.enter(id(link), host, lambda: link.close(CloseReason.BUSY, self._clock()))

    def admitted(self, link: Link) -> None:
        """He who came by this link is no stranger any more: he has a lease or waits for one."""
        self.doorman.leave(id(link))

    def left(self, link: Link) -> None:
        """The link is closed."""
        self.by_id.pop(id(link), None)
        self.doorman.leave(id(link))

    def close(self, reason: CloseReason) -> None:
        """Close all of them."""
        now = self._clock()
        for link in self.all():
            link.close(reason, now)

    def knocks(self) -> list[Knocks]:
        """By which local addresses somebody has come in so far."""
        return list(self._knocks.values())
