"""What is in flight: payload kept until it is acknowledged, and how it is put on the link.

A large piece stays in the `SendBuffer` it came in; its headers are packed in
front of it and it leaves, the first time and again, without a copy. Small
pieces are joined in chunks of their own, and their buffers are free at once.
So what is kept is never more than about twice what is in flight.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter

from netstack.tcp.buffers import PAYLOAD, SendBuffer
from netstack.tcp.constants import KEEP_WHOLE
from netstack.tcp.receiver import Receiver
from netstack.tcp.writer import SegmentWriter
from netstack.tcp_segment import ACK, FIN, PSH


class Chunk:
    """Payload [seq, end): `data[base:]`, in the user's buffer or, that being None, its own."""

    __slots__ = ("base", "buffer", "data", "end", "seq")

    def __init__(
        self, seq: int, end: int, data: bytearray, base: int, buffer: SendBuffer | None
    ) -> None:
        self.seq = seq
        self.end = end
        self.data = data
        self.base = base
        self.buffer = buffer


_start_of = attrgetter("seq")


class Flight:
    """The chunks of one connection, in order. Two neighbours hold more than KEEP_WHOLE bytes."""

    __slots__ = ("_chunks", "_reply", "_writer", "up")

    def __init__(self, writer: SegmentWriter, receiver: Receiver) -> None:
        self._writer = writer
        self._reply = receiver
        """Whose acknowledgement and window every segment carries."""
        self._chunks: list[Chunk] = []
        self.up: int | None = None
        """The number after the urgent byte, until that is acknowledged (SND.UP)."""

    def __len__(self) -> int:
        return len(self._chunks)

    def keep(self, buf: SendBuffer, seq: int, end: int) -> Chunk:
        """Hold the payload [seq, end) of `buf`, which is the flight's from now on."""
        chunks = self._chunks
        if end - seq >= KEEP_WHOLE:
            chunk = Chunk(seq, end, buf.data, PAYLOAD, buf)
            chunks.append(chunk)
            return chunk
        payload = buf.view[: end - seq]
        if chunks and chunks[-1].buffer is None and end - chunks[-1].seq <= KEEP_WHOLE:
            chunk = chunks[-1]
            chunk.data += payload
            chunk.end = end
        else:
            chunk = Chunk(seq, end, bytearray(payload), 0, None)
            chunks.append(chunk)
        buf.release()
        return chunk

    def find(self, seq: int) -> Chunk:
        """The chunk that holds `seq`."""
        return self._chunks[bisect_right(self._chunks, seq, key=_start_of) - 1]

    def acknowledged(self, una: int) -> None:
        """Let go of what lies before `una`."""
        chunks = self._chunks
        while chunks and chunks[0].end <= una:
            buffer = chunks.pop(0).buffer
            if buffer is not None:
                buffer.release()

    def clear(self) -> None:
        """Let go of everything."""
        for chunk in self._chunks:
            if chunk.buffer is not None:
                chunk.buffer.release()
        self._chunks.clear()

    def emit(self, chunk: Chunk, start: int, end: int, una: int, mss: int, now: float) -> None:
        """Put [start, end) of a chunk on the link."""
        writer, reply = self._writer, self._reply
        window = reply.advertise()
        offset = chunk.base + start - chunk.seq
        stop = chunk.base + end - chunk.seq
        if self.up is not None:
            if una < self.up:
                writer.urgent(
                    chunk.data, offset, stop, mss, start, reply.nxt, ACK | PSH, window, now,
                    reply.ts_recent, self.up,
                )  # fmt: skip
                return
            self.up = None
        # In place the headers overwrite what is before `start`: free room, or acknowledged bytes.
        in_place = chunk.buffer is not None and (start == chunk.seq or start == una)
        put = writer.cut
        if in_place and writer.out is not None and writer.out.offload:
            put = writer.whole
        put(
            chunk.data, offset, stop, mss, start, reply.nxt, ACK | PSH, window, now,
            reply.ts_recent,
        )  # fmt: skip

    def emit_fin(self, seq: int, now: float) -> None:
        """Put a FIN with the number `seq` on the link."""
        reply = self._reply
        window = reply.advertise()
        self._writer.control(seq, reply.nxt, FIN | ACK, window, now, reply.ts_recent)
