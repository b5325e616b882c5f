"""A `PacketOut` that keeps what it is given: the fake tunnel of the tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from netstack.out import HEADROOM


@dataclass(frozen=True, slots=True)
class Packet:
    """One emitted IP packet and what its offload header would say."""

    data: bytes
    gso_type: int = 0
    gso_size: int = 0
    hdr_len: int = 0
    csum_start: int = 0
    csum_offset: int = 0


class PacketLog:
    """Collects packets; a reserved one is read when the next call shows that it is complete."""

    def __init__(self, offload: bool = False, mtu: int = 1500, room: int = 1 << 40) -> None:
        self.offload = offload
        self.offload_udp = offload
        self.mtu = mtu
        self.buffer = bytearray()
        self.left = room
        self.packet_bytes = 0
        self.listener: Callable[[Packet], None] | None = None
        """Called with every packet that is taken."""
        self._packets: list[Packet] = []
        self._open: tuple[int, int, int, int, int] | None = None

    @property
    def waiting(self) -> bool:
        return bool(self._packets) or self._open is not None

    def room(self) -> int:
        return self.left

    def reserve_packet(
        self,
        length: int,
        gso_type: int = 0,
        gso_size: int = 0,
        hdr_len: int = 0,
        csum_start: int = 0,
        csum_offset: int = 0,
    ) -> int:
        self._settle()
        assert gso_type or length <= self.mtu
        self.left -= length
        self._count(length, gso_size, hdr_len)
        self.buffer = bytearray(b"\xee" * (length + 7))
        self._open = gso_type, gso_size, hdr_len, csum_start, csum_offset
        return 7

    def send_packet(
        self,
        buf: bytearray,
        start: int,
        end: int,
        gso_type: int = 0,
        gso_size: int = 0,
        hdr_len: int = 0,
        csum_start: int = 0,
        csum_offset: int = 0,
    ) -> None:
        self._settle()
        assert start >= HEADROOM
        assert gso_type or end - start <= self.mtu
        self.left -= end - start
        self._count(end - start, gso_size, hdr_len)
        self._packets.append(
            Packet(bytes(buf[start:end]), gso_type, gso_size, hdr_len, csum_start, csum_offset)
        )
        # The real writer puts its own header there.
        buf[start - HEADROOM : start] = b"\xdd" * HEADROOM

    def _count(self, length: int, size: int, header: int) -> None:
        pieces = -(-(length - header) // size) if size else 1
        self.packet_bytes += length + (pieces - 1) * header

    def _settle(self) -> None:
        if self._open is not None:
            self._packets.append(Packet(bytes(self.buffer[7:]), *self._open))
            self._open = None

    def take(self) -> list[Packet]:
        """What was emitted since the last call."""
        self._settle()
        packets, self._packets = self._packets, []
        if self.listener is not None:
            for packet in packets:
                self.listener(packet)
        return packets
