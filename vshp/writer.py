"""Frames in, sealed bytes out: the sending half of a stream session.

Theory of operation. Small packets and control frames are appended to a batch,
`buffer`; `flush` seals the batch as one record into the output. A packet of
4 KiB or more is sealed where it lies, straight from the caller's buffer into the
output, after what was batched before it: no byte of it is copied but by the
cipher. The output is one contiguous run of bytes that the transport writes out
and reports back with `consumed`; handshake bytes take the same way.

`room` is what back-pressure hangs on: the queue to the link stays short, so
that bulk data waits in the sockets and not here. Control packets may exceed it;
beyond `MAX_OUTPUT` they are dropped and counted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from sealing.errors import LocalMisuse
from sealing.records import TAG_SIZE, NonceMaker, RecordKey, Transform
from vshp.carried import carried, repeated
from vshp.config import Suite
from vshp.constants import (
    FRAME_HEADER_SIZE,
    MAX_EARLY_RECORD_PLAINTEXT,
    MAX_OUTPUT,
    MAX_PACKET,
    MAX_QUEUED,
    MAX_RECORD_PLAINTEXT,
    OFFLOAD_HEADER_SIZE,
    RECORD_HEADER_SIZE,
    REKEY_AFTER_BYTES,
    REKEY_AFTER_RECORDS,
    SEAL_DIRECTLY_FROM,
)
from vshp.frames import FrameType

_IP_PACKET = int(FrameType.IP_PACKET)
_IP_PACKET_OFFLOAD = int(FrameType.IP_PACKET_OFFLOAD)
_CLOSE = int(FrameType.CLOSE)
_REKEY = int(FrameType.REKEY)

_pack_u32 = struct.Struct("<I").pack_into
_pack_offload = struct.Struct("<I?BHHHH").pack_into
"""Frame header and virtio header in one; of the latter's flags there is NEEDS_CSUM alone, the bit
of 1, which holds where the checksum is to start anywhere."""
_OFFLOAD_FRAME = FRAME_HEADER_SIZE + OFFLOAD_HEADER_SIZE
_OFFLOAD_WORD = OFFLOAD_HEADER_SIZE << 8 | _IP_PACKET_OFFLOAD
"""The first word of a packet's frame, without the length of the packet."""
_LARGEST_FRAME = _OFFLOAD_FRAME + MAX_PACKET
_OVERHEAD = RECORD_HEADER_SIZE + TAG_SIZE
_EARLY_OUTPUT = 2048
_OUTPUT = 256 * 1024


