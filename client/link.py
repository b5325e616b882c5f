"""A link: what carries one VSHP session, and the pump between session and socket.

Theory of operation. The link is the only driver of its session. Its socket is watched on the
loop's fast lane (`eventloop.poller`). Where packets go and come from is not its affair: it is
attached to a *port* (`client/outlet/port.py`), whose functions the session calls with each packet
that was received, and which puts packets into the session's writer and says when they are to be
sent. When the socket takes no more they stay in the writer; a port that waits for room there is
told as soon as there is some.

Life-cycle events go to the owner. A link that ends says why, once, and is done; the port lives on
for the next link. `stream_link` and `datagram_link` are the two kinds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from client.driver import LinkOwner
from client.model import TransportEndpoint
from client.outlet.port import Intake, PacketWriter, Port
from client.reconnect import Ending
from eventloop.poller import running_poller
from sealing.errors import ProtocolError
from vshp.config import CloseReason, LeaseConfig
from vshp.core import CLOSED
from vshp.datagram_session import DatagramClientSession
from vshp.events import LinkDead, PeerClosed
from vshp.session import ClientSession
from vshp.states import State


class Link:
    """What both kinds share: the port, the session's events and timer, the end."""

    __slots__ = (
        "_closed",
        "_counters",
        "_done",
        "_loop",
        "_owner",
        "_port",
        "_port_waits",
        "_timer",
        "_timer_at",
        "endpoint",
        "local_address",
        "poller",
        "received_packets_bytes",
        "session",
        "writer",
    )

    offload = True
    session: ClientSession | DatagramClientSession

    def __init__(
        self,
        owner: LinkOwner,
        endpoint: TransportEndpoint,
        session: ClientSession | DatagramClientSession,
        local_address: str,
    ) -> None:
        """The handshake begins in the loop's next turn."""
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self.poller = running_poller()
        self._port: Port | None = None
        self._port_waits = False
        """... for room in the writer."""
        self._done: Callable[[], None] | None = None
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._counters: dict[str, int] = {}
        self.endpoint = endpoint
        self.local_address = local_address
        self.received_packets_bytes = 0
        self.session = session
        self.writer: PacketWriter = session.writer
        session.on_packet = self._no_port
        self._loop.call_soon(self._begin)

    @property
    def sent_packets_bytes(self) -> int:
        """See `LinkDriver`."""
        return self.writer.packet_bytes

    @property
    def counters(self) -> dict[str, int]:
        """The session's and ours; names do not overlap."""
        return self.session.counters | self._counters

    def attach(self, port: Port, lease: LeaseConfig) -> None:
        """See `LinkDriver`."""
        if self._closed:
            return
        if self._port is not port:
            self.detach()
            self._port = port
        self._take_in(port.attach(self, lease))

    def detach(self) -> None:
        """See `LinkDriver`."""
        port, self._port = self._port, None
        self._port_waits = False
        if port is not None:
            port.detach()
        self.session.on_packet = self._no_port
        self.session.on_packets = self._done = None

    def ping(self) -> None:
        """See `LinkDriver`."""
        now = monotonic()
        if not self._closed and self.session.peer_key is not None:
            try:
                self.session.ping(now)
            except ProtocolError:
                # Keys are not agreed on yet; the handshake's own time-out watches.
                return
            self._send()
            self._arm()

    def agree(self, code: str) -> None:
        """See `LinkDriver`."""
        session = self.session
        if not self._closed and session.state is State.CONSENT and session.code == code:
            self.session.agree(monotonic())
            self._send()
            self._arm()

    def follow(self) -> bool:
        """See `LinkDriver`."""
        raise NotImplementedError

    def fail(self, ending: Ending) -> None:
        """See `LinkDriver`."""
        if not self._closed:
            self._over(ending)

    def drop(self) -> None:
        """See `LinkDriver`."""
        self._drop()

    def close(self, reason: CloseReason) -> None:
        """See `LinkDriver`."""
        if self._closed:
            return
        if not self.session.closed:
            self.session.close(reason, monotonic())
        self._last_words()
        self._drop()

    # --- what a kind of link provides ------------------------------------------------------

    def ready(self, mask: int, now: float) -> None:
        """The poller's call: the socket has something, or room."""
        raise NotImplementedError

    def _send(self) -> None:
        """Seal and send until the socket is full or nothing is left, then tell a waiting port."""
        raise NotImplementedError

    def _last_words(self) -> None:
        """What the session still has to say, as far as the socket takes it at once."""
        raise NotImplementedError

    def _let_go(self) -> None:
        """Close the socket."""
        raise NotImplementedError

    # --- the port: `Carrier` -----------------------------------------------------------------

    def count(self, name: str) -> None:
        """See `Carrier`."""
        self._counters[name] = self._counters.get(name, 0) + 1

    def push(self) -> None:
        """See `Carrier`."""
        self._send()
        self._arm()

    def wait_for_room(self) -> None:
        """See `Carrier`."""
        self._port_waits = True

    def end(self, ending: Ending) -> None:
        """See `Carrier`."""
        self._settle(ending)

    def _take_in(self, intake: Intake) -> None:
        """Packets go there from now on."""
        self.session.on_packet = intake.packet
        self.session.on_packets = intake.packets
        self._done = intake.done

    def _tell_of_room(self) -> None:
        """After sending, where the port waits."""
        if self._port is not None and self.writer.room() > 0:
            self._port_waits = False
            self._port.room_again()

    def _no_port(self, buf: memoryview, start: int, end: int, offload: bool) -> None:
        """Before there is a port, packets go nowhere."""
        self.count("outlet__not_ready__dropped")

    # --- the session -----------------------------------------------------------------------

    def _begin(self) -> None:
        """Message one."""
        if not self._closed:
            self._send()
            self._arm()

    def _settle(self, ending: Ending | None) -> None:
        """After every call into the session: news, bytes, timer, end."""
        session = self.session
        while not self._closed:
            event = session.next_event()
            if event is None:
                break
            if isinstance(event, PeerClosed):
                ending = Ending(str(event.reason), event.detail, event.authenticated)
            elif isinstance(event, LinkDead):
                ending = Ending("link_dead", authenticated=False)
            else:
                self._owner.link_event(self, event)
        if self._closed:
            return
        if ending is None and session.state is CLOSED:
            ending = Ending("link_lost", authenticated=False)
        if ending is not None:
            self._last_words()
            self._over(ending)
            return
        self._send()
        self._arm()

    def _arm(self) -> None:
        """Have the loop call when the session's timer is due; a later one is checked then."""
        at = None if self._closed else self.session.get_timer()
        if at is None or (self._timer is not None and self._timer_at <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_later(max(0.0, at - monotonic()), self._timer_due)

    def _timer_due(self) -> None:
        self._timer = None
        if self._closed:
            return
        # Also where what was due has been answered meanwhile: it was looked at now.
        self.session.handle_timer(monotonic())
        self._owner.link_timed()
        self._settle(None)

    # --- ends ------------------------------------------------------------------------------

    def _over(self, ending: Ending) -> None:
        self._drop()
        self._owner.link_over(self, ending)

    def _drop(self) -> None:
        if self._closed:
            return
        self.detach()
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._let_go()
