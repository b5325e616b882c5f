"""The receiving half: what has come, what may come, what is to be acknowledged.

    nxt - unread            nxt                         adv
         |-------------------|---------------------------|
           delivered, not      the window: may be sent
           yet consumed        by the peer

`limit` bounds the whole: a peer may have `limit - unread` bytes on the way.
The right edge `adv` never moves back. It moves forward in steps worth sending
(silly window avoidance, RFC 9293, 3.8.6.2.2): by a segment, or half the limit.

The window field counts in units of `1 << shift`, which need not divide what is
to be advertised. Rounding up keeps the edge where it was but would creep
forward with every odd byte, so the field is rounded up only while the unit
fits in memory (`limit` plus less than a unit), and down when it does not.
"""

from __future__ import annotations

from functools import lru_cache

from netstack.tcp.config import TcpConfig, TcpUser
from netstack.tcp.constants import HALF, MASK, MAX_SACK_BLOCKS, PAWS_IDLE
from netstack.tcp.errors import LocalMisuse
from netstack.tcp.reassembly import Reassembly
from netstack.tcp.sequence import unwrap
from netstack.tcp_segment import MAX_WINDOW_SHIFT, TcpSegment

MAX_UNSCALED = 65535


@lru_cache(maxsize=64)
def window_shift(largest: int) -> int:
    """The smallest shift with which a window of `largest` bytes can be advertised."""
    shift = 0
    while shift < MAX_WINDOW_SHIFT and largest > MAX_UNSCALED << shift:
        shift += 1
    return shift


