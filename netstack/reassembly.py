"""From IP fragments to the packet that they are (RFC 791, RFC 8200 4.5, RFC 3168 5.3).

The packet's headers are the first fragment's, first in place and not in time: IPv4's options,
IPv6's extension headers in front of the Fragment header, the hop limit, and what protocol the
payload is. Later pieces may say other things of all that, which count for nothing. Two fields
are of the pieces together: the length, and whether there was congestion. The whole is then
parsed like any packet.
"""

from __future__ import annotations

from struct import Struct

from netstack import checksum
from netstack.fragments import OverlapError, Piece, Reassembler
from netstack.ip import IPV6_HEADER, IpPacket, PacketError, parse_ip

MAX_LENGTH = 65535
"""What the length fields hold: of a whole IPv4 packet, of what follows IPv6's fixed header."""

_NOT_ECT, _CE = 0, 3
_FRAGMENT_HEADER = 8

_u16 = Struct("!H").pack_into


def reassemble(
    held: Reassembler, ip: IpPacket, buf: bytes | bytearray | memoryview, quote: bytes, now: float
) -> tuple[IpPacket, bytearray] | None:
    """Take a fragment in; the whole packet and its bytes when it was the last one missing.

    `ip` is the fragment's header in `buf`; `quote`, of a first fragment, is its beginning, for a
    Time Exceeded message. Raises PacketError: `fragment_overlap`, `fragment_overflow`,
    `fragment_ecn` (congestion that the packet could not tell of).
    """
    first = ip.fragment_offset == 0
    if ip.version == 4:
        key = (ip.src, ip.dst, ip.fragment_id, ip.proto)
        ecn = buf[ip.start + 1] & 3
        head = bytes(buf[ip.start : ip.payload]) if first else b""
    else:
        key = (ip.src, ip.dst, ip.fragment_id, 0)
        ecn = buf[ip.start + 1] >> 4 & 3
        head = _unfragmentable(ip, buf) if first else b""
    data = bytes(buf[ip.payload : ip.end])
    try:
        piece = Piece(ip.fragment_offset, ip.more_fragments, data, ecn, head, quote)
        whole = held.add(key, piece, now)
    except OverlapError:
        raise PacketError("fragment_overlap") from None
    if whole is None:
        return None
    congested = whole.codepoints >> _CE & 1
    if congested and whole.codepoints >> _NOT_ECT & 1:
        # To be dropped: who sent it does not look for marks, and would not hear of it.
        raise PacketError("fragment_ecn")
    packet = bytearray(whole.head + whole.payload)
    length = len(packet) - (0 if ip.version == 4 else IPV6_HEADER)
    if length > MAX_LENGTH:
        raise PacketError("fragment_overflow")
    if ip.version == 4:
        packet[1] |= _CE * congested
        _u16(packet, 2, length)
        _u16(packet, 6, 0)
        _u16(packet, 10, 0)
        _u16(packet, 10, checksum.finish(checksum.add(memoryview(packet)[: len(whole.head)])))
    else:
        packet[1] |= _CE * congested << 4
        _u16(packet, 4, length)
    return parse_ip(packet, 0, len(packet)), packet


def _unfragmentable(ip: IpPacket, buf: bytes | bytearray | memoryview) -> bytes:
    """The headers in front of a first fragment's Fragment header, the last of which now names
    what the Fragment header does."""
    head = bytearray(buf[ip.start : ip.payload - _FRAGMENT_HEADER])
    head[ip.fragment_header_named] = ip.proto
    return bytes(head)
