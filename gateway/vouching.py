"""Packets whose checksums need no look: what was sealed has arrived as it was sent.

The NAT believes a virtio header that says of a packet's TCP or UDP checksum that it is
not filled in yet. Behind an AEAD such a header may lie in front of every such packet: bits
that fell over before the packet was sealed are as they would be inside any host
(the kernel's WireGuard has the checksums of what it opened count as verified, too).
"""

from __future__ import annotations

from struct import Struct

from netstack.heads import OFFLOAD_HEADER
from netstack.ip import PROTO_TCP, PROTO_UDP

_NEEDS_CSUM = 1
_headers = {
    (version, protocol): Struct("<BBHHHH").pack(_NEEDS_CSUM, 0, 0, 0, ip_header, offset)
    for version, ip_header in ((4, 20), (6, 40))
    for protocol, offset in ((PROTO_TCP, 16), (PROTO_UDP, 6))
}
_TCP4, _UDP4 = _headers[4, PROTO_TCP], _headers[4, PROTO_UDP]
_TCP6, _UDP6 = _headers[6, PROTO_TCP], _headers[6, PROTO_UDP]


def vouched(buf: memoryview, start: int, end: int) -> bool:
    """Write such a header in front of `buf[start:end]`, an IP packet; False if it takes none.

    `OFFLOAD_HEADER` bytes in front of it are free. Fragments, options, extension
    headers, and UDP over IPv6 without a checksum, which may not be (RFC 8200, 8.1), stay to be
    looked at.
    """
    first = buf[start]
    header = None
    if first == 0x45 and not (buf[start + 6] & 0x3F or buf[start + 7]):
        protocol = buf[start + 9]
        header = _TCP4 if protocol == PROTO_TCP else _UDP4 if protocol == PROTO_UDP else None
    elif first >> 4 == 6:
        protocol = buf[start + 6]
        if protocol == PROTO_TCP:
            header = _TCP6
        elif protocol == PROTO_UDP and (buf[start + 46] or buf[start + 47]):
            header = _UDP6
    if header is None:
        return False
    buf[start - OFFLOAD_HEADER : start] = header
    return True
