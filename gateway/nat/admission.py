"""The slow path: packets that no flow in the tables was waiting for.

Check, parse, judge. In this order, and the first that fails decides what the
packet is counted as and what the client is told:

    the IP header; the source address; fragments; the offload header;
    the transport header and checksum; what it is for (the gateway itself,
    a running flow, something new); policy; the VPN's families; TTL; bounds.

Each function returns the name of the counter that the packet falls under, or
an empty string when a flow has counted it, or will.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.nat import errors
from gateway.nat.dns import DnsStream
from gateway.nat.icmp import EchoSession
from gateway.nat.outcomes import outcome_of
from gateway.nat.tcp import CONNECTING, TcpFlow
from gateway.nat.udp import BUFFER, DNS_PORT, UdpMapping, emit_udp
from netstack import icmp
from netstack.checksum import pseudo_header
from netstack.fragments import OverlapError
from netstack.ip import (
    IPV4_HEADER,
    IPV6_HEADER,
    PROTO_ICMP,
    PROTO_ICMP6,
    PROTO_NONE,
    PROTO_TCP,
    PROTO_UDP,
    IpPacket,
    PacketError,
    is_unicast,
    pack_ip,
    parse_ip,
)
from netstack.out import GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4
from netstack.tcp.errors import MalformedSegment
from netstack.tcp_segment import ACK, RST, SYN, TcpSegment, parse_tcp
from netstack.udp import UdpDatagram, UdpPath, parse_udp, sum_ok

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.nat.peer import Buffer, TunnelPeer

_NEEDS_CSUM = 1
_KNOWN_FLAGS = 3
"""NEEDS_CSUM, and DATA_VALID, which says that a checksum has been verified already."""
_GSO_ECN = 0x80
_CSUM_OFFSET = {PROTO_TCP: 16, PROTO_UDP: 6}
_GSO_PROTO = {
    GSO_TCPV4: (4, PROTO_TCP),
    GSO_TCPV6: (6, PROTO_TCP),
}

DNS_IDLE_TIMEOUT = 30.0
"""Seconds of silence after which a DNS connection is closed (RFC 7766 6.2.3)."""
EVICTION_SAMPLE = 16
"""Oldest flows of a kind among which the longest idle gives way."""


class Offload:
    """The offload header of a packet, judged against the packet itself."""

    __slots__ = ("gso_size", "gso_type", "partial")

    def __init__(self, partial: bool = False, gso_type: int = 0, gso_size: int = 0) -> None:
        self.partial = partial
        """The checksum is not filled in."""
        self.gso_type = gso_type
        self.gso_size = gso_size


_PLAIN = Offload()


def slow_path(
    peer: TunnelPeer,
    buf: Buffer,
    start: int,
    end: int,
    flags: int,
    gso_type: int,
    gso_size: int,
    csum: int,
    now: float,
) -> str:
    """Take in any packet; the last four numbers are its offload header's, 0 without one."""
    try:
        ip = parse_ip(buf, start, end)
    except PacketError as error:
        if error.pointer is not None and end - start >= IPV6_HEADER:
            return _malformed(peer, buf, start, end, error, now)
        return f"ip__{error.name}__dropped"
    if ip.src != (peer.ipv4 if ip.version == 4 else peer.ipv6):
        return _stranger(ip)
    if ip.fragmented:
        if gso_type or flags & _NEEDS_CSUM:
            return "offload__fragment__dropped"
        return _fragment(peer, ip, buf, now)
    offload = _PLAIN
    if flags or gso_type:
        judged = _judge_offload(ip, flags, gso_type, gso_size, csum)
        if isinstance(judged, str):
            return judged
        offload = judged
    return _dispatch(peer, ip, buf, offload, not ip.df, now)


def _malformed(
    peer: TunnelPeer, buf: Buffer, start: int, end: int, error: PacketError, now: float
) -> str:
    """An IPv6 packet whose sender is owed a Parameter Problem, if it is our client."""
    src, dst = bytes(buf[start + 8 : start + 24]), bytes(buf[start + 24 : start + 40])
    if src != peer.ipv6 or not is_unicast(dst):
        return f"ip__{error.name}__dropped"
    packet = errors.malformed(
        peer.gateway_ipv6, src, error.pointer or 0, errors.quote_packet(buf, start, end)
    )
    sent = peer.send_error(packet, now)
    return f"ip__{error.name}__" + ("icmp_sent" if sent else "dropped")


