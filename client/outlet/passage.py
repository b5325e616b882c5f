"""Datagrams of this process's own that go into the tunnel, and nowhere else.

What a user of an outlet sends by it goes the way that programs' packets go; a `Passage` is the same
for a question that the service itself asks.
"""

from __future__ import annotations

import socket
from typing import Protocol

ELSEWHERE = {4: "192.0.2.1", 6: "2001:db8::1"}
"""Addresses that are nobody's (RFC 5737, RFC 3849): where would they be sent?"""


class Passage(Protocol):
    """A way into the tunnel. To be closed."""

    def open(self, host: str, port: int) -> socket.socket:
        """A connected, non-blocking datagram socket to an address; what it sends leaves by the
        tunnel or not at all. Raises OSError."""

    def beside(self, family: int) -> str:
        """The address from which the system sends what programs that use this outlet send to
        hosts of a family (4 or 6), where that goes beside the tunnel; empty where it goes into
        it, or nowhere. Nothing is sent to find out."""

    def close(self) -> None:
        """Let go of what it has, but for sockets that were opened. Safe to call twice."""


def address_family(host: str) -> socket.AddressFamily:
    """AF_INET or AF_INET6, by a numeric address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET
