"""ICMP errors, read: which packet of ours they quote, and what they mean to who has sent it.

The meanings are those that Linux gives them (`icmp_err_convert`, `icmpv6_err_convert`); sources
are RFC 792, RFC 1812 5.2.7.1 and RFC 4443 3.1.
"""

from __future__ import annotations

from client.outlet.proxy.outcome import Outcome
from netstack import icmp
from netstack.ip import IPV4_HEADER, IPV6_HEADER, PROTO_TCP

_MEANING4 = {
    0: Outcome.NET_UNREACHABLE,
    1: Outcome.HOST_UNREACHABLE,
    2: Outcome.REFUSED,
    3: Outcome.REFUSED,
    5: Outcome.HOST_UNREACHABLE,
    6: Outcome.NET_UNREACHABLE,
    7: Outcome.HOST_UNREACHABLE,
    8: Outcome.HOST_UNREACHABLE,
    9: Outcome.PROHIBITED,
    10: Outcome.PROHIBITED,
    11: Outcome.NET_UNREACHABLE,
    12: Outcome.HOST_UNREACHABLE,
    13: Outcome.PROHIBITED,
    14: Outcome.PROHIBITED,
    15: Outcome.PROHIBITED,
}
"""By the code of Destination Unreachable; 4 is about size."""
_MEANING6 = {
    0: Outcome.NET_UNREACHABLE,
    1: Outcome.PROHIBITED,
    2: Outcome.NET_UNREACHABLE,
    3: Outcome.HOST_UNREACHABLE,
    4: Outcome.REFUSED,
    5: Outcome.PROHIBITED,
    6: Outcome.PROHIBITED,
}
_SEQUENCE_END = 8
"""Bytes of a TCP header that hold the ports and the sequence number: what every error quotes."""


def outcome_of(version: int, kind: int, code: int) -> Outcome | None:
    """What an error says of its packet's destination; None: nothing that ends an attempt."""
    if version == 4:
        return _MEANING4.get(code) if kind == icmp.UNREACHABLE else None
    return _MEANING6.get(code) if kind == icmp.UNREACHABLE6 else None


def next_hop_mtu(version: int, kind: int, code: int, buf: memoryview | bytearray, at: int) -> int:
    """The MTU that the error at `at` names, if it is one about size, else 0.

    A router before RFC 1191 names none; ours is the gateway, which does.
    """
    if version == 4:
        if (kind, code) == (icmp.UNREACHABLE, icmp.FRAGMENTATION_NEEDED):
            return int.from_bytes(buf[at + 6 : at + 8], "big")
        return 0
    return int.from_bytes(buf[at + 4 : at + 8], "big") if kind == icmp.PACKET_TOO_BIG6 else 0


class Quoted:
    """The packet of ours that an error quotes, as far as it does. What is not there is 0."""

    __slots__ = ("dst", "dst_port", "key", "proto", "seq", "src", "src_port")

    def __init__(self, version: int, quote: memoryview) -> None:
        self.src = self.dst = self.key = b""
        self.proto = self.src_port = self.dst_port = self.seq = 0
        if version == 4:
            header, proto_at, at, size = IPV4_HEADER, 9, 12, 4
            if len(quote) and quote[0] >> 4 == 4:
                header = (quote[0] & 0x0F) * 4
        else:
            header, proto_at, at, size = IPV6_HEADER, 6, 8, 16
        if header < IPV4_HEADER or len(quote) < header + 4 or quote[0] >> 4 != version:
            return
        self.proto = quote[proto_at]
        self.src = bytes(quote[at : at + size])
        self.dst = bytes(quote[at + size : at + 2 * size])
        ours, theirs = bytes(quote[header : header + 2]), bytes(quote[header + 2 : header + 4])
        self.src_port = int.from_bytes(ours, "big")
        self.dst_port = int.from_bytes(theirs, "big")
        self.key = self.dst + self.src + theirs + ours
        """Of the connection, as packets from the other end have it."""
        if self.proto == PROTO_TCP and len(quote) >= header + _SEQUENCE_END:
            self.seq = int.from_bytes(quote[header + 4 : header + 8], "big")
        elif self.proto == PROTO_TCP:
            self.proto = 0
