"""Packets that are made here and emitted whole: UDP in bulk, and fragments."""

from __future__ import annotations

from typing import Protocol

from netstack.fragments import cut
from netstack.ip import IPV4_HEADER, IPV6_HEADER, PROTO_FRAGMENT, pack_ipv4
from netstack.out import GSO_UDP_L4, HEADROOM, PacketOut
from netstack.udp import CSUM_OFFSET, UDP_HEADER, UdpPath

BUFFER = HEADROOM + IPV6_HEADER + UDP_HEADER
"""Where payload begins in a buffer of ours: behind the headroom and the longest header."""


class Emitter(Protocol):
    """What takes packets of any size."""

    def emit(self, packet: bytearray) -> None:
        """Emit a whole packet, in fragments if it exceeds the MTU."""


def emit_udp(
    peer: Emitter,
    out: PacketOut,
    path: UdpPath,
    buf: bytearray,
    payload: int,
    n: int,
    size: int,
) -> None:
    """Emit the payload `buf[payload:payload + n]`, datagrams of `size` bytes if that is not 0.

    `buf` has HEADROOM and the headers' length free in front of the payload.
    """
    header = path.header
    if 0 < size < n:
        if size + header > out.mtu:
            for start in range(payload, payload + n, size):
                length = min(size, payload + n - start)
                piece = bytearray(header + length)
                piece[header:] = buf[start : start + length]
                path.pack_whole(piece, 0, length)
                peer.emit(piece)
        elif out.offload_udp:
            at = payload - header
            path.pack(buf, at, n)
            out.send_packet(
                buf, at, payload + n, GSO_UDP_L4, size, header, header - UDP_HEADER, CSUM_OFFSET
            )
        else:
            _emit_cut(out, path, buf, payload, n, size)
        return
    at = payload - header
    if n + header > out.mtu:
        path.pack_whole(buf, at, n)
        peer.emit(buf[at : payload + n])
    elif out.offload:
        path.pack(buf, at, n)
        out.send_packet(buf, at, payload + n, 0, 0, 0, header - UDP_HEADER, CSUM_OFFSET)
    else:
        path.pack_whole(buf, at, n)
        out.send_packet(buf, at, payload + n)


def _emit_cut(
    out: PacketOut, path: UdpPath, buf: bytearray, payload: int, n: int, size: int
) -> None:
    """Emit joined datagrams as a packet each."""
    header = path.header
    offload = out.offload
    view = memoryview(buf)
    for start in range(payload, payload + n, size):
        length = min(size, payload + n - start)
        if offload:
            at = out.reserve_packet(length + header, 0, 0, 0, header - UDP_HEADER, CSUM_OFFSET)
        else:
            at = out.reserve_packet(length + header)
        target = out.buffer
        target[at + header : at + header + length] = view[start : start + length]
        if offload:
            path.pack(target, at, length)
        else:
            path.pack_whole(target, at, length)


def emit_fragments(out: PacketOut, packet: bytearray, ident: int) -> None:
    """Emit a whole packet that exceeds the MTU, in fragments with the identification `ident`."""
    if packet[0] >> 4 == 4:
        src, dst = bytes(packet[12:16]), bytes(packet[16:20])
        for offset, length, more in cut(len(packet) - IPV4_HEADER, out.mtu - IPV4_HEADER):
            total = IPV4_HEADER + length
            at = out.reserve_packet(total)
            start = IPV4_HEADER + offset
            out.buffer[at + IPV4_HEADER : at + total] = packet[start : start + length]
            word = (0x2000 if more else 0) | offset >> 3
            pack_ipv4(out.buffer, at, total, packet[9], src, dst, packet[8], ident & 0xFFFF, word)
        return
    for offset, length, more in cut(len(packet) - IPV6_HEADER, out.mtu - IPV6_HEADER - 8):
        total = IPV6_HEADER + 8 + length
        at = out.reserve_packet(total)
        start = IPV6_HEADER + offset
        head = packet[:IPV6_HEADER]
        head[4:6] = (8 + length).to_bytes(2, "big")
        head[6] = PROTO_FRAGMENT
        head += bytes((packet[6], 0)) + (offset | more).to_bytes(2, "big")
        head += ident.to_bytes(4, "big")
        out.buffer[at : at + total] = head + packet[start : start + length]
