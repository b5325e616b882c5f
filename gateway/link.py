"""A link: one accepted stream, its VSHP session, and the pump between session, NAT and socket.

Theory of operation. The link is the only driver of its session. Bytes that
arrive go `recv_into` the session's own buffer; the session calls `on_packet`
for each IP packet while it parses, and the batch is ended once, so that the
NAT acknowledges and sends once per batch. The other way the NAT never pushes:
when it has something, the gateway calls `pump`, which lets the NAT fill the
writer up to its short queue, seals, and sends until the socket is full. What
does not fit stays in the sockets it would have been read from.

A link that breaks says so to its owner and is done; the tunnel behind it lives
on for the grace time, and another link may take it over.
"""

from __future__ import annotations

import select
import socket
from typing import Protocol

from gateway.nat.router import TunnelPeer
from gateway.poller import Poller
from vshp.config import CloseReason
from vshp.errors import VshpError
from vshp.events import Event
from vshp.session import GatewaySession

TCP_NOTSENT_LOWAT = 25
"""Linux, tcp(7): not in the socket module of every Python."""
NOTSENT_BYTES = 128 * 1024
"""Bytes the kernel may hold that it has not sent: a longer queue only delays sparse flows."""

READ_BUDGET = 1024 * 1024
"""Bytes taken from one link before the others get their turn."""
PUMP_TURNS = 8
"""Fillings of the writer's queue before the others get their turn."""

READ = select.EPOLLIN | select.EPOLLRDHUP
READ_WRITE = READ | select.EPOLLOUT
TROUBLE = select.EPOLLERR | select.EPOLLHUP


class LinkOwner(Protocol):
    """What a link tells the gateway. None of these may raise."""

    def link_event(self, link: Link, event: Event, now: float) -> None: ...

    def link_broken(self, link: Link, reason: str, now: float) -> None:
        """The socket is closed. `reason` is a stable name for counters and logs."""

    def link_again(self, link: Link) -> None:
        """More is ready than this turn allowed: call `pump` again soon."""


def tune(sock: socket.socket) -> None:
    """Options of a link's socket: no Nagle, a short queue in the kernel, dead peers noticed."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, NOTSENT_BYTES)
    except OSError:
        # Kernels before 3.12 queue more than they need to; nothing breaks.
        pass


class Link:
    """Drives one session over one stream socket, on the gateway's poller."""

    __slots__ = (
        "_now",
        "_owner",
        "_poller",
        "_writing",
        "address",
        "confirmed",
        "host",
        "marked",
        "opened",
        "peer",
        "public_key",
        "received_bytes",
        "sent_bytes",
        "session",
        "sock",
        "transport",
    )

    def __init__(
        self,
        owner: LinkOwner,
        poller: Poller,
        sock: socket.socket,
        address: tuple[str, int],
        session: GatewaySession,
        now: float,
        transport: str = "tcp",
    ) -> None:
        self._owner = owner
        self._poller = poller
        self._writing = False
        self._now = now
        self.sock = sock
        self.host = address[0]
        self.address = address
        self.session = session
        self.transport = transport
        self.opened = now
        self.public_key: bytes | None = None
        self.peer: TunnelPeer | None = None
        self.confirmed = False
        """The client has spoken under the session's keys: its handshake was no replay."""
        self.marked = False
        """Waits to be pumped (the pulse's own note)."""
        self.received_bytes = 0
        self.sent_bytes = 0
        session.on_packet = self._no_packets
        tune(sock)
        poller.register(sock.fileno(), self, READ)

    @property
    def closed(self) -> bool:
        return self.sock.fileno() < 0

    def attach(self, peer: TunnelPeer) -> None:
        """From now on the session's packets are this peer's."""
        self.peer = peer
        self.session.on_packet = self._packet

    def detach(self) -> None:
        self.peer = None
        self.session.on_packet = self._no_packets

    # --- events ----------------------------------------------------------------------------

    def ready(self, mask: int, now: float) -> None:
        """The poller's call: bytes to receive, room to send, or the end."""
        self._now = now
        if mask & (READ | TROUBLE):
            self._receive(now)
        if not self.closed and mask & select.EPOLLOUT:
            self.pump(now)

    def handle_timer(self, now: float) -> None:
        """The session's own time-outs: handshake, liveness, rekey."""
        timer = self.session.get_timer()
        if timer is None or timer > now or self.closed:
            return
        self.session.handle_timer(now)
        self._after(now)

    def close(self, reason: CloseReason, now: float, detail: str = "") -> None:
        """Tell the client why, and let the socket go."""
        if self.closed:
            return
        if not self.session.closed:
            self.session.close(reason, now, detail)
        self._last_words()
        self._drop(str(reason), now)

    def _receive(self, now: float) -> None:
        session = self.session
        sock = self.sock
        budget = READ_BUDGET
        broken: str | None = None
        while budget > 0:
            buffer = session.receive_buffer()
            try:
                n = sock.recv_into(buffer)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                broken = "link__reset"
                break
            if n == 0:
                broken = "link__end_of_stream"
                break
            self.received_bytes += n
            budget -= n
            try:
                session.received(n, now)
            except VshpError as error:
                broken = f"session__{error.reason}"
                break
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
        if broken is not None:
            self._events(now)
            if not self.closed:
                self._last_words()
                self._drop(broken, now)
            return
        self.pump(now)

    def _after(self, now: float) -> None:
        self._events(now)
        if self.closed:
            return
        if self.session.closed:
            self._last_words()
            self._drop("session__closed", now)
            return
        self.pump(now)

    def _events(self, now: float) -> None:
        while not self.closed:
            event = self.session.next_event()
            if event is None:
                return
            self._owner.link_event(self, event, now)

    # --- toward the client -------------------------------------------------------------------

    def pump(self, now: float) -> None:
        """Fill, seal and send until the socket is full or nothing is left."""
        if self.closed:
            return
        writer = self.session.writer
        peer = self.peer
        send = self.sock.send
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
            self.sent_bytes += n
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
            self._poller.modify(self.sock.fileno(), READ_WRITE if wanted else READ)

    def _last_words(self) -> None:
        """What the session still has to say, as far as the socket takes it at once."""
        writer = self.session.writer
        writer.flush()
        output = writer.output()
        if output:
            try:
                self.sock.send(output)
            except OSError:
                pass

    def _drop(self, reason: str, now: float) -> None:
        if self.closed:
            return
        self._poller.unregister(self.sock.fileno())
        self.sock.close()
        self._owner.link_broken(self, reason, now)

    def _packet(self, buf: memoryview, start: int, end: int, offload: bool) -> None:
        assert self.peer is not None
        self.peer.from_tunnel(buf, start, end, offload, self._now)

    def _no_packets(self, buf: memoryview, start: int, end: int, offload: bool) -> None:
        """Before a lease, and after a newer link took over, packets go nowhere."""