def _stranger(ip: IpPacket) -> str:
    """A source that is not the lease's: what a client's system says to its link, or a lie."""
    if ip.version == 6 and ((ip.src[0] == 0xFE and ip.src[1] & 0xC0 == 0x80) or not any(ip.src)):
        return "ip__link_chatter__dropped"
    if ip.version == 4 and not any(ip.src):
        return "ip__link_chatter__dropped"
    return "ip__source_not_lease__dropped"


def _judge_offload(
    ip: IpPacket, flags: int, gso_type: int, gso_size: int, csum: int
) -> Offload | str:
    """Whether an offload header fits its packet: the judged header, or a counter's name."""
    partial = bool(flags & _NEEDS_CSUM)
    kind = gso_type & ~_GSO_ECN
    if flags & ~_KNOWN_FLAGS:
        return "offload__flags__dropped"
    if partial and csum != (ip.payload - ip.start) << 16 | _CSUM_OFFSET.get(ip.proto, 0):
        return "offload__checksum_start__dropped"
    if kind == GSO_NONE:
        return Offload(partial)
    if kind == GSO_UDP_L4:
        fits = ip.proto == PROTO_UDP
    else:
        fits = _GSO_PROTO.get(kind) == (ip.version, ip.proto)
    if not fits:
        return "offload__segment_type__dropped"
    if not gso_size or not partial:
        return "offload__segment_size__dropped"
    return Offload(True, kind, gso_size)


def _fragment(peer: TunnelPeer, ip: IpPacket, buf: Buffer, now: float) -> str:
    key = (ip.version, ip.dst, ip.fragment_id, ip.proto if ip.version == 4 else 0)
    reassembler = peer.reassembler
    evicted = reassembler.evicted
    try:
        whole = reassembler.add(
            key,
            ip.fragment_offset,
            ip.more_fragments,
            bytes(buf[ip.payload : ip.end]),
            errors.quote_packet(buf, ip.start, ip.end) if ip.fragment_offset == 0 else b"",
            now,
        )
    except OverlapError:
        return "ip__fragment_overlap__dropped"
    if reassembler.evicted != evicted:
        peer.counts["ip__reassembly__evicted"] += reassembler.evicted - evicted
    if whole is None:
        peer.set_timer()
        return "ip__fragment__held"
    header = IPV4_HEADER if ip.version == 4 else IPV6_HEADER
    if len(whole) > 65535 - (header if ip.version == 4 else 0):
        return "ip__fragment_overflow__dropped"
    packet = bytearray(header + len(whole))
    pack_ip(packet, 0, len(whole), ip.proto, ip.src, ip.dst, ip.ttl, df=False)
    packet[header:] = whole
    try:
        rebuilt = parse_ip(packet, 0, len(packet))
    except PacketError as error:
        return f"ip__{error.name}__dropped"
    if rebuilt.fragmented:
        return "ip__fragment_nested__dropped"
    return _dispatch(peer, rebuilt, packet, _PLAIN, True, now)


def _dispatch(
    peer: TunnelPeer, ip: IpPacket, buf: Buffer, offload: Offload, fragment: bool, now: float
) -> str:
    proto = ip.proto
    if proto == PROTO_TCP:
        return _tcp(peer, ip, buf, offload, now)
    if proto == PROTO_UDP:
        return _udp(peer, ip, buf, offload, fragment, now)
    if proto == (PROTO_ICMP if ip.version == 4 else PROTO_ICMP6):
        return _icmp(peer, ip, buf, fragment, now)
    if proto == PROTO_NONE and ip.version == 6:
        return "ip__no_next_header__dropped"
    if not is_unicast(ip.dst):
        return "ip__multicast__dropped"
    packet = errors.protocol_unknown(
        peer.gateway(ip.version),
        ip.src,
        ip.proto_offset,
        errors.quote_packet(buf, ip.start, ip.end),
    )
    sent = peer.send_error(packet, now)
    return "ip__protocol_unknown__" + ("icmp_sent" if sent else "dropped")


def _barred(peer: TunnelPeer, ip: IpPacket, buf: Buffer, kind: str, now: float) -> str:
    """Why nothing new may go to the packet's destination: a counter's name, or empty."""
    version = ip.version
    verdict = peer.nat.policy.verdict(ip.dst)
    if verdict:
        if not is_unicast(ip.dst) or verdict in ("multicast", "unspecified"):
            return f"{kind}__refused_{verdict}__dropped"
        code = icmp.ADMIN_PROHIBITED if version == 4 else icmp.ADMIN_PROHIBITED6
        quote = errors.quote_packet(buf, ip.start, ip.end)
        return peer.refuse(f"{kind}__refused_{verdict}", version, code, quote, now)
    if not peer.nat.available(version):
        code = icmp.NET_UNREACHABLE if version == 4 else icmp.NO_ROUTE6
        quote = errors.quote_packet(buf, ip.start, ip.end)
        return peer.refuse(f"{kind}__no_route", version, code, quote, now)
    return _expired(peer, ip, buf, kind, now)


