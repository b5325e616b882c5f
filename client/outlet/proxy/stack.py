"""This device's end of the tunnel without a NIC: our own TCP, UDP and ICMP at the lease's address.

Theory of operation. The stack is the gateway's counterpart (`splice/peer.py`): all connections
and UDP ports share the link, fairly and within bounds. Nothing listens here; a packet is for a
connection that we opened, for a UDP port that is open, or it is about one of them (ICMP), or it
is dropped and counted. To a segment of no connection the answer is RST, so that the gateway
forgets what an earlier run of ours has left there.

*Links come and go* under the stack. Without one nothing is sent, no timer of a connection runs,
and nothing is forgotten; the next link sends again what is not acknowledged. That holds while the
lease does: with other addresses, or where the gateway began anew (`LeaseConfig.resumed`), the
connections are over, and both ends that can be told are told.

*Packets from the tunnel* are first tried on the fast path, TCP of a connection that is in the
table, found by the run of addresses and ports that the header has in a row. What the AEAD has
vouched for and what says NEEDS_CSUM is not summed again.

*ICMP errors* end an attempt to connect, if they quote its very SYN (RFC 5927, 4.1), and reach who
has a UDP port. On an open connection they mean nothing: its other end is the gateway itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from itertools import chain

from client.outlet.proxy.icmp_errors import Quoted, next_hop_mtu, outcome_of
from client.outlet.proxy.outcome import Outcome
from client.outlet.proxy.outgoing import OnResult, Outgoing
from client.outlet.proxy.udp_port import UdpPort
from netstack import icmp
from netstack.addresses import Addresses
from netstack.checksum import pseudo_header
from netstack.fragments import Reassembler
from netstack.heads import (
    NEEDS_CSUM,
    OFFLOAD_HEADER,
    TCP4_CSUM,
    TCP6_CSUM,
    fast4,
    fast6,
    offload_head,
)
from netstack.ip import (
    IPV4_HEADER,
    IPV6_HEADER,
    PROTO_ICMP,
    PROTO_ICMP6,
    PROTO_TCP,
    PROTO_UDP,
    IpPacket,
    PacketError,
    parse_ip,
)
from netstack.out import GSO_UDP_L4, PacketOut
from netstack.reassembly import reassemble
from netstack.tcp.config import TcpConfig
from netstack.tcp.errors import MalformedSegment
from netstack.tcp.handshake import open_early
from netstack.tcp.reset import reset_packet
from netstack.tcp_segment import RST, TcpSegment, parse_tcp
from netstack.udp import parse_udp, sum_ok
from sealing.buckets import TokenBucket
from splice.flow import Flow
from splice.limits import LinkLimits
from splice.peer import LinkPeer
from splice.splice import CONNECTING, OPEN
from splice.timers import NEVER, Timers

MAX_CONNECTIONS = 10_000
"""Connections at a time, those included whose end is being waited for."""
MAX_UDP_PORTS = 1_024
FIRST_PORT, PORTS = 32_768, 28_232
"""The ports that ours are taken from, at random (RFC 6056, 3.3.1): Linux's own range."""
PORT_TRIES = 32
RESETS_PER_SECOND = 100
FRAGMENT_BYTES = 1024 * 1024
"""Held in reassembly (RFC 815); the oldest datagram gives way."""
CONNECT_TIMEOUT = 75.0
"""Seconds until an unanswered SYN is given up (RFC 1122, 4.2.3.5 asks for three minutes at least
of a host; whoever uses a proxy has given up before that)."""

Buffer = bytearray | memoryview

_NONE = Addresses(b"", b"", b"", b"")


