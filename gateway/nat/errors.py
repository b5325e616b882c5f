"""ICMP errors toward the client: what they quote, what they say, how many there may be.

A client's kernel finds the program that an error is for by the packet that
the error quotes. Where that packet is at hand, its beginning is quoted. Where
it is long gone (the error came out of a socket's error queue), it is built
again from the flow, in the client's view: its own address and port, the
destination it wrote to.
"""

from __future__ import annotations

from struct import Struct

from gateway.nat.ports import NetworkError
from netstack import icmp
from netstack.checksum import finish
from netstack.ip import PROTO_ICMP, PROTO_ICMP6, PROTO_UDP, pack_ip

QUOTE = 128
"""Bytes quoted of a packet: the headers, with options, and the start of the payload. Receivers
that know RFC 4884 could take what is beyond for extensions (its section 5.5)."""

_PORTS = Struct("!HHHH")
_CHECKSUM_IDENT = Struct("!HH")


def quote_packet(buf: bytearray | memoryview | bytes, start: int, end: int) -> bytes:
    """The beginning of the packet `buf[start:end]`, as an ICMP error quotes it."""
    return bytes(buf[start : min(end, start + QUOTE)])


def quote_udp(
    client: bytes,
    client_port: int,
    host: bytes,
    port: int,
    payload: bytes,
    length: int,
) -> bytes:
    """The beginning of the client's datagram of `length` bytes, of which `payload` is known."""
    ip_header = 20 if len(client) == 4 else 40
    packet = bytearray(ip_header + 8)
    pack_ip(packet, 0, length + 8, PROTO_UDP, client, host)
    _PORTS.pack_into(packet, ip_header, client_port, port, length + 8, 0)
    return bytes(packet) + payload[: QUOTE - len(packet)]


def quote_echo(client: bytes, ident: int, host: bytes, message: bytes) -> bytes:
    """The client's echo request, from what the error queue has kept of ours (another ident)."""
    version = 4 if len(client) == 4 else 6
    ip_header = 20 if version == 4 else 40
    packet = bytearray(ip_header)
    proto = PROTO_ICMP if version == 4 else PROTO_ICMP6
    pack_ip(packet, 0, len(message), proto, client, host)
    kept = bytearray(message[: QUOTE - ip_header])
    if len(kept) >= 6:
        checksum, ours = _CHECKSUM_IDENT.unpack_from(kept, 2)
        if version == 4:
            # Updated from the old one (RFC 1624 3), since the message may be cut short. ICMPv6's
            # covers the source address too, which nobody verifies in a quotation.
            checksum = finish((checksum ^ 0xFFFF) + (ours ^ 0xFFFF) + ident)
        _CHECKSUM_IDENT.pack_into(kept, 2, checksum, ident)
    return bytes(packet + kept)


def unreachable(src: bytes, client: bytes, code: int, quote: bytes) -> bytearray:
    """Destination Unreachable, of the family of the addresses."""
    kind = icmp.UNREACHABLE if len(src) == 4 else icmp.UNREACHABLE6
    return icmp.error_packet(src, client, kind, code, 0, quote)


def time_exceeded(src: bytes, client: bytes, code: int, quote: bytes) -> bytearray:
    kind = icmp.TIME_EXCEEDED if len(src) == 4 else icmp.TIME_EXCEEDED6
    return icmp.error_packet(src, client, kind, code, 0, quote)


def too_big(src: bytes, client: bytes, mtu: int, quote: bytes) -> bytearray:
    """Fragmentation Needed (RFC 1191 4) or Packet Too Big (RFC 4443 3.2)."""
    if len(src) == 4:
        return icmp.error_packet(
            src, client, icmp.UNREACHABLE, icmp.FRAGMENTATION_NEEDED, min(mtu, 0xFFFF), quote
        )
    return icmp.error_packet(src, client, icmp.PACKET_TOO_BIG6, 0, mtu, quote)


def protocol_unknown(src: bytes, client: bytes, pointer: int, quote: bytes) -> bytearray:
    """Protocol Unreachable, or Parameter Problem: unrecognized next header (RFC 4443 3.4)."""
    if len(src) == 4:
        return icmp.error_packet(src, client, icmp.UNREACHABLE, icmp.PROTOCOL_UNREACHABLE, 0, quote)
    return icmp.error_packet(
        src, client, icmp.PARAMETER_PROBLEM6, icmp.UNRECOGNIZED_NEXT_HEADER6, pointer, quote
    )


def relayed(gateway: bytes, client: bytes, error: NetworkError, quote: bytes) -> bytearray:
    """The ICMP error of a socket's error queue, from whoever sent it, about the client's packet."""
    src = error.offender
    if src is None or len(src) != len(client):
        src = gateway
    if len(client) == 4:
        about_size = error.type == icmp.UNREACHABLE and error.code == icmp.FRAGMENTATION_NEEDED
    else:
        about_size = error.type == icmp.PACKET_TOO_BIG6
    rest = error.info if about_size else 0
    return icmp.error_packet(src, client, error.type, error.code, rest, quote)


def malformed(src: bytes, client: bytes, pointer: int, quote: bytes) -> bytearray:
    """Parameter Problem: erroneous header field (RFC 4443 3.4), IPv6 only."""
    return icmp.error_packet(src, client, icmp.PARAMETER_PROBLEM6, 0, pointer, quote)
