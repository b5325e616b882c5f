"""A link over a byte stream: TCP on the network, or a stream that a cable brings."""

from __future__ import annotations

import select
import socket
from time import monotonic

from client.driver import LinkOwner, SessionMaker
from client.link import Link
from client.model import TransportEndpoint
from client.reconnect import Ending
from eventloop.link_sockets import (
    READ,
    READ_WRITE,
    TROUBLE,
    is_local,
    reset_on_close,
    tune_stream,
)
from sealing.errors import AuthFailed, ProtocolError
from vshp.session import ClientSession

NETWORK_BUDGET = 512 * 1024
"""Bytes received before other sockets get their turn."""

_SILENT = frozenset({"link_dead", "link_lost"})
"""Endings of which the gateway may know nothing."""


class StreamLink(Link):
    """Drives one client session over one connected stream socket."""

    __slots__ = ("_sock", "_writing")

    session: ClientSession

    def __init__(
        self,
        owner: LinkOwner,
        sock: socket.socket,
        endpoint: TransportEndpoint,
        sessions: SessionMaker,
    ) -> None:
        """`sock` is connected and ours from now on."""
        tune_stream(sock)
        name = sock.getsockname()
        local = name[0] if isinstance(name, tuple) else ""
        super().__init__(
            owner, endpoint, sessions.stream(monotonic(), endpoint.transport == "usb"), local
        )
        self._sock = sock
        self._writing = False
        self.poller.watch(sock.fileno(), self, READ)

    def follow(self) -> bool:
        """A stream is bound to its addresses: it cannot move."""
        return is_local(self.local_address)

    def ready(self, mask: int, now: float) -> None:
        """See `Link`."""
        if mask & (READ | TROUBLE):
            self._receive(now)
        if mask & select.EPOLLOUT:
            self._send()

    def _receive(self, now: float) -> None:
        """The socket is readable: records, or the end."""
        session = self.session
        recv_into = self._sock.recv_into
        budget = NETWORK_BUDGET
        ending: Ending | None = None
        while budget > 0:
            buffer = session.receive_buffer()
            try:
                n = recv_into(buffer)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                ending = Ending("link_lost", error.strerror or "", authenticated=False)
                break
            if n == 0:
                ending = Ending("link_lost", authenticated=False)
                break
            try:
                session.received(n, now)
            except ProtocolError as error:
                ending = Ending(error.reason, error.detail, not isinstance(error, AuthFailed))
                break
            if n < len(buffer):
                break
            budget -= n
        if self._done is not None:
            self._done()
        self._settle(ending)

    def _send(self) -> None:
        if self._closed:
            return
        writer = self.session.writer
        if writer.waiting:
            writer.flush()
            while True:
                output = writer.output()
                size = len(output)
                if not size:
                    break
                try:
                    n = self._sock.send(output)
                except (BlockingIOError, InterruptedError):
                    self._want_write(True)
                    if self._port_waits:
                        self._tell_of_room()
                    return
                except OSError as error:
                    self._over(Ending("link_lost", error.strerror or "", authenticated=False))
                    return
                writer.consumed(n)
                if n == size:
                    break
        # Nothing is queued, so there is room.
        if self._writing:
            self._want_write(False)
        if self._port_waits:
            self._tell_of_room()

    def _want_write(self, wanted: bool) -> None:
        if self._writing is not wanted:
            self._writing = wanted
            self.poller.change(self._sock.fileno(), READ_WRITE if wanted else READ)

    def _last_words(self) -> None:
        writer = self.session.writer
        writer.flush()
        output = writer.output()
        if output:
            try:
                self._sock.send(output)
            except OSError:
                pass

    def _over(self, ending: Ending) -> None:
        if ending.reason in _SILENT:
            # What the kernel still has would come to the gateway long after we went on elsewhere.
            reset_on_close(self._sock)
        super()._over(ending)

    def _let_go(self) -> None:
        self.poller.unwatch(self._sock.fileno())
        self._sock.close()