class Stack(LinkPeer):
    """All that this device does in the tunnel. Pure: time and randomness are handed in."""

    __slots__ = (
        "_flow_id",
        "_ident",
        "_on_output",
        "_random_bytes",
        "_resets",
        "_segment",
        "addresses",
        "from_tunnel_bytes",
        "reassembler",
        "udp",
    )

    def __init__(
        self,
        counts: defaultdict[str, int],
        random_bytes: Callable[[int], bytes],
        on_output: Callable[[], None],
        limits: LinkLimits | None = None,
        now: float = 0.0,
    ) -> None:
        """`on_output` is called when there is something to send and `pull` is due."""
        LinkPeer.__init__(
            self, "tunnel", Timers(), counts, limits or LinkLimits(), 1500,
            # Who has a proxy dial mostly speaks first, as soon as it is told that it may.
            TcpConfig(handshake_timeout=CONNECT_TIMEOUT, open_lazily=True),
        )  # fmt: skip
        self.timers.now = now
        self.addresses = _NONE
        self.from_tunnel_bytes = 0
        """IP packets' bytes."""
        self.udp: dict[int, UdpPort] = {}
        self.reassembler = Reassembler(FRAGMENT_BYTES)
        self._segment = TcpSegment()
        self._random_bytes = random_bytes
        self._on_output = on_output
        self._resets = TokenBucket(RESETS_PER_SECOND, RESETS_PER_SECOND, now)
        self._flow_id = 0
        self._ident = int.from_bytes(random_bytes(4), "big")

    # --- the link ------------------------------------------------------------------------------

    def open(
        self, addresses: Addresses, fresh: bool, out: PacketOut, reliable: bool, now: float
    ) -> None:
        """There is a link. `fresh`: the gateway knows nothing of what was there before."""
        if fresh or addresses != self.addresses:
            self.end_all(now)
        self.addresses = addresses
        self.set_out(out, self._on_output, now, reliable)

    @property
    def leased(self) -> bool:
        """Whether there is a lease, with a link or waiting for one."""
        return self.addresses is not _NONE

    def end_all(self, now: float) -> None:
        """The lease is over: RST to the local ends, and to the tunnel while there is a link."""
        self.timers.now = now
        # First, so that who is told opens nothing more under it.
        self.addresses = _NONE
        for flow in [*self.tcp.values(), *self.draining]:
            flow.shut(now)
        for port in list(self.udp.values()):
            port.lease_over()
        self.reassembler.clear()

    def next_flow_id(self) -> int:
        self._flow_id += 1
        return self._flow_id

    def next_ident(self) -> int:
        self._ident = (self._ident + 1) & 0xFFFFFFFF
        return self._ident

    # --- from the tunnel -----------------------------------------------------------------------

    def from_tunnel(self, buf: Buffer, start: int, end: int, offload: bool, now: float) -> None:
        """Take one IP packet `buf[start:end]`, after a 10-byte offload header if `offload`."""
        self.timers.now = now
        size = end - start
        self.from_tunnel_bytes += size
        gso_type = gso_size = csum = 0
        if offload:
            flags, gso_type, _, gso_size, csum_start, csum_offset = offload_head(
                buf, start - OFFLOAD_HEADER
            )
            if flags & NEEDS_CSUM:
                csum = csum_start << 16 | csum_offset
        if size >= 40:
            first = buf[start]
            known = 0
            if first == 0x45:
                _, total, frag, _, proto, key, _, _ = fast4(buf, start)
                header = IPV4_HEADER
                if proto == PROTO_TCP and not frag & 0x3FFF:
                    known = TCP4_CSUM
            elif first >> 4 == 6 and size >= 60:
                _, total, proto, _, key, _, _ = fast6(buf, start)
                total += IPV6_HEADER
                header = IPV6_HEADER
                if proto == PROTO_TCP:
                    known = TCP6_CSUM
            if known and total <= size:
                flow = self.tcp.get(key)
                if flow is not None and (not csum or csum == known):
                    at, stop = start + header, start + total
                    # Not summed: an AEAD has opened it, so it is as the gateway sent it.
                    if not flow.conn.predicted(buf, at, stop, now):
                        try:
                            seg = parse_tcp(buf, at, stop, None, self._segment)
                        except MalformedSegment as error:
                            self.counts[f"tcp__{error.reason}__dropped"] += 1
                            return
                        flow.conn.segment_arrived(seg, now)
                    if not flow.batched:
                        flow.batched = True
                        self.batch.append(flow)
                    if flow.stage == CONNECTING:
                        assert isinstance(flow, Outgoing)
                        flow.progressed(now)
                    return
        name = self._slow_path(
            buf, start, end, csum, gso_size if gso_type == GSO_UDP_L4 else 0, now
        )
        if name:
            self.counts[name] += 1

    def _slow_path(
        self, buf: Buffer, start: int, end: int, csum: int, udp_size: int, now: float
    ) -> str:
        """Anything but TCP of a known connection: a counter's name, if it is to be counted."""
        try:
            ip = parse_ip(buf, start, end)
        except PacketError as error:
            return f"ip__{error.name}__dropped"
        if ip.dst != self.addresses.own(ip.version):
            return "ip__not_ours__dropped"
        if ip.fragmented:
            if csum or udp_size:
                return "offload__fragment__dropped"
            return self._fragment(ip, buf, now)
        return self._dispatch(ip, buf, csum, udp_size, now)

    def _fragment(self, ip: IpPacket, buf: Buffer, now: float) -> str:
        try:
            whole = reassemble(self.reassembler, ip, buf, b"", now)
        except PacketError as error:
            return f"ip__{error.name}__dropped"
        if whole is None:
            self.set_timer()
            return ""
        rebuilt, packet = whole
        return self._dispatch(rebuilt, packet, 0, 0, now)

    def _dispatch(self, ip: IpPacket, buf: Buffer, csum: int, udp_size: int, now: float) -> str:
        if csum and csum >> 16 != ip.payload - ip.start:
            return "offload__checksum_start__dropped"
        if ip.proto == PROTO_TCP:
            return self._tcp(ip, buf, csum, now)
        if ip.proto == PROTO_UDP:
            return self._udp(ip, buf, csum, udp_size)
        if ip.proto == (PROTO_ICMP if ip.version == 4 else PROTO_ICMP6):
            return self._icmp(ip, buf, now)
        return "ip__protocol_unknown__dropped"

    def _tcp(self, ip: IpPacket, buf: Buffer, csum: int, now: float) -> str:
        flow = self.tcp.get(ip.src + ip.dst + bytes(buf[ip.payload : ip.payload + 4]))
        pseudo = None
        if not csum:
            pseudo = pseudo_header(ip.src, ip.dst, PROTO_TCP, ip.end - ip.payload)
        try:
            seg = parse_tcp(buf, ip.payload, ip.end, pseudo)
        except MalformedSegment as error:
            return f"tcp__{error.reason}__dropped"
        if flow is not None:
            flow.conn.segment_arrived(seg, now)
            if not flow.batched:
                flow.batched = True
                self.batch.append(flow)
            if flow.stage == CONNECTING:
                assert isinstance(flow, Outgoing)
                flow.progressed(now)
            return ""
        if seg.flags & RST or self.out is None or not self._resets.take(now):
            return "tcp__no_flow__dropped"
        self.emit(reset_packet(ip.src, ip.dst, seg))
        self.wake()
        return "tcp__no_flow__rst_sent"

    def _udp(self, ip: IpPacket, buf: Buffer, csum: int, udp_size: int) -> str:
        try:
            datagram = parse_udp(buf, ip.payload, ip.end)
        except PacketError as error:
            return f"udp__{error.name}__dropped"
        if not csum and not sum_ok(buf, ip.payload, datagram.end, ip.src, ip.dst):
            return "udp__bad_checksum__dropped"
        port = self.udp.get(datagram.dst_port)
        if port is None:
            return "udp__no_port__dropped"
        view = memoryview(buf)
        step = udp_size or 65535
        at, end = datagram.payload, datagram.end
        while True:
            stop = min(at + step, end)
            port.arrived(ip.src, datagram.src_port, view[at:stop])
            at = stop
            if at >= end:
                return ""

    def _icmp(self, ip: IpPacket, buf: Buffer, now: float) -> str:
        try:
            echo = icmp.parse_echo(buf, ip.payload, ip.end)
        except PacketError as error:
            return f"icmp__{error.name}__dropped"
        view = memoryview(buf)
        if not icmp.message_sum_ok(ip.version, view, ip.payload, ip.end, ip.src, ip.dst):
            return "icmp__bad_checksum__dropped"
        if not icmp.is_error(ip.version, echo.kind):
            return "icmp__other__dropped"
        quoted = Quoted(ip.version, view[ip.payload + icmp.ICMP_HEADER : ip.end])
        if quoted.src != self.addresses.own(ip.version):
            return "icmp__error_quote__dropped"
        outcome = outcome_of(ip.version, echo.kind, echo.code)
        if quoted.proto == PROTO_UDP:
            port = self.udp.get(quoted.src_port)
            if port is None:
                return "icmp__error_no_flow__dropped"
            mtu = next_hop_mtu(ip.version, echo.kind, echo.code, view, ip.payload)
            if mtu:
                port.too_big(quoted.dst, mtu)
            elif outcome is not None:
                port.failed(quoted.dst, quoted.dst_port, outcome)
            return ""
        flow = self.tcp.get(quoted.key) if quoted.proto == PROTO_TCP else None
        if not isinstance(flow, Outgoing):
            return "icmp__error_no_flow__dropped"
        if flow.stage != CONNECTING or outcome is None or not flow.sent(quoted.seq):
            return "icmp__error_soft__dropped"
        flow.failed(outcome, now)
        return ""

    # --- what is opened ------------------------------------------------------------------------

    def connect(self, host: bytes, port: int, on_result: OnResult, now: float) -> Outgoing | None:
        """Open a connection; None when a bound of ours is reached. `on_result` is told later."""
        version = 4 if len(host) == 4 else 6
        own = self.addresses.own(version)
        if len(self.tcp) + len(self.draining) >= MAX_CONNECTIONS:
            self.counts["tcp__connect__bound_reached"] += 1
            return None
        for _ in range(PORT_TRIES):
            drawn = self._random_bytes(6)
            ours = FIRST_PORT + int.from_bytes(drawn[:2], "big") % PORTS
            key = host + own + port.to_bytes(2, "big") + ours.to_bytes(2, "big")
            if key not in self.tcp:
                break
        else:
            self.counts["tcp__connect__no_port"] += 1
            return None
        iss = int.from_bytes(drawn[2:], "big")
        # Whoever asks waits: the SYN leaves first, and is answered when the rest has been made.
        opening = open_early(
            version, own, ours, host, port, self.tcp_config(version), iss, self.out, now
        )
        self.hasty = True
        self.wake()
        flow = Outgoing(
            self, version, key, (own, ours), host, port, iss, on_result, now, opening
        )  # fmt: skip
        self.tcp[key] = flow
        flow.open(now)
        return flow

    def open_udp(
        self,
        on_datagram: Callable[[bytes, int, memoryview], None],
        on_error: Callable[[bytes, int, Outcome], None],
    ) -> UdpPort | None:
        """Open a UDP port, for both families; None when a bound of ours is reached."""
        if len(self.udp) >= MAX_UDP_PORTS:
            self.counts["udp__open__bound_reached"] += 1
            return None
        while True:
            ours = FIRST_PORT + int.from_bytes(self._random_bytes(2), "big") % PORTS
            if ours not in self.udp:
                break
        port = self.udp[ours] = UdpPort(self, ours, on_datagram, on_error)
        return port

    # --- time ----------------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        return self.timers.get_timer()

    def pass_time(self, now: float) -> None:
        """Do what is due."""
        self.timers.handle_timer(now)
        self.end_batch(now)

    def due(self) -> float:
        reassembly = self.reassembler.get_timer()
        return min(super().due(), NEVER if reassembly is None else reassembly)

    def handle_timer(self, now: float) -> None:
        super().handle_timer(now)
        for _ in self.reassembler.expire(now):
            self.counts["ip__reassembly__timed_out"] += 1

    # --- for people ----------------------------------------------------------------------------

    def flows(self) -> list[Flow]:
        """The connections that are open, or are being opened."""
        return [flow for flow in chain(self.tcp.values(), self.draining) if flow.stage <= OPEN]
