"""Links over UDP: one socket per listening address, shared by all its sessions.

Theory of operation. The door (a `DatagramSocket`) finds each run's session by the index
in its header and hands it over. Who begins a new session is a stranger: the doorman is
asked first, and under load the sender has to bring back a cookie (`DatagramListener`).
Datagrams of strangers are looked at as long as they cost little; see `sieve` for what
becomes of a flood.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from eventloop.poller import Poller
from gateway.datagram_socket import DatagramSocket, Where
from gateway.link import PUMP_TURNS, Link, LinkOwner, SessionLink
from gateway.listeners import Doorman
from gateway.nat.counters import Counters
from gateway.nat.peer import TunnelPeer
from gateway.sieve import COARSE, Strangers, program
from netstack import cut
from netstack.join import SegmentJoiner
from sealing.errors import ProtocolError
from vshp.constants import DATAGRAM_INITIATION
from vshp.core import drop_packet
from vshp.datagram_listener import DatagramListener
from vshp.datagram_session import DatagramGatewaySession

REVIVAL_SECONDS = 1.0
"""Silence under traffic after which what is in flight is sent again at the first sign of life."""


class DatagramLink(SessionLink):
    """Drives one session over its door's socket."""

    __slots__ = ("_control", "_door", "_heard", "_joiner", "_where")

    searches_path = True
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
        self._joiner = SegmentJoiner(self._packet)
        session.writer.cut_with(cut)

    def attach(self, peer: TunnelPeer) -> None:
        """Segments that came one by one reach the NAT in large pieces."""
        super().attach(peer)
        self.session.on_packet = self._joiner.take
        self.session.on_row = self._joiner.take_row

    def detach(self) -> None:
        super().detach()
        self.session.on_row = None

    @property
    def local(self) -> str:
        local = self._where.local
        return socket.inet_ntop(socket.AF_INET if len(local) == 4 else socket.AF_INET6, local)

    def received(self, data: memoryview, segment: int, where: Where, now: float) -> None:
        """A run of datagrams for this session."""
        self._now = now
        if not self.stirred:
            self._stir()
        try:
            try:
                self.session.receive_datagrams(data, segment, where, now)
            finally:
                self._joiner.flush()
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
                peer.send_again(now)
        if self.session.closed:
            self._settle(now)
            return
        self._events(now)
        if not self.closed:
            # After the batch, when other sockets have had their turn.
            self._owner.link_again(self)

    def pump(self, now: float) -> None:
        if self.closed or self._door.full:
            # The door pumps everybody once its socket has room again.
            return
        if not self.stirred:
            self._stir()
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
        for datagram, there in self.session.datagrams_elsewhere():
            assert isinstance(there, Where)
            self._door.send(datagram, len(datagram), there.address, there.control())
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

    def _drop(self, reason: str, now: float) -> None:
        self._joiner.emit = drop_packet
        self.session.on_row = None
        super()._drop(reason, now)

    def search_path(self, now: float) -> None:
        self.session.search_path(now)


class DatagramDoor(DatagramSocket):
    """Where clients of VSHP knock by UDP, and the socket of all their links (Door)."""

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
        self._listener = listener
        listener.admit = lambda where, now: doorman.admit(where.address[0], now)
        listener.on_evicted = self._evicted
        self._doorman = doorman
        self._owner = owner
        self._opened = opened
        self._links: dict[int, DatagramLink] = {}
        super().__init__(host, port, poller, counters, early)
        self._strangers = Strangers(
            self.sock,
            doorman.budget,
            poller.clock,
            self._counts,
            "listener",
            lambda level: program(listener.sessions, level == COARSE),
        )

    def ready(self, mask: int, now: float) -> None:
        self._strangers.turn(now)
        super().ready(mask, now)
        self._strangers.turned(now)

    def close(self) -> None:
        self._strangers.close()
        super().close()

    def forget(self, link: DatagramLink) -> None:
        self._listener.forget(link.session)
        self._links.pop(link.session.index, None)

    def links(self) -> list[DatagramLink]:
        """The links over this socket, which outlive it until they are adopted or closed."""
        return list(self._links.values())

    def adopt(self, link: Link) -> bool:
        """Carry another door's link from now on; False when its index is taken here, or it is
        none of VSHP's by datagrams.

        Its client keeps sending to the same address and port, which are this door's now. What
        waited in the other socket is lost, as datagrams may be.
        """
        if not (isinstance(link, DatagramLink) and self._listener.adopt(link.session)):
            return False
        link._let_go()
        link.move(self)
        self._links[link.session.index] = link
        self._strangers.name_anew()
        # The other socket may have been full, and whoever waited for it would wait for ever.
        self._owner.link_again(link)
        return True

    def _evicted(self, session: DatagramGatewaySession, now: float) -> None:
        """A half-open session has made way: nobody will call its link again."""
        link = self._links.get(session.index)
        if link is not None:
            link._settle(now)

    def _received(self, data: memoryview, segment: int, where: Where, now: float) -> None:
        session = self._listener.session_of(data)
        link = None if session is None else self._links.get(session.index)
        if link is not None:
            self._strangers.known()
            link.received(data, segment, where, now)
            return
        if not self._strangers.stranger():
            return
        for at in range(0, len(data), segment):
            self._stranger(data[at : at + segment], where, now)

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
            self._strangers.name_anew()
            self._opened(link, now)
        link._settle(now)

    def _drained(self, now: float) -> None:
        for link in list(self._links.values()):
            link.pump(now)
