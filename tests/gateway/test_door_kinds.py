"""Places with doors of any number and kind: they are opened, moved and closed together."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest

from gateway.door import Opener
from gateway.link import Link
from gateway.listeners import ListenError
from gateway.nat.counters import Counters
from gateway.places import Places
from vshp.config import CloseReason

HERE, THERE = "127.0.0.1", "127.0.0.2"


class Carried(Link):
    """A link that goes through the doors of one kind."""

    def __init__(self, kind: str, local: str = HERE) -> None:
        super().__init__("192.0.2.1", 1000, "udp", 0.0)
        self.kind = kind
        self.why: CloseReason | None = None
        self._local = local

    @property
    def local(self) -> str:
        return self._local

    def close(self, reason: CloseReason, now: float, detail: str = "") -> None:
        self.why = reason


class Memory:
    """A door without a socket."""

    taken: ClassVar[set[tuple[str, int]]] = set()
    """Kinds and ports that somebody else has."""

    def __init__(self, kind: str, host: str, port: int) -> None:
        if (kind, port) in self.taken:
            raise ListenError("taken")
        self.kind, self.host, self.port = kind, host, port or 4000
        self.on_dead: Callable[[float], None] = lambda now: None
        self.carried: list[Link] = []
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def links(self) -> list[Link]:
        return list(self.carried)

    def adopt(self, link: Link) -> bool:
        if not (isinstance(link, Carried) and link.kind == self.kind):
            return False
        self.carried.append(link)
        return True


class House:
    """Places with three doors each, and all doors that were ever opened."""

    def __init__(self) -> None:
        self.opened: list[Memory] = []
        self.places = Places([self.opener(kind) for kind in ("tcp", "udp", "sctp")], Counters())

    def opener(self, kind: str) -> Opener:
        def opened(host: str, port: int, early: bool) -> Memory:
            door = Memory(kind, host, port)
            self.opened.append(door)
            return door

        return opened

    def open(self) -> list[tuple[str, str, int]]:
        return [(d.kind, d.host, d.port) for d in self.opened if not d.closed]

    def door(self, kind: str) -> Memory:
        (found,) = (d for d in self.opened if d.kind == kind and not d.closed)
        return found


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setattr(Memory, "taken", set())
    house = House()
    house.places.change([(HERE, 0)], 0.0)
    return house


def test_all_doors_are_at_the_port_of_the_first(house: House) -> None:
    assert house.open() == [(kind, HERE, 4000) for kind in ("tcp", "udp", "sctp")]
    house.places.close()
    assert house.open() == []


def test_a_link_goes_on_through_the_door_of_its_kind(house: House) -> None:
    link = Carried("sctp")
    assert house.door("sctp").adopt(link)
    house.places.change([(HERE, 4000), (THERE, 4000)], 1.0, anew=True)
    (heir,) = (d for d in house.opened if not d.closed and link in d.carried)
    assert (heir.kind, heir.host, link.why) == ("sctp", HERE, None)


def test_a_link_that_no_door_can_carry_is_closed(house: House) -> None:
    link = Carried("sctp")
    assert house.door("sctp").adopt(link)
    house.places.change([(THERE, 4000)], 1.0)
    assert link.why is CloseReason.LISTENER_CLOSED
    assert house.open() == [(kind, THERE, 4000) for kind in ("tcp", "udp", "sctp")]


def test_one_door_that_cannot_be_opened_leaves_all_as_they_were(house: House) -> None:
    link = Carried("sctp")
    assert house.door("sctp").adopt(link)
    Memory.taken.add(("sctp", 5000))
    with pytest.raises(ListenError):
        house.places.change([(HERE, 4000), (HERE, 5000)], 1.0, anew=True)
    assert house.open() == [(kind, HERE, 4000) for kind in ("tcp", "udp", "sctp")]
    assert house.door("sctp").links() == [link] and link.why is None


def test_the_one_door_that_was_ended_is_opened_again(house: House) -> None:
    kept = house.door("tcp"), house.door("udp")
    link = Carried("sctp")
    dead = house.door("sctp")
    assert dead.adopt(link)
    Memory.taken.add(("sctp", 4000))
    dead.close()
    dead.on_dead(1.0)
    house.places.handle_timer(1.0)
    at = house.places.get_timer()
    assert at is not None and at > 1.0 and len(house.open()) == 2
    Memory.taken.clear()
    house.places.handle_timer(at)
    assert (house.door("tcp"), house.door("udp")) == kept
    assert house.door("sctp").links() == [link] and house.places.get_timer() is None


def test_a_place_that_was_closed_in_vain_comes_back_with_its_links(house: House) -> None:
    link = Carried("sctp")
    assert house.door("sctp").adopt(link)
    Memory.taken.add(("sctp", 4000))
    with pytest.raises(ListenError):
        house.places.change([(HERE, 4000)], 1.0, anew=True)
    assert house.open() == [] and house.places.addresses() == [(HERE, 4000)]
    Memory.taken.clear()
    house.places.handle_timer(1.0)
    assert len(house.open()) == 3 and house.door("sctp").links() == [link] and link.why is None
