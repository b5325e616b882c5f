"""Loss recovery: what the peer has, what is lost, what was sent again (RFC 6675, RFC 6582).

Three marks in the sequence space describe a recovery:

    una            high                 floor                        nxt
     |--------------|--------------------|----------------------------|
       sent again     lost, to be sent     in the network, or SACKed
                      again next

Everything below `floor` that the peer has not SACKed counts as lost; SACKs
raise the floor (three runs or more than two segments above it, RFC 6675 4), a
time-out or a resumed link raises it to `nxt`. `high` follows the
retransmissions. From the marks follow `pipe`, the estimate of what is in the
network, and the next piece to retransmit.

Without SACK the same marks do NewReno: each duplicate ACK stands for a segment
that arrived, and only the first segment is known to be lost, at the start and
after each partial ACK.

A retransmission may be lost too. Each one notes where `nxt` was; when SACKs
prove that later data have arrived while it has not, it is sent once more,
which saves the time-out that RFC 6675 would wait for. The sender does the same
when two round trips have passed in vain (`suspect`), as then there may be no
later data that could prove it.

On a reliable link, which never reorders, a single SACKed byte above a hole
proves that the peer itself dropped what is missing: `ordered`.
"""

from __future__ import annotations

from collections import deque

from netstack.tcp.constants import DUP_THRESH, MAX_SACKED_RANGES
from netstack.tcp.ranges import RangeSet


class Recovery:
    """The scoreboard of one connection. Created when something out of order is first seen."""

    __slots__ = ("_again", "_marks", "dup_acks", "floor", "high", "loss", "point", "sacked")

    def __init__(self, una: int) -> None:
        self.sacked = RangeSet()
        self.dup_acks = 0
        """Duplicate ACKs since `una` last moved, or their equivalent in SACKed segments."""
        self.point: int | None = None
        """Recovery lasts until this is acknowledged; None when there is none."""
        self.floor = una
        self.high = una
        self.loss = False
        """The recovery was begun by a time-out or a resumed link."""
        self._marks: deque[tuple[int, int, int]] = deque()
        """Retransmissions (start, end, nxt at that time), in the order they were sent."""
        self._again: deque[tuple[int, int]] = deque()
        """Retransmissions found lost, to be sent before anything else."""

    @property
    def idle(self) -> bool:
        """Nothing is known or going on: the object may be dropped."""
        return self.point is None and not self.sacked and not self.dup_acks

    def sack(self, blocks: list[tuple[int, int]], una: int, nxt: int) -> int:
        """Enter SACK blocks (unwrapped); returns the bytes that are news.

        Blocks at or below `una` are duplicates reported by RFC 2883, and blocks beyond `nxt`
        are nonsense: both are left out.
        """
        news = 0
        for start, end in blocks:
            if una < start < end <= nxt and len(self.sacked) < MAX_SACKED_RANGES:
                news += self.sacked.add(start, end)
        return news

    def judge(self, una: int, mss: int, ordered: bool) -> bool:
        """Raise the floor by what SACKs prove; True if something unacknowledged is lost."""
        starts, ends = self.sacked.starts, self.sacked.ends
        above = 0
        for count in range(1, min(len(starts), DUP_THRESH) + 1):
            above += ends[-count] - starts[-count]
            if ordered or count == DUP_THRESH or above > (DUP_THRESH - 1) * mss:
                self.floor = max(self.floor, starts[-count])
                break
        if self._marks:
            self._find_lost_retransmissions(una, mss, ordered)
        return self.floor > una

    def _find_lost_retransmissions(self, una: int, mss: int, ordered: bool) -> None:
        marks = self._marks
        while marks:
            start, end, mark = marks[0]
            start = max(start, una)
            if start >= end or self.sacked.covered(start, end) == end - start:
                marks.popleft()
                continue
            if not self.sacked or self.sacked.ends[-1] <= mark:
                return
            later = self.sacked.covered(mark, self.sacked.ends[-1])
            if not ordered and later <= (DUP_THRESH - 1) * mss:
                return
            marks.popleft()
            self._again.append((start, end))

    def suspect(self, una: int) -> None:
        """The retransmission of what is at `una` is overdue: it counts as lost, too."""
        if una >= self.high:
            return
        limit = self.sacked.gap(una)[1]
        end = self.high if limit is None else min(limit, self.high)
        if self._marks and self._marks[0][0] <= una < self._marks[0][1]:
            end = min(end, self._marks.popleft()[1])
        self._again.appendleft((una, end))

    def enter(self, una: int, nxt: int) -> None:
        """Begin fast recovery: it lasts until all that was sent before is acknowledged."""
        self.point = nxt
        self.high = una
        self.loss = False

    def enter_loss(self, una: int, nxt: int) -> None:
        """Everything not SACKed is lost (RFC 6675, 5.1); a SACK of `una` itself was reneged."""
        if self.sacked.starts and self.sacked.starts[0] <= una:
            self.sacked = RangeSet()
        self.point = nxt
        self.high = una
        self.floor = nxt
        self.loss = True
        self.dup_acks = 0
        self._marks.clear()
        self._again.clear()

    def acknowledged(self, una: int, acked: int, mss: int, sack: bool) -> bool:
        """`una` moved; True if that ends the recovery."""
        self.sacked.discard_below(una)
        self.high = max(self.high, una)
        self.floor = max(self.floor, una)
        while self._again and self._again[0][1] <= una:
            self._again.popleft()
        if self.point is None:
            self.dup_acks = 0
            return False
        if una >= self.point:
            self.point = None
            self.loss = False
            self.dup_acks = 0
            self.floor = self.high = una
            self._marks.clear()
            self._again.clear()
            return True
        if sack:
            self.dup_acks = 0
        else:
            self.dup_acks = max(0, self.dup_acks - acked // mss)
            if not self.loss:
                self.floor = max(self.floor, una + mss)
                self.high = una
        return False

    def first_lost(self, una: int, mss: int) -> None:
        """Without SACK: the segment at `una` is lost (RFC 6582, 3.2)."""
        self.floor = max(self.floor, una + mss)

    def pipe(self, una: int, nxt: int, mss: int, sack: bool) -> int:
        """Bytes thought to be in the network (RFC 6675, 4)."""
        if not sack:
            waiting = max(0, min(self.floor, nxt) - self.high)
            return max(0, nxt - una - self.dup_acks * mss - waiting)
        flight = nxt - una - self.sacked.total
        low = max(una, self.high)
        if self.floor > low:
            flight -= self.floor - low - self.sacked.covered(low, self.floor)
        for start, end in self._again:
            flight -= end - max(start, una)
        return flight

    def next_piece(self, una: int, nxt: int) -> tuple[int, int] | None:
        """The next run of numbers to send again, if any is lost and not yet sent again."""
        while self._again:
            start, end = self._again[0]
            start, limit = self.sacked.gap(max(start, una))
            if start < end:
                return start, end if limit is None else min(end, limit)
            self._again.popleft()
        bound = min(self.floor, nxt)
        start, limit = self.sacked.gap(max(self.high, una))
        if start >= bound:
            return None
        return start, bound if limit is None else min(bound, limit)

    def sent(self, start: int, end: int, nxt: int) -> None:
        """[start, end), the head of what `next_piece` returned, was sent again."""
        if self._again and self._again[0][0] <= start:
            old_end = self._again.popleft()[1]
            if end < old_end:
                self._again.appendleft((end, old_end))
        else:
            self.high = end
        self._marks.append((start, end, nxt))
