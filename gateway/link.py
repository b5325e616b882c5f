"""A link: what carries a tunnel, and the pump between what carries it, NAT and socket.

Theory of operation. The link is the only driver of its session. What arrives
goes into the session, which calls `on_packet` for each IP packet while it
parses; the batch is ended once, so that the NAT acknowledges and sends once per
batch. The other way the NAT never pushes: when it has something it calls `wake`, and the
gateway `pump`, which lets the NAT fill the writer up to its short queue, seals,
and sends until the socket is full. What does not fit stays in the sockets it
would have been read from.

A link that breaks says so to its owner and is done; the tunnel behind it lives
on for the grace time, and another link may take it over. `Link` is what tunnels know of
all kinds; `SessionLink` drives a session of VSHP's, over a stream (`stream_link`) or by
datagrams (`datagram_link`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol

from gateway.nat.router import TunnelPeer
from netstack.out import PacketOut
from vshp.config import Carrier, CloseReason, GatewayStatus, LeaseConfig
from vshp.core import drop_packet
from vshp.datagram_session import DatagramGatewaySession
from vshp.events import Event
from vshp.session import GatewaySession

PUMP_TURNS = 1
"""Fillings of the writer's queue before other events get their turn: a small answer waits for one
at most. What is left is pumped in the same settling (`Pulse`), so this costs one look each."""


class LinkOwner(Protocol):
    """What a link tells the gateway. None of these may raise."""

    def link_event(self, link: SessionLink, event: Event, now: float) -> None: ...

    def link_broken(self, link: Link, reason: str, now: float) -> None:
        """The link is closed. `reason` is a stable name for counters and logs."""

    @property
    def link_again(self) -> Callable[[Link], None]:
        """There is something to send, or more than this turn allowed: call `pump` soon."""

    @property
    def link_stirred(self) -> Callable[[SessionLink], None]:
        """Its session was given something: when the batch is over, put `stirred` back and ask for
        its timer, which may be another."""


class Link:
    """What carries a tunnel, whatever its protocol."""

    __slots__ = ("closed", "host", "marked", "opened", "peer", "port", "public_key", "transport")

    reliable: ClassVar[bool] = False
    """Whether the path underneath loses nothing that was sent."""
    offload: ClassVar[bool] = False
    """Whether a packet may have an offload header before it, and be larger than the MTU."""
    searches_path: ClassVar[bool] = False
    """Whether how large a packet may be is found out by trying: until then it is the least."""

    def __init__(self, host: str, port: int, transport: str, now: float) -> None:
        self.host = host
        self.port = port
        """Where the client is; on datagrams it may move."""
        self.transport = transport
        """`tcp`, `udp` or `wireguard`."""
        self.opened = now
        self.public_key: bytes | None = None
        self.peer: TunnelPeer | None = None
        self.marked = False
        """Waits to be pumped (the pulse's own note)."""
        self.closed = False

    @property
    def via(self) -> str:
        """How the client is reached, for people: the transport, or `usb`."""
        return self.transport

    @property
    def live(self) -> bool:
        """Whether the client is there, as far as its protocol lets us know."""
        return not self.closed

    @property
    def local(self) -> str:
        """Our own address that the client came in by."""
        raise NotImplementedError

    @property
    def out(self) -> PacketOut:
        """Where the tunnel's packets go."""
        raise NotImplementedError

    @property
    def counters(self) -> Mapping[str, int]:
        """What is counted for this link alone."""
        raise NotImplementedError

    def attach(self, peer: TunnelPeer) -> None:
        """From now on what arrives is this peer's."""
        self.peer = peer

    def detach(self) -> None:
        self.peer = None

    def get_timer(self) -> float | None:
        """When `handle_timer` is due."""
        raise NotImplementedError

    def handle_timer(self, now: float) -> None:
        raise NotImplementedError

    def tell_status(self, status: GatewayStatus, now: float) -> None:
        """Let the client know how sharing stands, where the protocol can."""

    def ask_round_trip(self, now: float) -> None:
        """Have the round trip measured, where the protocol can."""

    def change(self, config: LeaseConfig, now: float) -> None:
        """Tell the client that its lease is another, where the protocol can."""

    def close(self, reason: CloseReason, now: float, detail: str = "") -> None:
        """Tell the client why, where the protocol can, and let go."""
        raise NotImplementedError

    def wake(self) -> None:
        """There is something to send: have `pump` called when the batch is over, or soon."""
        raise NotImplementedError

    def pump(self, now: float) -> None:
        """Fill, seal and send until the socket is full or nothing is left."""
        raise NotImplementedError


class SessionLink(Link):
    """Drives a session of VSHP's: its events, and whose packets they are."""

    __slots__ = ("_now", "_owner", "carrier", "confirmed", "session", "stirred")

    session: GatewaySession | DatagramGatewaySession

    def __init__(
        self,
        owner: LinkOwner,
        session: GatewaySession | DatagramGatewaySession,
        host: str,
        port: int,
        transport: str,
        now: float,
    ) -> None:
        super().__init__(host, port, transport, now)
        self._owner = owner
        self._now = now
        self.session = session
        self.stirred = False
        """Its owner is to ask for its timer (`LinkOwner.link_stirred`)."""
        self.carrier = Carrier.UNKNOWN
        """What the client says it comes by."""
        self.confirmed = False
        """The client has spoken under the session's keys: its handshake was no replay."""
        session.on_packet = drop_packet
        # In the middle of a batch: so that the packets behind the confirmation find the tunnel.
        session.on_confirmed = lambda: self._events(self._now)
        self._stir()  # its handshake has an end

    @property
    def out(self) -> PacketOut:
        return self.session.writer

    @property
    def counters(self) -> Mapping[str, int]:
        return self.session.counters

    def attach(self, peer: TunnelPeer) -> None:
        super().attach(peer)
        self.session.on_packet = self._packet

    def detach(self) -> None:
        super().detach()
        self.session.on_packet = drop_packet

    def get_timer(self) -> float | None:
        return self.session.get_timer()

    def tell_status(self, status: GatewayStatus, now: float) -> None:
        self.session.status(status, now)

    def ask_round_trip(self, now: float) -> None:
        self.session.ping(now)

    @property
    def agreed(self) -> bool:
        """Whether the device's own user has nothing left to say yes to."""
        return self.session.agreed

    def limit_codes(self, admit: Callable[[float], bool]) -> None:
        """`admit(now)` says whether the stranger here may have a pairing code made."""
        self.session.admit_code = admit

    def wait_for_owner(self, seconds: float, now: float) -> None:
        """Tell the client that the owner is asked, and for how long."""
        self.session.pending(seconds, now)

    def wait_for_user(self, seconds: float, now: float) -> None:
        """Tell the client that its own user's yes is all that is missing, and send it."""
        self.session.approved(seconds, now)
        self.pump(now)

    def grant(self, config: LeaseConfig, base: LeaseConfig | None, now: float) -> None:
        """Give the client its lease; with `base` what is the same as there is left out."""
        self.session.approve(config, now, base)

    def search_path(self, now: float) -> None:
        """Find out how large a datagram may be, where there are any."""

    def change(self, config: LeaseConfig, now: float) -> None:
        """Tell the client that its lease is another, and send it."""
        self.session.change(config, now)
        self.pump(now)

    def wake(self) -> None:
        self._owner.link_again(self)

    def handle_timer(self, now: float) -> None:
        """The session's own time-outs: handshake, liveness, rekey."""
        if self.closed:
            return
        # Also where what was due has been answered meanwhile: it was looked at now, and not
        # again at the next packet.
        self.session.handle_timer(now)
        self._settle(now)

    def close(self, reason: CloseReason, now: float, detail: str = "") -> None:
        """Tell the client why, and let go."""
        if self.closed:
            return
        if not self.session.closed:
            self.session.close(reason, now, detail)
        self._last_words()
        self._drop(str(reason), now)

    def _last_words(self) -> None:
        """Send what the session still has to say, as far as the socket takes it at once."""
        raise NotImplementedError

    def _let_go(self) -> None:
        """Release what carries the session."""
        raise NotImplementedError

    def _stir(self) -> None:
        """The session is given something, by a driver who has seen that `stirred` is not set."""
        self.stirred = True
        self._owner.link_stirred(self)

    def _settle(self, now: float) -> None:
        """After the session was given anything: its events, its end, its answers."""
        if not self.stirred:
            self._stir()
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

    def _drop(self, reason: str, now: float) -> None:
        if self.closed:
            return
        self.closed = True
        # A session that is over is freed at once, for it refers to nobody. What waits for the
        # garbage collector instead piles up in a flood, for full collections are rare.
        self.session.on_packet = drop_packet
        self.session.on_confirmed = None
        self._let_go()
        self._owner.link_broken(self, reason, now)

    def _packet(self, buf: memoryview, start: int, end: int, offload: bool) -> None:
        assert self.peer is not None
        self.peer.from_tunnel(buf, start, end, offload, self._now)
