"""A link over a byte stream: TCP on the LAN, or a stream that a cable brings."""

from __future__ import annotations

import select
import socket
from ipaddress import ip_address

from eventloop.link_sockets import READ, READ_WRITE, TROUBLE, tune_stream
from eventloop.poller import Poller
from gateway.link import PUMP_TURNS, LinkOwner, SessionLink
from sealing.errors import ProtocolError
from vshp.config import Carrier
from vshp.session import GatewaySession

READ_BUDGET = 256 * 1024
"""Bytes taken from one link before the others get their turn."""


class StreamLink(SessionLink):
    """Drives one session over one stream socket, on the gateway's poller."""

    __slots__ = ("_poller", "_sock", "_writing")

    reliable = True
    offload = True
    session: GatewaySession

    def __init__(
        self,
        owner: LinkOwner,
        poller: Poller,
        sock: socket.socket,
        address: tuple[str, int],
        session: GatewaySession,
        now: float,
    ) -> None:
        super().__init__(owner, session, address[0], address[1], session.transport, now)
        self._poller = poller
        self._sock = sock
        self._writing = False
        tune_stream(sock)
        poller.watch(sock.fileno(), self, READ)

    @property
    def via(self) -> str:
        """How the client is reached, for people: the transport, or `usb`.

        A cable's stream comes out inside this device, so the word of a client that came from
        anywhere else is not taken.
        """
        inside = ip_address(self.host).is_loopback
        return "usb" if inside and self.carrier is Carrier.USB else self.transport

    @property
    def local(self) -> str:
        try:
            name: str = self._sock.getsockname()[0]
        except OSError:
            return ""
        return name.partition("%")[0]

    def ready(self, mask: int, now: float) -> None:
        """The poller's call: bytes to receive, room to send, or the end."""
        self._now = now
        if not self.stirred:
            self._stir()
        if mask & (READ | TROUBLE):
            self._receive(now)
        if not self.closed and mask & select.EPOLLOUT:
            self.pump(now)

    def _receive(self, now: float) -> None:
        session = self.session
        receive = self._sock.recv_into
        budget = READ_BUDGET
        broken: str | None = None
        while budget > 0:
            buffer = session.receive_buffer()
            try:
                n = receive(buffer)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                broken = "link__reset"
                break
            if n == 0:
                broken = "link__end_of_stream"
                break
            budget -= n
            try:
                session.received(n, now)
            except ProtocolError as error:
                broken = f"session__{error.reason}"
                break
            if self.closed:
                return
            if session.closed:
                broken = "session__closed"
                break
            self._events(now)
            if self.closed:
                return
            if n < len(buffer):
                break
        if self.peer is not None:
            self.peer.end_batch(now)
        if broken is None:
            # One that is marked is pumped after the batch.
            if not self.marked and session.writer.waiting:
                self.pump(now)
            return
        self._events(now)
        if not self.closed:
            self._last_words()
            self._drop(broken, now)

    def pump(self, now: float) -> None:
        if self.closed:
            return
        if not self.stirred:
            self._stir()
        writer = self.session.writer
        peer = self.peer
        send = self._sock.send
        for _ in range(PUMP_TURNS):
            more = peer.pull(now) if peer is not None else False
            writer.flush()
            output = writer.output()
            size = len(output)
            if not size:
                break
            try:
                n = send(output)
            except (BlockingIOError, InterruptedError):
                self._want_write(True)
                return
            except OSError:
                self._drop("link__reset", now)
                return
            finally:
                del output
            writer.consumed(n)
            if n < size:
                self._want_write(True)
                return
            if not more:
                break
        else:
            self._owner.link_again(self)
        if self._writing:
            self._want_write(False)

    def _want_write(self, wanted: bool) -> None:
        if self._writing is not wanted:
            self._writing = wanted
            self._poller.change(self._sock.fileno(), READ_WRITE if wanted else READ)

    def _last_words(self) -> None:
        writer = self.session.writer
        writer.flush()
        output = writer.output()
        if output:
            try:
                self._sock.send(output)
            except OSError:
                pass

    def _let_go(self) -> None:
        self._poller.unwatch(self._sock.fileno())
        self._sock.close()
