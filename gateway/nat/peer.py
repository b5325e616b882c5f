"""One client's side of the NAT: demultiplexing, answers, the queue to its link.

A packet from the tunnel is first tried on the fast path: an IP header without
options or extensions, and a flow that is already in the table. Its key is the
run of bytes that the header has in a row, addresses and ports, cut out by one
`unpack`. As flows enter the tables only with a source address that was
checked, a hit needs no check of its own. Nor are its checksums looked at: what
an AEAD has opened is as the client sent it, and bits that fell over before are
as they would be inside any host (so holds the kernel's WireGuard of what it
opens). Everything else goes the slow path: parsed in full, summed, checked
against the lease, reassembled, judged by policy and bounds, and told by ICMP
or RST why not.

Exactly one counter is counted for each packet; `counters.py` says which names
are which outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Protocol

from gateway.nat import errors
from gateway.nat.connects import Connects
from gateway.nat.counters import FROM_TUNNEL
from gateway.nat.dns import Questions
from gateway.nat.icmp import EchoSession
from gateway.nat.shares import Spares
from gateway.nat.side import Buffer, ClientSide, Surroundings
from gateway.nat.udp import Tables
from netstack.dns import PROHIBITED, REFUSED, error_reply
from netstack.fragments import Reassembler
from netstack.heads import (
    NEEDS_CSUM,
    OFFLOAD_HEADER,
    TCP4_CSUM,
    TCP6_CSUM,
    UDP4_CSUM,
    UDP6_CSUM,
    fast4,
    fast6,
    offload_head,
)
from netstack.ip import PROTO_TCP, PROTO_UDP
from netstack.out import GSO_UDP_L4
from netstack.tcp.errors import MalformedSegment
from netstack.tcp.states import State
from netstack.tcp_segment import ACK, SYN, parse_tcp
from netstack.udp import UDP_HEADER
from sealing.buckets import TokenBucket
from splice.flow import Flow
from splice.peer import UNMETERED
from splice.scheduler import FairQueue
from splice.splice import Splice
from splice.timers import NEVER

if TYPE_CHECKING:
    from gateway.nat.counters import Counters
    from netstack.addresses import Addresses
    from netstack.tcp_segment import TcpSegment
    from rules.destinations import AddressRules
    from splice.timers import Timers

GATE_CLOSED = "this device may not use the tunnel now"
"""What a resolver's refusal says to people (RFC 8914)."""

SlowPath = Callable[["TunnelPeer", Buffer, int, int, int, int, int, int, float], str]
"""Takes any packet `buf[start:end]`, with four numbers of its offload header: `admission.py`."""
LateSyn = Callable[["TunnelPeer", Splice, "TcpSegment", Buffer, int, int, float], str]
"""Takes a SYN for a connection in TIME-WAIT: `admit_tcp.py`."""

_SEGMENT = "tcp__segment__forwarded"

_TCP_OFFSET = 12
"""Where a TCP header says how long it is, in words of 4 bytes, in the upper half of a byte (RFC
9293, 3.1)."""


class Nat(Surroundings, Protocol):
    """What a client's own state needs of the NAT besides."""

    counters: Counters
    timers: Timers
    segment: TcpSegment
    """Scratch: the segment being taken in."""

    @property
    def on_metered(self) -> Callable[[ClientSide, float], None]: ...

    def next_flow_id(self) -> int: ...

    def next_ident(self) -> int: ...


