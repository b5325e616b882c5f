"""From an IP fragment to the packet that it completes (RFC 791, RFC 8200 4.5).

A whole payload gets a header of its own, and is then parsed like any packet: what only the
pieces together say (a chain of extension headers, say) is judged no less than what one packet
says.
"""

from __future__ import annotations

from netstack.fragments import OverlapError, Reassembler
from netstack.ip import IPV4_HEADER, IPV6_HEADER, IpPacket, PacketError, pack_ip, parse_ip


def reassemble(
    held: Reassembler, ip: IpPacket, buf: bytes | bytearray | memoryview, quote: bytes, now: float
) -> tuple[IpPacket, bytearray] | None:
    """Take a fragment in; the whole packet and its bytes when it was the last one missing.

    `ip` is the fragment's header in `buf`; for `quote` and `now` see `Reassembler.add`. Raises
    PacketError: `fragment_overlap`, `fragment_nested` (a fragment again), or what `parse_ip` says
    of the whole. That a packet holds the whole is seen to where the fragments are parsed.
    """
    key = (ip.src, ip.dst, ip.fragment_id, ip.proto if ip.version == 4 else 0)
    piece = bytes(buf[ip.payload : ip.end])
    try:
        whole = held.add(key, ip.fragment_offset, ip.more_fragments, piece, quote, now)
    except OverlapError:
        raise PacketError("fragment_overlap") from None
    if whole is None:
        return None
    header = IPV4_HEADER if ip.version == 4 else IPV6_HEADER
    packet = bytearray(header + len(whole))
    pack_ip(packet, 0, len(whole), ip.proto, ip.src, ip.dst, ip.ttl, df=False)
    packet[header:] = whole
    rebuilt = parse_ip(packet, 0, len(packet))
    if rebuilt.fragmented:
        raise PacketError("fragment_nested")
    return rebuilt, packet
