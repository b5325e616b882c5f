"""How a WireGuard door reads its socket: turns, and naps in which datagrams gather."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from time import monotonic

import pytest

from eventloop.poller import Poller
from gateway import wireguard_link
from gateway.nat.counters import Counters
from gateway.sieve import Budget
from gateway.wireguard_link import (
    NAP,
    RATE_SECONDS,
    STEADY_RATE,
    TURN_BYTES,
    TURN_RUNS,
    Moderation,
    Spot,
    WireguardDoor,
)
from sealing.identity import generate_identity
from wireguard.device import Device
from wireguard.peer import Peer, Where


class Nobody:
    """A device's owner whom it tells nothing, because nothing is for the device."""

    def confirmed(self, peer: Peer, now: float) -> None:
        raise AssertionError

    def moved(self, peer: Peer, now: float) -> None:
        raise AssertionError

    def silent(self, peer: Peer, now: float) -> None:
        raise AssertionError

    def unknown(self, public: bytes, where: Where, now: float) -> Peer | None:
        raise AssertionError

    def refused(self, reason: str, peer: Peer | None, where: Where, now: float) -> None:
        raise AssertionError


class Door(WireguardDoor):
    """A door that notes what it is given, and when a turn ends."""

    def __init__(self, poller: Poller) -> None:
        """Events are the test's: nobody asks the poller."""
        self.turns: list[list[tuple[bytes, Spot]]] = []
        self._now: list[tuple[bytes, Spot]] = []
        super().__init__(
            "127.0.0.1", 0, poller, Counters(),
            Device(generate_identity(), Nobody(), 0.0, 0.0), Budget(monotonic()),
            self.take, self.turn, lambda now: None,
        )  # fmt: skip

    def take(self, data: memoryview, segment: int, spot: Spot, now: float) -> None:
        assert segment == len(data)
        self._now.append((bytes(data), spot))

    def turn(self, now: float) -> None:
        self.turns.append(self._now)
        self._now = []


@pytest.fixture
def door() -> Iterator[Door]:
    poller = Poller()
    door = Door(poller)
    yield door
    door.close()
    poller.close()


@pytest.fixture
def client(door: Door) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((door.host, door.port))
        yield client


def test_a_turn_is_bounded_by_runs_and_by_bytes(door: Door, client: socket.socket) -> None:
    for number in range(2 * TURN_RUNS):
        client.send(bytes(100 + number))  # Of unequal sizes, so that none are joined.
    door.ready(select.EPOLLIN, 0.0)
    door.ready(select.EPOLLIN, 1.0)
    assert [len(turn) for turn in door.turns] == [TURN_RUNS, TURN_RUNS]
    large = TURN_BYTES // 4
    for number in range(6):
        client.send(bytes(large + 6 - number))
        client.send(b"x")
    door.ready(select.EPOLLIN, 2.0)
    assert sum(len(data) > 1 for data, _ in door.turns[-1]) == 4


def test_each_datagram_has_its_senders_address(door: Door, client: socket.socket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.connect((door.host, door.port))
        order = [client, client, other, client, other, other]
        for number, sender in enumerate(order):
            sender.send(bytes([number]) * (number + 1))
        door.ready(select.EPOLLIN, 0.0)
        (turn,) = door.turns
        ports = [sender.getsockname()[1] for sender in order]
    assert [spot.port for _, spot in turn] == ports
    assert all(spot.door is door and spot.where.local for _, spot in turn)


def test_what_comes_steadily_one_by_one_gathers_in_a_nap(
    door: Door, client: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        for number in range(5):
            client.send(bytes(300 + number))

    monkeypatch.setattr(wireguard_link, "sleep", nap)
    now, step = 100.0, 0.5 / STEADY_RATE
    while not naps:
        client.send(b"x")
        door.ready(select.EPOLLIN, now)
        now += step
        assert now < 101.0
    assert naps == [NAP]
    assert [len(data) for data, _ in door.turns[-1]] == [1, 300, 301, 302, 303, 304]


def turns(moderation: Moderation, every: float, count: int, taken: int = 1) -> list[bool]:
    return [moderation.steady(taken, 100.0 + number * every) for number in range(count)]


def test_a_flood_is_steady_questions_and_answers_are_not() -> None:
    assert all(turns(Moderation(), 0.5 / STEADY_RATE, 200)[100:])
    assert not any(turns(Moderation(), 0.0005, 200)), "one question after the other"
    assert not any(turns(Moderation(), 0.05, 50, TURN_RUNS)), "a burst that is over"


def test_what_was_steady_is_over_when_it_pauses() -> None:
    moderation = Moderation()
    assert turns(moderation, 0.5 / STEADY_RATE, 200)[-1]
    assert not moderation.steady(1, 100.0 + 10.0)
    assert not moderation.steady(1, 100.0 + 10.0 + RATE_SECONDS / 2)
