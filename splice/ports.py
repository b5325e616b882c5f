"""What a splice needs from outside: a stream of bytes that tells when it is ready.

Readiness is edge-triggered and a hint: a handler keeps its own flags, acts,
and believes only what the call then returns. Calls that would block raise
`BlockingIOError`; every other failure is an `OSError` whose `errno` says why
(`splice/outcomes.py` maps it to what the tunnel's side is told).
"""

from __future__ import annotations

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


class ReadyHandler(Protocol):
    """What is told of a socket's readiness: the flow itself."""

    def ready(self, mask: int, now: float) -> None:
        """The bits above, since the last call. Must not raise."""


class StreamSocket(Protocol):
    """A stream of bytes to the far side, non-blocking: a TCP connection of the kernel's, say."""

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
