"""A local socket of which the first bytes were read already.

They are received first, and with them what is in the socket, as a short read says to the splice
that it is empty.
"""

from __future__ import annotations

import socket
from typing import Any

from eventloop.poller import Poller
from eventloop.streams import PolledStream


class EarlyStream(PolledStream):
    """A local socket of which the first bytes were read already."""

    __slots__ = ("_early", "_receive")

    def __init__(self, sock: socket.socket, poller: Poller, early: bytes) -> None:
        super().__init__(sock, poller)
        self._early = early
        self._receive = sock.recv_into
        self.recv_into = self._recv_early

    def _recv_early(self, buffer: Any, nbytes: int = 0, flags: int = 0, /) -> int:
        """First those; and what is in the socket, as a short read says that it is empty."""
        early = self._early
        if not early:
            return self._receive(buffer, nbytes)
        view = memoryview(buffer)
        limit = nbytes or len(view)
        n = min(limit, len(early))
        view[:n] = early[:n]
        self._early = early[n:]
        if n == limit:
            return n
        try:
            return n + self._receive(view[n:], limit - n)
        except OSError:
            # None, or an error, which stays with the socket and is told by the poller.
            return n
