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
from gateway.nat.admit_icmp import take_icmp
from gateway.nat.admit_tcp import take_tcp
from gateway.nat.admit_udp import take_udp
from netstack.ip import (
    IPV6_HEADER,
    PROTO_ICMP,
    PROTO_ICMP6,
    PROTO_NONE,
    PROTO_TCP,
    PROTO_UDP,
    IpPacket,
    PacketError,
    is_unicast,
    parse_ip,
)
from netstack.out import GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4
from netstack.reassembly import reassemble

if TYPE_CHECKING:
    from gateway.nat.peer import TunnelPeer
    from gateway.nat.side import Buffer

_NEEDS_CSUM = 1
_KNOWN_FLAGS = 3
"""NEEDS_CSUM, and DATA_VALID, which says that a checksum has been verified already."""
_GSO_ECN = 0x80
_CSUM_OFFSET = {PROTO_TCP: 16, PROTO_UDP: 6}
_GSO_PROTO = {
    GSO_TCPV4: (4, PROTO_TCP),
    GSO_TCPV6: (6, PROTO_TCP),
}


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
    reassembler = peer.reassembler
    evicted = reassembler.evicted
    quote = errors.quote_packet(buf, ip.start, ip.end) if ip.fragment_offset == 0 else b""
    try:
        whole = reassemble(reassembler, ip, buf, quote, now)
    except PacketError as error:
        return f"ip__{error.name}__dropped"
    finally:
        if reassembler.evicted != evicted:
            peer.counts["ip__reassembly__evicted"] += reassembler.evicted - evicted
    if whole is None:
        peer.set_timer()
        return "ip__fragment__held"
    rebuilt, packet = whole
    return _dispatch(peer, rebuilt, packet, _PLAIN, True, now)


def _dispatch(
    peer: TunnelPeer, ip: IpPacket, buf: Buffer, offload: Offload, fragment: bool, now: float
) -> str:
    proto = ip.proto
    if proto == PROTO_TCP:
        return take_tcp(peer, ip, buf, offload.partial, now)
    if proto == PROTO_UDP:
        return take_udp(peer, ip, buf, offload.partial, offload.gso_size, fragment, now)
    if proto == (PROTO_ICMP if ip.version == 4 else PROTO_ICMP6):
        return take_icmp(peer, ip, buf, fragment, now)
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
