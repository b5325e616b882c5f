"""A session on a byte stream: preamble, framed handshake messages, then records.

The driver receives straight into `receive_buffer` and reports with `received`.
That method is the packet path: it opens every complete record into one scratch
buffer, walks its frames, and calls `on_packet` for packets, without an object
per packet; a driver may walk the packets of a record itself (`on_packets`).
Before there is a lease both buffers are small, and a record larger than they
are is a violation.
"""

from __future__ import annotations

import struct

from cryptography.exceptions import InvalidTag

from sealing.errors import AuthFailed, LocalMisuse, PeerViolation, ProtocolError
from sealing.records import TAG_SIZE, NonceMaker, RecordKey, Transform
from vshp.config import LeaseConfig, Suite
from vshp.constants import (
    EARLY_RECEIVE_BUFFER,
    FRAME_HEADER,
    FRAME_HEADER_SIZE,
    MAX_EARLY_RECORD_PLAINTEXT,
    MAX_EARLY_RECORDS,
    MAX_HANDSHAKE_MESSAGE,
    MAX_PEEK,
    MAX_QUEUED,
    MAX_RECORD_PLAINTEXT,
    MESSAGE_HEADER_SIZE,
    MESSAGE_NOISE,
    MESSAGE_REFUSED,
    MIN_PACKET,
    OFFLOAD_HEADER_SIZE,
    RECEIVE_BUFFER,
    RECEIVE_BUFFER_MIN_FREE,
    RECORD_HEADER_SIZE,
)
from vshp.core import CLOSED, Random, SessionCore
from vshp.errors import FrameInvalid, FrameMisplaced, FrameTruncated
from vshp.frames import FrameType
from vshp.states import State
from vshp.writer import FrameWriter

_u32 = struct.Struct("<I").unpack_from
_frame_header = struct.Struct(FRAME_HEADER).unpack_from
"""Of nearly all packets the length's high bits are 0."""
_message_header = struct.Struct("<BH").unpack_from
_pack_message = struct.Struct("<BH").pack

_IP_PACKET = int(FrameType.IP_PACKET)
_IP_PACKET_OFFLOAD = int(FrameType.IP_PACKET_OFFLOAD)
_REKEY = int(FrameType.REKEY)
_NO_FRAME = -1
_OPEN = State.OPEN
_MIN_OFFLOAD = OFFLOAD_HEADER_SIZE + MIN_PACKET


