"""Whose turn it is: what a busy UDP link may hold up."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from time import monotonic

import pytest

from eventloop.poller import Poller
from gateway.datagram_link import DatagramDoor, DatagramLink
from gateway.datagram_socket import RUNS_PER_TURN, Where
from gateway.link import Link, SessionLink
from gateway.listeners import Doorman
from gateway.nat.counters import Counters
from sealing.identity import generate_identity
from vshp.constants import DATAGRAM_DATA
from vshp.datagram import Address
from vshp.datagram_listener import DatagramListener
from vshp.datagram_session import HEAD, DatagramGatewaySession
from vshp.events import Event

INDEX = 1
IDENTITY = generate_identity()


class Owner:
    """Who pumps links after the batch: notes which wait for it."""

    def __init__(self) -> None:
        self.waiting: list[Link] = []

    def link_event(self, link: SessionLink, event: Event, now: float) -> None:
        raise AssertionError(event)

    def link_broken(self, link: Link, reason: str, now: float) -> None:
        raise AssertionError(reason)

    def link_again(self, link: Link) -> None:
        self.waiting.append(link)

    def link_stirred(self, link: SessionLink) -> None:
        pass


class Session(DatagramGatewaySession):
    """A session that has nothing to say of what it hears."""

    def __init__(self) -> None:
        super().__init__(IDENTITY, lambda name: bytes(32), monotonic(), INDEX)
        self.address = Where(("127.0.0.1", 9), 0, bytes((127, 0, 0, 1)))
        self.heard: list[float] = []

    def receive_datagrams(
        self, data: memoryview, segment: int, address: Address, now: float
    ) -> None:
        self.heard.append(now)


class WatchedLink(DatagramLink):
    def pump(self, now: float) -> None:
        raise AssertionError("sent amid the batch")


@pytest.fixture
def poller() -> Iterator[Poller]:
    """Events are the test's: nobody asks it."""
    poller = Poller()
    yield poller
    poller.close()


def test_a_busy_socket_gives_way_and_its_link_is_pumped_after_the_batch(poller: Poller) -> None:
    """A run of ACKs is one event among others: the socket is not read on while more comes, and
    nothing is sent before other flows' sockets have been looked at. Each run has a time of its
    own, as what is sent meanwhile may be acknowledged meanwhile."""
    owner, session, counters, now = Owner(), Session(), Counters(), monotonic()
    listener = DatagramListener(IDENTITY, lambda name: bytes(32), now)
    door = DatagramDoor(
        "127.0.0.1", 0, poller, listener, Doorman(counters, now), counters, owner,
        lambda link, now: None,
    )  # fmt: skip
    link = WatchedLink(owner, door, session, now)
    assert listener.adopt(session)
    door._links[INDEX] = link
    head = HEAD.pack(DATAGRAM_DATA, 0, 0, INDEX)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((door.host, door.port))
        for number in range(4 * RUNS_PER_TURN):
            client.send(head + bytes(100 + number))  # Of unequal sizes, so that none are joined.
        door.ready(select.EPOLLIN, 0.0)
        assert 0 < len(session.heard) <= RUNS_PER_TURN
        assert len(set(session.heard)) == len(session.heard)
        assert set(owner.waiting) == {link}
        door.ready(select.EPOLLIN, 0.0)
        assert len(session.heard) <= 2 * RUNS_PER_TURN
    door.close()
