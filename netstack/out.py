"""Where packets toward the client go: the one port through which the stack emits.

The tunnel's frame writer is the real one. A packet is either *reserved* (room
for it is handed out inside the writer's batch, the caller packs the bytes
there) or *sent* from a buffer of the caller's that has `HEADROOM` bytes free
in front of the packet. Both carry what a virtio network header says, so that
with `offload` the receiver's kernel fills in checksums and cuts segments.
"""

from __future__ import annotations

from typing import Protocol

HEADROOM = 64
"""Bytes a `send_packet` buffer keeps free before the packet, for the writer's own headers."""

GSO_NONE = 0
GSO_TCPV4 = 1
GSO_TCPV6 = 4
GSO_UDP_L4 = 5


def repeated(length: int, header: int, size: int) -> int:
    """Bytes that a packet of `length` bytes grows by when it is cut into packets with `size` bytes
    of payload each: its `header` bytes once more for each but the first."""
    return header * ((length - header - 1) // size) if length > header else 0


class PacketOut(Protocol):
    """The tunnel toward one client."""

    @property
    def offload(self) -> bool:
        """Whether packets may carry partial checksums (`csum_start` > 0) and exceed the MTU
        (TSO)."""

    @property
    def offload_udp(self) -> bool:
        """Whether UDP may too (USO)."""

    @property
    def mtu(self) -> int:
        """Largest IP packet when `gso_type` is GSO_NONE."""

    @property
    def buffer(self) -> bytearray:
        """Where `reserve_packet` offsets point; it may be another object after any call."""

    @property
    def waiting(self) -> bool:
        """Whether anything was emitted that the transport has not taken."""

    @property
    def packet_bytes(self) -> int:
        """Bytes of the IP packets taken so far: of those that a super-segment is cut into, and
        none of a packet that was dropped because it has no way or no room. Never less than it was:
        what was told and then dropped is made up for by what comes next."""

    def room(self) -> int:
        """Bytes that may still be queued before the queue to the link is long enough (may be < 0).

        A packet may be emitted whenever this is positive, whatever its size;
        control packets (ACK, RST, ICMP) may be emitted even when it is not.
        """

    def reserve_packet(
        self,
        length: int,
        gso_type: int = 0,
        gso_size: int = 0,
        hdr_len: int = 0,
        csum_start: int = 0,
        csum_offset: int = 0,
    ) -> int:
        """Queue a packet of `length` bytes; its bytes are packed at the offset returned."""

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
        """Queue `buf[start:end]`, at once sealed or copied; `buf` may be reused on return.

        Writes into `buf[start - HEADROOM:start]`.
        """
