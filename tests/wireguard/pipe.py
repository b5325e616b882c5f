"""Two devices and the path between them, in memory, with a clock of its own."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

from sealing.identity import generate_identity
from wireguard.constants import NO_PSK
from wireguard.device import Device
from wireguard.peer import Peer, Where

WALL = 1_800_000_000.0
"""The Unix time at which the clock of a `Pair` is 0."""


class Spot(NamedTuple):
    """Where a device is."""

    host: str
    port: int


class Side:
    """A device with one peer, and what its owner is told."""

    def __init__(
        self, name: str, identity: bytes, spot: Spot, rng: Callable[[int], bytes], wall: float
    ) -> None:
        self.name = name
        self.spot = spot
        self.device = Device(identity, self, wall, 0.0, rng)
        self.peer: Peer
        self.packets: list[bytes] = []
        self.news: list[str] = []
        self.strangers: list[bytes] = []
        self.reasons: dict[str, int] = defaultdict(int)
        self.welcome: Callable[[bytes], Peer | None] = lambda public: None

    def know(self, public: bytes, number: int, psk: bytes = NO_PSK) -> Peer:
        self.peer = self.device.add(public, v4(number), v6(number), psk)
        self.peer.on_packet = lambda buf, start, end: self.packets.append(bytes(buf[start:end]))
        return self.peer

    # DeviceOwner

    def confirmed(self, peer: Peer, now: float) -> None:
        self.news.append("confirmed")

    def moved(self, peer: Peer, now: float) -> None:
        self.news.append("moved")

    def silent(self, peer: Peer, now: float) -> None:
        self.news.append("silent")

    def unknown(self, public: bytes, where: Where, now: float) -> Peer | None:
        self.strangers.append(public)
        return self.welcome(public)

    def refused(self, reason: str, peer: Peer | None, where: Where, now: float) -> None:
        self.reasons[reason] += 1


def v4(number: int) -> bytes:
    return bytes((10, 9, 8, number))


def v6(number: int) -> bytes:
    return bytes.fromhex("fd00") + bytes(13) + bytes((number,))


def packet(source: int, body: bytes = b"", version: int = 4) -> bytes:
    """An IP packet from the peer of that number; only what a tunnel looks at is set."""
    if version == 4:
        length = (20 + len(body)).to_bytes(2, "big")
        return b"\x45\x00" + length + bytes(8) + v4(source) + v4(9) + body
    return (
        b"\x60\x00\x00\x00"
        + len(body).to_bytes(2, "big")
        + b"\x3b\x40"
        + (v6(source) + v6(9) + body)
    )


class Pair:
    """A client (number 2) and a gateway (number 1), and a path that tests can spoil."""

    def __init__(self, psk: bytes = NO_PSK, seed: int = 1, delay: float = 0.01) -> None:
        self.random = random.Random(seed)
        rng = self.random.randbytes
        ours, theirs = generate_identity(), generate_identity()
        self.client = Side("client", ours, Spot("10.0.0.2", 40000), rng, WALL)
        self.gateway = Side("gateway", theirs, Spot("10.0.0.1", 51820), rng, WALL)
        self.client.know(self.gateway.device.identity.public, 1, psk)
        self.gateway.know(self.client.device.identity.public, 2, psk)
        self.client.peer.endpoint = self.gateway.spot
        self.now = 0.0
        self.delay = delay
        self.flying: list[tuple[float, int, Side, bytes, Spot]] = []
        self.log: list[tuple[str, bytes]] = []
        """What was sent, by whose side."""
        self.path: Callable[[Side, bytes], list[float]] = lambda sender, datagram: [self.delay]
        """The delays after which a datagram arrives: none when it is lost."""
        self._serial = 0

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.client, self.gateway

    def other(self, side: Side) -> Side:
        return self.gateway if side is self.client else self.client

    def send(self, side: Side, *packets: bytes) -> bool:
        """Put packets into the tunnel; False when it takes none now (a handshake is on then)."""
        peer = side.peer
        taken = peer.ready(self.now)
        if taken:
            for one in packets:
                at = peer.writer.reserve_packet(len(one))
                peer.writer.buffer[at : at + len(one)] = one
        self.transmit(side)
        return taken

    def transmit(self, side: Side) -> None:
        for message, where in side.device.take_messages():
            self._fly(side, message, where)
        for run, segment in side.peer.take(self.now):
            for at in range(0, len(run), segment):
                self._fly(side, bytes(run[at : at + segment]), side.peer.endpoint)
        for message, where in side.device.take_messages():
            self._fly(side, message, where)

    def _fly(self, side: Side, datagram: bytes, where: Spot | None) -> None:
        self.log.append((side.name, datagram))
        other = self.other(side)
        if where != other.spot:
            return
        for delay in self.path(side, datagram):
            self._serial += 1
            self.flying.append((self.now + delay, self._serial, other, datagram, side.spot))

    def deliver(self, side: Side, datagram: bytes, origin: Spot | None = None) -> None:
        """As if it had arrived, from the other side unless `origin` says otherwise."""
        where = origin or self.other(side).spot
        side.device.receive(memoryview(datagram), len(datagram), where, self.now)
        self.transmit(side)

    def run(self, seconds: float) -> None:
        """Let time pass: datagrams arrive, timers come due."""
        end = self.now + seconds
        while True:
            timers = [t for s in self.sides if (t := s.device.get_timer()) is not None]
            at = min([f[0] for f in self.flying] + timers, default=end + 1)
            if at > end:
                break
            self.now = max(self.now, at)
            due = sorted(f for f in self.flying if f[0] <= self.now)
            self.flying = [f for f in self.flying if f[0] > self.now]
            for _, _, side, datagram, origin in due:
                side.device.receive(memoryview(datagram), len(datagram), origin, self.now)
                self.transmit(side)
            for side in self.sides:
                side.device.handle_timer(self.now)
                self.transmit(side)
        self.now = end

    def connect(self) -> None:
        """A session, begun by the client and confirmed."""
        assert not self.send(self.client, packet(2))
        self.run(0.1)
        assert self.send(self.client, packet(2, b"hello"))
        self.run(0.1)
        assert self.gateway.packets.pop() == packet(2, b"hello")

    def sent(self, name: str, kind: int) -> list[bytes]:
        """The messages of that type that a side has sent."""
        return [d for who, d in self.log if who == name and d[0] == kind]


def state(side: Side) -> object:
    """All that a datagram may not change unless it is authenticated."""
    peer, device = side.peer, side.device
    pairs = peer.pairs
    return (
        [(p, p.sealing.counter, p.window.newest, bytes(p.window._ring)) for p in pairs.all()],
        (pairs.previous, pairs.current, pairs.next),
        [getattr(peer.timers, name) for name in peer.timers.__slots__],
        [
            getattr(peer, name)
            for name in peer.__slots__
            if name not in {"timers", "pairs", "writer"}
        ],
        peer.writer.pair,
        dict(device.pairs),
        dict(device.pending),
        list(side.packets),
        list(side.news),
    )
