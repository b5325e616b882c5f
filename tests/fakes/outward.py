"""A network in memory for the NAT: sockets that do as a test tells them.

`FakeOutward` implements `gateway.nat.ports.Outward`. Each socket it opens is
kept in a list, with what the NAT has sent through it; a test plays the network
by calling the methods under "the network's side".
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.nat.ports import NetworkError
from splice.ports import FAILED, PEER_CLOSED, READABLE, URGENT, WRITABLE, ReadyHandler


def failure(number: int) -> OSError:
    """The OSError of an errno, of the subclass that Python would raise."""
    return OSError(number, os.strerror(number))


class FakeStream:
    """A TCP socket: `capacity` bytes are taken until the test drains them."""

    device: str | None = "tun0"

    def __init__(self, host: bytes, port: int, handler: ReadyHandler) -> None:
        self.host = host
        self.port = port
        self.handler = handler
        self.sent = bytearray()
        self.capacity = 1 << 30
        self.kept: list[int] = []
        """Seconds of silence after which the NAT has asked for probes."""
        self.finished = False
        """The NAT has shut its sending side."""
        self.closed = ""
        """How the NAT has let go: `close` or `abort`."""
        self.urgent: list[int] = []
        """How many bytes of `sent` there were with each urgent one."""
        self._incoming = bytearray()
        self._mark = -1
        self._eof = False
        self._error = 0
        self.reads = 0

    # The NAT's side.

    def recv_into(self, buffer: Any, nbytes: int = 0, /) -> int:
        assert not self.closed
        self.reads += 1
        if self._error:
            number, self._error = self._error, 0
            raise failure(number)
        size = min(len(self._incoming), nbytes or len(buffer))
        if not size:
            if self._eof:
                return 0
            raise BlockingIOError
        if self._mark > 0:
            size = min(size, self._mark)
        buffer[:size] = self._incoming[:size]
        del self._incoming[:size]
        self._mark = max(-1, self._mark - size)
        return size

    def urgent_ahead(self) -> int | None:
        assert not self.closed
        return self._mark if self._mark >= 0 else None

    def send_urgent(self, data: Any, /) -> int:
        assert len(data) == 1
        taken = self.send(data)
        self.urgent.append(len(self.sent))
        return taken

    def send(self, data: Any, /) -> int:
        assert not self.closed
        if self._error:
            number, self._error = self._error, 0
            raise failure(number)
        if self.finished:
            raise failure(errno.EPIPE)
        size = min(len(data), self.capacity - len(self.sent))
        if not size and len(data):
            raise BlockingIOError
        self.sent += data[:size]
        return size

    def connect_error(self) -> int:
        number, self._error = self._error, 0
        return number

    def keep_alive(self, idle: int) -> None:
        assert not self.closed
        self.kept.append(idle)

    def shutdown_write(self) -> None:
        self.finished = True

    def close(self) -> None:
        self.closed = self.closed or "close"

    def abort(self) -> None:
        self.closed = self.closed or "abort"

    def local(self) -> tuple[bytes, int] | None:
        return (bytes(4), 40000)

    # The network's side.

    def connected(self, now: float = 0.0) -> None:
        self.handler.ready(WRITABLE, now)

    def refuse(self, number: int = errno.ECONNREFUSED, now: float = 0.0) -> None:
        """The connect fails, or the connection breaks."""
        self._error = number
        self.handler.ready(FAILED | READABLE | WRITABLE | PEER_CLOSED, now)

    def receive(self, data: bytes, now: float = 0.0) -> None:
        self._incoming += data
        self.handler.ready(READABLE | WRITABLE, now)

    def receive_urgent(self, data: bytes, now: float = 0.0) -> None:
        """Bytes arrive of which the last one is urgent."""
        self._incoming += data
        self._mark = len(self._incoming) - 1
        self.handler.ready(READABLE | WRITABLE | URGENT, now)

    def finish(self, now: float = 0.0) -> None:
        self._eof = True
        self.handler.ready(READABLE | WRITABLE | PEER_CLOSED, now)

    def drain(self, capacity: int, now: float = 0.0) -> None:
        """Room for `capacity` bytes in all."""
        self.capacity = capacity
        self.handler.ready(WRITABLE, now)


@dataclass
class Sent:
    """A call of a datagram socket."""

    data: bytes
    host: bytes
    port: int
    size: int = 0
    ttl: int = 0


class _Datagrams:
    """What both kinds of datagram sockets share."""

    device: str | None = "tun0"

    def __init__(self, handler: ReadyHandler) -> None:
        self.handler = handler
        self.sent: list[Sent] = []
        self.closed = False
        self.fragmentation: bool | None = None
        self.failures: deque[int] = deque()
        """Errnos that the next sends fail with, one each."""
        self.errors: deque[NetworkError] = deque()

    def _fail(self) -> None:
        assert not self.closed
        if self.failures:
            number = self.failures.popleft()
            if number:
                raise failure(number)

    def set_fragmentation(self, allowed: bool) -> None:
        self.fragmentation = allowed

    def recv_error(self) -> NetworkError | None:
        return self.errors.popleft() if self.errors else None

    def close(self) -> None:
        self.closed = True

    def local(self) -> tuple[bytes, int] | None:
        return (bytes(4), 40000)

    def report(self, error: NetworkError, now: float = 0.0) -> None:
        """An ICMP error arrives."""
        self.errors.append(error)
        self.handler.ready(FAILED, now)


class FakeDatagrams(_Datagrams):
    """A UDP socket. Addresses are (host, port)."""

    def __init__(self, handler: ReadyHandler) -> None:
        super().__init__(handler)
        self.segmentation = True
        self._incoming: deque[tuple[bytes, int, tuple[bytes, int]]] = deque()

    def address(self, host: bytes, port: int) -> Any:
        return (host, port)

    def host(self, address: Any) -> tuple[bytes, int]:
        return address[0], address[1]

    def send(self, data: Any, address: Any) -> None:
        self._fail()
        self.sent.append(Sent(bytes(data), address[0], address[1]))

    def send_segments(self, data: Any, size: int, address: Any) -> None:
        if not self.segmentation:
            raise failure(errno.EIO)
        self.sent.append(Sent(bytes(data), address[0], address[1], size=size))

    def send_with_ttl(self, data: Any, address: Any, ttl: int) -> None:
        self._fail()
        self.sent.append(Sent(bytes(data), address[0], address[1], ttl=ttl))

    def recv_into(self, buffer: Any) -> tuple[int, int, Any]:
        if not self._incoming:
            raise BlockingIOError
        data, size, address = self._incoming.popleft()
        buffer[: len(data)] = data
        return len(data), size, address

    def receive(self, data: bytes, host: bytes, port: int, size: int = 0, now: float = 0.0) -> None:
        """A datagram arrives, or several of `size` bytes joined."""
        self._incoming.append((data, size, (host, port)))
        self.handler.ready(READABLE | WRITABLE, now)


class FakeEcho(_Datagrams):
    """A ping socket, which the "system" gave the identifier 0x5a5a."""

    def __init__(self, handler: ReadyHandler) -> None:
        super().__init__(handler)
        self._incoming: deque[tuple[bytes, bytes, int]] = deque()

    def address(self, host: bytes) -> Any:
        return host

    def send(self, message: Any, address: Any, ttl: int) -> None:
        self._fail()
        self.sent.append(Sent(bytes(message), address, 0, ttl=ttl))

    def recv_into(self, buffer: Any) -> tuple[int, bytes, int]:
        if not self._incoming:
            raise BlockingIOError
        data, host, ttl = self._incoming.popleft()
        buffer[: len(data)] = data
        return len(data), host, ttl

    def reply(self, index: int = -1, ttl: int = 57, now: float = 0.0) -> None:
        """The host answers the request sent as number `index`."""
        request = self.sent[index]
        kind = 0 if request.data[0] == 8 else 129
        message = bytes((kind, 0, 0, 0)) + b"\x5a\x5a" + request.data[6:]
        self._incoming.append((message, request.host, ttl))
        self.handler.ready(READABLE, now)


@dataclass
class FakeOutward:
    """Opens fakes. `refusals` are errnos that the next openings fail with."""

    streams: list[FakeStream] = field(default_factory=list)
    datagrams: list[FakeDatagrams] = field(default_factory=list)
    echoes: list[FakeEcho] = field(default_factory=list)
    refusals: deque[int] = field(default_factory=deque)

    def _refuse(self) -> None:
        if self.refusals:
            raise failure(self.refusals.popleft())

    def connect(self, version: int, host: bytes, port: int, handler: ReadyHandler) -> FakeStream:
        self._refuse()
        self.streams.append(FakeStream(host, port, handler))
        return self.streams[-1]

    def open_datagram(self, version: int, handler: ReadyHandler) -> FakeDatagrams:
        self._refuse()
        self.datagrams.append(FakeDatagrams(handler))
        return self.datagrams[-1]

    def open_echo(self, version: int, handler: ReadyHandler) -> FakeEcho:
        self._refuse()
        self.echoes.append(FakeEcho(handler))
        return self.echoes[-1]

    def open_sockets(self) -> int:
        streams = sum(not one.closed for one in self.streams)
        datagrams = sum(not one.closed for one in self.datagrams)
        return streams + datagrams + sum(not one.closed for one in self.echoes)


@dataclass
class FakeDns:
    """A resolver that keeps its questions until the test answers them."""

    questions: list[tuple[bytes, bool, str, Callable[[bytes], None]]] = field(default_factory=list)

    def query(
        self, wire: bytes, over_tcp: bool, client: str, reply: Callable[[bytes], None]
    ) -> None:
        self.questions.append((wire, over_tcp, client, reply))


class PacketLog:
    """A `PacketOut` that keeps what is emitted: (offload header fields, packet)."""

    def __init__(
        self, offload: bool = False, offload_udp: bool = False, mtu: int = 1500, room: int = 1 << 30
    ) -> None:
        self.offload = offload
        self.offload_udp = offload_udp
        self.mtu = mtu
        self.buffer = bytearray()
        self.space = room
        self.packet_bytes = 0
        self._meta: list[tuple[int, int, int, tuple[int, int, int, int, int]]] = []

    @property
    def waiting(self) -> bool:
        return bool(self._meta)

    def room(self) -> int:
        return self.space - len(self.buffer)

    def reserve_packet(
        self,
        length: int,
        gso_type: int = 0,
        gso_size: int = 0,
        hdr_len: int = 0,
        csum_start: int = 0,
        csum_offset: int = 0,
    ) -> int:
        pieces = -(-(length - hdr_len) // gso_size) if gso_size else 1
        self.packet_bytes += length + (pieces - 1) * hdr_len
        at = len(self.buffer)
        self.buffer += bytes(length)
        fields = (gso_type, gso_size, hdr_len, csum_start, csum_offset)
        self._meta.append((at, at + length, 0, fields))
        return at

    def send_packet(
        self,
        buf: bytearray,
        start: int,
        end: int,
        gso_type: int = 0,
        gso_size: int = 0,
        hdr_len: int = 0,
        csum_start: int = 0,
        csum_offset: int = 0,
    ) -> None:
        buf[start - 64 : start] = b"\xee" * 64
        at = self.reserve_packet(end - start, gso_type, gso_size, hdr_len, csum_start, csum_offset)
        self.buffer[at : at + end - start] = buf[start:end]

    def take(self) -> list[tuple[tuple[int, int, int, int, int], bytes]]:
        """What was emitted since the last call."""
        found = [(fields, bytes(self.buffer[at:end])) for at, end, _, fields in self._meta]
        self._meta.clear()
        self.buffer = bytearray()
        return found

    def packets(self) -> list[bytes]:
        return [packet for _, packet in self.take()]
