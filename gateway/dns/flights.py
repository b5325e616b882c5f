"""Questions under way, and who waits for each.

Theory of operation. A question that goes upstream is a *flight*; equal questions of the same
client wait with the first. All clients together may have so many under way, shared by need: when
all places are taken, who holds most gives one back to who has less. What is given up tells its
resolver so; who waited for it is the caller's to answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from gateway.dns.cache import Key
from gateway.shares import Shares
from netstack.dns import Query

Reply = Callable[[bytes], None]
Place = tuple[Key, bool]
"""A question's key, and whether it came with EDNS: an asker without it may not be sent an OPT
record (RFC 6891 7)."""


class Asking(Protocol):
    """A question under way."""

    def close(self) -> None:
        """Give it up; its `done` is not called."""


@dataclass(slots=True)
class Waiter:
    """One who has asked."""

    client: str
    query: Query
    name: bytes
    over_tcp: bool
    reply: Reply
    wire: bytes


@dataclass(slots=True)
class Flight:
    """One question under way and all who wait for it."""

    place: Place
    """Where it stands in the table; only a plain question's place is found by others."""
    wire: bytes
    query: Query
    waiters: list[Waiter] = field(default_factory=list)
    last: bool = False
    """Its failure is that of all who wait."""
    asking: Asking | None = None
    stale_timer: asyncio.TimerHandle | None = None

    @property
    def client(self) -> str:
        """Whose it is."""
        return self.place[0][0]

    def give_up(self) -> None:
        """Nobody is asked any more."""
        if self.asking is not None:
            self.asking.close()
        if self.stale_timer is not None:
            self.stale_timer.cancel()


class Flights:
    """The table of flights."""

    def __init__(self, total: int) -> None:
        """`total`: how many there may be, of all clients together."""
        self._table: dict[Place, Flight] = {}
        self._shares = Shares(total)

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, place: Place) -> bool:
        return place in self._table

    def all(self) -> list[Flight]:
        """Those of this moment, the oldest first."""
        return list(self._table.values())

    def get(self, place: Place) -> Flight | None:
        """The flight that stands there."""
        return self._table.get(place)

    def take_off(self, flight: Flight) -> Flight:
        """The flight is under way."""
        self._table[flight.place] = flight
        self._shares.add(flight.client)
        return flight

    def land(self, flight: Flight) -> None:
        """Nothing is under way for the flight any more; its waiters are the caller's."""
        del self._table[flight.place]
        self._shares.remove(flight.client)
        flight.give_up()

    @property
    def full(self) -> bool:
        """Whether somebody has to give way first."""
        return self._shares.full

    def gives_way_to(self, client: str) -> Flight | None:
        """The flight that has to land so that the client may have one more: the oldest of who
        holds most; None where nobody has to."""
        richest = self._shares.gives_way_to(client)
        if richest is None:
            return None
        return next(flight for flight in self._table.values() if flight.client == richest)

    def close(self) -> None:
        """Give up all."""
        for flight in self._table.values():
            flight.give_up()
        self._table.clear()
        self._shares.clear()
