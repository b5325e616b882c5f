"""A proxy's stack and a gateway's NAT, joined by a link in memory that loses what it is told to.

    local FakeStream -- Stack --Direction up--> Nat -- FakeStream of the far host
                              <--Direction down--

Both ends are the product's own; only the sockets and the resolver are stand-ins. Time is the
world's: it jumps from event to event.
"""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from client.outlet.proxy.dial import Dial
from client.outlet.proxy.outcome import Outcome
from client.outlet.proxy.outgoing import Outgoing
from client.outlet.proxy.resolver import Resolver
from client.outlet.proxy.stack import Stack
from gateway.nat.counters import Counters
from gateway.nat.limits import Limits
from gateway.nat.policy import EgressPolicy
from gateway.nat.router import Nat, NatConfig, TunnelPeer
from netstack.addresses import Addresses
from netstack.dns import wire_name
from netstack.heads import OFFLOAD_HEADER
from splice.limits import LinkLimits
from tests.fakes.outward import FakeDns, FakeOutward, FakeStream, PacketLog
from tests.netsim.simulation import Direction

CLIENT4, CLIENT6 = bytes((10, 9, 0, 2)), b"\xfd\x00\x00\x09" + bytes(11) + b"\x02"
GATEWAY4, GATEWAY6 = bytes((10, 9, 0, 1)), b"\xfd\x00\x00\x09" + bytes(11) + b"\x01"
HOST4 = bytes((192, 0, 2, 80))
HOST6 = b"\x20\x01\x0d\xb8" + bytes(11) + b"\x50"
ADDRESSES = Addresses(CLIENT4, CLIENT6, GATEWAY4, GATEWAY6)


def host(version: int) -> bytes:
    return HOST4 if version == 4 else HOST6


@dataclass
class Dialled:
    """What a dial came to."""

    outcome: Outcome | None = None
    flow: Outgoing | None = None
    at: float = 0.0
    local: FakeStream | None = None
    """The local program's end, once it is spliced."""
    told: int = 0
    dial: Dial | None = None


@dataclass
class Link:
    """One link's two ends, and what is on its way."""

    up: PacketLog
    down: PacketLog
    epoch: int
    open: bool = True


