"""Packets in, sealed datagrams out: the sending half of a peer.

Each packet is padded and makes a datagram of its own. Sealed datagrams lie one
behind the other, so that neighbours of equal size leave in one system call with
UDP_SEGMENT. Without a session nothing is taken (`room()` is 0): what waits, waits
where it would have been read from. The few packets that come unasked are dropped
and counted, as on a link that is down.

TCP super-segments and partial checksums are taken (`offload`) although the device that
hears us knows neither: they are cut and summed here, on their way into the cipher.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from netstack.cut import complete, cut
from netstack.out import repeated
from sealing.runs import SealedRuns
from wireguard.constants import MAX_QUEUED, PADDING
from wireguard.keypairs import KeyPair


class TunnelWriter:
    """Implements netstack's `PacketOut` for one peer."""

    __slots__ = (
        "_counted",
        "_fill",
        "_piece",
        "_plain",
        "_reserved",
        "_runs",
        "_told",
        "buffer",
        "counters",
        "mtu",
        "offload",
        "offload_udp",
        "pair",
    )

    def __init__(self, mtu: int, counters: dict[str, int]) -> None:
        self.offload = True
        self.offload_udp = False
        self.mtu = mtu
        self.counters = counters
        self._counted = self._told = 0
        """Bytes of packets that were taken and not dropped; the most that was ever told."""
        self.pair: KeyPair | None = None
        """What everything is sealed under; None while there is no session."""
        self.buffer = bytearray(4 * mtu)
        self._plain = memoryview(self.buffer)
        self._fill = 0
        self._reserved: list[tuple[int, int, int, int, int, int, int]] = []
        """Offset, length, length with padding, and `reserve_packet`'s last four numbers."""
        self._piece = memoryview(bytearray(mtu))
        """Where super-segments are cut."""
        self._runs = SealedRuns(4 * mtu)

    @property
    def waiting(self) -> bool:
        return self._fill > 0 or self._runs.queued > 0

    @property
    def packet_bytes(self) -> int:
        """See `PacketOut`; without the padding."""
        if self._counted > self._told:
            self._told = self._counted
        return self._told

    def room(self) -> int:
        if self.pair is None:
            return 0
        return MAX_QUEUED - self._runs.queued - self._fill

    def reserve_packet(
        self,
        length: int,
        gso_type: int = 0,
        gso_size: int = 0,
        hdr_len: int = 0,
        csum_start: int = 0,
        csum_offset: int = 0,
    ) -> int:
        if (hdr_len + gso_size if gso_size else length) > self.mtu:
            return self._too_long(length)
        self._counted += length
        if gso_size:
            self._counted += repeated(length, hdr_len, gso_size)
        size = length if gso_size else self._padded(length)
        at = self._fill
        if at + size > len(self.buffer):
            self.flush()
            at = 0
            self._grow(size)
        self._plain[at + length : at + size] = bytes(size - length)
        self._fill = at + size
        self._reserved.append((at, length, size, gso_size, hdr_len, csum_start, csum_offset))
        return at

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
        if gso_size and hdr_len + gso_size <= self.mtu:
            # Cut where it lies.
            self._counted += end - start + repeated(end - start, hdr_len, gso_size)
            self.flush()
            whole = memoryview(buf)[start:end]
            self._seal(cut(whole, gso_size, hdr_len, csum_start, self._piece, self._framed))
            return
        at = self.reserve_packet(end - start, gso_type, gso_size, hdr_len, csum_start, csum_offset)
        self.buffer[at : at + end - start] = memoryview(buf)[start:end]

    def flush(self) -> None:
        """Seal what was reserved, a datagram for each packet."""
        if self._reserved:
            self._seal(self._packets())

    def keepalive(self) -> None:
        """Seal a datagram without a packet."""
        self.flush()
        self._seal((memoryview(b""),))

    def output(self) -> list[tuple[memoryview, int]]:
        """Takes what is to be sent: (run of datagrams, size of each but the last) pairs.

        The views are good until the next datagram is sealed.
        """
        return self._runs.take()

    def _packets(self) -> Iterator[memoryview]:
        """What was reserved, padded."""
        reserved, self._reserved = self._reserved, []
        self._fill = 0
        plain = self._plain
        for at, length, size, mss, header, csum_start, csum_offset in reserved:
            if mss:
                whole = plain[at : at + length]
                yield from cut(whole, mss, header, csum_start, self._piece, self._framed)
                continue
            if csum_start:
                complete(plain[at : at + length], csum_start, csum_offset)
            yield plain[at : at + size]

    def _framed(self, length: int) -> memoryview:
        """The packet of that length in `_piece`, padded."""
        size = self._padded(length)
        self._piece[length:size] = bytes(size - length)
        return self._piece[:size]

    def _padded(self, length: int) -> int:
        """The size of a packet with its padding, which never exceeds the MTU."""
        padded = -(-length // PADDING) * PADDING
        return min(padded, self.mtu)

    def _too_long(self, length: int) -> int:
        """The caller packs its bytes where they go nowhere."""
        self._count("writer__packet_too_long__dropped")
        self.flush()
        self._grow(length)
        return 0

    def _grow(self, length: int) -> None:
        """Have room for so much; nothing is reserved."""
        if length > len(self.buffer):
            self.buffer = bytearray(length)
            self._plain = memoryview(self.buffer)

    def _seal(self, packets: Iterable[memoryview]) -> None:
        """Seal padded packets, a datagram each: the way of all that leaves."""
        pair = self.pair
        if pair is None:
            for packet in packets:
                self._counted -= _unpadded(packet)
                self._count("writer__no_session__dropped")
            return
        dropped = self._runs.seal(pair.sealing, packets)
        if dropped:
            self._counted -= sum(map(_unpadded, dropped))
            self._count("writer__queue_full__dropped", len(dropped))

    def _count(self, name: str, times: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + times


def _unpadded(packet: memoryview | bytes) -> int:
    """The length of the IP packet in front of the padding; 0 where there is none (a keepalive)."""
    if not packet:
        return 0
    if packet[0] >> 4 == 4:
        return packet[2] << 8 | packet[3]
    return 40 + (packet[4] << 8 | packet[5])
