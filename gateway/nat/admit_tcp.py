"""TCP segments that are not for a running connection, or came the slow way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.nat import errors
from gateway.nat.dns import DnsStream
from gateway.nat.shares import RULES_LIMIT, claim
from gateway.nat.tcp import TcpFlow
from gateway.nat.udp import DNS_PORT
from gateway.nat.verdicts import barred
from netstack.checksum import pseudo_header
from netstack.ip import PROTO_TCP, IpPacket, PacketError, is_unicast, parse_ip
from netstack.tcp.errors import MalformedSegment
from netstack.tcp.reset import reset_packet
from netstack.tcp_segment import ACK, RST, SYN, TcpSegment, parse_tcp

if TYPE_CHECKING:
    from gateway.nat.peer import TunnelPeer
    from gateway.nat.side import Buffer
    from splice.splice import Splice

DNS_IDLE_TIMEOUT = 30.0
"""Seconds of silence after which a DNS connection is closed (RFC 7766 6.2.3)."""


def take_tcp(peer: TunnelPeer, ip: IpPacket, buf: Buffer, partial: bool, now: float) -> str:
    """Judge the segment in `ip`; `partial`: its checksum is not filled in."""
    pseudo = None
    if not partial:
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
        return f"tcp__refused_{peer.nat.policy.verdict(ip.dst)}__dropped"
    if seg.flags & (SYN | ACK) != SYN:
        return _reset(peer, ip, seg, "tcp__no_flow", now)
    if not seg.source_port or not seg.destination_port:
        return "tcp__port_zero__dropped"
    to_gateway = ip.dst == peer.gateway(ip.version)
    if to_gateway:
        if seg.destination_port != DNS_PORT:
            return _reset(peer, ip, seg, "tcp__gateway_port", now)
    else:
        reason = barred(peer, ip, buf, "tcp", seg.destination_port, False, now)
        if reason:
            return reason
    # A bound of ours is no answer of the host's: the SYN is dropped, and comes again. One that
    # the owner has set is said.
    if len(peer.tcp) >= 2 * peer.limits.flows_per_peer:
        return "tcp__connection_limit__dropped"
    bound = claim(peer, now) if to_gateway else ""
    if bound == RULES_LIMIT:
        return _reset(peer, ip, seg, f"tcp__{bound}", now)
    if bound:
        return f"tcp__{bound}__dropped"
    if not (to_gateway or peer.connects.has_place()):
        return "tcp__connects_waiting__dropped"
    source = (ip.src, seg.source_port)
    flow = TcpFlow(peer, ip.version, key, source, ip.dst, seg.destination_port, now)
    peer.tcp[key] = flow
    if to_gateway:
        stream = DnsStream(peer)
        stream.attach(flow)
        return flow.begin_local(stream, seg, DNS_IDLE_TIMEOUT, now)
    flow.hold(seg, errors.quote_packet(buf, ip.start, ip.end), now)
    return peer.connects.admit(flow, now)


def syn_in_time_wait(
    peer: TunnelPeer,
    flow: Splice,
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
    sent = peer.send_error(reset_packet(ip.src, ip.dst, seg), now)
    return name + ("__rst_sent" if sent else "__dropped")
