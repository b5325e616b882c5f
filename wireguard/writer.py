"""Packets in, sealed datagrams out: the sending half of a peer.

Each packet is padded and makes a datagram of its own. Sealed datagrams lie one
behind the other, so that neighbours of equal size leave in one system call with
UDP_SEGMENT. Without a session nothing is taken (`room()` is 0): what waits, waits
where it would have been read from. The few packets that come unasked are dropped
and counted, as on a link that is down.
"""

from __future__ import annotations

from sealing.runs import SealedRuns
from wireguard.constants import (
    DATA,
    DATA_HEADER_SIZE,
    DATA_OVERHEAD,
    MAX_QUEUED,
    PADDING,
)
from wireguard.keypairs import KeyPair
from wireguard.messages import pack_data_header


class TunnelWriter:
    """Implements netstack's `PacketOut` for one peer."""

    __slots__ = (
        "_fill",
        "_plain",
        "_reserved",
        "_runs",
        "buffer",
        "counters",
        "mtu",
        "offload",
        "offload_udp",
        "pair",
    )

    def __init__(self, mtu: int, counters: dict[str, int]) -> None:
        self.offload = False
        self.offload_udp = False
        self.mtu = mtu
        self.counters = counters
        self.pair: KeyPair | None = None
        """What everything is sealed under; None while there is no session."""
        self.buffer = bytearray(4 * mtu)
        self._plain = memoryview(self.buffer)
        self._fill = 0
        self._reserved: list[tuple[int, int]] = []
        self._runs = SealedRuns(4 * mtu)

    @property
    def waiting(self) -> bool:
        return self._fill > 0 or self._runs.queued > 0

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
        if length > self.mtu:
            return self._too_long(length)
        size = self._padded(length)
        at = self._fill
        if at + size > len(self.buffer):
            self.flush()
            at = 0
        self._plain[at + length : at + size] = bytes(size - length)
        self._fill = at + size
        self._reserved.append((at, size))
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
        at = self.reserve_packet(end - start)
        self.buffer[at : at + end - start] = memoryview(buf)[start:end]

    def flush(self) -> None:
        """Seal what was reserved, a datagram each."""
        reserved, self._reserved = self._reserved, []
        self._fill = 0
        plain = self._plain
        for at, size in reserved:
            self._seal(plain[at : at + size], size)

    def keepalive(self) -> None:
        """Seal a datagram without a packet."""
        self.flush()
        self._seal(memoryview(b""), 0)

    def output(self) -> list[tuple[memoryview, int]]:
        """Takes what is to be sent: (run of datagrams, size of each but the last) pairs.

        The views are good until the next datagram is sealed.
        """
        return self._runs.take()

    def _padded(self, length: int) -> int:
        """The size of a packet with its padding, which never exceeds the MTU."""
        padded = -(-length // PADDING) * PADDING
        return min(padded, self.mtu)

    def _too_long(self, length: int) -> int:
        """The caller packs its bytes where they go nowhere."""
        self._count("writer__packet_too_long__dropped")
        self.flush()
        if length > len(self.buffer):
            self.buffer = bytearray(length)
            self._plain = memoryview(self.buffer)
        return 0

    def _seal(self, data: memoryview, size: int) -> None:
        pair = self.pair
        if pair is None:
            self._count("writer__no_session__dropped")
            return
        runs = self._runs
        total = size + DATA_OVERHEAD
        at = runs.place(total)
        if at < 0:
            self._count("writer__queue_full__dropped")
            return
        view = runs.view
        counter = pair.counter
        pair.counter = counter + 1
        pack_data_header(view, at, DATA, pair.remote, counter)
        pair.encrypt_into(
            pair.nonce(0, counter), data, None, view[at + DATA_HEADER_SIZE : at + total]
        )

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
