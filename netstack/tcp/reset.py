"""RST to a segment of no connection."""

from __future__ import annotations

from struct import Struct

from netstack.checksum import add, finish, pseudo_header
from netstack.ip import PROTO_TCP, pack_ip
from netstack.tcp_segment import ACK, RST, TcpSegment

_TCP = Struct("!HHIIHHHH")


def reset_packet(sender: bytes, addressed: bytes, seg: TcpSegment) -> bytearray:
    """RST in answer to `seg` of no connection, as a whole IP packet (RFC 9293, 3.10.7.1).

    From `addressed`, where the segment was for, to its `sender`.
    """
    header = 20 if len(sender) == 4 else 40
    packet = bytearray(header + 20)
    pack_ip(packet, 0, 20, PROTO_TCP, addressed, sender)
    if seg.flags & ACK:
        sequence, acknowledged, flags = seg.ack, 0, RST
    else:
        sequence, acknowledged, flags = 0, (seg.seq + seg.span) & 0xFFFFFFFF, RST | ACK
    _TCP.pack_into(
        packet, header, seg.destination_port, seg.source_port, sequence, acknowledged,
        0x5000 | flags, 0, 0, 0,
    )  # fmt: skip
    total = add(packet[header:]) + pseudo_header(addressed, sender, PROTO_TCP, 20)
    packet[header + 16 : header + 18] = finish(total).to_bytes(2, "big")
    return packet
