"""ICMP from the client: echo requests, and the one error that is of use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.nat import errors
from gateway.nat.icmp import EchoSession
from gateway.nat.shares import claim
from gateway.nat.verdicts import barred
from netstack import icmp
from netstack.ip import IPV4_HEADER, IPV6_HEADER, PROTO_UDP, IpPacket, PacketError
from splice.outcomes import outcome_of

if TYPE_CHECKING:
    from gateway.nat.peer import TunnelPeer
    from gateway.nat.side import Buffer


def take_icmp(peer: TunnelPeer, ip: IpPacket, buf: Buffer, fragment: bool, now: float) -> str:
    """Judge the ICMP message in `ip`."""
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
    session = peer.echo.get((ip.version, echo.ident))
    known = session is not None and session.knows(ip.dst, 0)
    reason = barred(peer, ip, buf, "icmp", 0, known, now)
    if reason:
        return reason
    quote = errors.quote_packet(buf, ip.start, ip.end)
    if session is None:
        if len(peer.echo) >= peer.limits.echo_per_peer:
            min(peer.echo.values(), key=lambda other: other.last_used).give_way(now)
            peer.counts["icmp__session__evicted"] += 1
        bound = claim(peer, now)
        if bound:
            code = icmp.ADMIN_PROHIBITED if ip.version == 4 else icmp.ADMIN_PROHIBITED6
            return peer.refuse(f"icmp__{bound}", ip.version, code, quote, now)
        session = EchoSession(peer, peer.echo, ip.src, echo.ident, now)
        try:
            session.open()
        except OSError as error:
            outcome = outcome_of(error)
            code = outcome.code(ip.version)
            return peer.refuse(f"icmp__{outcome.label}", ip.version, code, quote, now)
    message = bytes(buf[ip.payload : ip.end])
    return session.from_tunnel(ip.dst, message, ip.ttl - 1, fragment, now)


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
        quoted = _quoted_key(buf, ip.payload + icmp.ICMP_HEADER, ip.end, ip.version)
    except PacketError:
        return "icmp__error_quote__dropped"
    remote = peer.udp_remotes.get(quoted)
    if remote is None:
        return "icmp__error_no_flow__dropped"
    # It concerns this one host: the mapping, and its port outside, stay (RFC 4787 REQ-12).
    remote.mapping.forget(remote)
    return "icmp__port_unreachable__dropped"


def _quoted_key(buf: Buffer, start: int, end: int, version: int) -> bytes:
    """The key in `udp_remotes` of the UDP datagram quoted at `start`, which came to the client."""
    if version == 4:
        header = (buf[start] & 0x0F) * 4 if end > start else 0
        proto_at, addresses, size = 9, 12, 4
    else:
        header, proto_at, addresses, size = IPV6_HEADER, 6, 8, 16
    if header < IPV4_HEADER or end - start < header + 4 or buf[start + proto_at] != PROTO_UDP:
        raise PacketError("quote")
    at = start + addresses
    host, client = bytes(buf[at : at + size]), bytes(buf[at + size : at + 2 * size])
    at = start + header
    return client + host + bytes(buf[at + 2 : at + 4]) + bytes(buf[at : at + 2])
