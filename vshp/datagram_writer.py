"""Frames in, sealed datagrams out: the sending half of a datagram session.

Small frames share a datagram up to the path's payload; a packet of full size
fills one. Sealed datagrams lie one behind the other, so that neighbours of
equal size leave in one system call with UDP_SEGMENT. A packet longer than the
path takes is the caller's mistake (the lease's MTU says what fits): it is
dropped and counted.

Given a cutter (`cut_with`), the writer takes TCP super-segments and partial checksums, although
a datagram carries neither: they are cut and summed on their way into the cipher.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from sealing.errors import LocalMisuse
from sealing.records import TAG_SIZE, RecordKey
from sealing.runs import SealedRuns, SealingKey
from vshp.carried import carried, repeated
from vshp.constants import (
    DATA_HEADER_SIZE,
    DATAGRAM_DATA,
    DATAGRAM_OVERHEAD,
    FRAME_HEADER_SIZE,
    MAX_PACKET,
    MAX_QUEUED_DATAGRAMS,
    MIN_PACKET,
    MIN_PATH_PAYLOAD,
    OFFLOAD_HEADER_SIZE,
    REKEY_AFTER_BYTES,
    REKEY_AFTER_RECORDS,
)
from vshp.frames import FrameType

_IP_PACKET = int(FrameType.IP_PACKET)
_pack_u32 = struct.Struct("<I").pack_into
_OVERHEAD = DATA_HEADER_SIZE + TAG_SIZE
_LEAST_FRAME = FRAME_HEADER_SIZE + MIN_PACKET
"""Bytes that have to be left in a datagram for another packet."""


class Cutter(Protocol):
    """What knows of TCP, of which VSHP does not (`netstack.cut`)."""

    def cut(
        self,
        whole: memoryview,
        mss: int,
        header: int,
        ip_header: int,
        into: memoryview,
        framed: Callable[[int], memoryview],
    ) -> Iterable[memoryview]:
        """The packets of a super-segment one after the other, each at the beginning of `into`;
        what is yielded is what `framed` returned for its length."""

    def complete(self, packet: memoryview, start: int, offset: int) -> None:
        """Make the partial checksum over all from `start` on whole."""


class DatagramWriter:
    """Plaintext frames in, sealed datagrams out; implements netstack's `PacketOut`."""

    __slots__ = (
        "_batch",
        "_closed",
        "_counted",
        "_cutter",
        "_fill",
        "_index",
        "_key",
        "_large",
        "_limit",
        "_partial",
        "_piece",
        "_read",
        "_rekey_at",
        "_rekey_bytes_left",
        "_runs",
        "_sealing",
        "_told",
        "buffer",
        "counters",
        "epoch",
        "mtu",
        "offload",
        "offload_udp",
        "records",
    )

    def __init__(self, counters: dict[str, int]) -> None:
        self.offload = False
        self.offload_udp = False
        self.mtu = 1280
        self.counters = counters
        self._counted = self._told = 0
        """Bytes of packets that were taken and not dropped; the most that was ever told."""
        self.records = 0
        """Datagrams sealed so far: the counter of the next one."""
        self.epoch = 0
        """How often the key was changed."""
        self._key: RecordKey | None = None
        self._sealing: SealingKey | None = None
        """The same key with what else a datagram needs."""
        self._index = 0
        self._closed = False
        self._limit = MIN_PATH_PAYLOAD - _OVERHEAD
        """Plaintext bytes in one datagram."""
        self.buffer = bytearray(self._limit)
        self._batch = memoryview(self.buffer)
        self._fill = 0
        self._cutter: Cutter | None = None
        self._partial: list[tuple[int, int, int, int]] = []
        """Packets in the batch whose checksum is partial: start, end, and what tells of it."""
        self._large: tuple[int, int, int, int, int] | None = None
        """A super-segment that is all of the batch: start, end, MSS, lengths of its headers."""
        self._piece = memoryview(b"")
        """Where it is cut, behind room for the header of a frame."""
        self._read = 0
        """Bytes of packets that came from a NIC."""
        self._runs = SealedRuns(4 * MIN_PATH_PAYLOAD)
        self._rekey_at = REKEY_AFTER_RECORDS
        self._rekey_bytes_left = REKEY_AFTER_BYTES

    def cut_with(self, cutter: Cutter) -> None:
        """From now on super-segments and partial checksums are taken."""
        self._cutter = cutter
        self.offload = True

    # --- packets -----------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether anything is batched, or sealed and not yet taken."""
        return self._fill > 0 or self._runs.queued > 0

    @property
    def packet_bytes(self) -> int:
        """See `PacketOut`; also of packets that `read_packets` took."""
        if self._counted > self._told:
            self._told = self._counted
        return self._told

    def room(self) -> int:
        """Bytes that may still be queued before the queue to the link is long enough."""
        return MAX_QUEUED_DATAGRAMS - self._runs.queued - self._fill

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
        if gso_size:
            return self._reserve_large(length, gso_size, hdr_len, csum_start)
        at = self._fill
        stop = at + FRAME_HEADER_SIZE + length
        if stop > self._limit:
            if FRAME_HEADER_SIZE + length > self._limit:
                return self._too_long()
            self.flush()
            at = self._fill
            stop = at + FRAME_HEADER_SIZE + length
        self._counted += length
        _pack_u32(self.buffer, at, _IP_PACKET | length << 8)
        self._fill = stop
        at += FRAME_HEADER_SIZE
        if csum_start:
            self._partial.append((at, stop, csum_start, csum_offset))
        return at

    def _reserve_large(self, length: int, mss: int, header: int, ip_header: int) -> int:
        """Room for a super-segment: the whole batch, so that whatever comes next flushes it."""
        self.flush()
        if FRAME_HEADER_SIZE + header + mss > self._limit or length > len(self.buffer):
            return self._too_long()
        self._counted += length + repeated(length, header, mss)
        self._large = (0, length, mss, header, ip_header)
        self._fill = max(length, self._limit)
        return 0

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
        """Queue `buf[start:end]`; `buf` may be reused on return."""
        if gso_size and FRAME_HEADER_SIZE + hdr_len + gso_size <= self._limit:
            # Cut where it lies.
            length = end - start
            self._counted += length + repeated(length, hdr_len, gso_size)
            self.flush()
            self._cut(memoryview(buf)[start:end], gso_size, hdr_len, csum_start)
            return
        at = self.reserve_packet(end - start, gso_type, gso_size, hdr_len, csum_start, csum_offset)
        self.buffer[at : at + end - start] = memoryview(buf)[start:end]

    def read_packets(self, read: Callable[[memoryview], int]) -> int:
        """Queue packets from a NIC until it has no more or the queue is long enough; how many bytes
        they have.

        `read` puts a packet at the beginning of the view that it is given and returns its length,
        0 when there is none. It must not raise.
        """
        if self._closed:
            return 0
        self.flush()
        before = self._read
        self._seal(self._frames_of(read, self.room()), 0)
        taken = self._read - before
        self._counted += taken
        self._rekey_bytes_left -= taken
        return taken

    def _frames_of(self, read: Callable[[memoryview], int], room: int) -> Iterator[memoryview]:
        """The plaintexts of datagrams, each good until the next one is asked for."""
        buffer, batch, limit = self.buffer, self._batch, self._limit
        front = batch[FRAME_HEADER_SIZE:]
        fill = 0
        while room > fill:
            view = batch[fill + FRAME_HEADER_SIZE :] if fill else front
            n = read(view)
            if not n:
                break
            at, fill = fill, fill + FRAME_HEADER_SIZE + n
            if fill > limit:
                if at:
                    # Those before it go by themselves, and it moves to their place.
                    yield batch[:at]
                    room -= at
                    front[:n] = view[:n]
                    at, fill = 0, FRAME_HEADER_SIZE + n
                if fill > limit:
                    self._count("writer__packet_too_long__dropped")
                    fill = 0
                    continue
            _pack_u32(buffer, at, _IP_PACKET | n << 8)
            self._read += n
            if limit - fill < _LEAST_FRAME:
                yield batch[:fill]
                room -= fill
                fill = 0
        if fill:
            yield batch[:fill]

    # --- control and output ------------------------------------------------------------------

    @property
    def batched(self) -> bool:
        """Whether anything waits for `flush`."""
        return self._fill > 0

    def frame(self, kind: int, body: bytes = b"") -> None:
        """Queue a control frame; it leaves with the next `flush`."""
        size = FRAME_HEADER_SIZE + len(body)
        if self._fill + size > self._limit:
            self.flush()
            if size > self._limit:
                raise LocalMisuse("frame_too_long", str(size))
        at = self._fill
        _pack_u32(self.buffer, at, kind | len(body) << 8)
        self._fill = at + size
        self.buffer[at + FRAME_HEADER_SIZE : self._fill] = body

    def flush(self) -> None:
        """Seal what is batched as one datagram, or a super-segment as many."""
        size = self._fill
        if not size:
            return
        self._fill = 0
        if self._large is not None:
            (start, end, *fields), self._large = self._large, None
            self._cut(self._batch[start:end], *fields)
            return
        if self._partial:
            partial, self._partial = self._partial, []
            assert self._cutter is not None
            for at, end, csum_start, csum_offset in partial:
                self._cutter.complete(self._batch[at:end], csum_start, csum_offset)
        self._seal((self._batch[:size],), size)

    def probe(self, kind: int, body: bytes, payload: int) -> None:
        """A frame padded so that its datagram has exactly `payload` bytes, alone in it."""
        self.flush()
        size = payload - DATAGRAM_OVERHEAD
        padded = bytearray(FRAME_HEADER_SIZE + size)
        _pack_u32(padded, 0, kind | size << 8)
        padded[FRAME_HEADER_SIZE : FRAME_HEADER_SIZE + len(body)] = body
        self._seal((memoryview(padded),), len(padded))

    def apart(self, kind: int, body: bytes) -> bytes:
        """A frame sealed alone and handed out: for another address than all the rest goes to."""
        sealing = self._sealing
        if sealing is None or self._closed:
            raise LocalMisuse("seal_without_key")
        frame = bytearray(FRAME_HEADER_SIZE) + body
        _pack_u32(frame, 0, kind | len(body) << 8)
        alone = SealedRuns(len(frame) + _OVERHEAD)
        alone.seal(sealing, (memoryview(frame),))
        self.records = sealing.counter
        return bytes(alone.view)

    def output(self) -> list[tuple[memoryview, int]]:
        """Takes what is to be sent: (run of datagrams, size of each but the last) pairs.

        The views are good until the next datagram is sealed.
        """
        return self._runs.take()

    # --- for the session ---------------------------------------------------------------------

    def raw(self, datagram: bytes) -> None:
        """Queue a clear datagram: the handshake."""
        at = self._runs.place(len(datagram))
        if at < 0:
            self._count("writer__queue_full__dropped")
        else:
            self._runs.view[at : at + len(datagram)] = datagram

    def set_key(self, key: RecordKey, receiver_index: int) -> None:
        """Datagrams can be sealed from here on, for the peer's session of that index."""
        self._index = receiver_index
        self._take_key(key)

    def widen(self, payload: int) -> None:
        """There is a lease, and the path takes UDP payloads of this size."""
        self.flush()
        self._limit = payload - _OVERHEAD
        # Behind a full batch one whole NIC read fits, so that a too long packet can be dropped.
        size = self._limit + FRAME_HEADER_SIZE + OFFLOAD_HEADER_SIZE + MAX_PACKET
        if len(self.buffer) < size:
            self.buffer = bytearray(size)
            self._batch = memoryview(self.buffer)
            self._piece = memoryview(bytearray(self._limit))

    def _take_key(self, key: RecordKey) -> None:
        """Seal under this one from now on; counters go on."""
        word = DATAGRAM_DATA | (self.epoch & 0xFF) << 8
        self._key = key
        self._sealing = SealingKey(word, self._index, key.encrypt_into, key.nonce, bound=True)
        self._sealing.counter = self.records

    def rekey(self) -> None:
        """Go on under the next key; the epoch in the header tells the peer."""
        if self._key is None or self._closed:
            raise LocalMisuse("rekey_without_key")
        self.flush()
        self.epoch += 1
        self._take_key(self._key.successor())
        self._rekey_at = self.records + REKEY_AFTER_RECORDS
        self._rekey_bytes_left = REKEY_AFTER_BYTES
        self._count("record__rekey__sent")

    def shut(self) -> None:
        """The session is over: what is queued may still leave, what comes now is dropped."""
        self.flush()
        self._closed = True

    # --- inside ------------------------------------------------------------------------------

    def _cut(self, whole: memoryview, mss: int, header: int, ip_header: int) -> None:
        """Seal the packets of a super-segment, a datagram each."""
        assert self._cutter is not None
        piece = self._piece

        def framed(length: int) -> memoryview:
            _pack_u32(piece, 0, _IP_PACKET | length << 8)
            return piece[: FRAME_HEADER_SIZE + length]

        into = piece[FRAME_HEADER_SIZE:]
        self._seal(self._cutter.cut(whole, mss, header, ip_header, into, framed), len(whole))

    def _seal(self, plaintexts: Iterable[memoryview], size: int) -> None:
        """Seal each as a datagram of its own; together they have about `size` bytes."""
        if self._closed:
            self._counted -= sum(map(carried, plaintexts))
            self._count("writer__session_closed__dropped")
            return
        sealing = self._sealing
        if sealing is None:
            raise LocalMisuse("seal_without_key")
        dropped = self._runs.seal(sealing, plaintexts)
        self.records = sealing.counter
        if dropped:
            self._counted -= sum(map(carried, dropped))
            self._count("writer__queue_full__dropped", len(dropped))
        self._rekey_bytes_left -= size
        if self._rekey_bytes_left < 0 or self.records > self._rekey_at:
            self.rekey()

    def _too_long(self) -> int:
        """The caller may pack its bytes behind the batch, from where they go nowhere."""
        self._count("writer__packet_too_long__dropped")
        return self._fill

    def _count(self, name: str, times: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + times
