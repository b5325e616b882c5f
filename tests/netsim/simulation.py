"""A seeded link between two endpoints in memory, with a clock of its own.

    Host a  --PacketLog-->  Direction(a to b)  -->  Host b
            <--------------  Direction(b to a)  <--

A direction loses, duplicates and delays packets by a seeded generator; a
packet that is delayed longer than its followers arrives after them. Time jumps
from event to event, so a run takes as long as its computing does.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from netstack import checksum
from netstack.tcp.buffers import CAPACITY, SendBufferPool
from netstack.tcp.config import CloseReason, TcpConfig
from netstack.tcp.connection import TcpConnection
from netstack.tcp.states import State
from netstack.tcp_segment import TcpSegment, parse_tcp
from tests.netsim.out import Packet, PacketLog

ADDRESSES = {
    4: (bytes((10, 99, 0, 1)), bytes((10, 99, 0, 2))),
    6: (b"\xfd\x99" + bytes(13) + b"\x01", b"\xfd\x99" + bytes(13) + b"\x02"),
}
PORTS = (1000, 1001)
"""Addresses and ports of the first and the second host."""


def segment_of(packet: Packet) -> TcpSegment:
    """Parse an emitted packet, its checksum verified where it is complete."""
    data = packet.data
    if data[0] >> 4 == 4:
        header = 20
        assert checksum.valid(checksum.add(data[:20]))
        addresses = data[12:16], data[16:20]
    else:
        header = 40
        addresses = data[8:24], data[24:40]
    length = len(data) - header
    assert length == (
        int.from_bytes(data[2:4], "big") - 20 if header == 20 else int.from_bytes(data[4:6], "big")
    )
    pseudo = checksum.pseudo_header(*addresses, 6, length)
    if packet.csum_start:
        field_at = packet.csum_start + packet.csum_offset
        assert int.from_bytes(data[field_at : field_at + 2], "big") == checksum.fold(pseudo)
        return parse_tcp(data, header, len(data))
    return parse_tcp(data, header, len(data), pseudo)


@dataclass
class Direction:
    """How one direction of a link treats packets; times in s."""

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    """Share of packets that are held back by `reorder_delay`."""
    delay: float = 0.01
    reorder_delay: float = 0.004
    rate: float = 0.0
    """Bytes per second; 0 is unlimited."""
    queue: int = 256 * 1024
    """Bytes that wait for the rate before packets are dropped."""
    lost: int = 0
    free_at: float = 0.0

    def arrivals(self, size: int, now: float, rng: random.Random) -> list[float]:
        """When copies of a packet of `size` bytes sent `now` arrive; empty: lost."""
        if self.loss and rng.random() < self.loss:
            self.lost += 1
            return []
        begin = now
        if self.rate:
            begin = max(now, self.free_at)
            if (begin - now) * self.rate > self.queue:
                self.lost += 1
                return []
            self.free_at = begin = begin + size / self.rate
        at = begin + self.delay
        if self.reorder and rng.random() < self.reorder:
            at += self.reorder_delay
        copies = 2 if self.duplicate and rng.random() < self.duplicate else 1
        return [at] * copies


class Host:
    """One end: a user that sends `source`, hashes what comes, and closes when told to."""

    def __init__(
        self,
        clock: Callable[[], float],
        index: int,
        config: TcpConfig,
        iss: int,
        source: bytes = b"",
        version: int = 4,
        offload: bool = False,
        mtu: int = 1500,
    ) -> None:
        self.clock = clock
        self.log = PacketLog(offload, mtu)
        local, remote = ADDRESSES[version][index], ADDRESSES[version][1 - index]
        self.pool = SendBufferPool()
        self.conn = TcpConnection(
            version, local, PORTS[index], remote, PORTS[1 - index], self, config, iss, self.log
        )
        self.source = source
        self.sent = 0
        self.received = 0
        self.marks: list[int] = []
        """How many bytes were delivered with each urgent byte."""
        self.digest = hashlib.sha256()
        self.fin_seen = False
        self.fin_at = 0.0
        self.reason: CloseReason | None = None
        self.close_when_done = True
        self.consume = True
        """Whether delivered bytes are passed on at once."""
        self.piece = CAPACITY

    # --- TcpUser -----------------------------------------------------------------------------

    def deliver(self, data: memoryview) -> None:
        self.received += len(data)
        self.digest.update(data)
        if self.consume:
            self.conn.consumed(len(data), self.clock())

    def deliver_urgent(self, data: memoryview, end: int) -> None:
        self.marks.append(self.received + end)
        self.deliver(data)

    def deliver_fin(self) -> None:
        assert not self.fin_seen
        self.fin_seen = True
        self.fin_at = self.clock()

    def kept_alive(self, silence: float) -> None:
        pass

    def window_opened(self) -> None:
        self.pump()

    def closed(self, reason: CloseReason) -> None:
        assert self.reason is None
        self.reason = reason

    # --- driving -----------------------------------------------------------------------------

    def pump(self) -> None:
        """Send as much of the source as may be sent, and FIN after it."""
        while self.sent < len(self.source) and (room := self.conn.sendable()):
            n = min(room, self.piece, len(self.source) - self.sent)
            buf = self.pool.take()
            buf.view[:n] = self.source[self.sent : self.sent + n]
            self.conn.send(buf, n, self.clock())
            self.sent += n
        if self.sent == len(self.source) and self.close_when_done:
            self.conn.send_fin(self.clock())

    def arrive(self, packet: Packet) -> None:
        """A packet from the link."""
        seg = segment_of(packet)
        if self.conn.state is State.LISTEN:
            self.conn.syn_arrived(seg, self.clock())
            self.conn.accept(self.clock())
            self.pump()
        else:
            header = 20 if packet.data[0] >> 4 == 4 else 40
            if not self.conn.predicted(seg.buf, header, seg.end, self.clock()):
                self.conn.segment_arrived(seg, self.clock())
        self.conn.flush_ack(self.clock())


@dataclass
class Simulation:
    """Two hosts, two directions, one clock."""

    seed: int = 0
    ab: Direction = field(default_factory=Direction)
    ba: Direction = field(default_factory=Direction)
    now: float = 100.0
    packets: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.hosts: list[Host] = []
        self._events: list[tuple[float, int, int, Packet]] = []
        self._serial = 0

    def add(
        self,
        config: TcpConfig,
        source: bytes = b"",
        *,
        version: int = 4,
        offload: bool = False,
        iss: int | None = None,
    ) -> Host:
        """Add a host: the first is `a` (opens actively), the second `b`."""
        index = len(self.hosts)
        random_iss = self.rng.getrandbits(32)
        iss = random_iss if iss is None else iss
        host = Host(lambda: self.now, index, config, iss, source, version=version, offload=offload)
        self.hosts.append(host)
        return host

    def collect(self) -> None:
        """Put what the hosts have emitted on the link."""
        for index, host in enumerate(self.hosts):
            direction = self.ba if index else self.ab
            for packet in host.log.take():
                self.packets += 1
                for at in direction.arrivals(len(packet.data), self.now, self.rng):
                    self._serial += 1
                    heapq.heappush(self._events, (at, self._serial, 1 - index, packet))

    def step(self, until: float | None = None) -> bool:
        """Advance to the next event and handle it; False if there is none before `until`."""
        self.collect()
        timers = [host.conn.get_timer() for host in self.hosts]
        due = [timer for timer in timers if timer is not None]
        arrival = self._events[0][0] if self._events else None
        first = min([*due, arrival] if arrival is not None else due, default=None)
        if first is None:
            return False
        if until is not None and first > until:
            self.now = until
            return False
        self.now = max(self.now, first)
        if arrival == first:
            _, _, index, packet = heapq.heappop(self._events)
            self.hosts[index].arrive(packet)
        else:
            for host in self.hosts:
                host.conn.handle_timer(self.now)
                host.conn.flush_ack(self.now)
        return True

    def run(self, until: float | None = None, steps: int = 2_000_000) -> None:
        """Run until both hosts are closed, nothing happens any more, or `until`."""
        for _ in range(steps):
            if all(host.conn.state is State.CLOSED for host in self.hosts):
                return
            if not self.step(until):
                return
        raise AssertionError(f"no end after {steps} steps: {[h.conn for h in self.hosts]}")

    def break_link(self) -> None:
        """What is on the way is lost, and both ends learn that there is no link."""
        self.collect()
        self._events.clear()
        self.ab.free_at = self.ba.free_at = 0.0
        for host in self.hosts:
            host.conn.out = None

    def resume_link(self, reliable: bool) -> None:
        """The link is back, perhaps of another kind."""
        for host in self.hosts:
            host.conn.link_resumed(host.log, self.now, reliable)

    def open(self) -> None:
        """Let `a` connect."""
        self.hosts[0].conn.connect(self.now)
        self.hosts[0].pump()
