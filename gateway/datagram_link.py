"""Links over UDP: one socket per listening address, shared by all its sessions.

Theory of operation. The door receives runs of datagrams (UDP_GRO joins
neighbours of equal size), finds each run's session by the index in its header
and hands it over. Who begins a new session is a stranger: the doorman is asked
first, and under load the sender has to bring back a cookie (`DatagramListener`).

An answer must leave by the interface that the question came in by, to the
address it came from, from the address it was sent to; the system's routes would
send it into the VPN. So every datagram is received with IP_PKTINFO, and *where
the client is* (its address, our interface, our address) is one value that the
session keeps for its newest authenticated datagram.

UDP does not push back. A full socket buffer is waited out; what is lost beyond
it is the business of the TCP inside, which treats such a link as lossy.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from eventloop.link_sockets import RECEIVE_SIZE, cut_into, joined_size, tune_datagrams
from eventloop.poller import Poller
from gateway.link import PUMP_TURNS, LinkOwner, SessionLink
from gateway.listeners import Doorman, bind_early, cannot_listen
from gateway.nat.counters import Counters
from sealing.errors import ProtocolError
from vshp.constants import DATAGRAM_INITIATION
from vshp.datagram_listener import DatagramListener
from vshp.datagram_session import DatagramGatewaySession

IP_PKTINFO = 8
CONTROL_SIZE = 128
RUNS_PER_TURN = 64
"""System calls for one socket before the others get their turn."""
REVIVAL_SECONDS = 1.0
"""Silence under traffic after which what is in flight is sent again at the first sign of life."""
MAX_HELD = 256
"""Runs of datagrams that wait for room in the socket; beyond that links are not pumped at all."""

_PKTINFO4 = struct.Struct("=i4s4s")
_PKTINFO6 = struct.Struct("=16si")

Ancillary = list[tuple[int, int, bytes]]


class Where(NamedTuple):
    """Where a client is: its socket address, and the interface and address it reached us by."""

    address: Any
    interface: int
    local: bytes

    def control(self) -> Ancillary:
        """The ancillary data that sends an answer back the same way."""
        if len(self.local) == 4:
            info = _PKTINFO4.pack(self.interface, self.local, bytes(4))
            return [(socket.IPPROTO_IP, IP_PKTINFO, info)]
        info = _PKTINFO6.pack(self.local, self.interface)
        return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info)]


class DatagramLink(SessionLink):
    """Drives one session over its door's socket."""

    __slots__ = ("_control", "_door", "_heard", "_where")

    session: DatagramGatewaySession

    def __init__(
        self, owner: LinkOwner, door: DatagramDoor, session: DatagramGatewaySession, now: float
    ) -> None:
        where = session.address
        assert isinstance(where, Where)
        super().__init__(owner, session, where.address[0], where.address[1], "udp", now)
        self._door = door
        self._where = where
        self._control = where.control()
        self._heard = now

    @property
    def local(self) -> str:
        local = self._where.local
        return socket.inet_ntop(socket.AF_INET if len(local) == 4 else socket.AF_INET6, local)

    def received(self, data: memoryview, segment: int, where: Where, now: float) -> None:
        """A run of datagrams for this session."""
        self._now = now
        try:
            self.session.receive_datagrams(data, segment, where, now)
        except ProtocolError as error:
            self._events(now)
            if not self.closed:
                self._last_words()
                self._drop(f"session__{error.reason}", now)
            return
        if self.closed:
            return
        peer = self.peer
        silent, self._heard = now - self._heard, now
        if peer is not None:
            peer.end_batch(now)
            moved = self.session.address is not self._where
            if peer.in_flight and (moved or silent > REVIVAL_SECONDS):
                # What was sent meanwhile went nowhere; TCP's own timers have backed off.
                peer.set_out(self.session.writer, now, reliable=False)
        self._settle(now)

    def pump(self, now: float) -> None:
        if self.closed or self._door.full:
            # The door pumps everybody once its socket has room again.
            return
        session, peer = self.session, self.peer
        for _ in range(PUMP_TURNS):
            more = peer.pull(now) if peer is not None else False
            session.writer.flush()
            if not self._send() or not more:
                return
        self._owner.link_again(self)

    def _send(self) -> bool:
        """Send what is sealed; False when that was nothing or the socket is full."""
        where = self.session.address
        if where is not self._where:
            assert isinstance(where, Where)
            self._where = where
            self._control = where.control()
            self.host, self.port = where.address[:2]
        sent = False
        for data, segment in self.session.datagrams_to_send():
            self._door.send(data, segment, self._where.address, self._control)
            sent = True
        return sent and not self._door.full

    def _last_words(self) -> None:
        self.session.writer.flush()
        self._send()

    def move(self, door: DatagramDoor) -> None:
        """Go on over another door's socket; see `DatagramDoor.adopt`."""
        self._door = door

    def _let_go(self) -> None:
        self._door.forget(self)


