"""Datagram sockets that were opened in the network of its own (see `client.outlet.passage`)."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable

from client.outlet.passage import address_family


class NamespacePassage:
    """See `Passage`. A socket belongs to the network that it was opened in, whoever has it."""

    def __init__(self, sockets: Iterable[socket.socket]) -> None:
        """`sockets`: of both families, not connected; each is given out once."""
        self._sockets = list(sockets)

    def open(self, host: str, port: int) -> socket.socket:
        """See `Passage`. Raises OSError EMFILE when all have been given out."""
        family = address_family(host)
        sock = next((each for each in self._sockets if each.family == family), None)
        if sock is None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self._sockets.remove(sock)
        try:
            sock.setblocking(False)
            sock.connect((host, port))
        except OSError:
            sock.close()
            raise
        return sock

    def beside(self, family: int) -> str:
        """See `Passage`: there is no other way out of there."""
        return ""

    def close(self) -> None:
        """See `Passage`."""
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()
