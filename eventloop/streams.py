"""A stream socket of the kernel's that is watched on the poller's fast lane.

Adds as little as can be: `recv_into` and `send` are the socket's own bound methods.
"""

from __future__ import annotations

import fcntl
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from eventloop.link_sockets import reset_on_close
from eventloop.poller import Poller

PROBES = 5
"""Keep-alive probes in a row without an answer, after which a host is taken for dead."""
PROBE_INTERVAL = 75
"""Seconds between them at most; a quarter of the silence before the first if that is less."""

# Numbers of the Linux ABI that Python's socket module lacks.
SIOCATMARK = 0x8905
SIOCINQ = 0x541B

_BYTE_ORDER = sys.byteorder
_PEEKED = bytearray(65536)
"""Where to what is looked at and left where it is: as far as an urgent pointer reaches."""


def _ask(sock: socket.socket, request: int) -> int:
    """An int that the kernel says of a socket by an ioctl; 0 if it says nothing."""
    try:
        answer = fcntl.ioctl(sock.fileno(), request, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(answer, _BYTE_ORDER, signed=True)


class PolledStream:
    """A connected, or connecting, stream socket: TCP's or another's, non-blocking."""

    __slots__ = ("_poller", "_sock", "device", "recv_into", "send")

    def __init__(self, sock: socket.socket, poller: Poller, device: str | None = None) -> None:
        """`sock` is ours to close; `device` is the interface that it is tied to."""
        self._sock = sock
        self._poller = poller
        self.device = device
        self.recv_into: Callable[..., int] = sock.recv_into
        self.send: Callable[..., int] = sock.send

    def urgent_ahead(self) -> int | None:
        """How many bytes come before the urgent one, or None while that is not known."""
        sock = self._sock
        if _ask(sock, SIOCATMARK):
            return 0
        # A read ends before the urgent byte, so it is there if less can be seen than there is.
        queued = min(_ask(sock, SIOCINQ), len(_PEEKED))
        try:
            seen = sock.recv_into(_PEEKED, queued, socket.MSG_PEEK) if queued else 0
        except OSError:
            return None
        return seen if seen < queued else None

    def send_urgent(self, data: Any, /) -> int:
        """Send one byte, as urgent data."""
        return self._sock.send(data, socket.MSG_OOB)

    def connect_error(self) -> int:
        """The error that is pending: 0, or an errno."""
        return self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def keep_alive(self, idle: int) -> None:
        """Have the kernel probe the other end after `idle` seconds of silence, where it can."""
        sock = self._sock
        # The kernel probes at once if the silence has lasted that long, when it is told `idle`.
        with suppress(OSError):
            interval = max(1, min(idle // 4, PROBE_INTERVAL))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)

    def shutdown_write(self) -> None:
        """Send FIN after what was sent."""
        self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Let go of the socket: what was sent still goes out."""
        self._poller.forget(self._sock.fileno())
        self._sock.close()

    def abort(self) -> None:
        """Reset the connection, where it is one that can be, and let go of the socket."""
        with suppress(OSError):
            reset_on_close(self._sock)
        self.close()

    def local(self) -> tuple[bytes, int] | None:
        """The local address and port, of an IP socket."""
        sock = self._sock
        try:
            address = sock.getsockname()
            host = socket.inet_pton(sock.family, address[0].partition("%")[0])
        except (OSError, IndexError):
            return None
        return host, address[1]
