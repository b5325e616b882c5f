"""What the NAT needs from outside: sockets into the VPN, and a resolver.

The NAT is pure. It orders sockets through `Outward` and is told of their
readiness through `ReadyHandler.ready`; `gateway/sockets.py` does that with
the kernel's sockets, `tests/fakes/outward.py` in memory, `gateway/nat/dns.py`
offers the resolver as a stream of the same shape.

Readiness is edge-triggered and a hint: a handler keeps its own flags, acts,
and believes only what the call then returns. Calls that would block raise
`BlockingIOError`; every other failure is an `OSError` whose `errno` says why
(`gateway/nat/outcomes.py` maps it to what the client is told).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

READABLE = 0x001
"""There is something to receive, or the end of the stream. The bits are those of epoll."""
URGENT = 0x002
"""The far side has sent an urgent byte, which has not been received yet."""
WRITABLE = 0x004
"""There is room to send, or the connect has finished."""
FAILED = 0x008
"""An error is pending, on the socket or on its error queue."""
HUNG_UP = 0x010
"""Both directions are shut."""
PEER_CLOSED = 0x2000
"""The far side has sent its FIN: a short read does not mean that there is no more."""

ORIGIN_LOCAL = 1
ORIGIN_ICMP = 2
ORIGIN_ICMP6 = 3

Address = Any
"""A destination as the socket layer wants it; hashable; made by `address`, good to cache."""


class ReadyHandler(Protocol):
    """What the NAT gives with every socket it orders: the flow itself."""

    def ready(self, mask: int, now: float) -> None:
        """The bits above, since the last call. Must not raise."""


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


class StreamSocket(Protocol):
    """A TCP connection toward the Internet host, non-blocking."""

    def recv_into(self, buffer: Any, nbytes: int = 0, /) -> int:
        """Fill `buffer`; 0 is the end of the stream."""

    def send(self, data: Any, /) -> int:
        """Take as much of `data` as there is room for."""

    def urgent_ahead(self) -> int | None:
        """How many bytes are to be received before the urgent one, after URGENT was told.

        None while that is not known, as they have not all come or are very many. A read ends
        before the urgent byte, and so may be shorter than what there is.
        """

    def send_urgent(self, data: Any, /) -> int:
        """Take one byte, as urgent data."""

    def connect_error(self) -> int:
        """The outcome of the connect once the socket is writable: 0, or an errno."""

    def keep_alive(self, idle: int) -> None:
        """Probe the host after `idle` seconds of silence: ETIMEDOUT if it does not answer."""

    def shutdown_write(self) -> None:
        """Send FIN after what was sent."""

    def close(self) -> None:
        """Let go of the socket: what was sent still goes out. The handler hears no more."""

    def abort(self) -> None:
        """Reset the connection (RST) and let go of the socket."""

    def local(self) -> tuple[bytes, int] | None:
        """The local address and port it leaves by, when known."""

    @property
    def device(self) -> str | None:
        """The interface that it is tied to."""


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
