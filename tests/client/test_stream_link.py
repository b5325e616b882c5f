"""A stream's socket takes what it likes, when it likes: all leaves in its order, and the link waits
for the socket and for the NIC exactly when it has to."""

from __future__ import annotations

import select
import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from client.driver import LinkOwner
from client.model import TransportEndpoint
from client.outlet.nic.ingress import Ingress
from client.outlet.nic.nic import MemoryTun
from client.outlet.nic.pump import NicPort
from client.stream_link import StreamLink
from eventloop.link_sockets import READ, READ_WRITE
from tests.vshp.dialogue import LEASE, connected, feed
from vshp.constants import MAX_QUEUED


class Reluctant(socket.socket):
    """Takes `most` bytes a call, and `left` altogether."""

    most = left = 1 << 30

    def send(self, data: Any, flags: int = 0) -> int:
        if not self.left:
            raise BlockingIOError
        n = super().send(data[: min(self.most, self.left)], flags)
        self.left -= n
        return n


class Watches:
    """A poller that remembers what is watched for what."""

    def __init__(self) -> None:
        self.masks: dict[int, int] = {}

    def watch(self, fd: int, handler: object, mask: int) -> None:
        self.masks[fd] = mask

    def change(self, fd: int, mask: int) -> None:
        assert fd in self.masks
        self.masks[fd] = mask

    def unwatch(self, fd: int) -> None:
        del self.masks[fd]


class Still(StreamLink):
    """Does nothing by itself."""

    def _begin(self) -> None: ...

    def _arm(self) -> None: ...


class Sending:
    """A link between a NIC and a socket, and the gateway behind the socket."""

    def __init__(self) -> None:
        self.both = connected(LEASE)
        near, self.far = socket.socketpair()
        self.far.setblocking(False)
        self.sock = Reluctant(fileno=near.detach())
        self.sock.setblocking(False)
        sessions = SimpleNamespace(stream=lambda now, usb: self.both.client)
        there = TransportEndpoint("usb", "127.0.0.1", 1)
        self.link = Still(cast(LinkOwner, None), self.sock, there, cast(Any, sessions))
        self.nic = MemoryTun(offload=False)
        watches = Watches()
        self.link.poller = cast(Any, watches)
        self.masks = watches.masks
        self.masks[self.sock.fileno()] = READ
        self.port = NicPort(self.nic, Ingress())
        self.link.attach(self.port, LEASE)
        self.sent: list[bytes] = []

    def send(self, count: int, size: int = 1400) -> None:
        """So many packets come to the NIC, and the link takes them while it watches."""
        for _ in range(count):
            packet = len(self.sent).to_bytes(4, "big") + bytes(size - 4)
            self.nic.host.send(packet)
            self.sent.append(packet)
        if self.nic.fileno() in self.masks:
            self.port.ready(select.EPOLLIN, 0.0)

    def arrived(self) -> list[bytes]:
        """At the gateway, so far."""
        while True:
            try:
                data = self.far.recv(1 << 20)
            except BlockingIOError:
                return self.both.at_gateway
            feed(self.both.gateway, data)

    @property
    def waits(self) -> bool:
        """For room in the socket."""
        return self.masks[self.sock.fileno()] == READ_WRITE

    def close(self) -> None:
        self.sock.close()
        self.far.close()
        self.nic.close()
        self.nic.vanish()


@pytest.fixture
async def sending() -> AsyncIterator[Sending]:
    made = Sending()
    yield made
    made.close()


async def test_what_goes_in_pieces_goes_at_once(sending: Sending) -> None:
    sending.sock.most = 1000
    sending.send(3)
    assert sending.arrived() == sending.sent
    assert not sending.waits


async def test_what_the_socket_does_not_take_follows_when_it_does(sending: Sending) -> None:
    sending.sock.left = 1000
    sending.send(3)
    assert sending.arrived() == []
    assert sending.waits
    # While something waits, more is queued behind it.
    sending.send(2)
    assert sending.arrived() == []
    sending.sock.left = 1 << 30
    sending.link.ready(select.EPOLLOUT, 0.0)
    assert sending.arrived() == sending.sent
    assert not sending.waits


async def test_the_nic_is_watched_while_there_is_room(sending: Sending) -> None:
    nic = sending.nic.fileno()
    sending.sock.left = 0
    while len(sending.sent) * 1400 < MAX_QUEUED:
        assert nic in sending.masks
        sending.send(20)
    assert nic not in sending.masks
    assert sending.waits
    taken = sending.link.sent_packets_bytes // 1400
    assert MAX_QUEUED <= taken * 1420 < MAX_QUEUED + 2 * 1420
    # Room for little: the NIC waits on until there is some.
    sending.sock.left = 100
    sending.link.ready(select.EPOLLOUT, 0.0)
    assert nic not in sending.masks
    sending.sock.left = 1 << 30
    sending.link.ready(select.EPOLLOUT, 0.0)
    assert sending.arrived() == sending.sent[:taken]
    assert nic in sending.masks and not sending.waits
    sending.port.ready(select.EPOLLIN, 0.0)
    assert sending.arrived() == sending.sent
