"""Questions under way: what stands where, what is given up, and who gives way."""

from __future__ import annotations

from gateway.dns.flights import Flight, Flights
from netstack.dns import parse_query
from tests.netstack import wires

WIRE = wires.question("a.test")


class Upstream:
    """Who is asked."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def flight(client: str, number: int = 0) -> Flight:
    place = ((client, bytes([number])), False)
    return Flight(place, WIRE, parse_query(WIRE), asking=Upstream())


def given_up(*flights: Flight) -> list[int]:
    return [each.asking.closed for each in flights if isinstance(each.asking, Upstream)]


def test_a_flight_stands_at_its_place_until_it_lands() -> None:
    flights = Flights(2)
    one = flights.take_off(flight("a"))
    assert flights.get(one.place) is one and one.place in flights
    assert flights.get((("b", b"\0"), False)) is None
    assert (flights.all(), len(flights), flights.full) == ([one], 1, False)
    flights.land(one)
    assert (flights.all(), one.place in flights, given_up(one)) == ([], False, [1])


def test_the_oldest_of_who_holds_most_gives_way() -> None:
    flights = Flights(4)
    first = flights.take_off(flight("b"))
    mine = [flights.take_off(flight("a", n)) for n in range(3)]
    assert flights.full
    assert flights.gives_way_to("c") is mine[0]
    assert flights.gives_way_to("b") is mine[0]
    assert flights.gives_way_to("a") is None, "it would be the richer itself"
    flights.land(mine[0])
    assert not flights.full
    assert flights.all() == [first, *mine[1:]]


def test_at_the_end_all_are_given_up_and_nobody_holds_a_place() -> None:
    flights = Flights(2)
    both = [flights.take_off(flight("a", n)) for n in range(2)]
    flights.close()
    assert (len(flights), flights.full, given_up(*both)) == (0, False, [1, 1])