@dataclass
class Tunnel:
    """See above. `now` moves by `run`."""

    offload: bool = False
    mtu: int = 1400
    reliable: bool = True
    seed: int = 1
    up: Direction = field(default_factory=Direction)
    down: Direction = field(default_factory=Direction)
    limits: Limits = field(default_factory=Limits)
    stack_limits: LinkLimits = field(default_factory=LinkLimits)
    room: int = 1 << 30

    def __post_init__(self) -> None:
        self.now = 1000.0
        self.rng = random.Random(self.seed)
        self.outward, self.dns = FakeOutward(), FakeDns()
        self.policy = EgressPolicy()
        self.nat_counters = Counters()
        self.nat = Nat(
            NatConfig(self.limits), self.outward, self.dns, self.policy, self.nat_counters,
            self.rng.randbytes,
        )  # fmt: skip
        self.counts: defaultdict[str, int] = defaultdict(int)
        self.stack = Stack(
            self.counts, self.rng.randbytes, lambda: None, self.stack_limits, self.now
        )
        self.resolver = Resolver(self.stack, self.rng.randbytes)
        self.link: Link | None = None
        self.peer: TunnelPeer | None = None
        self._on_way: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._epoch = 0
        self.answer: Callable[[bytes, bool], bytes | None] | None = None
        """The resolver: the answer to a question, and whether it came by TCP."""
        self.connected: Callable[[FakeStream], None] | None = None
        """What a far host does about a connect; it answers at once if there is nothing else."""
        self._seen = 0

    # --- the link ------------------------------------------------------------------------------

    def open(self, addresses: Addresses = ADDRESSES, fresh: bool = False) -> None:
        """A link is there."""
        self._epoch += 1
        self.link = Link(
            PacketLog(self.offload, self.offload, self.mtu, self.room),
            PacketLog(self.offload, self.offload, self.mtu, self.room),
            self._epoch,
        )
        if self.peer is not None and (fresh or self.peer.ipv4 != addresses.ipv4):
            self.nat.remove_peer(self.peer, self.now)
            self.peer = None
        if self.peer is None:
            self.peer = self.nat.add_peer(f"peer-{self._epoch}", addresses, self.mtu, self.now)
        self.peer.set_out(self.link.down, lambda: None, self.now, self.reliable)
        self.stack.open(addresses, fresh, self.link.up, self.reliable, self.now)

    def cut(self) -> None:
        """The link is gone, and what was on it."""
        assert self.peer is not None
        self.link = None
        self.stack.link_lost(self.now)
        self.peer.link_lost(self.now)

    # --- time ----------------------------------------------------------------------------------

    def run(self, seconds: float = 0.0, until: Callable[[], bool] | None = None) -> bool:
        """Let so much time pass; stops early, and says so, when `until` holds."""
        end = self.now + seconds
        while True:
            self._settle()
            if until is not None and until():
                return True
            timers = [self.stack.get_timer(), self.nat.get_timer()]
            due = min(
                [timer for timer in timers if timer is not None]
                + [entry[0] for entry in self._on_way[:1]],
                default=end + 1,
            )
            if due > end:
                self.now = max(self.now, end)
                return False
            self.now = max(self.now, due)
            while self._on_way and self._on_way[0][0] <= self.now:
                heapq.heappop(self._on_way)[2]()
            self.stack.pass_time(self.now)
            self.nat.handle_timer(self.now)

    def _settle(self) -> None:
        """Both ends act until neither has anything to say now."""
        for _ in range(1000):
            self._answer()
            if self.link is None or self.peer is None:
                return
            link = self.link
            self.stack.end_batch(self.now)
            self.peer.end_batch(self.now)
            more = self.stack.pull(self.now) | self.peer.pull(self.now)
            sent = self._carry(link, link.up, self.up, self._into_nat)
            sent += self._carry(link, link.down, self.down, self._into_stack)
            if not sent and not more:
                return
        raise AssertionError("the two ends never come to rest")

    def _carry(
        self,
        link: Link,
        log: PacketLog,
        way: Direction,
        into: Callable[[Link, memoryview, int, bool], None],
    ) -> int:
        packets = log.take()
        for fields, packet in packets:
            gso_type, gso_size, hdr_len, csum_start, csum_offset = fields
            head = b""
            if log.offload:
                head = b"".join(
                    (
                        bytes((1 if csum_start else 0, gso_type)),
                        hdr_len.to_bytes(2, "little"), gso_size.to_bytes(2, "little"),
                        csum_start.to_bytes(2, "little"), csum_offset.to_bytes(2, "little"),
                    )
                )  # fmt: skip
                assert len(head) == OFFLOAD_HEADER
            data = memoryview(bytearray(head + bytes(packet)))
            arrive: Callable[[], None] = partial(into, link, data, len(head), bool(head))
            for at in way.arrivals(len(packet), self.now, self.rng):
                self._order += 1
                heapq.heappush(self._on_way, (at, self._order, arrive))
        return len(packets)

    def _into_nat(self, link: Link, data: memoryview, start: int, offload: bool) -> None:
        if link is self.link and self.peer is not None:
            copy = memoryview(bytearray(data))
            self.peer.from_tunnel(copy, start, len(copy), offload, self.now)

    def _into_stack(self, link: Link, data: memoryview, start: int, offload: bool) -> None:
        if link is self.link:
            copy = memoryview(bytearray(data))
            self.stack.from_tunnel(copy, start, len(copy), offload, self.now)

    def _answer(self) -> None:
        """The far hosts and the resolver do what they do at once."""
        while self._seen < len(self.outward.streams):
            stream = self.outward.streams[self._seen]
            self._seen += 1
            if self.connected is not None:
                self.connected(stream)
            else:
                stream.connected(self.now)
        if self.answer is not None:
            questions, self.dns.questions = self.dns.questions, []
            for wire, by_tcp, _, reply in questions:
                answer = self.answer(wire, by_tcp)
                if answer is not None:
                    reply(answer)

    # --- what a local program does -------------------------------------------------------------

    def dial(self, where: bytes | str, port: int = 80) -> Dialled:
        """Dial, and splice what opens to a local stream."""
        dialled = Dialled()

        def done(outcome: Outcome, flow: Outgoing | None, now: float) -> None:
            dialled.told += 1
            dialled.outcome, dialled.flow, dialled.at = outcome, flow, now
            if flow is not None:
                dialled.local = local = FakeStream(b"", 0, flow)
                flow.begin(local, now)

        dial = Dial(self.stack, port, done)
        dialled.dial = dial
        if isinstance(where, str):
            dial.begin(None, wire_name(where), self.resolver, self.now)
        else:
            dial.begin(where, b"", None, self.now)
        return dialled

    def opened(self, version: int = 4, port: int = 80) -> tuple[FakeStream, FakeStream]:
        """A connection that is open: the local program's end and the far host's."""
        dialled = self.dial(host(version), port)
        assert self.run(5.0, lambda: dialled.outcome is not None)
        assert dialled.outcome is Outcome.OPENED and dialled.local is not None
        return dialled.local, self.outward.streams[-1]