class DatagramDoor:
    """A listening UDP socket on the gateway's poller."""

    def __init__(
        self,
        host: str,
        port: int,
        poller: Poller,
        listener: DatagramListener,
        doorman: Doorman,
        counters: Counters,
        owner: LinkOwner,
        opened: Callable[[DatagramLink, float], None],
        early: bool = False,
    ) -> None:
        """Open and bind; with `early` also to an address that is not there just now.

        Raises ListenError.
        """
        self._poller = poller
        self._listener = listener
        listener.admit = lambda where, now: doorman.admit(where.address[0], now)
        listener.on_evicted = self._evicted
        self._doorman = doorman
        self._counts = counters.counts
        self._owner = owner
        self._opened = opened
        self._links: dict[int, DatagramLink] = {}
        self._held: list[tuple[bytes, int, Any, Ancillary]] = []
        self._buffer = bytearray(RECEIVE_SIZE)
        self._view = memoryview(self._buffer)
        self._segments = True
        six = ":" in host
        try:
            sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
        except OSError as error:
            raise cannot_listen(host, port, "UDP", error) from None
        try:
            self._options(sock, six)
            if early:
                bind_early(sock)
            sock.bind((host, port))
        except OSError as error:
            sock.close()
            raise cannot_listen(host, port, "UDP", error) from None
        self.sock = sock
        self.host, self.port = sock.getsockname()[:2]
        poller.watch(sock.fileno(), self, select.EPOLLIN)

    @property
    def full(self) -> bool:
        """The socket takes no more for now."""
        return bool(self._held)

    def ready(self, mask: int, now: float) -> None:
        if mask & select.EPOLLOUT:
            self._send_held(now)
        receive = self.sock.recvmsg_into
        buffers = [self._view]
        for _ in range(RUNS_PER_TURN):
            try:
                n, ancillary, _flags, address = receive(buffers, CONTROL_SIZE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # An ICMP error for something sent earlier; the session notices silence itself.
                self._counts["link__udp__icmp_error"] += 1
                continue
            if n:
                self._run(n, ancillary, address, now)

    def send(self, data: memoryview | bytes, segment: int, address: Any, path: Ancillary) -> None:
        """Send a run of datagrams of `segment` bytes (the last one less), or hold it."""
        if self._held:
            if len(self._held) < MAX_HELD:
                self._held.append((bytes(data), segment, address, path))
            else:
                self._counts["link__udp__queue_full__dropped"] += 1
            return
        try:
            self._send(data, segment, address, path)
        except (BlockingIOError, InterruptedError):
            self._held.append((bytes(data), segment, address, path))
            self._poller.change(self.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
        except OSError:
            # The interface or the route is gone, or a probe was too long: the session will tell.
            self._counts["link__udp__unsendable__dropped"] += 1

    def forget(self, link: DatagramLink) -> None:
        self._listener.forget(link.session)
        self._links.pop(link.session.index, None)

    def links(self) -> list[DatagramLink]:
        """The links over this socket, which outlive it until they are adopted or closed."""
        return list(self._links.values())

    def adopt(self, link: DatagramLink) -> bool:
        """Carry another door's link from now on; False when its index is taken here.

        Its client keeps sending to the same address and port, which are this door's now. What
        waited in the other socket is lost, as datagrams may be.
        """
        if not self._listener.adopt(link.session):
            return False
        link._let_go()
        link.move(self)
        self._links[link.session.index] = link
        # The other socket may have been full, and whoever waited for it would wait for ever.
        self._owner.link_again(link)
        return True

    @property
    def closed(self) -> bool:
        return self.sock.fileno() < 0

    def close(self) -> None:
        """Give the socket up; the links are the owner's to move or to close."""
        if not self.closed:
            self._poller.unwatch(self.sock.fileno())
            self.sock.close()

    def _evicted(self, session: DatagramGatewaySession, now: float) -> None:
        """A half-open session has made way: nobody will call its link again."""
        link = self._links.get(session.index)
        if link is not None:
            link._settle(now)

    def _options(self, sock: socket.socket, six: bool) -> None:
        tune_datagrams(sock)
        if six:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)

    def _run(self, n: int, ancillary: Ancillary, address: Any, now: float) -> None:
        """One receive: a datagram, or several of one sender joined."""
        segment, interface, local = n, 0, b""
        for level, kind, data in ancillary:
            if level == socket.IPPROTO_UDP:
                segment = joined_size(level, kind, data) or segment
            elif level == socket.IPPROTO_IP and kind == IP_PKTINFO:
                interface, _, local = _PKTINFO4.unpack_from(data)
            elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
                local, interface = _PKTINFO6.unpack_from(data)
        data_view = self._view[:n]
        where = Where(address, interface, local)
        session = self._listener.session_of(data_view)
        link = None if session is None else self._links.get(session.index)
        if link is not None:
            link.received(data_view, segment, where, now)
            return
        for at in range(0, n, segment):
            self._stranger(data_view[at : at + segment], where, now)

    def _stranger(self, data: memoryview, where: Where, now: float) -> None:
        """A datagram of no session that we know: perhaps the beginning of one."""
        if data[0] == DATAGRAM_INITIATION:
            self._listener.under_load = self._doorman.busy(now)
        try:
            session = self._listener.receive_datagram(data, where, now)
        except ProtocolError as error:
            self._counts[f"session__{error.reason}"] += 1
            return
        for reply, back in self._listener.replies():
            assert isinstance(back, Where)
            self.send(reply, len(reply), back.address, back.control())
        if session is None:
            return
        link = self._links.get(session.index)
        if link is None:
            link = DatagramLink(self._owner, self, session, now)
            self._links[session.index] = link
            self._opened(link, now)
        link._settle(now)

    def _send(self, data: memoryview | bytes, segment: int, address: Any, path: Ancillary) -> None:
        if len(data) <= segment:
            self.sock.sendmsg([data], path, 0, address)
            return
        if self._segments:
            size = cut_into(segment)
            try:
                self.sock.sendmsg([data], [*path, size], 0, address)
                return
            except BlockingIOError:
                raise
            except OSError:
                # No segmentation on this kernel or this interface: cut the run up ourselves.
                self._segments = False
        for at in range(0, len(data), segment):
            self.sock.sendmsg([data[at : at + segment]], path, 0, address)

    def _send_held(self, now: float) -> None:
        held, self._held = self._held, []
        for at, (data, segment, address, path) in enumerate(held):
            try:
                self._send(data, segment, address, path)
            except (BlockingIOError, InterruptedError):
                self._held = held[at:]
                return
            except OSError:
                self._counts["link__udp__unsendable__dropped"] += 1
        self._poller.change(self.sock.fileno(), select.EPOLLIN)
        for link in list(self._links.values()):
            link.pump(now)