class FrameWriter:
    """Plaintext frames in, sealed stream bytes out; implements netstack's `PacketOut`."""

    __slots__ = (
        "_batch",
        "_batch_size",
        "_capacity",
        "_closed",
        "_counted",
        "_encrypt_into",
        "_end",
        "_fill",
        "_key",
        "_nonce",
        "_out",
        "_out_view",
        "_rekey_at",
        "_rekey_bytes_left",
        "_start",
        "_told",
        "buffer",
        "counters",
        "has_control",
        "mtu",
        "offload",
        "offload_udp",
        "records",
    )

    def __init__(self, counters: dict[str, int]) -> None:
        self.offload = False
        self.offload_udp = False
        self.mtu = 1500
        self.counters = counters
        self._counted = self._told = 0
        """Bytes of packets that were taken and not dropped; the most that was ever told."""
        self.records = 0
        """Records sealed so far: the counter of the next one."""
        self._key: RecordKey | None = None
        self._closed = False
        self._batch_size = MAX_EARLY_RECORD_PLAINTEXT
        self.buffer = bytearray(self._batch_size)
        self._batch = memoryview(self.buffer)
        self._fill = 0
        self.has_control = False
        """Whether a control frame waits in the batch."""
        self._out = bytearray(_EARLY_OUTPUT)
        self._out_view = memoryview(self._out)
        self._start = 0
        self._end = 0
        # 0 while nothing can be sealed: every seal then takes the slow path, which says why.
        self._capacity = 0
        self._encrypt_into: Transform
        self._nonce: NonceMaker
        self._rekey_at = REKEY_AFTER_RECORDS
        self._rekey_bytes_left = REKEY_AFTER_BYTES

    # --- packets -----------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether anything is batched, or sealed and not yet consumed."""
        return self._fill > 0 or self._end > self._start

    @property
    def packet_bytes(self) -> int:
        """See `PacketOut`; packets that `read_packets` took count as they came."""
        if self._counted > self._told:
            self._told = self._counted
        return self._told

    def room(self) -> int:
        """Bytes that may still be queued before the queue to the link is long enough."""
        return MAX_QUEUED - (self._end - self._start) - self._fill

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
        self._counted += length
        if gso_size:
            self._counted += repeated(length, hdr_len, gso_size)
        at = self._fill
        if self.offload:
            start = at + _OFFLOAD_FRAME
            stop = start + length
            if stop > self._batch_size:
                at = self._next_batch(_OFFLOAD_FRAME + length)
                start = at + _OFFLOAD_FRAME
                stop = start + length
            _pack_offload(
                self.buffer,
                at,
                (length << 8) + _OFFLOAD_WORD,
                csum_start,
                gso_type,
                hdr_len,
                gso_size,
                csum_start,
                csum_offset,
            )
        else:
            start = at + FRAME_HEADER_SIZE
            stop = start + length
            if stop > self._batch_size:
                at = self._next_batch(FRAME_HEADER_SIZE + length)
                start = at + FRAME_HEADER_SIZE
                stop = start + length
            _pack_u32(self.buffer, at, _IP_PACKET | length << 8)
        self._fill = stop
        return start

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

        Writes into the 14 bytes before `start`. `buf` must be a bytearray or a writable memoryview.
        """
        length = end - start
        if length < SEAL_DIRECTLY_FROM:
            at = self.reserve_packet(length, gso_type, gso_size, hdr_len, csum_start, csum_offset)
            self.buffer[at : at + length] = memoryview(buf)[start:end]
            return
        self._counted += length
        if gso_size:
            self._counted += repeated(length, hdr_len, gso_size)
        if self._fill:
            self.flush()
        if self.offload:
            start -= _OFFLOAD_FRAME
            _pack_offload(
                buf,
                start,
                (length << 8) + _OFFLOAD_WORD,
                csum_start,
                gso_type,
                hdr_len,
                gso_size,
                csum_start,
                csum_offset,
            )
        else:
            start -= FRAME_HEADER_SIZE
            _pack_u32(buf, start, _IP_PACKET | length << 8)
        self._seal(memoryview(buf)[start:end], end - start)

    def read_packets(self, read: Callable[[memoryview], int]) -> int:
        """Queue packets from a NIC until it has no more or the queue is long enough; how many bytes
        they have.

        `read` puts a packet, with `offload` behind its virtio header, at the beginning of the view
        that it is given, which has room for 10 + 65535 bytes. It returns what it put there, 0 when
        there is none. It must not raise.
        """
        if self._closed:
            return 0
        buffer, batch = self.buffer, self._batch
        offload = self.offload
        kind = _IP_PACKET_OFFLOAD if offload else _IP_PACKET
        full = self._batch_size - _LARGEST_FRAME
        left = room = self.room()
        at = self._fill
        packets = 0
        while left > 0:
            if at > full:
                self._fill = at
                at = self._next_batch(_LARGEST_FRAME)
            start = at + FRAME_HEADER_SIZE
            n = read(batch[start:])
            if not n:
                break
            _pack_u32(buffer, at, kind | n << 8)
            at = start + n
            # Frames' and records' own bytes are few.
            left -= n
            packets += 1
        self._fill = at
        taken = room - left - (packets * OFFLOAD_HEADER_SIZE if offload else 0)
        self._counted += taken
        return taken

    # --- control and output ------------------------------------------------------------------

    def frame(self, kind: int, body: bytes = b"") -> None:
        """Queue a control frame; it leaves with the next `flush`."""
        if self._end - self._start > MAX_OUTPUT and kind != _CLOSE:
            self._count("writer__control_queue_full__dropped")
            return
        at = self._fill
        size = FRAME_HEADER_SIZE + len(body)
        if at + size > self._batch_size:
            at = self._next_batch(size)
        _pack_u32(self.buffer, at, kind | len(body) << 8)
        self._fill = at + size
        self.buffer[at + FRAME_HEADER_SIZE : self._fill] = body
        self.has_control = True

    def flush(self) -> None:
        """Seal what is batched."""
        size = self._fill
        if size:
            self._fill = 0
            self._seal(self._batch[:size], size)
            self.has_control = False

    @property
    def batched(self) -> bool:
        """Whether anything waits for `flush`."""
        return self._fill > 0

    def output(self) -> memoryview:
        """Bytes for the transport, in order; the view is good until the next call here."""
        return self._out_view[self._start : self._end]

    def consumed(self, n: int) -> None:
        """The transport took the first `n` bytes of the output."""
        start = self._start + n
        if start > self._end:
            raise LocalMisuse("consumed_too_much")
        self._start = start
        if start == self._end:
            self._start = self._end = 0
            if len(self._out) > _OUTPUT:
                self._replace_output(_OUTPUT)

    # --- for the session ---------------------------------------------------------------------

    def raw(self, data: bytes) -> None:
        """Queue clear bytes: the handshake."""
        self._make_space(len(data))
        end = self._end
        self._out[end : end + len(data)] = data
        self._end = end + len(data)

    def set_key(self, suite: Suite, key: bytes) -> None:
        """Records can be sealed from here on."""
        self._use(RecordKey(suite.cipher, key))
        self._capacity = len(self._out)

    def widen(self) -> None:
        """There is a lease: take full-sized packets."""
        if self._batch_size < MAX_RECORD_PLAINTEXT:
            self.flush()
            self._batch_size = MAX_RECORD_PLAINTEXT
            self.buffer = bytearray(self._batch_size)
            self._batch = memoryview(self.buffer)

    def rekey(self) -> None:
        """Tell the peer and go on under the next key; nothing waits for it."""
        key = self._key
        if key is None or self._closed:
            raise LocalMisuse("rekey_without_key")
        self.flush()
        self._rekey_at = self._rekey_bytes_left = 1 << 64
        self.frame(_REKEY)
        self.flush()
        self._use(key.successor())
        self._count("record__rekey__sent")

    def shut(self) -> None:
        """The session is over: what is queued may still leave, what comes now is dropped."""
        self.flush()
        self._closed = True
        self._capacity = 0
        self._key = None

    # --- inside ------------------------------------------------------------------------------

    def _use(self, key: RecordKey) -> None:
        self._key = key
        self._encrypt_into = key.encrypt_into
        self._nonce = key.nonce
        self._rekey_at = self.records + REKEY_AFTER_RECORDS
        self._rekey_bytes_left = REKEY_AFTER_BYTES

    def _seal(self, data: memoryview, size: int) -> None:
        """Append `data`, `size` bytes of whole frames, as one record."""
        end = self._end
        stop = end + size + _OVERHEAD
        if stop > self._capacity:
            if not self._may_seal(size):
                self._counted -= carried(data)
                return
            self._make_space(size + _OVERHEAD)
            end = self._end
            stop = end + size + _OVERHEAD
        counter = self.records
        _pack_u32(self._out, end, size + TAG_SIZE)
        self._encrypt_into(
            self._nonce(0, counter), data, None, self._out_view[end + RECORD_HEADER_SIZE : stop]
        )
        self.records = counter + 1
        self._end = stop
        self._rekey_bytes_left -= size
        if self._rekey_bytes_left < 0 or counter >= self._rekey_at:
            self.rekey()

    def _may_seal(self, size: int) -> bool:
        """Whether a record that found no space at once may be sealed; drops are counted."""
        if self._closed:
            self._count("writer__session_closed__dropped")
            return False
        if self._key is None:
            raise LocalMisuse("seal_without_key")
        if self._end - self._start + size > MAX_OUTPUT and not self.has_control:
            self._count("writer__queue_full__dropped")
            return False
        return True

    def _make_space(self, size: int) -> None:
        """Have `size` free bytes at the end of the output: move what is there, or grow."""
        live = self._end - self._start
        capacity = len(self._out)
        if self._end + size <= capacity:
            return
        if live + size <= capacity:
            # In place: a memoryview assignment copes with the overlap.
            self._out_view[:live] = self._out_view[self._start : self._end]
            self._start, self._end = 0, live
            return
        while capacity < live + size:
            capacity *= 2
        # Not beyond the bound, so that what exceeds it comes by `_may_seal` each time.
        self._replace_output(min(capacity, max(MAX_OUTPUT, live + size)))

    def _replace_output(self, capacity: int) -> None:
        """Another buffer, not a resized one: views of the old may still be out."""
        live = self._end - self._start
        out = bytearray(capacity)
        view = memoryview(out)
        view[:live] = self._out_view[self._start : self._end]
        self._out, self._out_view = out, view
        self._start, self._end = 0, live
        if self._capacity:
            self._capacity = capacity

    def _next_batch(self, size: int) -> int:
        """Seal the batch so that `size` bytes fit; returns the new fill, 0."""
        if size > self._batch_size:
            raise LocalMisuse("frame_too_long", str(size))
        self.flush()
        return self._fill

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
