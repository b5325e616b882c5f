"""The addresses that the gateway listens on, and how they change while it runs.

Theory of operation. A *place* is an address and a port with the doors that are open
there: VSHP's are one for TCP and one for UDP. `change` goes from the present places to
others, so that somebody listens as long as possible, and so that it can be taken back:

1. New places are opened beside the old ones.
2. Where an old one is in the way (the same port, and the same address or all of
   them) it is closed first, and the new one opened at once.
3. When all are open, the old ones are given up.

Whatever fails in the first two steps, the new places are closed and the old
ones are back, even at an address that has gone meanwhile.

TCP links do not depend on the door they came in by: they stay. UDP links
use their door's own socket. Where a new place is one that their client can
keep sending to, it adopts them, and nothing changes for the client. The others
are told that their way in is closed; they resume over another.

The system may end a listening socket by itself (Android's netd does so when
networks change). It is then opened again, with growing pauses until it can be.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.door import Door, Opener
from gateway.link import Link
from gateway.listeners import ListenError, spell
from gateway.nat.counters import Counters
from vshp.config import CloseReason

REOPEN_FIRST = 1.0
REOPEN_MAX = 30.0
"""Seconds between attempts to open a listener again that the system has ended."""
PORT_TRIES = 16
"""For a port that is free over TCP and over UDP, where any will do."""
ALL = ("0.0.0.0", "::")

_log = logging.getLogger(__name__)

Address = tuple[str, int]
"""Host (an IP address) and port."""


@dataclass(eq=False, slots=True)
class Place:
    """One address that is listened on."""

    asked: Address
    """As the owner named it; its port may be 0, which is any."""
    doors: tuple[Door, ...]
    """All at the same address and port, in the order of their openers."""

    @property
    def host(self) -> str:
        return self.doors[0].host

    @property
    def port(self) -> int:
        return self.doors[0].port

    def whole(self) -> bool:
        """Whether all doors are open."""
        return not any(door.closed for door in self.doors)

    def links(self) -> list[Link]:
        """The links that need these doors."""
        return [link for door in self.doors for link in door.links()]

    def adopt(self, link: Link) -> bool:
        """Carry another place's link; False when none of the doors can."""
        return any(door.adopt(link) for door in self.doors)

    def close(self) -> None:
        for door in self.doors:
            door.close()


