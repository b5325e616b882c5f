"""What the NAT needs from outside: sockets into the VPN, and a resolver.

The NAT is pure. It orders sockets through `Outward` and is told of their
readiness through `ReadyHandler.ready`; `gateway/sockets.py` does that with
the kernel's sockets, `tests/fakes/outward.py` in memory, `gateway/nat/dns.py`
offers the resolver as a stream of the same shape. `splice/ports.py` has the
stream, and what holds for readiness and errors of all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from splice.ports import ReadyHandler, StreamSocket

ORIGIN_LOCAL = 1
ORIGIN_ICMP = 2
ORIGIN_ICMP6 = 3

Address = Any
"""A destination as the socket layer wants it; hashable; made by `address`, good to cache."""


@dataclass(frozen=True, slots=True)
class NetworkError:
    """An entry of a socket's error queue: an ICMP error, or the kernel's own EMSGSIZE."""

    errno: int
    origin: int
    type: int
    code: int
    info: int
    """The path MTU where the error is about size, else 0."""
    offender: bytes | None
    """The address of the router or host that sent the ICMP error."""
    host: bytes
    """Where the datagram in question was sent to; likewise the port (0 for echo)."""
    port: int
    payload: bytes
    """What is left of it: the UDP payload, or the ICMP message, perhaps cut short."""


class DatagramSocket(Protocol):
    """An unconnected UDP socket: one local port, any remote."""

    def address(self, host: bytes, port: int) -> Address: ...

    def host(self, address: Address) -> tuple[bytes, int]: ...

    def send(self, data: Any, address: Address) -> None:
        """Send one datagram with the system's own TTL."""

    def send_segments(self, data: Any, size: int, address: Address) -> None:
        """Send `data` as datagrams of `size` bytes, the last one shorter (UDP GSO).

        Raises OSError (EIO, EINVAL, EMSGSIZE, EOPNOTSUPP) when the system
        cannot: then nothing was sent, and the caller sends them one by one.
        """

    def send_with_ttl(self, data: Any, address: Address, ttl: int) -> None: ...

    def set_fragmentation(self, allowed: bool) -> None:
        """Whether what exceeds the path MTU is fragmented; else `send` raises EMSGSIZE."""

    def recv_into(self, buffer: Any) -> tuple[int, int, Address]:
        """(bytes, segment size, from): `segment size` > 0 when several were joined (UDP GRO)."""

    def recv_error(self) -> NetworkError | None:
        """The next entry of the error queue, or None."""

    def close(self) -> None: ...

    def local(self) -> tuple[bytes, int] | None: ...

    @property
    def device(self) -> str | None: ...


class EchoSocket(Protocol):
    """A ping socket: sends ICMP echo requests, receives the replies to them."""

    def address(self, host: bytes) -> Address: ...

    def send(self, message: Any, address: Address, ttl: int) -> None:
        """Send an ICMP echo request; the system fills in identifier and checksum."""

    def set_fragmentation(self, allowed: bool) -> None: ...

    def recv_into(self, buffer: Any) -> tuple[int, bytes, int]:
        """(bytes of the ICMP message, from, TTL it arrived with)."""

    def recv_error(self) -> NetworkError | None: ...

    def close(self) -> None: ...

    def local(self) -> tuple[bytes, int] | None: ...

    @property
    def device(self) -> str | None: ...


class Outward(Protocol):
    """Opens sockets into the VPN. Each call may raise OSError: then nothing was opened."""

    def connect(self, version: int, host: bytes, port: int, handler: ReadyHandler) -> StreamSocket:
        """Begin a TCP connection; `handler` hears WRITABLE (or FAILED) when it has ended."""

    def open_datagram(self, version: int, handler: ReadyHandler) -> DatagramSocket: ...

    def open_echo(self, version: int, handler: ReadyHandler) -> EchoSocket: ...


class DnsPort(Protocol):
    """The resolver behind the lease's gateway addresses."""

    def query(
        self, wire: bytes, over_tcp: bool, client: str, reply: Callable[[bytes], None]
    ) -> None:
        """Answer a DNS message by calling `reply` once, now or later, or never.

        `client` is the peer's id, for limits. `reply` may be called when the
        client has gone: it then does nothing.
        """
