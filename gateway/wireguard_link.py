"""Links to WireGuard apps: a UDP socket of their own, and what carries a device's tunnel.

Theory of operation. The doors (one a listening address) hand their datagrams to the one
`Device`; which door and by which way a peer was heard is its endpoint there, a `Spot`. A
link lives from a device's first confirmed session until nobody answers, the device is
revoked or the gateway stops. Sessions come and go underneath it: while there is none, the
writer has no room, so data waits in the sockets it would be read from, and the first of
it begins a handshake.

WireGuard says nothing when it ends, and a device that has nothing to send is silent. So a
link is `live` while there are keys to send under, and stays when there are none.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Mapping
from time import sleep
from typing import NamedTuple, Protocol

from eventloop.poller import Poller
from gateway.bpf import Program
from gateway.datagram_socket import Ancillary, DatagramSocket, Where
from gateway.link import PUMP_TURNS, Link
from gateway.nat.counters import Counters
from gateway.nat.router import TunnelPeer
from gateway.sieve import Budget, Strangers
from gateway.wireguard_sieve import LEVELS, LOUD_FROM, Loud, program, sender_of
from netstack.join import SegmentJoiner
from netstack.out import PacketOut
from vshp.config import CloseReason
from wireguard.device import Device
from wireguard.peer import Peer, drop_packet

REVIVAL_SECONDS = 1.0
"""Silence under traffic after which what is in flight is sent again at the first sign of life."""
TURN_RUNS = 48
"""Runs that are taken in one turn: of single datagrams enough to fill a joined packet."""
TURN_BYTES = 128 * 1024
"""Bytes after which no other run is taken in a turn: a small flow waits for a turn's length."""
NAP = 0.0002
"""Seconds in which datagrams gather while they come steadily and one by one."""
STEADY_RATE = 4000.0
"""Receives a second from which on that is worth its delay. Runs of datagrams never come so often,
nor do questions that wait for their answers."""
RATE_SECONDS = 0.004
"""Over how long that is looked at."""
_NO_COUNTERS: Mapping[str, int] = {}


class Moderation:
    """Whether a socket is woken so often that waking costs more than what it is woken for."""

    __slots__ = ("_since", "_steady", "_taken")

    def __init__(self) -> None:
        self._since = 0.0
        self._taken = 0
        self._steady = False

    def steady(self, taken: int, now: float) -> bool:
        """Told of each turn, how many receives it was; whether they come at `STEADY_RATE`."""
        self._taken += taken
        elapsed = now - self._since
        if elapsed >= RATE_SECONDS:
            self._steady = self._taken > STEADY_RATE * elapsed
            self._since, self._taken = now, 0
        return self._steady


class Spot(NamedTuple):
    """Where a device is, and by which of our sockets."""

    where: Where
    door: WireguardDoor

    @property
    def host(self) -> str:
        return self.where.host

    @property
    def port(self) -> int:
        return self.where.port


def spot_of(peer: Peer) -> Spot:
    """Where a peer is that was heard."""
    spot = peer.endpoint
    assert isinstance(spot, Spot)
    return spot


class WireguardDoor(DatagramSocket):
    """A listening UDP socket for WireGuard apps."""

    def __init__(
        self,
        host: str,
        port: int,
        poller: Poller,
        counters: Counters,
        device: Device,
        budget: Budget,
        received: Callable[[memoryview, int, Spot, float], None],
        turned: Callable[[float], None],
        drained: Callable[[float], None],
        early: bool = False,
    ) -> None:
        """Open and bind; with `early` also to an address that is not there just now.

        `turned` is called after some calls of `received`. `budget` is what may be spent on
        datagrams that are of none of the device's sessions.

        Raises ListenError.
        """
        self._device = device
        self._loud = Loud()
        self._on_received = received
        self._on_turned = turned
        self._moderation = Moderation()
        self._last = Spot(Where(None, 0, b""), self)
        self._on_drained = drained
        super().__init__(host, port, poller, counters, early)
        self.strangers = Strangers(
            self.sock, budget, poller.clock, self._counts, "wireguard", self._sieve, LEVELS
        )

    def close(self) -> None:
        self.strangers.close()
        super().close()

    def ready(self, mask: int, now: float) -> None:
        if mask & select.EPOLLOUT:
            self._send_held(now)
        self.strangers.turn(now)
        taken = self._take_runs(TURN_RUNS, TURN_BYTES)
        if self._moderation.steady(taken, now) and taken < TURN_RUNS:
            sleep(NAP)
            self._take_runs(TURN_RUNS - taken, TURN_BYTES)
        now = self._poller.clock()
        self.strangers.turned(now)
        self._on_turned(now)

    def _received(self, data: memoryview, segment: int, where: Where, now: float) -> None:
        if where is not self._last.where:
            self._last = Spot(where, self)
        if self._device.names(data):
            self.strangers.known()
        else:
            self._loud.note(sender_of(where.host), now)
            if not self.strangers.stranger():
                return
        self._on_received(data, segment, self._last, now)

    def _sieve(self, level: int) -> Program:
        """What the kernel lets through when strangers have used up what they may."""
        loud, device = self._loud, self._device
        if level >= LOUD_FROM:
            loud.judge()
        spots = (peer.endpoint for peer in device.peers.values())
        six = ":" in self.host
        hosts = {spot.host for spot in spots if spot is not None and (":" in spot.host) is six}
        indices = {*device.pairs, *device.pending}
        return program(level, indices, loud.senders, [sender_of(host) for host in hosts])

    def _drained(self, now: float) -> None:
        self._on_drained(now)