def _expired(peer: TunnelPeer, ip: IpPacket, buf: Buffer, kind: str, now: float) -> str:
    if ip.ttl > 1:
        return ""
    quote = errors.quote_packet(buf, ip.start, ip.end)
    packet = errors.time_exceeded(peer.gateway(ip.version), ip.src, 0, quote)
    sent = peer.send_error(packet, now)
    return f"{kind}__ttl_expired__" + ("icmp_sent" if sent else "dropped")


# TCP.


def _tcp(peer: TunnelPeer, ip: IpPacket, buf: Buffer, offload: Offload, now: float) -> str:
    pseudo = None
    if not offload.partial:
        pseudo = pseudo_header(ip.src, ip.dst, PROTO_TCP, ip.end - ip.payload)
    try:
        seg = parse_tcp(buf, ip.payload, ip.end, pseudo)
    except MalformedSegment as error:
        return f"tcp__{error.reason}__dropped"
    key = ip.src + ip.dst + bytes(buf[ip.payload : ip.payload + 4])
    flow = peer.tcp.get(key)
    if flow is not None:
        flow.conn.segment_arrived(seg, now)
        if not flow.batched:
            flow.batched = True
            peer.batch.append(flow)
        return "tcp__segment__forwarded"
    return _no_connection(peer, ip, buf, key, seg, now)


def _no_connection(
    peer: TunnelPeer, ip: IpPacket, buf: Buffer, key: bytes, seg: TcpSegment, now: float
) -> str:
    if seg.flags & RST:
        return "tcp__no_flow_reset__dropped"
    if not is_unicast(ip.dst):
        return "tcp__multicast__dropped"
    if seg.flags & (SYN | ACK) != SYN:
        return _reset(peer, ip, seg, "tcp__no_flow", now)
    if not seg.source_port or not seg.destination_port:
        return "tcp__port_zero__dropped"
    to_gateway = ip.dst == peer.gateway(ip.version)
    if to_gateway:
        if seg.destination_port != DNS_PORT:
            return _reset(peer, ip, seg, "tcp__gateway_port", now)
    else:
        barred = _barred(peer, ip, buf, "tcp", now)
        if barred:
            return barred
    nat, limits = peer.nat, peer.limits
    full = _full(peer)
    if full:
        return _reset(peer, ip, seg, f"tcp__{full}", now)
    if len(peer.tcp) >= 2 * limits.flows_per_peer:
        return _reset(peer, ip, seg, "tcp__connection_limit", now)
    if len(peer.half_open) >= limits.half_open_per_peer:
        oldest = next(iter(peer.half_open.values()))
        peer.counts["tcp__half_open__evicted"] += 1
        oldest.shut(now)
    source = (ip.src, seg.source_port)
    flow = TcpFlow(peer, ip.version, key, source, ip.dst, seg.destination_port, now)
    peer.tcp[key] = flow
    if to_gateway:
        stream = DnsStream(nat.dns, peer)
        stream.attach(flow)
        return flow.begin_local(stream, seg, DNS_IDLE_TIMEOUT, now)
    peer.half_open[key] = flow
    return flow.begin(nat.outward, seg, errors.quote_packet(buf, ip.start, ip.end), now)


def syn_in_time_wait(
    peer: TunnelPeer,
    flow: TcpFlow,
    seg: TcpSegment,
    buf: Buffer,
    start: int,
    end: int,
    now: float,
) -> str:
    """A SYN for a connection in TIME-WAIT: a new connection if it cannot be an old duplicate."""
    if not flow.conn.reusable_by(seg):
        flow.conn.segment_arrived(seg, now)
        flow.settle(now)
        return "tcp__segment__forwarded"
    flow.vanish()
    try:
        ip = parse_ip(buf, start, end)
    except PacketError as error:
        return f"ip__{error.name}__dropped"
    return _no_connection(peer, ip, buf, flow.key, seg, now)


def _reset(peer: TunnelPeer, ip: IpPacket, seg: TcpSegment, name: str, now: float) -> str:
    sent = peer.send_error(errors.reset(ip.src, ip.dst, seg), now)
    return name + ("__rst_sent" if sent else "__dropped")


