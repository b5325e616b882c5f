"""Servers outside the VPN, on loopback: STUN, and a name's own server that says who has asked.

`Outside` is a `services.check.asking.Way` to them: an address of a server, whatever it is, leads to
a double. What a double says is the test's.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address

from services.check.asking import Line, Unanswered
from services.check.verdict import Address
from tests.fakes import stun
from tests.netstack import wires

Answer = Callable[[bytes], list[bytes]]
"""The datagrams that answer one."""


def sees(address: str, port: int = 40_000) -> Answer:
    """A STUN server that sees packets come from there."""
    return lambda request: [stun.success(request[8:20], address, port)]


def silent(request: bytes) -> list[bytes]:
    return []


def type_of(question: bytes) -> int:
    return int.from_bytes(question[wires.question_end(question) - 4 :][:2], "big")


def asked_by(*addresses: str, kind: int = wires.TXT) -> Answer:
    """A name's own server that was asked from there, and says it in that type of record."""

    def answer(question: bytes) -> list[bytes]:
        if type_of(question) != kind:
            return [wires.reply(question, authority=[wires.soa()])]
        packed = [
            bytes((len(text),)) + text.encode() if kind == wires.TXT else ip_address(text).packed
            for text in addresses
        ]
        return [wires.reply(question, [wires.record(kind, data) for data in packed])]

    return answer


class _Double(asyncio.DatagramProtocol):
    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.heard: list[bytes] = []
        self.transport: asyncio.DatagramTransport | None = None

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.heard.append(data)
        assert self.transport is not None
        for datagram in self.answer(data):
            self.transport.sendto(datagram, addr)


class Outside:
    """See `Way`."""

    def __init__(self) -> None:
        self.names: dict[str, Sequence[str]] = {}
        """Addresses by name."""
        self.asks: dict[str, Sequence[Address] | str] = {}
        """By whoami name who asks names, or the problem."""
        self.connects = True
        """Whether sockets are connected, or who has sent something is looked at."""
        self.opened: list[tuple[str, int]] = []
        self._doubles: dict[tuple[str, int], _Double] = {}

    async def put(self, host: str, port: int, answer: Answer) -> list[bytes]:
        """A double at an address; the list of what it hears."""
        double = _Double(answer)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: double, local_addr=("127.0.0.1", 0)
        )
        double.transport = transport
        self._doubles[host, port] = double
        return double.heard

    def open(self, host: str, port: int) -> Line:
        """See `Way`. Nobody's address is unreachable."""
        self.opened.append((host, port))
        double = self._doubles.get((host, port))
        if double is None or double.transport is None:
            raise OSError(101, "Network is unreachable")
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        remote = double.transport.get_extra_info("sockname")
        if self.connects:
            sock.connect(remote)
        return Line(sock, remote, self.connects)

    async def addresses(self, name: str) -> Sequence[str]:
        """See `Way`."""
        if name not in self.names:
            raise Unanswered("unnamed")
        return self.names[name]

    async def seen_by(self, name: str) -> Sequence[Address]:
        """See `Way`."""
        said = self.asks.get(name, "silent")
        if isinstance(said, str):
            raise Unanswered(said)
        return said

    def close(self) -> None:
        for double in self._doubles.values():
            if double.transport is not None:
                double.transport.close()


@asynccontextmanager
async def outside() -> AsyncIterator[Outside]:
    way = Outside()
    try:
        yield way
    finally:
        way.close()
