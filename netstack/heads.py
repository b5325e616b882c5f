"""What the fast paths read of a packet's first bytes, by one `unpack` each.

For packets whose IP header has no options or extensions; anything else is for `ip.parse_ip`.
"""

from __future__ import annotations

from struct import Struct

OFFLOAD_HEADER = 10
"""Bytes of the offload header in front of a packet: virtio_net_hdr, little-endian."""
NEEDS_CSUM = 1
"""Its flag: the transport's checksum covers the pseudo-header only (Virtio 1.2, 5.1.6)."""

offload_head = Struct("<BBHHHH").unpack_from
"""Flags, segmentation type, length of headers, segment size, where the checksum's range starts,
and where in it the checksum is."""
fast4 = Struct("!BxHxxHBBxx12sHH").unpack_from
"""First byte, total length, fragment word, TTL, protocol, addresses and ports in a row, and what
is the length and the checksum where the protocol is UDP."""
fast6 = Struct("!B3xHBB36sHH").unpack_from
"""First byte, payload length, protocol, hop limit, and the rest as with IPv4."""

TCP4_CSUM = 20 << 16 | 16
"""Start of the checksum's range and offset of the field, as an offload header says them."""
TCP6_CSUM = 40 << 16 | 16
UDP4_CSUM = 20 << 16 | 6
UDP6_CSUM = 40 << 16 | 6