def _full(peer: TunnelPeer) -> str:
    """Which bound forbids one more socket: its name, or empty."""
    if peer.sockets >= peer.nat.share():
        return "peer_flow_limit"
    if peer.nat.sockets >= peer.limits.flows:
        return "flow_limit"
    return ""


# UDP.


def _udp(
    peer: TunnelPeer, ip: IpPacket, buf: Buffer, offload: Offload, fragment: bool, now: float
) -> str:
    try:
        datagram = parse_udp(buf, ip.payload, ip.end)
    except PacketError as error:
        return f"udp__{error.name}__dropped"
    if not offload.partial and not sum_ok(buf, ip.payload, datagram.end, ip.src, ip.dst):
        return "udp__bad_checksum__dropped"
    if ip.dst == peer.gateway(ip.version):
        return _udp_to_gateway(peer, ip, buf, datagram, now)
    barred = _barred(peer, ip, buf, "udp", now)
    if barred:
        return barred
    mapping = peer.mappings.get((ip.version, datagram.src_port))
    if mapping is None:
        opened = _open_mapping(peer, ip, buf, datagram.src_port, now)
        if isinstance(opened, str):
            return opened
        mapping = opened
    key = ip.src + ip.dst + bytes(buf[ip.payload : ip.payload + 4])
    remote = peer.udp_remotes.get(key)
    if remote is None:
        remote = mapping.remote(key, ip.dst, datagram.dst_port)
    if offload.gso_type:
        mapping.segments_from_tunnel(
            remote, buf, datagram.payload, datagram.end, offload.gso_size, ip.ttl - 1, now
        )
    else:
        mapping.from_tunnel(remote, buf, datagram.payload, datagram.end, ip.ttl - 1, fragment, now)
    return ""


def _open_mapping(
    peer: TunnelPeer, ip: IpPacket, buf: Buffer, port: int, now: float
) -> UdpMapping | str:
    full = _full(peer)
    if len(peer.mappings) >= peer.limits.udp_per_peer or (full and peer.mappings):
        _evict(list(_sample(peer.mappings)), now)
        peer.counts["udp__mapping__evicted"] += 1
        full = _full(peer)
    if full:
        code = icmp.ADMIN_PROHIBITED if ip.version == 4 else icmp.ADMIN_PROHIBITED6
        quote = errors.quote_packet(buf, ip.start, ip.end)
        return peer.refuse(f"udp__{full}", ip.version, code, quote, now)
    mapping = UdpMapping(peer, ip.src, port, now)
    try:
        mapping.open()
    except OSError as error:
        outcome = outcome_of(error)
        quote = errors.quote_packet(buf, ip.start, ip.end)
        code = outcome.code(ip.version)
        return peer.refuse(f"udp__{outcome.label}", ip.version, code, quote, now)
    peer.mappings[(ip.version, port)] = mapping
    peer.nat.arm(mapping, mapping.due())
    return mapping


def _udp_to_gateway(
    peer: TunnelPeer, ip: IpPacket, buf: Buffer, datagram: UdpDatagram, now: float
) -> str:
    """A datagram to the gateway's own address: a DNS question, or nobody is there."""
    if datagram.dst_port != DNS_PORT:
        code = icmp.PORT_UNREACHABLE if ip.version == 4 else icmp.PORT_UNREACHABLE6
        quote = errors.quote_packet(buf, ip.start, ip.end)
        return peer.refuse("udp__gateway_port", ip.version, code, quote, now)
    place = peer.questions.take(now)
    if place is None:
        return "dns__too_many__dropped"
    wire = bytes(buf[datagram.payload : datagram.end])
    reply = _dns_reply(peer, place, ip.src, datagram.src_port, ip.dst)
    peer.nat.dns.query(wire, False, peer.id, reply)
    return "dns__question__forwarded"


def _dns_reply(
    peer: TunnelPeer, place: int, client: bytes, port: int, server: bytes
) -> Callable[[bytes], None]:
    def reply(answer: bytes) -> None:
        out = peer.out
        if not peer.questions.done(place) or out is None:
            return
        buf = bytearray(BUFFER + len(answer))
        buf[BUFFER:] = answer
        path = UdpPath(server, DNS_PORT, client, port)
        emit_udp(peer, out, path, buf, BUFFER, len(answer), 0)
        peer.counts["dns__answer__to_tunnel"] += 1
        peer.to_tunnel_bytes += len(answer)
        peer.wake()

    return reply


