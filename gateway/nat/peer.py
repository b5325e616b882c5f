"""One client's side of the NAT: demultiplexing, answers, the queue to its link.

A packet from the tunnel is first tried on the fast path: an IP header without
options or extensions, and a flow that is already in the table. Its key is the
run of bytes that the header has in a row, addresses and ports, cut out by one
`unpack`. As flows enter the tables only with a source address that was
checked, a hit needs no check of its own. Everything else goes the slow path:
parsed in full, checked against the lease, reassembled, judged by policy and
bounds, and told by ICMP or RST why not.

Exactly one counter is counted for each packet; `counters.py` says which names
are which outcome.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from struct import Struct
from typing import TYPE_CHECKING

from gateway.nat import admission, errors
from gateway.nat.admit_tcp import syn_in_time_wait
from gateway.nat.connects import Connects
from gateway.nat.counters import FROM_TUNNEL
from gateway.nat.dns import Questions
from gateway.nat.emission import emit_fragments
from gateway.nat.flows import NEVER, Flow
from gateway.nat.icmp import EchoSession
from gateway.nat.mtu import mss_for
from gateway.nat.pace import QueuePace
from gateway.nat.scheduler import FairQueue
from gateway.nat.shares import Spares
from gateway.nat.tcp import TcpFlow
from gateway.nat.udp import Remote, UdpMapping
from gateway.nat.windows import WindowBudget, first_window
from netstack import checksum
from netstack.fragments import Reassembler
from netstack.ip import PROTO_TCP, PROTO_UDP
from netstack.out import GSO_UDP_L4
from netstack.tcp.buffers import CAPACITY, SendBufferPool
from netstack.tcp.config import TcpConfig
from netstack.tcp.errors import MalformedSegment
from netstack.tcp.states import State
from netstack.tcp_segment import ACK, SYN, parse_tcp
from sealing.buckets import TokenBucket

if TYPE_CHECKING:
    from gateway.nat.router import Nat
    from netstack.out import PacketOut

OFFLOAD_HEADER = 10
"""Bytes of the offload header in front of a packet: virtio_net_hdr, little-endian."""

_OFFLOAD = Struct("<BBHHHH").unpack_from
_FAST4 = Struct("!BxHxxHBBxx12sHH").unpack_from
_FAST6 = Struct("!B3xHBB36sHH").unpack_from
_WORDS4 = Struct("!10H").unpack_from

_NEEDS_CSUM = 1

_TCP4_CSUM = 20 << 16 | 16
_TCP6_CSUM = 40 << 16 | 16
_UDP4_CSUM = 20 << 16 | 6
_UDP6_CSUM = 40 << 16 | 6

ACK_DELAY = 0.002
"""Seconds that an ACK with no other news waits for an answer to travel with: a host nearby has
answered by then, and a client notices nothing (RFC 9293 section 3.8.6.3 allows half a second)."""
MAX_READS = 256
"""Socket reads in one `pull`, so that reads that give nothing to send cannot hold the loop."""
FREE_BUFFERS = 16
"""Send buffers of 64 KiB that a peer keeps for its next reads."""

Buffer = bytearray | memoryview


class TunnelPeer:
    """A client: its addresses, its flows, its way back."""

    __slots__ = (
        "_dirty",
        "_errors",
        "_pace",
        "_tcp_configs",
        "backlog_bytes",
        "batch",
        "buffers",
        "connects",
        "counts",
        "draining",
        "echo",
        "from_tunnel_bytes",
        "gateway_ipv4",
        "gateway_ipv6",
        "held",
        "held_until",
        "id",
        "in_flight",
        "ipv4",
        "ipv6",
        "limits",
        "mappings",
        "mtu",
        "nat",
        "out",
        "questions",
        "queue",
        "read_size",
        "reassembler",
        "reliable",
        "removed",
        "resending",
        "sockets",
        "spare_mappings",
        "spares",
        "tcp",
        "timer",
        "to_tunnel_bytes",
        "udp_remotes",
        "windows",
    )

    def __init__(
        self,
        nat: Nat,
        peer_id: str,
        ipv4: bytes,
        ipv6: bytes,
        gateway_ipv4: bytes,
        gateway_ipv6: bytes,
        mtu: int,
        out: PacketOut | None,
        reliable: bool,
        now: float,
    ) -> None:
        self.nat = nat
        self.id = peer_id
        self.ipv4 = ipv4
        self.ipv6 = ipv6
        self.gateway_ipv4 = gateway_ipv4
        self.gateway_ipv6 = gateway_ipv6
        self.mtu = mtu
        self.out = out
        self.reliable = reliable
        """Whether the link neither loses nor reorders (a stream)."""
        self.removed = False
        self.limits = limits = nat.config.limits
        self.counts = nat.counters.counts
        self.from_tunnel_bytes = 0
        """IP packets' bytes from the client; payload bytes toward it in `to_tunnel_bytes`."""
        self.to_tunnel_bytes = 0
        self.tcp: dict[bytes, TcpFlow] = {}
        self.connects = Connects(self)
        self.draining: set[TcpFlow] = set()
        self.udp_remotes: dict[bytes, Remote] = {}
        self.mappings: dict[tuple[int, int], UdpMapping] = {}
        self.echo: dict[tuple[int, int], EchoSession] = {}
        self.spares = Spares(self._flows)
        self.spare_mappings = Spares(self.mappings.values)
        self.questions = Questions(limits.dns_per_peer)
        self.reassembler = Reassembler(limits.fragments_per_peer)
        self.queue = FairQueue()
        self.buffers = SendBufferPool(FREE_BUFFERS)
        self.windows = WindowBudget(limits)
        self.batch: list[Flow] = []
        """Flows with something to do at the end of the batch."""
        self.held: dict[TcpFlow, None] = {}
        """Connections whose ACK waits, until `held_until`, for data to travel with."""
        self.held_until = NEVER
        self.resending: dict[TcpFlow, None] = {}
        """Connections with retransmissions that wait for room on the link."""
        self.sockets = 0
        self.in_flight = 0
        """Bytes sent to the client and not acknowledged, of all its connections."""
        self.backlog_bytes = 0
        """Bytes from the client that no socket has taken yet."""
        self.timer = NEVER
        self.read_size = CAPACITY
        """The largest piece that a connection reads from its socket now."""
        self._dirty = False
        self._pace = QueuePace()
        self._errors = TokenBucket(
            limits.icmp_errors_per_second, limits.icmp_errors_per_second, now
        )
        self._tcp_configs: dict[tuple[int, int], TcpConfig] = {}

    @property
    def flow_count(self) -> int:
        return len(self.tcp) + len(self.draining) + len(self.mappings) + len(self.echo)

    # From the tunnel.

    def from_tunnel(self, buf: Buffer, start: int, end: int, offload: bool, now: float) -> None:
        """Take one IP packet `buf[start:end]`, after a 10-byte offload header if `offload`."""
        nat = self.nat
        nat.now = now
        counts = self.counts
        counts[FROM_TUNNEL] += 1
        size = end - start
        self.from_tunnel_bytes += size
        flags = gso_type = gso_size = csum = 0
        if offload:
            flags, gso_type, _, gso_size, csum_start, csum_offset = _OFFLOAD(
                buf, start - OFFLOAD_HEADER
            )
            if flags & _NEEDS_CSUM:
                csum = csum_start << 16 | csum_offset
        if size >= 28:
            first = buf[start]
            if first == 0x45:
                _, total, frag, ttl, proto, key, length, udp_sum = _FAST4(buf, start)
                header = 20
                plain = not frag & 0x3FFF
                # Behind NEEDS_CSUM are the client's kernel and our own AEAD.
                intact = csum or not sum(_WORDS4(buf, start)) % 0xFFFF
                csum_tcp = _TCP4_CSUM
                csum_udp = _UDP4_CSUM
            elif first >> 4 == 6 and size >= 48:
                _, total, proto, ttl, key, length, udp_sum = _FAST6(buf, start)
                total += 40
                header = 40
                plain = intact = True
                csum_tcp = _TCP6_CSUM
                csum_udp = _UDP6_CSUM
                frag = 0
            else:
                plain = intact = False
                proto = total = 0
            if plain and intact and total <= size and ttl > 1:
                if proto == PROTO_TCP:
                    flow = self.tcp.get(key)
                    if flow is not None and (not csum or csum == csum_tcp) and flags <= 3:
                        counts[self._segment(flow, buf, start, header, total, csum, now)] += 1
                        return
                elif proto == PROTO_UDP:
                    remote = self.udp_remotes.get(key)
                    if (
                        remote is not None
                        and 8 <= length <= total - header
                        and flags <= 3
                        and (
                            csum == csum_udp
                            or (
                                not csum
                                and self._udp_intact(buf, start, header, length, udp_sum, key)
                            )
                        )
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
        name = admission.slow_path(self, buf, start, end, flags, gso_type, gso_size, csum, now)
        if name:
            counts[name] += 1

    def _segment(
        self,
        flow: TcpFlow,
        buf: Buffer,
        start: int,
        header: int,
        total: int,
        csum: int,
        now: float,
    ) -> str:
        """Hand a TCP segment of a known flow to its connection."""
        at = start + header
        pseudo = None if csum else flow.pseudo + total - header
        try:
            seg = parse_tcp(buf, at, start + total, pseudo, self.nat.segment)
        except MalformedSegment as error:
            return f"tcp__{error.reason}__dropped"
        if seg.flags & (SYN | ACK) == SYN and flow.conn.state == State.TIME_WAIT:
            return syn_in_time_wait(self, flow, seg, buf, start, start + total, now)
        flow.conn.segment_arrived(seg, now)
        if not flow.batched:
            flow.batched = True
            self.batch.append(flow)
        return "tcp__segment__forwarded"

    @staticmethod
    def _udp_intact(
        buf: Buffer, start: int, header: int, length: int, udp_sum: int, key: bytes
    ) -> bool:
        if not udp_sum:
            return header == 20
        # The key is the addresses and the ports; the ports are in the datagram's own sum as well.
        at = start + header
        total = int.from_bytes(key[:-4], "big") + PROTO_UDP + length
        return not (total + checksum.add(buf[at : at + length])) % 65535

    def end_batch(self, now: float) -> None:
        """After a batch of `from_tunnel` calls: joined pieces, ACKs, gathered datagrams."""
        self.nat.now = now
        batch = self.batch
        if batch:
            self.batch = []
            for flow in batch:
                flow.end_batch(now)
        out = self.out
        if out is not None and (out.waiting or self.queue.waiting or self.resending):
            self.wake()

    # To the tunnel.

    def pull(self, now: float) -> bool:
        """Fill the link's queue from readable sockets, fairly; True if more is ready.

        The queue is filled as far as the link has room, and no further than
        its pace allows.
        """
        self._dirty = False
        out = self.out
        if out is None:
            return False
        self.nat.now = now
        room = out.room()
        allowance = self._pace.allowance(room, now)
        more = self._fill(out, room - allowance, allowance, now)
        self._pace.filled(out.room())
        return more

    def _fill(self, out: PacketOut, least_room: int, allowance: int, now: float) -> bool:
        """Emit until no more than `least_room` is left; True if more is ready."""
        room = out.room
        if self.resending:
            for flow in list(self.resending):
                if room() <= 0:
                    return True
                if flow.conn.output_pending:
                    flow.conn.output(now)
                if not flow.conn.output_pending:
                    self.resending.pop(flow, None)
                flow.settle(now)
        queue = self.queue
        bound = self.limits.unacknowledged_per_peer
        self.read_size = self._pace.read_size(allowance)
        for _ in range(MAX_READS):
            if room() <= least_room:
                return queue.waiting > 0
            member = queue.next()
            if member is None:
                return False
            if self.in_flight >= bound:
                self.counts["tcp__unacknowledged__bound_reached"] += 1
                return False
            assert isinstance(member, Flow)
            queue.charge(member, member.pull_some(out, now))
        return queue.waiting > 0

    def set_out(self, out: PacketOut | None, now: float, reliable: bool = True) -> None:
        """The link broke (None) or is back: TCP then resends what is unacknowledged."""
        self.nat.now = now
        self.out = out
        self.reliable = reliable
        self._tcp_configs.clear()
        self._pace = QueuePace()
        if out is not None:
            self.mtu = out.mtu
        for flow in list(self.tcp.values()):
            if out is None:
                flow.conn.out = None
            else:
                flow.conn.link_resumed(out, now, reliable)
                flow.settle(now)
        if out is None:
            self._dirty = False
        else:
            self.wake()

    def set_mtu(self, mtu: int) -> None:
        """The lease's MTU changed: connections from now on offer the MSS that fits it."""
        self.mtu = mtu
        self._tcp_configs.clear()

    @property
    def wants_out(self) -> bool:
        """Whether something was to be sent since the last `pull`."""
        return self._dirty

    def wake(self) -> None:
        """There is something to send, or to read and send."""
        if not self._dirty and self.out is not None:
            self._dirty = True
            self.nat.on_output(self)

    def activate(self, flow: Flow) -> None:
        """The flow has something to be read and may emit it."""
        self.queue.add(flow)
        if not self._dirty:
            self.wake()

    def emit(self, packet: bytearray) -> None:
        """Emit a whole packet of our own making, in fragments if it exceeds the MTU."""
        out = self.out
        if out is None:
            return
        if len(packet) <= out.mtu:
            at = out.reserve_packet(len(packet))
            out.buffer[at : at + len(packet)] = packet
            return
        emit_fragments(out, packet, self.nat.next_ident())

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

    # What flows use.

    def gateway(self, version: int) -> bytes:
        return self.gateway_ipv4 if version == 4 else self.gateway_ipv6

    def client(self, version: int) -> bytes:
        return self.ipv4 if version == 4 else self.ipv6

    def tcp_config(self, version: int) -> TcpConfig:
        """The settings of a new connection. Few different ones exist, and they are shared."""
        mss = mss_for(self.mtu, version)
        window = first_window(self.limits, len(self.tcp) + 1)
        key = (mss, window if window == self.limits.receive_window_min else window & ~0xFFF)
        config = self._tcp_configs.get(key)
        if config is None:
            config = self._tcp_configs[key] = TcpConfig(
                mss=mss,
                receive_window=key[1],
                max_receive_window=self.limits.receive_window_max,
                reliable=self.reliable,
                count=self._count,
            )
        return config

    def _count(self, name: str) -> None:
        """A connection's own counter. What it drops was counted as handed to it already."""
        if name.endswith("__dropped"):
            name += "_by_connection"
        self.counts[name] += 1

    def opened(self) -> None:
        self.sockets += 1
        self.nat.sockets += 1

    def released(self) -> None:
        self.sockets -= 1
        self.nat.sockets -= 1

    def uploads(self, flow: TcpFlow, now: float) -> None:
        """The flow is one that uploads: it gets its share of the windows."""
        self.windows.admit(flow, now)
        self.set_timer()

    def leave(self, flow: TcpFlow) -> None:
        """A connection is over: out of the tables that find it."""
        if self.tcp.get(flow.key) is flow:
            del self.tcp[flow.key]
        self.connects.leave(flow)
        self.resending.pop(flow, None)
        self.held.pop(flow, None)
        self.queue.remove(flow)
        self.windows.forget(flow)

    def hold_ack(self, flow: TcpFlow, now: float) -> None:
        """The flow's ACK may wait a little: an answer of the host's may be on its way."""
        first = not self.held
        self.held[flow] = None
        if first:
            self.held_until = now + ACK_DELAY
            self.set_timer()

    # Timers: the peer is in the NAT's heap like a flow.

    def set_timer(self) -> None:
        due = self.due()
        if due < self.timer:
            self.nat.arm(self, due)

    def due(self) -> float:
        if self.removed:
            return NEVER
        reassembly = self.reassembler.get_timer()
        held = self.held_until if self.held else NEVER
        return min(
            self.windows.due(),
            self.connects.due(),
            held,
            NEVER if reassembly is None else reassembly,
        )

    def handle_timer(self, now: float) -> None:
        self.windows.handle_timer(now)
        self.connects.handle_timer(now)
        if self.held and now >= self.held_until:
            held, self.held = self.held, {}
            for flow in held:
                flow.flush_ack(now)
            self.wake()
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
        self.out = None
        for tcp in [*self.tcp.values(), *self.draining]:
            tcp.vanish()
        for flow in [*self.mappings.values(), *self.echo.values()]:
            flow.shut(now)
        self.reassembler.clear()
        self.batch.clear()
        self.held.clear()
        self.removed = True
        self.timer = NEVER
