"""A link carries whatever port it is attached to: here one that answers each packet itself."""

from __future__ import annotations

import select
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from client.driver import LinkDriver, LinkOwner
from client.model import TransportEndpoint
from client.outlet.port import Carrier, Intake
from client.reconnect import Ending
from eventloop.link_sockets import READ
from tests.client.test_stream_link import Reluctant, Still, Watches
from tests.vshp.dialogue import LEASE, connected, feed
from vshp.config import LeaseConfig

ENDING = Ending("nic_lost", authenticated=False)


def packet(number: int, size: int = 1400) -> bytes:
    head = b"\x45\0" + size.to_bytes(2, "big") + bytes(4) + b"\x40\x11" + bytes(10)
    return head + number.to_bytes(4, "big") + bytes(size - 24)


class Echo:
    """A port without a device: each packet goes back as it came. `log` is what it was told."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.link: Carrier | None = None

    def attach(self, link: Carrier, lease: LeaseConfig) -> Intake:
        self.log.append(f"attach {lease.mtu}")
        self.link = link
        return Intake(self.packet, done=lambda: self.log.append("done"))

    def detach(self) -> None:
        self.log.append("detach")
        self.link = None

    def room_again(self) -> None:
        self.log.append("room")

    def packet(self, buf: memoryview, start: int, end: int, offload: bool) -> None:
        self.log.append("packet")
        self.send(bytes(buf[start:end]))

    def send(self, data: bytes) -> None:
        assert self.link is not None
        self.link.writer.send_packet(bytearray(64) + data, 64, 64 + len(data))

    def take(self) -> list[str]:
        log, self.log = self.log, []
        return log


class Carried:
    """A link between a port and a socket, and the gateway behind the socket."""

    def __init__(self) -> None:
        self.both = connected(LEASE)
        near, self.far = socket.socketpair()
        self.far.setblocking(False)
        self.sock = Reluctant(fileno=near.detach())
        self.sock.setblocking(False)
        self.over: list[Ending] = []
        owner = SimpleNamespace(link_over=self._over, link_event=lambda *_: None)
        sessions = SimpleNamespace(stream=lambda now, usb: self.both.client)
        there = TransportEndpoint("usb", "127.0.0.1", 1)
        self.link = Still(cast(LinkOwner, owner), self.sock, there, cast(Any, sessions))
        watches = Watches()
        watches.masks[self.sock.fileno()] = READ
        self.link.poller = cast(Any, watches)
        self.port = Echo()

    def _over(self, link: LinkDriver, ending: Ending) -> None:
        self.over.append(ending)

    def hear(self, *packets: bytes) -> None:
        """They come from the gateway, all at once."""
        writer = self.both.gateway.writer
        for each in packets:
            writer.send_packet(bytearray(64) + each, 64, 64 + len(each))
        writer.flush()
        output = bytes(writer.output())
        writer.consumed(len(output))
        self.far.sendall(output)
        self.link.ready(select.EPOLLIN, 0.0)

    def arrived(self) -> list[bytes]:
        """At the gateway, so far."""
        while True:
            try:
                data = self.far.recv(1 << 20)
            except BlockingIOError:
                data = b""
            if not data:
                return self.both.at_gateway
            feed(self.both.gateway, data)


@pytest.fixture
async def carried() -> AsyncIterator[Carried]:
    made = Carried()
    yield made
    made.sock.close()
    made.far.close()


async def test_what_a_port_answers_leaves_with_the_receive(carried: Carried) -> None:
    carried.link.attach(carried.port, LEASE)
    packets = [packet(number) for number in range(3)]
    carried.hear(*packets)
    assert carried.port.take() == ["attach 1500", "packet", "packet", "packet", "done"]
    assert carried.arrived() == packets


async def test_what_a_port_has_to_say_leaves_when_it_pushes(carried: Carried) -> None:
    carried.link.attach(carried.port, LEASE)
    carried.port.send(packet(1))
    assert carried.arrived() == []
    carried.link.push()
    assert carried.arrived() == [packet(1)]
    assert carried.link.sent_packets_bytes == 1400


async def test_a_port_that_waits_is_told_of_room_once(carried: Carried) -> None:
    carried.link.attach(carried.port, LEASE)
    carried.port.take()
    carried.sock.left = 0
    sent = 0
    while carried.link.writer.room() > 0:
        carried.port.send(packet(sent))
        sent += 1
    carried.link.push()
    carried.link.wait_for_room()
    carried.link.push()
    assert carried.port.take() == []
    carried.sock.left = 1 << 30
    carried.link.ready(select.EPOLLOUT, 0.0)
    carried.link.push()
    assert carried.port.take() == ["room"]
    assert carried.arrived() == [packet(number) for number in range(sent)]


async def test_a_port_goes_from_link_to_link(carried: Carried) -> None:
    carried.link.attach(carried.port, LEASE)
    # Other terms: the same port is attached once more.
    carried.link.attach(carried.port, replace(LEASE, mtu=1400))
    assert carried.port.take() == ["attach 1500", "attach 1400"]
    carried.link.detach()
    carried.link.detach()
    assert carried.port.take() == ["detach"]
    carried.hear(packet(1), packet(2))
    assert carried.port.take() == []
    assert carried.link.counters["outlet__not_ready__dropped"] == 2
    other = Echo()
    carried.link.attach(carried.port, LEASE)
    carried.link.attach(other, LEASE)
    assert carried.port.take() == ["attach 1500", "detach"]
    carried.hear(packet(3))
    assert other.take() == ["attach 1500", "packet", "done"]


async def test_a_port_that_cannot_go_on_ends_the_link(carried: Carried) -> None:
    carried.link.attach(carried.port, LEASE)
    carried.port.take()
    carried.port.send(packet(1))
    carried.link.end(ENDING)
    assert carried.over == [ENDING]
    assert carried.port.take() == ["detach"]
    assert carried.arrived() == [packet(1)], "what it had said is not lost"
    carried.link.attach(carried.port, LEASE)
    assert carried.port.take() == []
