"""Packets in one line, in tcpdump's manner: for logs and for tests that fail.

Never raises: what cannot be parsed is shown as far as it can, with the reason.
Nothing of a payload is shown, so that a log holds no traffic.
"""

from __future__ import annotations

from ipaddress import ip_address

from netstack.icmp import (
    ECHO,
    ECHO6,
    ECHO_REPLY,
    ECHO_REPLY6,
    PACKET_TOO_BIG6,
    TIME_EXCEEDED,
    TIME_EXCEEDED6,
    UNREACHABLE,
    UNREACHABLE6,
    parse_echo,
)
from netstack.ip import (
    PROTO_ICMP,
    PROTO_ICMP6,
    PROTO_TCP,
    PROTO_UDP,
    IpPacket,
    PacketError,
    parse_ip,
)
from netstack.tcp.errors import MalformedSegment
from netstack.tcp_segment import parse_tcp
from netstack.udp import parse_udp

_FLAGS = "FSRP.UEW"
_NAMES4 = {
    ECHO: "echo request",
    ECHO_REPLY: "echo reply",
    UNREACHABLE: "unreachable",
    TIME_EXCEEDED: "time exceeded",
}
_NAMES6 = {
    ECHO6: "echo request",
    ECHO_REPLY6: "echo reply",
    UNREACHABLE6: "unreachable",
    TIME_EXCEEDED6: "time exceeded",
    PACKET_TOO_BIG6: "packet too big",
}


def pretty(packet: bytes | bytearray | memoryview) -> str:
    """`packet` in one line."""
    try:
        ip = parse_ip(packet, 0, len(packet))
    except PacketError as error:
        return f"? {len(packet)} bytes: {error.name.replace('_', ' ')}"
    try:
        return _transport(ip, packet)
    except (PacketError, MalformedSegment) as error:
        return f"{_ends(ip)} proto {ip.proto}: {error}"


def _ends(ip: IpPacket, source: int | None = None, destination: int | None = None) -> str:
    label = "IP" if ip.version == 4 else "IP6"
    ends = [str(ip_address(address)) for address in (ip.src, ip.dst)]
    for index, port in enumerate((source, destination)):
        if port is not None:
            ends[index] += f".{port}"
    return f"{label} {ends[0]} > {ends[1]}:"


def _transport(ip: IpPacket, packet: bytes | bytearray | memoryview) -> str:
    length = ip.end - ip.payload
    if ip.fragmented:
        more = "+" if ip.more_fragments else ""
        at = ip.fragment_offset
        return f"{_ends(ip)} frag {ip.fragment_id:#x}:{length}@{at}{more} proto {ip.proto}"
    if ip.proto == PROTO_TCP:
        return _tcp(ip, packet)
    if ip.proto == PROTO_UDP:
        datagram = parse_udp(packet, ip.payload, ip.end)
        size = datagram.end - datagram.payload
        return f"{_ends(ip, datagram.src_port, datagram.dst_port)} UDP, length {size}"
    if ip.proto in (PROTO_ICMP, PROTO_ICMP6):
        return _icmp(ip, packet)
    return f"{_ends(ip)} proto {ip.proto}, length {length}"


def _tcp(ip: IpPacket, packet: bytes | bytearray | memoryview) -> str:
    seg = parse_tcp(packet, ip.payload, ip.end)
    flags = "".join(letter for bit, letter in enumerate(_FLAGS) if seg.flags >> bit & 1)
    parts = [f"{_ends(ip, seg.source_port, seg.destination_port)} Flags [{flags or 'none'}]"]
    size = seg.end - seg.start
    parts.append(f"seq {seg.seq}:{(seg.seq + size) & 0xFFFFFFFF}" if size else f"seq {seg.seq}")
    if seg.flags & 0x10:
        parts.append(f"ack {seg.ack}")
    parts.append(f"win {seg.window}")
    parts.append(f"length {size}")
    return ", ".join(parts)


def _icmp(ip: IpPacket, packet: bytes | bytearray | memoryview) -> str:
    echo = parse_echo(packet, ip.payload, ip.end)
    names = _NAMES4 if ip.version == 4 else _NAMES6
    label = "ICMP" if ip.version == 4 else "ICMP6"
    name = names.get(echo.kind)
    if name is None:
        return f"{_ends(ip)} {label} type {echo.kind} code {echo.code}"
    if name.startswith("echo"):
        size = ip.end - ip.payload
        return f"{_ends(ip)} {label} {name}, id {echo.ident}, seq {echo.sequence}, length {size}"
    about = pretty(bytes(packet[ip.payload + 8 : ip.end]))
    return f"{_ends(ip)} {label} {name}, code {echo.code}, about [{about}]"