class StreamTransport(SessionCore):
    """Bytes of a stream to frames, and frames to bytes by a FrameWriter."""

    datagram = False

    _start: int
    _end: int
    _min_free: int
    _opened: memoryview

    def __init__(self, now: float, rng: Random) -> None:
        super().__init__(now, rng)
        self.writer = FrameWriter(self.counters)
        self.records = 0
        """Records opened: the counter of the next one."""
        self._resize_buffer(EARLY_RECEIVE_BUFFER, b"")
        self._max_record = MAX_EARLY_RECORD_PLAINTEXT + TAG_SIZE
        self._new_scratch(MAX_EARLY_RECORD_PLAINTEXT)
        self._key: RecordKey | None = None
        self._decrypt_into: Transform
        self._nonce: NonceMaker
        self._widened = False

    # --- receiving ---------------------------------------------------------------------------

    def receive_buffer(self) -> memoryview:
        """Where to receive the next bytes; never empty. Good until `received`."""
        buffer = self._buffer
        if len(buffer) - self._end < self._min_free:
            live = self._end - self._start
            # In place: a memoryview assignment copes with the overlap.
            buffer[:live] = buffer[self._start : self._end]
            self._start, self._end = 0, live
        return buffer[self._end :]

    def received(self, n: int, now: float) -> None:
        """`n` bytes were received into `receive_buffer`.

        Calls `on_packet` and queues events. Raises PeerViolation, AuthFailed or
        Refused when the session is over by the peer's fault; what it should still be
        told is then in the writer. Bytes that come after the end are ignored.
        """
        end = self._end + n
        if n < 0 or end > len(self._buffer):
            raise LocalMisuse("received_too_much", str(n))
        self._end = end
        before = self.records
        sent = self.writer.records - self._answers
        try:
            if self._key is None and self.state is not CLOSED:
                self._handshake_bytes(now)
            if self._key is not None:
                self._open_records(now)
        except ProtocolError as error:
            if isinstance(error, LocalMisuse):
                raise
            self._fail(error)
            raise
        finally:
            if self.state is CLOSED or self._start == self._end:
                self._start = self._end = 0
        if self.records != before:
            self._sent_when_heard = sent
        # Answers to control frames leave at once; the driver flushes its own packets.
        if self.writer.has_control:
            self.writer.flush()

    def _open_records(self, now: float) -> None:
        """Open every complete record and deal with its frames."""
        while True:
            # A control frame may have replaced any of these.
            buffer = self._buffer
            start = self._start
            end = self._end
            scratch = self._scratch
            opened = self._opened
            decrypt_into = self._decrypt_into
            nonce = self._nonce
            on_packet = self.on_packet
            max_record = self._max_record
            is_open = self.state is _OPEN
            offload = is_open and self.lease is not None and self.lease.offload
            # What a lease is for, told by one look at a frame's header; the rest takes longer.
            usual = _IP_PACKET_OFFLOAD if offload else _IP_PACKET if is_open else _NO_FRAME
            shortest = _MIN_OFFLOAD if offload else MIN_PACKET
            ahead = FRAME_HEADER_SIZE + (OFFLOAD_HEADER_SIZE if offload else 0)
            take = self.on_packets if is_open else None
            control = False
            while not control:
                if end - start < RECORD_HEADER_SIZE:
                    return
                size = _u32(buffer, start)[0]
                if size > max_record:
                    raise PeerViolation("record_too_long", str(size))
                if size <= TAG_SIZE:
                    raise PeerViolation("record_too_short", str(size))
                stop = start + RECORD_HEADER_SIZE + size
                if stop > end:
                    return
                counter = self.records
                if not is_open and counter >= MAX_EARLY_RECORDS:
                    raise PeerViolation("early_records_flooded")
                fill = size - TAG_SIZE
                if fill != len(opened):
                    self._opened = opened = scratch[:fill]
                try:
                    decrypt_into(
                        nonce(0, counter),
                        buffer[start + RECORD_HEADER_SIZE : stop],
                        None,
                        opened,
                    )
                except InvalidTag:
                    raise AuthFailed("record_forged") from None
                self.records = counter + 1
                self._start = start = stop
                if counter == 0:
                    self._first_record()
                    on_packet = self.on_packet
                    if self._key is None:
                        return
                at = 0 if take is None else take(scratch, 0, fill)
                while at < fill:
                    # A header that is cut off reads on into what lies behind the record, and is
                    # too long for it, whatever that is.
                    kind, size, high = _frame_header(scratch, at)
                    tail = at + FRAME_HEADER_SIZE + size
                    if kind == usual and shortest <= size and tail <= fill and not high:
                        on_packet(scratch, at + ahead, tail, offload)
                        at = tail
                        continue
                    tail += high << 16
                    at += FRAME_HEADER_SIZE
                    if tail > fill:
                        raise FrameTruncated("frame_truncated")
                    if kind == _IP_PACKET_OFFLOAD and offload:
                        if tail - at < _MIN_OFFLOAD:
                            raise FrameInvalid("packet_too_short")
                        on_packet(scratch, at + OFFLOAD_HEADER_SIZE, tail, True)
                    elif kind == _IP_PACKET and is_open:
                        if tail - at < MIN_PACKET:
                            raise FrameInvalid("packet_too_short")
                        on_packet(scratch, at, tail, False)
                    else:
                        control = True
                        self._control(kind, bytes(scratch[at:tail]), tail == fill, now)
                        if self.state is CLOSED:
                            return
                        is_open = self.state is _OPEN
                        offload = is_open and self.lease is not None and self.lease.offload
                        usual = _NO_FRAME
                    at = tail

    def _control(self, kind: int, body: bytes, last: bool, now: float) -> None:
        """A frame that is not a packet we may take now."""
        if kind == _REKEY:
            if not last or body:
                raise FrameMisplaced("rekey_not_last")
            assert self._key is not None
            self._use(self._key.successor())
            self._count("record__rekey__received")
        elif kind == _IP_PACKET_OFFLOAD and self.state is _OPEN:
            raise FrameMisplaced("offload_not_negotiated")
        else:
            self._on_frame(kind, body, now)

    def _first_record(self) -> None:
        """The first record of the peer has authenticated."""

    # --- handshake ---------------------------------------------------------------------------

    def _handshake_bytes(self, now: float) -> None:
        """Preamble and messages, as far as they have come."""
        while self._key is None and self.state is not CLOSED:
            taken = self._handshake_step(self._buffer[self._start : self._end], now)
            if not taken:
                return
            self._start += taken

    def _handshake_step(self, data: memoryview, now: float) -> int:
        """Bytes of one handshake message that was dealt with; 0 while it is incomplete."""
        if len(data) < MESSAGE_HEADER_SIZE:
            return 0
        kind: int
        size: int
        kind, size = _message_header(data)
        if kind not in (MESSAGE_NOISE, MESSAGE_REFUSED):
            raise PeerViolation("message_unknown", str(kind))
        if size > MAX_HANDSHAKE_MESSAGE:
            raise PeerViolation("handshake_message_too_long", str(size))
        stop = MESSAGE_HEADER_SIZE + size
        if len(data) < stop:
            return 0
        self._on_handshake(kind, bytes(data[MESSAGE_HEADER_SIZE:stop]), now)
        return stop

    def _on_handshake(self, kind: int, body: bytes, now: float) -> None:
        """A whole handshake message, to the role."""
        raise NotImplementedError

    # --- what the core asks for --------------------------------------------------------------

    def _install(self, suite: Suite, tx: bytes, rx: bytes, now: float) -> None:
        self.writer.set_key(suite, tx)
        self._use(RecordKey(suite.cipher, rx))

    def _use(self, key: RecordKey) -> None:
        self._key = key
        self._decrypt_into = key.decrypt_into
        self._nonce = key.nonce

    def _send_frame(self, kind: int, body: bytes) -> None:
        self.writer.frame(kind, body)

    def _flush(self, now: float) -> None:
        self.writer.flush()

    def _rekey(self) -> None:
        self.writer.rekey()

    def _shut(self) -> None:
        self.writer.shut()
        self._key = None

    def _send_handshake(self, message: bytes) -> None:
        self.writer.raw(_pack_message(MESSAGE_NOISE, len(message)) + message)

    def _batched(self) -> bool:
        return self.writer.batched

    def _congested(self) -> bool:
        return self.writer.room() < -MAX_QUEUED

    def _sent_records(self) -> int:
        return self.writer.records

    def _received_records(self) -> int:
        return self.records

    def _widen(self, lease: LeaseConfig) -> None:
        writer = self.writer
        if writer.offload is not lease.offload:
            # The driver has yet to hear of it.
            self.on_packets = None
        if not self._widened:
            self._widened = True
            writer.widen()
            self._resize_buffer(RECEIVE_BUFFER, bytes(self._buffer[self._start : self._end]))
            self._new_scratch(MAX_RECORD_PLAINTEXT)
            self._max_record = MAX_RECORD_PLAINTEXT + TAG_SIZE
        else:
            # Packets batched under the old terms leave under them.
            writer.flush()
        writer.mtu = lease.mtu
        writer.offload = lease.offload
        writer.offload_udp = lease.offload_udp

    def _resize_buffer(self, size: int, live: bytes) -> None:
        self._buffer = memoryview(bytearray(size))
        self._buffer[: len(live)] = live
        self._start, self._end = 0, len(live)
        self._min_free = min(RECEIVE_BUFFER_MIN_FREE, size // 4)

    def _new_scratch(self, size: int) -> None:
        """Where records are opened."""
        self._scratch = memoryview(bytearray(size + MAX_PEEK))
        self._opened = self._scratch[:0]
        """The last record's plaintext: one like it is as long."""