class Places:
    """All places of a gateway."""

    def __init__(self, openers: Sequence[Opener], counters: Counters) -> None:
        """`openers`: of the doors that each place has. The first one's port is the others'."""
        self._openers = tuple(openers)
        self._counts = counters.counts
        self._places: list[Place] = []
        self.on_change: Callable[[float], None] = lambda now: None
        """Called when the places are others, before links that cannot go on are closed."""
        self.wake_by: Callable[[float], None] = lambda at: None
        """Called with a moment at which `handle_timer` is to be called at the latest."""
        self._reopen_at: float | None = None
        self._pause = REOPEN_FIRST

    def addresses(self) -> list[Address]:
        """Where it is listened, in the owner's order."""
        return [(place.host, place.port) for place in self._places]

    def change(self, wanted: Sequence[Address], now: float, anew: bool = False) -> None:
        """Listen at exactly these; those of them that are open already stay, unless `anew`.

        Raises ListenError; everything is as it was then.
        """
        asked = list(dict.fromkeys(wanted))
        kept = {} if anew else {p.asked: p for p in self._places if p.asked in asked and p.whole()}
        old = [place for place in self._places if kept.get(place.asked) is not place]
        opened = self._replace([address for address in asked if address not in kept], old, now)
        self._places = [kept[address] if address in kept else opened[address] for address in asked]
        stranded = [link for place in old for link in self._hand_over(place)]
        # So that they know where to come back to.
        self.on_change(now)
        for link in stranded:
            self._counts["link__udp__listener_closed"] += 1
            link.close(CloseReason.LISTENER_CLOSED, now)
        for place in old:
            place.close()

    def close(self) -> None:
        """Listen no more; links are the owner's to close first."""
        for place in self._places:
            place.close()
        self._places.clear()
        self._reopen_at = None

    def get_timer(self) -> float | None:
        """When a listener that the system has ended is to be opened again."""
        return self._reopen_at

    def handle_timer(self, now: float) -> None:
        if self._reopen_at is None or self._reopen_at > now:
            return
        self._reopen_at = None
        for place in self._places:
            if not place.whole():
                try:
                    self._listen(place)
                except ListenError as error:
                    _log.warning("%s", error)
                    self._counts["listener__dead__not_reopened"] += 1
                    self._reopen_at = now + self._pause
                else:
                    self._counts["listener__dead__reopened"] += 1
        self._pause = min(2 * self._pause, REOPEN_MAX) if self._reopen_at else REOPEN_FIRST

    # --- opening -----------------------------------------------------------------------------

    def _replace(self, asked: list[Address], old: list[Place], now: float) -> dict[Address, Place]:
        """Open the new places; `old` ones that are in the way are closed for it."""
        targets = {address: _target(address, old) for address in asked}
        blocked = {
            address: [place for place in old if _in_the_way(place, target)]
            for address, target in targets.items()
        }
        opened: dict[Address, Place] = {}
        closed: list[Place] = []
        try:
            # Those that nobody blocks come first: as long as they may fail, nothing is closed.
            for address in sorted(asked, key=lambda address: bool(blocked[address])):
                for place in blocked[address]:
                    if place not in closed:
                        closed.append(place)
                        place.close()
                opened[address] = self._open(address, *targets[address])
        except ListenError:
            for place in opened.values():
                place.close()
            for place in closed:
                self._restore(place, now)
            raise
        return opened

    def _open(self, asked: Address, host: str, port: int, early: bool = False) -> Place:
        # The system chooses a port that is free for the first; another may find it taken.
        tries = PORT_TRIES if port == 0 else 1
        first, *others = self._openers
        while True:
            tries -= 1
            doors = [first(host, port, early)]
            try:
                for opener in others:
                    doors.append(opener(host, doors[0].port, early))
                break
            except ListenError:
                for door in doors:
                    door.close()
                if not tries:
                    raise
        place = Place(asked, tuple(doors))
        self._attend(place)
        return place

    def _attend(self, place: Place) -> None:
        for door in place.doors:
            door.on_dead = lambda now: self._dead(place, now)

    def _restore(self, place: Place, now: float) -> None:
        """Open a place again that was closed in vain, with the links it had."""
        links = place.links()
        try:
            place.doors = self._open(place.asked, place.host, place.port, early=True).doors
        except ListenError as error:
            # Somebody was quicker. The timer goes on trying.
            _log.error("%s", error)
            self._dead(place, now)
            return
        self._attend(place)
        for link in links:
            if not place.adopt(link):
                link.close(CloseReason.LISTENER_CLOSED, now)

    def _listen(self, place: Place) -> None:
        """Open what is closed of a place. Raises ListenError; then it is as it was."""
        links = [link for door in place.doors if door.closed for link in door.links()]
        opened: list[Door] = []
        doors: list[Door] = []
        try:
            for door, opener in zip(place.doors, self._openers, strict=True):
                if door.closed:
                    door = opener(place.host, place.port, True)
                    opened.append(door)
                doors.append(door)
        except ListenError:
            for door in opened:
                door.close()
            raise
        place.doors = tuple(doors)
        self._attend(place)
        for link in links:
            place.adopt(link)

    def _dead(self, place: Place, now: float) -> None:
        _log.warning("the listener at %s was ended", spell(place.host, place.port))
        self._counts["listener__dead"] += 1
        if self._reopen_at is None:
            self._reopen_at = now
            self.wake_by(now)

    # --- giving up ---------------------------------------------------------------------------

    def _hand_over(self, place: Place) -> list[Link]:
        """Give an old place's links to new ones; those whose client must come back."""
        stranded = []
        for link in place.links():
            heirs = [p for p in self._places if _same_port(p, place.host, place.port)]
            # One that cannot be reached where the client sends may still say so.
            heirs.sort(key=lambda heir: not _reaches(heir, link))
            heir = next((heir for heir in heirs if heir.adopt(link)), None)
            if heir is None or not _reaches(heir, link):
                stranded.append(link)
            else:
                self._counts["link__udp__listener_changed"] += 1
        return stranded


def _target(address: Address, old: list[Place]) -> Address:
    """Where to open what was asked for; any port stays the one that it became."""
    host, port = address
    if port == 0:
        port = next((place.port for place in old if place.asked == address), 0)
    return host, port


def _same_port(place: Place, host: str, port: int) -> bool:
    return place.port == port and (":" in place.host) is (":" in host)


def _in_the_way(place: Place, target: Address) -> bool:
    """Whether the place must be closed before the target can be opened (bind(2))."""
    host, port = target
    return _same_port(place, host, port) and (
        place.host == host or place.host in ALL or host in ALL
    )


def _reaches(place: Place, link: Link) -> bool:
    """Whether datagrams to where the link's client sends them arrive at the place."""
    return place.host in ALL or _packed(place.host) == _packed(link.local)


def _packed(host: str) -> bytes:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.inet_pton(family, host.partition("%")[0])
