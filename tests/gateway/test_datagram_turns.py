"""Whose turn it is: what a busy UDP link may hold up."""

from __future__ import annotations

import select
import socket
from time import monotonic
from types import SimpleNamespace
from typing import Any

from gateway.datagram_link import DatagramDoor, DatagramLink
from gateway.datagram_socket import RUNS_PER_TURN
from gateway.nat.counters import Counters
from netstack.join import SegmentJoiner


class StillPoller:
    """Events are the test's."""

    def watch(self, fd: int, handler: Any, mask: int) -> None: ...
    def unwatch(self, fd: int) -> None: ...
    def clock(self) -> float:
        return monotonic()


class Owner:
    """Who pumps links after the batch: notes which wait for it."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []

    def link_again(self, link: Any) -> None:
        self.waiting.append(link)

    def link_stirred(self, link: Any) -> None:
        pass


class Session:
    """A session that has nothing to say of what it hears."""

    index = 1
    closed = False
    address: Any = None

    def __init__(self) -> None:
        self.heard: list[float] = []

    def receive_datagrams(self, data: memoryview, segment: int, where: Any, now: float) -> None:
        self.heard.append(now)

    def next_event(self) -> None:
        return None


class WatchedLink(DatagramLink):
    def __init__(self, owner: Owner, session: Session) -> None:
        self._owner, self.session = owner, session  # type: ignore[assignment]
        self.closed, self.peer, self._heard, self.stirred = False, None, 0.0, False
        self._joiner = SegmentJoiner(self._packet)

    def pump(self, now: float) -> None:
        raise AssertionError("sent amid the batch")


def test_a_busy_socket_gives_way_and_its_link_is_pumped_after_the_batch() -> None:
    """A run of ACKs is one event among others: the socket is not read on while more comes, and
    nothing is sent before other flows' sockets have been looked at. Each run has a time of its
    own, as what is sent meanwhile may be acknowledged meanwhile."""
    owner, session = Owner(), Session()
    parts: Any = SimpleNamespace(session_of=lambda data: session, budget=None)
    door = DatagramDoor(
        "127.0.0.1", 0, StillPoller(), parts, parts, Counters(), parts, lambda link, now: None  # type: ignore[arg-type]
    )  # fmt: skip
    link = WatchedLink(owner, session)
    door._links[1] = link
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((door.host, door.port))
        for number in range(4 * RUNS_PER_TURN):
            client.send(bytes(100 + number))  # Of unequal sizes, so that none are joined.
        door.ready(select.EPOLLIN, 0.0)
        assert 0 < len(session.heard) <= RUNS_PER_TURN
        assert len(set(session.heard)) == len(session.heard)
        assert set(owner.waiting) == {link}
        door.ready(select.EPOLLIN, 0.0)
        assert len(session.heard) <= 2 * RUNS_PER_TURN
    door.close()