# ICMP.


def _icmp(peer: TunnelPeer, ip: IpPacket, buf: Buffer, fragment: bool, now: float) -> str:
    try:
        echo = icmp.parse_echo(buf, ip.payload, ip.end)
    except PacketError as error:
        return f"icmp__{error.name}__dropped"
    if not icmp.message_sum_ok(ip.version, memoryview(buf), ip.payload, ip.end, ip.src, ip.dst):
        return "icmp__bad_checksum__dropped"
    if echo.kind != (icmp.ECHO if ip.version == 4 else icmp.ECHO6):
        return _other_icmp(peer, ip, buf, echo.kind, echo.code, now)
    if ip.dst == peer.gateway(ip.version):
        data = buf[ip.payload + icmp.ICMP_HEADER : ip.end]
        packet = icmp.echo_packet(ip.dst, ip.src, True, echo.ident, echo.sequence, data)
        sent = peer.send_error(packet, now)
        return "icmp__gateway_echo__" + ("answered" if sent else "dropped")
    barred = _barred(peer, ip, buf, "icmp", now)
    if barred:
        return barred
    quote = errors.quote_packet(buf, ip.start, ip.end)
    session = peer.echo.get((ip.version, echo.ident))
    if session is None:
        full = _full(peer)
        if len(peer.echo) >= peer.limits.echo_per_peer or (full and peer.echo):
            _evict(list(_sample(peer.echo)), now)
            peer.counts["icmp__session__evicted"] += 1
            full = _full(peer)
        if full:
            code = icmp.ADMIN_PROHIBITED if ip.version == 4 else icmp.ADMIN_PROHIBITED6
            return peer.refuse(f"icmp__{full}", ip.version, code, quote, now)
        session = EchoSession(peer, ip.src, echo.ident, now)
        try:
            session.open()
        except OSError as error:
            outcome = outcome_of(error)
            code = outcome.code(ip.version)
            return peer.refuse(f"icmp__{outcome.label}", ip.version, code, quote, now)
        peer.echo[(ip.version, echo.ident)] = session
    message = bytes(buf[ip.payload : ip.end])
    return session.from_tunnel(ip.dst, message, ip.ttl - 1, fragment, quote, now)


def _other_icmp(
    peer: TunnelPeer, ip: IpPacket, buf: Buffer, kind: int, code: int, now: float
) -> str:
    """ICMP that is no echo request. One error is of use: nobody listens on a client's UDP port."""
    if not icmp.is_error(ip.version, kind):
        return "icmp__other__dropped"
    if ip.version == 4:
        about_port = (kind, code) == (icmp.UNREACHABLE, icmp.PORT_UNREACHABLE)
    else:
        about_port = (kind, code) == (icmp.UNREACHABLE6, icmp.PORT_UNREACHABLE6)
    if not about_port:
        return "icmp__error__dropped"
    try:
        # The quoted packet may be cut short, so only its headers are read.
        start = ip.payload + icmp.ICMP_HEADER
        port = _quoted_port(buf, start, ip.end, ip.version)
    except PacketError:
        return "icmp__error_quote__dropped"
    mapping = peer.mappings.get((ip.version, port))
    if mapping is None:
        return "icmp__error_no_flow__dropped"
    # With the socket gone the system tells the next sender that the port is unreachable.
    mapping.shut(now)
    return "icmp__port_unreachable__forwarded"


def _quoted_port(buf: Buffer, start: int, end: int, version: int) -> int:
    """The destination port of the UDP datagram quoted at `start`: the client's."""
    if version == 4:
        header = (buf[start] & 0x0F) * 4 if end > start else 0
        proto_at = 9
    else:
        header, proto_at = IPV6_HEADER, 6
    if header < IPV4_HEADER or end - start < header + 4 or buf[start + proto_at] != PROTO_UDP:
        raise PacketError("quote")
    return int(buf[start + header + 2]) << 8 | buf[start + header + 3]


def _sample(table: dict[tuple[int, int], UdpMapping] | dict[tuple[int, int], EchoSession]):  # type: ignore[no-untyped-def]
    for count, flow in enumerate(table.values()):
        if count >= EVICTION_SAMPLE:
            return
        yield flow


def _evict(candidates: list[UdpMapping | EchoSession], now: float) -> None:
    min(candidates, key=lambda flow: flow.last_used).shut(now)


__all__ = ["CONNECTING", "Offload", "slow_path", "syn_in_time_wait"]