class WireguardLinkOwner(Protocol):
    """What a link tells whoever keeps the device. None of these may raise."""

    now: float
    """When the run of datagrams began to be taken that is being taken."""

    def link_broken(self, link: WireguardLink, reason: str, now: float) -> None:
        """The link is closed. `reason` is a stable name for counters and logs."""

    def link_again(self, link: Link) -> None:
        """There is something to send, or more than this turn allowed: call `pump` soon."""

    def send_messages(self) -> None:
        """Handshake messages wait to be sent."""


class WireguardLink(Link):
    """Carries the tunnel of one WireGuard device."""

    __slots__ = ("_control", "_heard", "_joiner", "_owner", "_spot", "wg")

    def __init__(self, owner: WireguardLinkOwner, wg: Peer, now: float) -> None:
        spot = spot_of(wg)
        super().__init__(spot.host, spot.port, "wireguard", now)
        self._owner = owner
        self._spot = spot
        self._control: Ancillary = spot.where.control()
        self._heard = now
        self._joiner = SegmentJoiner(self._packet)
        self.wg = wg
        self.public_key = wg.keys.public

    @property
    def live(self) -> bool:
        return self.wg.writer.pair is not None

    @property
    def local(self) -> str:
        local = self._spot.where.local
        return socket.inet_ntop(socket.AF_INET if len(local) == 4 else socket.AF_INET6, local)

    @property
    def out(self) -> PacketOut:
        return self.wg.writer

    @property
    def counters(self) -> Mapping[str, int]:
        return _NO_COUNTERS

    def attach(self, peer: TunnelPeer) -> None:
        """Segments that came one by one reach the NAT in large pieces."""
        super().attach(peer)
        take = self._joiner.take
        self.wg.on_packet = lambda buf, start, end: take(buf, start, end, False)
        self.wg.on_row = self._joiner.take_row

    def detach(self) -> None:
        self._joiner.flush()
        super().detach()
        self.wg.on_packet = drop_packet
        self.wg.on_row = None

    def get_timer(self) -> float | None:
        """The device has one timer for all its peers."""
        return None

    def handle_timer(self, now: float) -> None:
        pass

    def arrived(self, now: float) -> None:
        """A turn of the door in which this device was heard is over."""
        self._joiner.flush()
        if self.peer is not None:
            self.peer.end_batch(now)
        self.revive(now)
        if self.wg.writer.waiting or (self.peer is not None and self.peer.wants_out):
            self._owner.link_again(self)

    def revive(self, now: float) -> None:
        """The device is there: follow it, and send again what went nowhere while it was not."""
        silent, self._heard = now - self._heard, now
        moved = self.follow()
        peer = self.peer
        if peer is not None and peer.in_flight and (moved or silent > REVIVAL_SECONDS):
            # TCP's own timers have backed off.
            peer.send_again(now)

    def follow(self) -> bool:
        """Send to where the device is now; whether that is somewhere else."""
        spot = spot_of(self.wg)
        if spot == self._spot:
            return False
        self._spot = spot
        self._control = spot.where.control()
        self.host, self.port = spot.host, spot.port
        return True

    def wake(self) -> None:
        self._owner.link_again(self)

    def pump(self, now: float) -> None:
        if self.closed or self._spot.door.full:
            # The door pumps everybody once its socket has room again.
            return
        wg, peer = self.wg, self.peer
        if peer is None:
            return
        if not wg.usable(now):
            if peer.wants_out:
                wg.begin(now)
                self._owner.send_messages()
            return
        door, address = self._spot.door, self._spot.where.address
        for _ in range(PUMP_TURNS):
            more = peer.pull(now)
            sent = False
            for data, segment in wg.take(now):
                door.send(data, segment, address, self._control)
                sent = True
            self._owner.send_messages()
            if not sent or not more or door.full:
                return
        self._owner.link_again(self)

    def close(self, reason: CloseReason, now: float, detail: str = "") -> None:
        """Let go. WireGuard has no word for it: the device notices silence."""
        if self.closed:
            return
        self.closed = True
        self._owner.link_broken(self, str(reason), now)

    def _packet(self, buf: memoryview, start: int, end: int, offload: bool) -> None:
        assert self.peer is not None
        self.peer.from_tunnel(buf, start, end, offload, self._owner.now)
