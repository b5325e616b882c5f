"""ICMP (RFC 792) and ICMPv6 (RFC 4443): what messages there are, and building them.

Builders return whole IP packets with every checksum filled in: these packets
are few and small, so that nothing is gained by leaving it to anyone else.
"""

from __future__ import annotations

from struct import Struct

from netstack.checksum import add, finish, pseudo_header, valid
from netstack.ip import (
    DEFAULT_TTL,
    IPV4_HEADER,
    IPV6_HEADER,
    IPV6_MIN_MTU,
    PROTO_ICMP,
    PROTO_ICMP6,
    PacketError,
    pack_ip,
)

ECHO_REPLY = 0
UNREACHABLE = 3
SOURCE_QUENCH = 4
REDIRECT = 5
ECHO = 8
TIME_EXCEEDED = 11
PARAMETER_PROBLEM = 12

NET_UNREACHABLE = 0
HOST_UNREACHABLE = 1
PROTOCOL_UNREACHABLE = 2
PORT_UNREACHABLE = 3
FRAGMENTATION_NEEDED = 4
ADMIN_PROHIBITED = 13

UNREACHABLE6 = 1
PACKET_TOO_BIG6 = 2
TIME_EXCEEDED6 = 3
PARAMETER_PROBLEM6 = 4
ECHO6 = 128
ECHO_REPLY6 = 129

NO_ROUTE6 = 0
ADMIN_PROHIBITED6 = 1
ADDRESS_UNREACHABLE6 = 3
PORT_UNREACHABLE6 = 4
UNRECOGNIZED_NEXT_HEADER6 = 1

REASSEMBLY_TIME = 1
"""Code of Time Exceeded when fragments were missing; 0 is the TTL, in both families."""

ICMP_HEADER = 8

QUOTE_V4 = 576 - IPV4_HEADER - ICMP_HEADER
"""Bytes of the offending packet in an ICMP error: up to 576 in all (RFC 1812 4.3.2.3)."""
QUOTE_V6 = IPV6_MIN_MTU - IPV6_HEADER - ICMP_HEADER
"""Up to the least MTU (RFC 4443 2.4 c)."""

_HEADER = Struct("!BBHHH")
_ERROR = Struct("!BBHI")

_ERRORS_V4 = frozenset({UNREACHABLE, SOURCE_QUENCH, REDIRECT, TIME_EXCEEDED, PARAMETER_PROBLEM})


def is_error(version: int, kind: int) -> bool:
    """Whether an ICMP type is an error: no error is ever sent about one (RFC 1122 3.2.2)."""
    return kind in _ERRORS_V4 if version == 4 else kind < 128


class Echo:
    """An echo request or reply, checked."""

    __slots__ = ("code", "ident", "kind", "sequence")

    kind: int
    code: int
    ident: int
    sequence: int


def parse_echo(buf: bytearray | memoryview | bytes, start: int, end: int) -> Echo:
    """The header of the ICMP message `buf[start:end]`; PacketError when it has none."""
    if end - start < ICMP_HEADER:
        raise PacketError("truncated")
    echo = Echo()
    echo.kind, echo.code, _, echo.ident, echo.sequence = _HEADER.unpack_from(buf, start)
    return echo


def message_sum_ok(
    version: int, buf: bytearray | memoryview, start: int, end: int, src: bytes, dst: bytes
) -> bool:
    """Whether the checksum of an ICMP message is right."""
    initial = 0 if version == 4 else pseudo_header(src, dst, PROTO_ICMP6, end - start)
    return valid(add(buf[start:end]) + initial)


def echo_packet(
    src: bytes,
    dst: bytes,
    reply: bool,
    ident: int,
    sequence: int,
    data: bytes | bytearray | memoryview,
    ttl: int = DEFAULT_TTL,
) -> bytearray:
    """An echo request or reply as a whole IP packet."""
    kinds = (ECHO, ECHO_REPLY) if len(src) == 4 else (ECHO6, ECHO_REPLY6)
    return _packet(src, dst, _HEADER.pack(kinds[reply], 0, 0, ident, sequence), data, ttl)


def error_packet(
    src: bytes,
    dst: bytes,
    kind: int,
    code: int,
    rest: int,
    quote: bytes | bytearray | memoryview,
    ttl: int = DEFAULT_TTL,
) -> bytearray:
    """An ICMP error about `quote` (the packet, or its beginning) as a whole IP packet.

    `rest` is the second word of the header: 0, the MTU or the pointer.
    """
    limit = QUOTE_V4 if len(src) == 4 else QUOTE_V6
    return _packet(src, dst, _ERROR.pack(kind, code, 0, rest), quote[:limit], ttl)


def _packet(
    src: bytes, dst: bytes, header: bytes, body: bytes | bytearray | memoryview, ttl: int
) -> bytearray:
    version = 4 if len(src) == 4 else 6
    start = IPV4_HEADER if version == 4 else IPV6_HEADER
    length = ICMP_HEADER + len(body)
    packet = bytearray(start + length)
    proto = PROTO_ICMP if version == 4 else PROTO_ICMP6
    # Not fragmented on the way to the client by anyone but us, so DF is honest.
    pack_ip(packet, 0, length, proto, src, dst, ttl)
    packet[start : start + ICMP_HEADER] = header
    packet[start + ICMP_HEADER :] = body
    initial = 0 if version == 4 else pseudo_header(src, dst, PROTO_ICMP6, length)
    value = finish(add(packet[start:]) + initial)
    packet[start + 2] = value >> 8
    packet[start + 3] = value & 0xFF
    return packet
