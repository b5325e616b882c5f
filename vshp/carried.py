"""How much of the tunnel's traffic lies in frames: bytes of IP packets, and of nothing else.

What a writer takes is counted as it comes in, when its length is at hand. What then has no room
is looked through and counted off again: packets that leave pay nothing for those that do not.
"""

from __future__ import annotations

import struct

from vshp.constants import FRAME_HEADER_SIZE, OFFLOAD_HEADER_SIZE
from vshp.frames import FrameType

_IP_PACKET = int(FrameType.IP_PACKET)
_IP_PACKET_OFFLOAD = int(FrameType.IP_PACKET_OFFLOAD)
_unpack_u32 = struct.Struct("<I").unpack_from
_unpack_gso = struct.Struct("<xxHH").unpack_from
"""A virtio header's lengths of a packet's headers and of each segment."""


def repeated(length: int, header: int, size: int) -> int:
    """Bytes that a super-segment of `length` bytes grows by when it is cut into packets with
    `size` bytes of payload each: its `header` bytes once more for each but the first."""
    return header * ((length - header - 1) // size) if length > header else 0


def carried(frames: memoryview | bytes) -> int:
    """Bytes of the IP packets in whole frames: of those that a super-segment is cut into."""
    total = at = 0
    while at < len(frames):
        (word,) = _unpack_u32(frames, at)
        at += FRAME_HEADER_SIZE
        kind, length = word & 0xFF, word >> 8
        if kind == _IP_PACKET:
            total += length
        elif kind == _IP_PACKET_OFFLOAD:
            header, size = _unpack_gso(frames, at)
            packet = length - OFFLOAD_HEADER_SIZE
            total += packet + (repeated(packet, header, size) if size else 0)
        at += length
    return total
