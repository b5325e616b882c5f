"""A link's writer, with the bytes of IP packets that go into it counted for the link."""

from __future__ import annotations

from client.outlet.port import Carrier
from netstack.out import PacketOut


class CountedOut:
    """Implements `PacketOut`."""

    __slots__ = ("_link", "_out", "_reserve", "_send", "room")

    def __init__(self, link: Carrier) -> None:
        self._link = link
        self._out: PacketOut = link.writer
        self._reserve = link.writer.reserve_packet
        self._send = link.writer.send_packet
        self.room = link.writer.room

    @property
    def offload(self) -> bool:
        return self._out.offload

    @property
    def offload_udp(self) -> bool:
        return self._out.offload_udp

    @property
    def mtu(self) -> int:
        return self._out.mtu

    @property
    def buffer(self) -> bytearray:
        return self._out.buffer

    @property
    def waiting(self) -> bool:
        return self._out.waiting

    @property
    def packet_bytes(self) -> int:
        return self._out.packet_bytes

    def reserve_packet(self, length: int, *offload: int) -> int:
        self._link.sent_packets_bytes += length
        return self._reserve(length, *offload)

    def send_packet(self, buf: bytearray, start: int, end: int, *offload: int) -> None:
        self._link.sent_packets_bytes += end - start
        self._send(buf, start, end, *offload)