class TunnelPeer(ClientSide):
    """A client: its addresses, its flows, its way back."""

    __slots__ = (
        "_errors",
        "_late_syn",
        "_slow_path",
        "connects",
        "counters",
        "destinations",
        "echo",
        "from_tunnel_bytes",
        "gateway_ipv4",
        "gateway_ipv6",
        "ipv4",
        "ipv6",
        "mappings",
        "max_flows",
        "nat",
        "questions",
        "reassembler",
        "shut_out",
        "spare_mappings",
        "spares",
        "udp",
        "udp_remotes",
        "up_stop",
    )

    nat: Nat

    def __init__(
        self,
        nat: Nat,
        slow_path: SlowPath,
        late_syn: LateSyn,
        peer_id: str,
        addresses: Addresses,
        mtu: int,
        now: float,
    ) -> None:
        limits = nat.config.limits
        self.counters = nat.counters.part()
        """What was counted of this client."""
        ClientSide.__init__(self, peer_id, nat.timers, self.counters.counts, limits, mtu)
        self.nat = nat
        self._slow_path = slow_path
        self._late_syn = late_syn
        # Taken apart: the packet path reads them.
        self.ipv4, self.ipv6 = addresses.ipv4, addresses.ipv6
        self.gateway_ipv4, self.gateway_ipv6 = addresses.gateway_ipv4, addresses.gateway_ipv6
        self.from_tunnel_bytes = 0
        self.destinations: AddressRules | None = None
        self.max_flows: int | None = None
        self.up_stop = UNMETERED
        """The `from_tunnel_bytes` beyond which its quota is looked at (`Nat.on_metered`)."""
        self.shut_out = False
        self.connects = Connects(self)
        self.udp = Tables()
        self.udp_remotes = self.udp.remotes
        self.mappings = self.udp.mappings
        self.echo: dict[tuple[int, int], EchoSession] = {}
        self.spares = Spares(self._flows)
        self.spare_mappings = Spares(self.mappings.values)
        self.questions = Questions(limits.dns_per_peer)
        self.reassembler = Reassembler(limits.fragments_per_peer)
        self._errors = TokenBucket(
            limits.icmp_errors_per_second, limits.icmp_errors_per_second, now
        )

    @property
    def flow_count(self) -> int:
        return len(self.tcp) + len(self.draining) + len(self.mappings) + len(self.echo)

    # From the tunnel.

    def from_tunnel(self, buf: Buffer, start: int, end: int, offload: bool, now: float) -> None:
        """Take one IP packet `buf[start:end]`, after a 10-byte offload header if `offload`.

        An AEAD has opened it, so it is as the client sent it.
        """
        self.timers.now = now
        counts = self.counts
        counts[FROM_TUNNEL] += 1
        size = end - start
        carried = self.from_tunnel_bytes + size
        flags = gso_type = gso_size = csum = 0
        if offload:
            flags, gso_type, _, gso_size, csum_start, csum_offset = offload_head(
                buf, start - OFFLOAD_HEADER
            )
            if flags & NEEDS_CSUM:
                csum = csum_start << 16 | csum_offset
            if gso_size:
                # The headers that the packet has once, and those that it is cut into have each.
                if gso_type == GSO_UDP_L4:
                    heads = csum_start + UDP_HEADER
                elif csum_start + _TCP_OFFSET < size:
                    heads = csum_start + (buf[start + csum_start + _TCP_OFFSET] >> 4 << 2)
                else:
                    heads = 0
                if size > heads:
                    carried += heads * ((size - heads - 1) // gso_size)
        self.from_tunnel_bytes = carried
        if carried > self.up_stop:
            self.nat.on_metered(self, now)
        if size >= 28:
            first = buf[start]
            if first == 0x45:
                _, total, frag, ttl, proto, key, length, udp_sum = fast4(buf, start)
                header = 20
                plain = not frag & 0x3FFF
                csum_tcp = TCP4_CSUM
                csum_udp = UDP4_CSUM
            elif first >> 4 == 6 and size >= 48:
                _, total, proto, ttl, key, length, udp_sum = fast6(buf, start)
                total += 40
                header = 40
                plain = True
                csum_tcp = TCP6_CSUM
                csum_udp = UDP6_CSUM
                frag = 0
            else:
                plain = False
                proto = total = 0
            if plain and total <= size and ttl > 1:
                if proto == PROTO_TCP:
                    flow = self.tcp.get(key)
                    if flow is not None and (not csum or csum == csum_tcp) and flags <= 3:
                        if flow.conn.predicted(buf, start + header, start + total, now):
                            counts[_SEGMENT] += 1
                            if not flow.batched:
                                flow.batched = True
                                self.batch.append(flow)
                            return
                        counts[self._segment(flow, buf, start, header, total, now)] += 1
                        return
                elif proto == PROTO_UDP:
                    remote = self.udp_remotes.get(key)
                    if (
                        remote is not None
                        and 8 <= length <= total - header
                        and flags <= 3
                        # Over IPv6 it may not be absent (RFC 8200, 8.1).
                        and (csum == csum_udp or (not csum and (udp_sum or header == 20)))
                    ):
                        mapping = remote.mapping
                        data = start + header + 8
                        stop = start + header + length
                        if not gso_type:
                            fragment = header == 20 and not frag & 0x4000
                            mapping.from_tunnel(remote, buf, data, stop, ttl - 1, fragment, now)
                            return
                        if gso_type == GSO_UDP_L4 and gso_size and csum:
                            mapping.segments_from_tunnel(
                                remote, buf, data, stop, gso_size, ttl - 1, now
                            )
                            return
        name = self._slow_path(self, buf, start, end, flags, gso_type, gso_size, csum, now)
        if name:
            counts[name] += 1

    def _segment(
        self,
        flow: Splice,
        buf: Buffer,
        start: int,
        header: int,
        total: int,
        now: float,
    ) -> str:
        """Hand a TCP segment of a known flow to its connection."""
        try:
            seg = parse_tcp(buf, start + header, start + total, None, self.nat.segment)
        except MalformedSegment as error:
            return f"tcp__{error.reason}__dropped"
        if seg.flags & (SYN | ACK) == SYN and flow.conn.state == State.TIME_WAIT:
            return self._late_syn(self, flow, seg, buf, start, start + total, now)
        flow.conn.segment_arrived(seg, now)
        if not flow.batched:
            flow.batched = True
            self.batch.append(flow)
        return _SEGMENT

    # To the tunnel.

    def send_error(self, packet: bytearray, now: float) -> bool:
        """Emit an ICMP error or a reset, if the rate allows; False if it was not sent."""
        if self.out is None or not self._errors.take(now):
            return False
        self.emit(packet)
        self.wake()
        return True

    def refuse(self, name: str, version: int, code: int, quote: bytes, now: float) -> str:
        """Answer a packet by Destination Unreachable; returns the counter's name."""
        client = self.ipv4 if version == 4 else self.ipv6
        packet = errors.unreachable(self.gateway(version), client, code, quote)
        return name + ("__icmp_sent" if self.send_error(packet, now) else "__dropped")

    def ask(self, wire: bytes, over_tcp: bool, reply: Callable[[bytes], None]) -> None:
        """Have a DNS question of the client's answered; refused, if it is shut out by then."""
        if self.shut_out:
            self._refuse_question(wire, reply)
            return

        def answered(answer: bytes) -> None:
            if self.shut_out:
                self._refuse_question(wire, reply)
            else:
                reply(answer)

        self.nat.dns.query(wire, over_tcp, self.id, answered)

    def _refuse_question(self, wire: bytes, reply: Callable[[bytes], None]) -> None:
        self.counts["dns__gate_closed__refused"] += 1
        refusal = error_reply(wire, REFUSED, PROHIBITED, GATE_CLOSED)
        if refusal is not None:
            reply(refusal)

    def meter(self, allowance: int, now: float) -> int:
        self.nat.on_metered(self, now)
        return super().meter(allowance, now)

    def next_flow_id(self) -> int:
        return self.nat.next_flow_id()

    def next_ident(self) -> int:
        return self.nat.next_ident()

    # What flows use.

    def gateway(self, version: int) -> bytes:
        return self.gateway_ipv4 if version == 4 else self.gateway_ipv6

    def client(self, version: int) -> bytes:
        return self.ipv4 if version == 4 else self.ipv6

    def opened(self) -> None:
        super().opened()
        self.nat.sockets += 1

    def released(self) -> None:
        super().released()
        self.nat.sockets -= 1

    def connected(self, flow: Splice) -> None:
        self.connects.leave(flow)

    def leave(self, flow: Splice) -> None:
        super().leave(flow)
        self.connects.leave(flow)

    def _sort_datagrams(self, before: FairQueue) -> None:
        for flow in [*self.mappings.values(), *self.echo.values()]:
            waits = flow.backlogged
            before.remove(flow)
            if waits:
                self.datagrams.add(flow)

    # Timers.

    def due(self) -> float:
        if self.removed:
            return NEVER
        reassembly = self.reassembler.get_timer()
        return min(super().due(), self.connects.due(), NEVER if reassembly is None else reassembly)

    def handle_timer(self, now: float) -> None:
        super().handle_timer(now)
        self.connects.handle_timer(now)
        for quote in self.reassembler.expire(now):
            self.counts["ip__reassembly__timed_out"] += 1
            version = quote[0] >> 4
            packet = errors.time_exceeded(self.gateway(version), self.client(version), 1, quote)
            self.send_error(packet, now)

    # Closing.

    def _flows(self) -> Iterator[Flow]:
        return chain(self.tcp.values(), self.draining, self.mappings.values(), self.echo.values())

    def all_flows(self) -> list[Flow]:
        return list(self._flows())

    def close_all(self, now: float) -> None:
        """The client has gone for good."""
        super().close_all(now)
        for flow in [*self.mappings.values(), *self.echo.values()]:
            flow.shut(now)
        self.reassembler.clear()
