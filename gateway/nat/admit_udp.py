"""UDP datagrams that have no mapping or no known destination yet, and DNS questions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.nat import errors
from gateway.nat.shares import claim
from gateway.nat.udp import DNS_PORT, UdpMapping
from gateway.nat.verdicts import barred
from netstack import icmp
from netstack.emission import BUFFER, emit_udp
from netstack.ip import IpPacket, PacketError
from netstack.udp import UdpDatagram, UdpPath, parse_udp, sum_ok
from splice.outcomes import outcome_of

if TYPE_CHECKING:
    from gateway.nat.peer import TunnelPeer
    from gateway.nat.side import Buffer


def take_udp(
    peer: TunnelPeer,
    ip: IpPacket,
    buf: Buffer,
    partial: bool,
    gso_size: int,
    fragment: bool,
    now: float,
) -> str:
    try:
        datagram = parse_udp(buf, ip.payload, ip.end)
    except PacketError as error:
        return f"udp__{error.name}__dropped"
    if not partial and not sum_ok(buf, ip.payload, datagram.end, ip.src, ip.dst):
        return "udp__bad_checksum__dropped"
    if ip.dst == peer.gateway(ip.version):
        return _udp_to_gateway(peer, ip, buf, datagram, now)
    key = ip.src + ip.dst + bytes(buf[ip.payload : ip.payload + 4])
    remote = peer.udp_remotes.get(key)
    reason = barred(peer, ip, buf, "udp", datagram.dst_port, remote is not None, now)
    if reason:
        return reason
    mapping = peer.mappings.get((ip.version, datagram.src_port))
    if mapping is None:
        opened = _open_mapping(peer, ip, buf, datagram.src_port, now)
        if isinstance(opened, str):
            return opened
        mapping = opened
    if remote is None:
        remote = mapping.remote(key, ip.dst, datagram.dst_port)
    if gso_size:
        mapping.segments_from_tunnel(
            remote, buf, datagram.payload, datagram.end, gso_size, ip.ttl - 1, now
        )
    else:
        mapping.from_tunnel(remote, buf, datagram.payload, datagram.end, ip.ttl - 1, fragment, now)
    return ""


def _open_mapping(
    peer: TunnelPeer, ip: IpPacket, buf: Buffer, port: int, now: float
) -> UdpMapping | str:
    bound = "" if len(peer.mappings) >= peer.limits.udp_per_peer else claim(peer, now)
    if bound or len(peer.mappings) >= peer.limits.udp_per_peer:
        idle = peer.spare_mappings.take(now)
        if idle is not None:
            peer.counts["udp__mapping__evicted"] += 1
            idle.give_way(now)
            bound = claim(peer, now)
    if bound:
        code = icmp.ADMIN_PROHIBITED if ip.version == 4 else icmp.ADMIN_PROHIBITED6
        quote = errors.quote_packet(buf, ip.start, ip.end)
        return peer.refuse(f"udp__{bound}", ip.version, code, quote, now)
    mapping = UdpMapping(peer, peer.udp, ip.src, port, now)
    try:
        mapping.open()
    except OSError as error:
        outcome = outcome_of(error)
        quote = errors.quote_packet(buf, ip.start, ip.end)
        code = outcome.code(ip.version)
        return peer.refuse(f"udp__{outcome.label}", ip.version, code, quote, now)
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
    peer.ask(wire, False, reply)
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
        peer.wake()

    return reply
