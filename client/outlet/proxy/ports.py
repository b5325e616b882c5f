"""What the proxy's protocols need of the tunnel: connections, datagrams and names."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

from client.outlet.proxy.outcome import Outcome


class Dialing(Protocol):
    """A connection, from the moment that it is asked for to its end."""

    @property
    def host(self) -> bytes:
        """The address that is tried, or was taken; empty before there is one."""

    @property
    def port(self) -> int: ...

    @property
    def local(self) -> tuple[bytes, int] | None:
        """Our own end in the tunnel."""

    @property
    def from_tunnel_bytes(self) -> int: ...

    @property
    def to_tunnel_bytes(self) -> int: ...

    @property
    def last_used(self) -> float:
        """Monotonic seconds; 0 before it is open."""

    on_over: Callable[[], None]
    """Called once when a connection that was opened is over."""

    @property
    def state(self) -> str:
        """`connecting`, `established` or `closing`."""

    @property
    def rtt(self) -> float | None:
        """Seconds, smoothed."""

    @property
    def retransmits(self) -> int | None: ...

    def cancel(self) -> None:
        """The program has gone before there was an outcome; the socket stays the caller's."""

    def abort(self) -> None:
        """End an opened connection with RST on either side."""


class Association(Protocol):
    """A UDP port in the tunnel, of either family."""

    def send(self, host: bytes, port: int, payload: bytes | memoryview) -> bool:
        """Send one datagram; False: it was dropped."""

    def close(self) -> None: ...


class Query(Protocol):
    """A name that is being looked up."""

    def cancel(self) -> None:
        """The answer is not wanted any more."""


class Dialer(Protocol):
    """The tunnel, of which leases come and go. All is called on the loop."""

    def available(self) -> bool:
        """Whether there is a lease, and a link now or within its grace."""

    def connect(
        self,
        sock: socket.socket,
        host: bytes | str,
        port: int,
        on_outcome: Callable[[Outcome, tuple[bytes, int] | None], None],
        early: bytes = b"",
    ) -> Dialing:
        """Connect to an address (4 or 16 bytes) or to a name, and join `sock` to it.

        `sock` is a connected, non-blocking stream socket. `on_outcome` is called
        once, later, unless cancelled; with OPENED it is told our own end in the
        tunnel, may write to `sock`, and when it returns `sock` is the dialer's, as
        the poller's handler too where it is watched:
        half-close, reset and close are carried over each way. With anything else
        it stays the caller's. `early` goes before what comes from `sock`.
        """

    def associate(
        self,
        on_datagram: Callable[[bytes, int, memoryview], None],
        on_error: Callable[[bytes, int, Outcome], None],
    ) -> Association | None:
        """A UDP port; None when there is none left. A payload is valid during the call alone."""

    def resolve(self, name: str, on_answer: Callable[[Outcome, list[bytes]], None]) -> Query:
        """All addresses of a name in the order to try them in; OPENED: there is one at least."""
