"""Datagrams that the client's own stack carries (see `client.outlet.passage`)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Callable
from typing import Protocol

from client.outlet.proxy.outcome import Outcome

MAX_OPEN = 64
"""Sockets of one passage: each takes a port of the stack's."""
MAX_DATAGRAM = 4096


class Sender(Protocol):
    """A UDP port of the stack's: see `dialer.Association`."""

    def send(self, host: bytes, port: int, payload: bytes) -> bool: ...

    def close(self) -> None: ...


Associate = Callable[
    [Callable[[bytes, int, memoryview], None], Callable[[bytes, int, Outcome], None]],
    Sender | None,
]
"""See `dialer.Dialer.associate`."""


class ProxyPassage:
    """See `Passage`. Each socket is one end of a pair; what goes in at it comes out of the stack's
    port behind the other, until the passage is closed."""

    def __init__(self, associate: Associate) -> None:
        self._associate = associate
        self._bridges: list[_Bridge] = []

    def open(self, host: str, port: int) -> socket.socket:
        """See `Passage`. Raises OSError EMFILE at a bound of ours or of the stack's."""
        self._bridges = [each for each in self._bridges if each.carries]
        if len(self._bridges) >= MAX_OPEN:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        bridge = _Bridge(ipaddress.ip_address(host).packed, port)
        sender = self._associate(bridge.arrived, bridge.failed)
        if sender is None:
            bridge.theirs.close()
            bridge.ours.close()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        bridge.carry(sender)
        self._bridges.append(bridge)
        return bridge.theirs

    def beside(self, family: int) -> str:
        """See `Passage`: a program that uses the proxy has no other way out."""
        return ""

    def close(self) -> None:
        """See `Passage`. Sockets that are open stay, and carry nothing any more."""
        for bridge in self._bridges:
            bridge.close()
        self._bridges.clear()


class _Bridge:
    """A pair of sockets, and the port of the stack's that `ours` is joined to."""

    def __init__(self, host: bytes, port: int) -> None:
        # Messages as datagrams are, and the other end's closing is seen.
        kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, kind)
        self._host, self._port = host, port
        self._sender: Sender | None = None

    @property
    def carries(self) -> bool:
        return self._sender is not None

    def carry(self, sender: Sender) -> None:
        self._sender = sender
        asyncio.get_running_loop().add_reader(self.ours, self._readable)

    def close(self) -> None:
        if self._sender is not None:
            asyncio.get_running_loop().remove_reader(self.ours)
            self._sender.close()
            self._sender = None
            self.ours.close()

    def _readable(self) -> None:
        try:
            datagram = self.ours.recv(MAX_DATAGRAM)
        except BlockingIOError:
            return
        except OSError:
            datagram = b""
        if not datagram:  # The other end is closed: nobody waits for an answer any more.
            self.close()
        elif self._sender is not None:
            self._sender.send(self._host, self._port, datagram)

    def arrived(self, host: bytes, port: int, payload: memoryview) -> None:
        if (host, port) == (self._host, self._port) and self._sender is not None:
            # As a socket does: what its reader has no room for is lost.
            with contextlib.suppress(OSError):
                self.ours.send(payload)

    def failed(self, host: bytes, port: int, outcome: Outcome) -> None:
        """An ICMP error: the question stays without an answer."""
