"""A session over datagrams: loss, duplication and reordering are expected, forgery is ignored.

Theory of operation. Every datagram is a record of its own: header (authenticated),
counter, ciphertext. What does not authenticate, was seen before or is too old is
dropped and counted; it never ends a session. Only a datagram that authenticates
can break the protocol. The newest authenticated datagram also says where the
peer may be now (roaming); once that address has proven it (`path_proof`) everything
goes there.

Handshake messages are sent again until they are answered; both sides answer a
repeated question with the same bytes. Control frames go through a small reliable
channel (`reliable`), packets and PINGs do not. Rekeying changes the epoch in the
header; the previous key is good for some seconds more, for what is in flight.

A forged answer spoils the Noise state it is read into. The client then begins
again with a fresh first message; whoever forged it had to see the first.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidTag

from sealing.errors import LocalMisuse, PeerViolation, ProtocolError
from sealing.records import TAG_SIZE, RecordKey
from sealing.replay import NO_COUNTER, ReplayWindow
from sealing.slots import HEADROOM, Slots
from vshp.config import LeaseConfig, Suite
from vshp.constants import (
    CHALLENGE_SIZE,
    DATA_HEADER_SIZE,
    DATAGRAM_DATA,
    DATAGRAM_OVERHEAD,
    FRAME_HEADER_SIZE,
    HANDSHAKE_RETRY,
    MAX_EARLY_RECORDS,
    MAX_HANDSHAKE_RETRY,
    MAX_PATH_PAYLOAD,
    MIN_PACKET,
    MIN_PATH_PAYLOAD,
    OLD_KEY_SECONDS,
)
from vshp.core import Random, SessionCore
from vshp.datagram_writer import DatagramWriter
from vshp.errors import FrameInvalid, FrameTruncated
from vshp.events import PathPayloadFound
from vshp.fields import sized
from vshp.frames import FrameType, encode_frame
from vshp.path_mtu import PathSearch
from vshp.path_proof import PathProof
from vshp.reliable import ControlReceiver, ControlSender, decode_ack, encode_ack
from vshp.states import State

RowHandler = Callable[[memoryview, int, int, int, int], None]
"""(buffer, start, size, stride, count): IP packets of one size, the first of them at `start`, each
`stride` bytes behind the one before. Valid during the call only, as for `PacketHandler`."""
Address = Any
"""Where a peer is, as the driver names it (its address, the path to it): only compared here."""

_u32 = struct.Struct("<I").unpack_from
_data_header = struct.Struct("<BBHIQ").unpack_from
_words = struct.Struct("<QQ").unpack_from
"""The same as two numbers: all but the counter, and the counter."""
_IP_PACKET = int(FrameType.IP_PACKET)
_OVERHEAD = DATA_HEADER_SIZE + TAG_SIZE
_LEAST_PACKET = FRAME_HEADER_SIZE + MIN_PACKET
_RELIABLE = frozenset(
    {
        FrameType.AUTH,
        FrameType.CONFIG,
        FrameType.STATUS,
        FrameType.CODE_NONCE,
        FrameType.CODE_REVEAL,
        FrameType.CODE_AGREED,
    }
)
_CLOSE_COPIES = 3
"""A CLOSE is not acknowledged; so many datagrams carry it."""
_MAX_PLAINTEXT = 65536


class DatagramTransport(SessionCore):
    """Datagrams to frames, and frames to datagrams by a DatagramWriter."""

    datagram = True

    def __init__(self, now: float, rng: Random, index: int) -> None:
        """`index` names this session to the peer; unique among the sessions of one socket."""
        super().__init__(now, rng)
        self.index = index
        self.address: Address | None = None
        """Where the peer is: where the newest authenticated datagram came from."""
        self.writer = DatagramWriter(self.counters)
        self.records = 0
        """Datagrams that authenticated."""
        self.peer_index: int | None = None
        self._from: Address | None = None
        """Where the datagram came from that is being dealt with."""
        self._window: ReplayWindow | None = None
        self._key: RecordKey | None = None
        self._next_key: RecordKey | None = None
        self._old_key: RecordKey | None = None
        self._old_key_until = 0.0
        self._epoch = 0
        self._scratch = memoryview(bytearray(MIN_PATH_PAYLOAD))
        self._slots: Slots | None = None
        """For records in a row; None before the first."""
        self.on_row: RowHandler | None = None
        """Takes packets that came in a row; without it `on_packet` takes each."""
        self._sender = ControlSender()
        self._receiver = ControlReceiver()
        self._repeat: bytes | None = None
        """The handshake datagram to send again while it is unanswered."""
        self._repeat_at: float | None = None
        self._repeat_wait = HANDSHAKE_RETRY
        self._search: PathSearch | None = None
        self._proof = PathProof(rng)
        self._elsewhere: list[tuple[bytes, Address]] = []

    # --- the verbs ---------------------------------------------------------------------------

    def receive_datagrams(
        self, data: memoryview, segment: int, address: Address, now: float
    ) -> None:
        """What one system call with UDP_GRO brought: datagrams of `segment` bytes, the last less.

        Raises as `receive_datagram` does; the rest is dropped then.
        """
        at, end = 0, len(data)
        if end <= segment:
            # The way of a row costs more than it saves.
            self.receive_datagram(data, address, now)
            return
        while at < end:
            begin = at
            at = self._records_in_a_row(data, at, segment, address, now)
            if at == begin:
                self.receive_datagram(data[at : at + segment], address, now)
                at += segment

    def receive_datagram(self, data: memoryview, address: Address, now: float) -> None:
        """One datagram for this session. Calls `on_packet`, queues events.

        Raises PeerViolation when the authenticated peer breaks the protocol; the session is over.
        """
        if self.state is State.CLOSED or not data:
            return
        sent = self.writer.records - self._answers
        before = self.records
        try:
            if data[0] == DATAGRAM_DATA:
                self._data(data, address, now)
            else:
                self._on_handshake_datagram(data, address, now)
        except ProtocolError as error:
            if not isinstance(error, LocalMisuse):
                self._fail(error)
            raise
        if self.records != before:
            self._sent_when_heard = sent
        if self._sender.deadline is None:
            self._sender.arm(now, self.rtt)

    def datagrams_to_send(self) -> list[tuple[memoryview, int]]:
        """What to send to `address`: (run of datagrams, size of each but the last) pairs."""
        return self.writer.output()

    def datagrams_elsewhere(self) -> list[tuple[bytes, Address]]:
        """Single datagrams to other addresses, where the peer may be; taken."""
        elsewhere, self._elsewhere = self._elsewhere, []
        return elsewhere

    def get_timer(self) -> float | None:
        """When `handle_timer` is due; to be asked after every call in here or the writer."""
        if self.state is State.CLOSED:
            return None
        times = [super().get_timer(), self._repeat_at, self._sender.deadline]
        if self._search is not None:
            times.append(self._search.deadline)
        return min((at for at in times if at is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Time has passed. Being called early does no harm."""
        super().handle_timer(now)
        if self.state is State.CLOSED:
            return
        if self._repeat_at is not None and now >= self._repeat_at:
            self._send_again(now)
        deadline = self._sender.deadline
        if deadline is not None and now >= deadline:
            for body in self._sender.expired(now):
                self.writer.frame(FrameType.RELIABLE, body)
            self._count("control__unacknowledged__resent")
            self.writer.flush()
        if self._search is not None:
            payload, ended = self._search.due(now)
            if payload is not None:
                self.writer.probe(FrameType.PROBE, b"", payload)
            elif ended:
                self._event(PathPayloadFound(self._search.payload))

    def search_path(self, now: float, ceiling: int = MAX_PATH_PAYLOAD) -> None:
        """Find the largest UDP payload that passes both ways; PathPayloadFound tells."""
        if self.state is not State.OPEN:
            raise LocalMisuse("state", f"search_path in {self.state.name}")
        self._search = PathSearch(MIN_PATH_PAYLOAD, ceiling, now)

    # --- data --------------------------------------------------------------------------------

    def _data(self, data: memoryview, address: Address, now: float) -> None:
        """Authenticate one record and deal with its frames."""
        size = len(data) - DATA_HEADER_SIZE - TAG_SIZE
        if size <= 0 or self._window is None:
            self._count("datagram__not_data__dropped" if size <= 0 else "datagram__early__dropped")
            return
        _, epoch, reserved, index, counter = _data_header(data)
        if index != self.index or reserved:
            self._count("datagram__other_session__dropped")
            return
        stale = self._window.check(counter)
        if stale is not None:
            self._count(f"datagram__{stale}__dropped")
            return
        key = self._key_of(epoch, now)
        if key is None or size > _MAX_PLAINTEXT:
            self._count("datagram__epoch_unknown__dropped")
            return
        if size > len(self._scratch):
            self._scratch = memoryview(bytearray(_MAX_PLAINTEXT))
        try:
            key.decrypt_into(
                key.nonce(0, counter),
                data[DATA_HEADER_SIZE:],
                data[:DATA_HEADER_SIZE],
                self._scratch[:size],
            )
        except InvalidTag:
            self._count("datagram__forged__dropped")
            return
        if key is self._next_key:
            self._advance(now)
        if self._window.commit(counter) and address != self.address:
            self._seen_elsewhere(address, now)
        self.records += 1
        if self.records == 1:
            self._repeat = self._repeat_at = None
            self._first_record()
            if self._key is None:
                return
        self._from = address
        self._frames(self._scratch, size, now)

    def _records_in_a_row(
        self, data: memoryview, at: int, segment: int, address: Address, now: float
    ) -> int:
        """The way of bulk traffic: records of `segment` bytes under the present key, each newer
        than all before it, from where the peer is known to be. They are opened side by side, up to
        the first that is not just one packet. Returns the offset of the next datagram."""
        key, window = self._key, self._window
        size, last = segment - _OVERHEAD, len(data) - segment
        if (
            self.state is not State.OPEN
            or key is None
            or window is None
            or not self.records
            or address != self.address
            or size < _LEAST_PACKET
            or at > last
        ):
            return at
        slots = self._slots
        if slots is None:
            slots = self._slots = Slots()
        expected = DATAGRAM_DATA | (self._epoch & 0xFF) << 8 | self.index << 32
        packet = _IP_PACKET | size - FRAME_HEADER_SIZE << 8
        decrypt, nonce, newest = key.decrypt_into, key.nonce, window.newest
        counters: list[int] = []
        other: memoryview | None = None
        try:
            for slot in slots.of(size):
                head, counter = _words(data, at)
                if head != expected or not newest < counter < NO_COUNTER:
                    break
                body = at + DATA_HEADER_SIZE
                decrypt(nonce(0, counter), data[body : at + segment], data[at:body], slot)
                counters.append(counter)
                newest = counter
                at += segment
                if _u32(slot)[0] != packet:
                    other = slot
                    break
                if at > last:
                    break
        except InvalidTag:
            # It is opened once more, and then told of.
            pass
        if counters:
            self._sent_when_heard = self.writer.records - self._answers
            window.commit_row(counters)
            self.records += len(counters)
            self._from = address
            self._hand_over(slots.view, size, len(counters) - (other is not None))
            if other is not None and self.state is State.OPEN:
                try:
                    self._frames(other, size, now)
                except ProtocolError as error:
                    if not isinstance(error, LocalMisuse):
                        self._fail(error)
                    raise
        if self._sender.deadline is None:
            self._sender.arm(now, self.rtt)
        return at

    def _hand_over(self, view: memoryview, size: int, count: int) -> None:
        """The packets in the first `count` slots of that size."""
        start, stride = HEADROOM + FRAME_HEADER_SIZE, HEADROOM + size
        size -= FRAME_HEADER_SIZE
        if self.on_row is not None:
            if count:
                self.on_row(view, start, size, stride, count)
            return
        for at in range(start, start + count * stride, stride):
            self.on_packet(view, at, at + size, False)

    def _seen_elsewhere(self, address: Address, now: float) -> None:
        """The newest datagram came from another address: the peer has moved, or somebody else
        sent it on."""
        if self.address is None:
            self.address = address
        elif (token := self._proof.challenge(address, now)) is not None and not self._elsewhere:
            self._elsewhere.append((self.writer.apart(FrameType.PATH_CHALLENGE, token), address))
            self._answers += 1
            self._count("datagram__address__challenged")

    def _frames(self, scratch: memoryview, fill: int, now: float) -> None:
        on_packet = self.on_packet
        is_open = self.state is State.OPEN
        if not is_open and self.records > MAX_EARLY_RECORDS:
            raise PeerViolation("early_records_flooded")
        at = 0
        while at < fill:
            if at + FRAME_HEADER_SIZE > fill:
                raise FrameTruncated("frame_truncated")
            word = _u32(scratch, at)[0]
            at += FRAME_HEADER_SIZE
            tail = at + (word >> 8)
            if tail > fill:
                raise FrameTruncated("frame_truncated")
            kind = word & 0xFF
            if kind == _IP_PACKET:
                if tail - at < MIN_PACKET:
                    raise FrameInvalid("packet_too_short")
                if is_open:
                    on_packet(scratch, at, tail, False)
                else:
                    # It overtook the lease.
                    self._count("packet__before_lease__dropped")
            else:
                self._control(kind, scratch, at, tail, now)
                if self.state is State.CLOSED:
                    return
                is_open = self.state is State.OPEN
            at = tail

    def _control(self, kind: int, scratch: memoryview, at: int, tail: int, now: float) -> None:
        """A frame that is not a packet."""
        if kind == FrameType.PROBE:
            if not self.writer.batched:
                self._answers += 1
            self.writer.probe(FrameType.PROBE_ACK, b"", tail - at + DATAGRAM_OVERHEAD)
        elif kind == FrameType.PROBE_ACK:
            payload = tail - at + DATAGRAM_OVERHEAD
            if self._search is not None and self._search.passed(payload, now):
                self._event(PathPayloadFound(self._search.payload))
        elif kind == FrameType.PATH_CHALLENGE:
            if not self.writer.batched:
                self._answers += 1
            token = sized(bytes(scratch[at:tail]), CHALLENGE_SIZE)
            self.writer.frame(FrameType.PATH_RESPONSE, token)
            self.writer.flush()
        elif kind == FrameType.PATH_RESPONSE:
            if self._proof.proven(sized(bytes(scratch[at:tail]), CHALLENGE_SIZE), self._from):
                self._count("datagram__address__roamed")
                self.address = self._from
        elif kind == FrameType.ACK:
            self._sender.acknowledged(decode_ack(bytes(scratch[at:tail])), now)
        elif kind == FrameType.RELIABLE:
            inner = self._receiver.take(bytes(scratch[at:tail]))
            if not self.writer.batched:
                self._answers += 1
            self.writer.frame(FrameType.ACK, encode_ack(self._receiver.expected))
            if inner is None:
                self._count("control__out_of_order__dropped")
            else:
                self._reliable(inner, now)
            self.writer.flush()
        elif kind in _RELIABLE:
            raise PeerViolation("frame_not_reliable", FrameType(kind).name)
        else:
            self._on_frame(kind, bytes(scratch[at:tail]), now)
            self.writer.flush()

    def _reliable(self, frame: bytes, now: float) -> None:
        """The one frame inside RELIABLE."""
        if len(frame) < FRAME_HEADER_SIZE:
            raise FrameTruncated("frame_truncated")
        (word,) = _u32(frame)
        if FRAME_HEADER_SIZE + (word >> 8) != len(frame):
            raise FrameTruncated("frame_truncated")
        if word & 0xFF not in _RELIABLE:
            raise PeerViolation("frame_not_reliable", hex(word & 0xFF))
        self._on_frame(word & 0xFF, frame[FRAME_HEADER_SIZE:], now)

    # --- keys --------------------------------------------------------------------------------

    def _key_of(self, epoch: int, now: float) -> RecordKey | None:
        """The key of an epoch's low byte: the present, the next, or for a while the previous."""
        distance = (epoch - self._epoch) & 0xFF
        if distance == 0:
            return self._key
        if distance == 1 and self._key is not None:
            if self._next_key is None:
                self._next_key = self._key.successor()
            return self._next_key
        if distance == 0xFF and now < self._old_key_until:
            return self._old_key
        return None

    def _advance(self, now: float) -> None:
        """The peer has begun to use its next key."""
        self._old_key, self._key, self._next_key = self._key, self._next_key, None
        self._old_key_until = now + OLD_KEY_SECONDS
        self._epoch += 1
        self._count("record__rekey__received")

    # --- handshake ---------------------------------------------------------------------------

    def _on_handshake_datagram(self, data: memoryview, address: Address, now: float) -> None:
        """A datagram of another type than data; the role's."""
        raise NotImplementedError

    def _send_repeatedly(self, datagram: bytes, now: float) -> None:
        """Now, and again until it is answered."""
        self._repeat = datagram
        self._repeat_wait = HANDSHAKE_RETRY
        self._repeat_at = now + self._repeat_wait
        self.writer.raw(datagram)

    def _send_again(self, now: float) -> None:
        if self._repeat is None:
            self._repeat_at = None
            return
        self._count("handshake__unanswered__resent")
        self._repeat_wait = min(2 * self._repeat_wait, MAX_HANDSHAKE_RETRY)
        self._repeat_at = now + self._repeat_wait
        self.writer.raw(self._repeat)

    def _first_record(self) -> None:
        """The first record of the peer has authenticated."""

    # --- what the core asks for --------------------------------------------------------------

    def _install(self, suite: Suite, tx: bytes, rx: bytes, now: float) -> None:
        assert self.peer_index is not None
        self.writer.set_key(RecordKey(suite.cipher, tx), self.peer_index)
        self._key = RecordKey(suite.cipher, rx)
        self._window = ReplayWindow()

    def _send_frame(self, kind: int, body: bytes) -> None:
        if kind in _RELIABLE:
            wrapped = self._sender.push(encode_frame(kind, body))
            if wrapped is None:
                self._count("control__queue_full__dropped")
                return
            self.writer.frame(FrameType.RELIABLE, wrapped)
        elif kind == FrameType.CLOSE:
            for _ in range(_CLOSE_COPIES):
                self.writer.flush()
                self.writer.frame(kind, body)
        else:
            self.writer.frame(kind, body)

    def _flush(self, now: float) -> None:
        self.writer.flush()
        self._sender.arm(now, self.rtt)

    def _rekey(self) -> None:
        self.writer.rekey()

    def _shut(self) -> None:
        self.writer.shut()
        self._key = self._next_key = self._old_key = None
        self._repeat = self._repeat_at = None

    def _batched(self) -> bool:
        return self.writer.batched

    def _congested(self) -> bool:
        return self.writer.room() <= 0

    def _sent_records(self) -> int:
        return self.writer.records

    def _received_records(self) -> int:
        return self.records

    def _widen(self, lease: LeaseConfig) -> None:
        self.writer.widen(lease.mtu + DATAGRAM_OVERHEAD)
        self.writer.mtu = lease.mtu