class Receiver:
    """RCV.* of one connection (RFC 9293, 3.3.1), in unwrapped sequence numbers."""

    __slots__ = (
        "ack_pending",
        "adv",
        "duplicate",
        "fin",
        "irs",
        "last_ack",
        "limit",
        "mss",
        "nxt",
        "queue",
        "sack",
        "shift",
        "ts_recent",
        "ts_recent_at",
        "unread",
        "up",
    )

    def __init__(self, config: TcpConfig) -> None:
        self.irs = 0
        self.nxt = 0
        self.adv = 0
        """Right edge of the window as the peer knows it."""
        self.limit = config.receive_window
        self.unread = 0
        """Bytes delivered to the user and not yet consumed by it."""
        self.mss = config.mss
        self.shift = 0
        self.sack = False
        """Both sides agreed on selective acknowledgements."""
        self.queue: Reassembly | None = None
        """What arrived ahead of a hole; None most of the time."""
        self.duplicate: tuple[int, int] | None = None
        """A segment that came twice, to be reported in the next ACK (RFC 2883)."""
        self.fin: int | None = None
        """Sequence number of the peer's FIN, known before it is reached."""
        self.ack_pending = False
        self.last_ack = 0
        """What was last acknowledged (Last.ACK.sent in RFC 7323)."""
        self.ts_recent = 0
        self.ts_recent_at = 0.0
        self.up: int | None = None
        """The number after the urgent byte, until that was delivered (RCV.UP)."""

    def synchronize(self, seq: int, now: float) -> None:
        """The peer's SYN with sequence number `seq`."""
        self.irs = seq
        self.nxt = self.adv = self.last_ack = seq + 1
        self.ts_recent_at = now

    def unscaled_window(self) -> int:
        """The window field of a SYN, which is never scaled (RFC 7323, 2.2)."""
        window = min(self.limit, MAX_UNSCALED)
        self.adv = max(self.adv, self.nxt + window)
        return window

    def set_limit(self, limit: int) -> None:
        """Bound the window. What was advertised already stays valid."""
        self.limit = max(1, min(limit, MAX_UNSCALED << self.shift))

    def advertise(self) -> int:
        """The window field for a segment that acknowledges `nxt`; the ACK counts as sent."""
        nxt = self.nxt
        adv = self.adv
        shift = self.shift
        free = self.limit - self.unread
        if free < 0:
            free = 0
        room = adv - nxt
        gain = free - room
        if gain > 0 and (gain >= self.mss or gain >= self.limit >> 1):
            room = free
        unit = 1 << shift
        field = (room + unit - 1) >> shift
        if field << shift >= free + unit:
            field = room >> shift
        if field > MAX_UNSCALED:
            field = MAX_UNSCALED
        edge = nxt + (field << shift)
        if edge > adv:
            self.adv = edge
        self.last_ack = nxt
        # Data segments carry no SACK blocks: with news for the sender the pure ACK is still due.
        self.ack_pending = self.ack_pending and (
            self.queue is not None or self.duplicate is not None
        )
        return field

    def consumed(self, n: int) -> bool:
        """The user passed on `n` bytes; True if the peer should hear of the window at once."""
        if n > self.unread:
            raise LocalMisuse("more consumed than delivered")
        self.unread -= n
        if self.ack_pending:
            return False
        room = self.adv - self.nxt
        gain = self.limit - self.unread - room
        return gain >= room and (gain >= self.mss or gain >= self.limit >> 1)

    def too_old(self, seg: TcpSegment, now: float) -> bool:
        """PAWS (RFC 7323, 5.3): the segment's timestamp is before the newest one seen."""
        return (
            seg.ts_value - self.ts_recent
        ) & MASK >= HALF and now - self.ts_recent_at < PAWS_IDLE

    def note_timestamp(self, seg: TcpSegment, seq: int, now: float) -> None:
        """Remember the timestamp to echo (RFC 7323, 4.3): of the oldest byte not acknowledged."""
        if seq <= self.last_ack and (seg.ts_value - self.ts_recent) & MASK < HALF:
            self.ts_recent = seg.ts_value
            self.ts_recent_at = now

    def take(self, seg: TcpSegment, seq: int, user: TcpUser) -> bool:
        """Take the payload of a segment that starts at `seq`; True if it was out of order.

        What lies outside the window is cut off. In-order bytes are delivered, and with them
        what had been waiting for them.
        """
        start, end = seg.start, seg.end
        nxt = self.nxt
        self.ack_pending = True
        last = seq + end - start
        if last <= nxt:
            self.duplicate = (seq, last)
            return False
        if seq < nxt:
            self.duplicate = (seq, nxt)
            start += nxt - seq
            seq = nxt
        if last > self.adv:
            end -= last - self.adv
            if end <= start:
                return False
        payload = memoryview(seg.buf)[start:end]
        if seq > nxt:
            if self.queue is None:
                self.queue = Reassembly()
            self.queue.insert(seq, payload)
            return True
        self.nxt = nxt + end - start
        self.unread += end - start
        self._deliver(payload, user)
        if self.queue is not None:
            self._drain(self.queue, user)
        return False

    def _drain(self, queue: Reassembly, user: TcpUser) -> None:
        """Deliver what the queue holds at `nxt`, and drop the queue when it is empty."""
        while (block := queue.take(self.nxt)) is not None:
            self.nxt += len(block)
            self.unread += len(block)
            self._deliver(block, user)
        if not queue:
            self.queue = None

    def announce(self, seq: int, pointer: int) -> None:
        """A segment at `seq` has an urgent pointer: news if it is ahead of what was known."""
        up = seq + pointer
        if up > self.nxt and (self.up is None or up > self.up):
            self.up = up

    def _deliver(self, payload: memoryview, user: TcpUser) -> None:
        """Deliver bytes that end at `nxt`, the urgent one as such."""
        up = self.up
        if up is None or up > self.nxt:
            user.deliver(payload)
            return
        self.up = None
        user.deliver_urgent(payload, len(payload) - (self.nxt - up))

    def sack_option(self) -> bytes:
        """NOP NOP SACK for a pure ACK, empty if there is nothing to report."""
        blocks: list[tuple[int, int]] = []
        if self.duplicate is not None:
            blocks.append(self.duplicate)
            self.duplicate = None
        if self.queue is not None:
            blocks += self.queue.recent_blocks(MAX_SACK_BLOCKS - len(blocks))
        if not blocks or not self.sack:
            return b""
        edges = b"".join(
            (start & MASK).to_bytes(4, "big") + (end & MASK).to_bytes(4, "big")
            for start, end in blocks
        )
        return bytes((1, 1, 5, 2 + len(edges))) + edges

    def unwrap(self, wire: int) -> int:
        """The full number of a sequence number in a segment of the peer's."""
        return unwrap(wire, self.nxt)
