"""Datagram sockets that are tied to the NIC (see `client.outlet.passage`)."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Collection

from client.outlet.passage import ELSEWHERE, address_family

_ANY_PORT = 9
"""Discard (RFC 863): nothing is sent there."""


class NicPassage:
    """See `Passage`."""

    def __init__(self, interface: str, held: Collection[str]) -> None:
        """`held`: the addresses that this host has in the tunnel."""
        self._interface = interface.encode()
        self._held = held

    def open(self, host: str, port: int) -> socket.socket:
        """See `Passage`. A socket that is tied to a device stays silent when that is gone."""
        sock = socket.socket(address_family(host), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._interface)
            sock.connect((host, port))
        except OSError:
            sock.close()
            raise
        return sock

    def beside(self, family: int) -> str:
        """See `Passage`. Connecting a datagram socket looks the route up, and no more."""
        host = ELSEWHERE[family]
        with (
            contextlib.suppress(OSError),
            socket.socket(address_family(host), socket.SOCK_DGRAM) as sock,
        ):
            sock.connect((host, _ANY_PORT))
            source = str(sock.getsockname()[0])
            return "" if source in self._held else source
        return ""

    def close(self) -> None:
        """There is nothing."""
