"""May something new be opened? Policy, the device's rules and gate, the VPN's families, TTL: asked
by all protocols.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.nat import errors
from gateway.spellings import spelled_ipv4
from netstack import icmp
from netstack.ip import IpPacket, is_unicast
from rules.destinations import AddressRules

if TYPE_CHECKING:
    from gateway.nat.side import Buffer, ClientSide


RULES = "rules"
"""The name of the reason that a device's rules are, where other reasons are the policy's."""


def forbidden(rules: AddressRules, host: bytes, kind: str, port: int) -> bool:
    """Whether `rules` refuse a destination, as it is written or as what it spells.

    `kind` is `tcp`, `udp` or `icmp`, whose `port` is 0.
    """
    if rules.refuse(host, kind, port):
        return True
    return len(host) == 16 and any(rules.refuse(inner, kind, port) for inner in spelled_ipv4(host))


def barred(
    peer: ClientSide, ip: IpPacket, buf: Buffer, kind: str, port: int, known: bool, now: float
) -> str:
    """Why nothing new may go to the packet's destination: a counter's name, or empty.

    `known`: a flow has it as a destination, so that the device's rules allow it.
    """
    version = ip.version
    verdict = peer.nat.policy.verdict(ip.dst)
    rules = None if known else peer.destinations
    if not verdict and rules is not None and forbidden(rules, ip.dst, kind, port):
        verdict = RULES
    if verdict:
        if not is_unicast(ip.dst) or verdict in ("multicast", "unspecified"):
            return f"{kind}__refused_{verdict}__dropped"
        code = icmp.ADMIN_PROHIBITED if version == 4 else icmp.ADMIN_PROHIBITED6
        quote = errors.quote_packet(buf, ip.start, ip.end)
        return peer.refuse(f"{kind}__refused_{verdict}", version, code, quote, now)
    if peer.shut_out:
        code = icmp.ADMIN_PROHIBITED if version == 4 else icmp.ADMIN_PROHIBITED6
        quote = errors.quote_packet(buf, ip.start, ip.end)
        return peer.refuse(f"{kind}__gate_closed", version, code, quote, now)
    if not peer.nat.available(version):
        code = icmp.NET_UNREACHABLE if version == 4 else icmp.NO_ROUTE6
        quote = errors.quote_packet(buf, ip.start, ip.end)
        return peer.refuse(f"{kind}__no_route", version, code, quote, now)
    return expired(peer, ip, buf, kind, now)


def expired(peer: ClientSide, ip: IpPacket, buf: Buffer, kind: str, now: float) -> str:
    if ip.ttl > 1:
        return ""
    quote = errors.quote_packet(buf, ip.start, ip.end)
    packet = errors.time_exceeded(peer.gateway(ip.version), ip.src, 0, quote)
    sent = peer.send_error(packet, now)
    return f"{kind}__ttl_expired__" + ("icmp_sent" if sent else "dropped")
