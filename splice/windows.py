"""How much may be on its way to the sockets: receive windows out of one budget.

A window larger than what the socket behind it drains only builds a queue in
memory; the sum of the windows of a peer's uploading flows is therefore
held near one budget, about what a fast link needs, and split evenly. Flows
that do not upload keep the small window of their beginning. TCP never takes a
window back (RFC 9293 3.8.6), so a shrinking share comes into force as bytes
arrive.

An upload with a speed limit is slowed here, too (`PacedWindows`): what its socket
has taken counts as consumed, so that the window opens for as much again, no
faster than the limit allows. Nothing is dropped, and nothing waits but in
the device that sends. The first window of a flow is not paid for in advance; its
bytes are charged as they come, and are credit given to the flow until it ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from splice.throttle import Throttle
from splice.timers import NEVER

if TYPE_CHECKING:
    from splice.limits import LinkLimits
    from splice.splice import Splice

PROBATION = 32 * 1024
"""Bytes that the socket has taken within a period, which make a flow one that uploads. What
only waits for a slow host does not count: a wider window would only lengthen its queue."""
PERIOD = 1.0
"""Seconds after which it must have shown so again."""
FLOOR = 4 * 1024
"""The least first window, when a peer has very many connections."""
LIMITED_SHARE = 0.1
"""Seconds of a speed limit that the windows of all uploads hold: the longest round trip on which
one flow reaches the limit."""
LIMITED_FIRST = 0.01
"""Seconds of it that a flow's first window holds."""


def first_window(limits: LinkLimits, connections: int) -> int:
    """The window of a new connection; the sum over all stays in the order of the backlog."""
    return min(
        limits.receive_window_min,
        max(FLOOR, limits.backlog_per_peer // max(1, connections)),
    )


def limited(limits: LinkLimits, rate: float, mss: int) -> LinkLimits:
    """The windows of a device whose uploads are limited to `rate` bytes/s, in segments of `mss`."""
    least = min(limits.receive_window_min, max(2 * mss, int(rate * LIMITED_FIRST)))
    share = min(limits.receive_window_per_peer, max(least, int(rate * LIMITED_SHARE)))
    return replace(
        limits,
        receive_window_per_peer=share,
        receive_window_min=least,
        receive_window_max=min(limits.receive_window_max, share),
    )


class WindowBudget:
    """The uploading flows of one peer."""

    __slots__ = ("_flows", "_limits", "_next", "_share")

    def __init__(self, limits: LinkLimits) -> None:
        self._limits = limits
        self._flows: dict[Splice, None] = {}
        self._share = limits.receive_window_max
        self._next = NEVER

    def __len__(self) -> int:
        return len(self._flows)

    @property
    def limits(self) -> LinkLimits:
        return self._limits

    def set_limits(self, limits: LinkLimits, flows: Iterable[Splice]) -> None:
        """Other bounds from now on, for `flows`, which are all that the peer has."""
        self._limits = limits
        self._redistribute()
        for flow in flows:
            flow.conn.set_receive_limit(
                self._share if flow.uploading else limits.receive_window_min
            )

    def admit(self, flow: Splice, now: float) -> None:
        """Count `flow` in: it has passed on PROBATION bytes."""
        flow.uploading = True
        self._flows[flow] = None
        self._redistribute()
        flow.conn.set_receive_limit(self._share)
        if self._next == NEVER:
            self._next = now + PERIOD

    def forget(self, flow: Splice) -> None:
        if self._flows.pop(flow, flow) is None:
            self._redistribute()

    def due(self) -> float:
        return self._next

    def handle_timer(self, now: float) -> None:
        """Count out who has not uploaded enough in the last period."""
        if now < self._next:
            return
        quiet = [flow for flow in self._flows if flow.heard < PROBATION]
        for flow in quiet:
            del self._flows[flow]
            flow.uploading = False
            flow.conn.set_receive_limit(self._limits.receive_window_min)
        for flow in self._flows:
            flow.heard = 0
        if quiet:
            self._redistribute()
        self._next = now + PERIOD if self._flows else NEVER

    def _redistribute(self) -> None:
        limits = self._limits
        share = limits.receive_window_per_peer // max(1, len(self._flows))
        share = max(limits.receive_window_min, min(share, limits.receive_window_max))
        if share != self._share:
            self._share = share
            for flow in self._flows:
                flow.conn.set_receive_limit(share)


class PacedWindows:
    """The uploads of one device with a speed limit: what their windows have not opened for yet.

    `Splice.owed` is that of each flow, in bytes; `Splice.lent` the most that it was, which is what
    the flow was charged for ahead of what it is allowed by `release`.
    """

    __slots__ = ("_due", "_flows", "throttle")

    def __init__(self, throttle: Throttle) -> None:
        self.throttle = throttle
        self._flows: dict[Splice, None] = {}
        """Who waits for its window to open, in turn."""
        self._due = NEVER

    def due(self) -> float:
        return self._due

    def begin(self, flow: Splice) -> None:
        """The limit is new to a running flow: what the open window beyond it lets in is free."""
        conn = flow.conn
        flow.owed = min(0, conn.receive_limit - conn.unread - conn.receive_window)
        flow.lent = 0

    def passed(self, flow: Splice, n: int, now: float) -> None:
        """The socket has taken `n` bytes: the flow's window opens for as many, in its turn."""
        owed = flow.owed + n
        flow.owed = owed
        if owed <= 0:
            flow.conn.consumed(n, now)
            return
        if owed < n:
            flow.conn.consumed(n - owed, now)
        if owed > flow.lent:
            self.throttle.charge(flow.conn.packet_bytes(owed - flow.lent))
            flow.lent = owed
        flows = self._flows
        flows[flow] = None
        if len(flows) == 1:
            # Nobody else waits: what the limit allows goes out with the acknowledgement.
            self.release(now)

    def release(self, now: float) -> None:
        """Open the windows as far as the limit allows, in turn."""
        flows = self._flows
        throttle = self.throttle
        while flows and throttle.streams(now):
            flow = next(iter(flows))
            del flows[flow]
            conn = flow.conn
            n = min(flow.owed, conn.full_segments(throttle.turn))
            flow.owed -= n
            throttle.charge(conn.packet_bytes(n))
            if flow.owed:
                flows[flow] = None
            needed = max(flow.owed, conn.receive_limit)
            if flow.lent > needed:
                # Its share has shrunk: it will not owe as much again.
                throttle.charge(-conn.packet_bytes(flow.lent - needed))
                flow.lent = needed
            conn.consumed(n, now)
        self._due = now + throttle.delay() if flows else NEVER

    def forget(self, flow: Splice) -> None:
        """The flow is over: what was lent beyond what it used is given back."""
        self._flows.pop(flow, None)
        unused = flow.lent - max(0, flow.owed)
        if unused:
            self.throttle.charge(-flow.conn.packet_bytes(unused))
        flow.owed = flow.lent = 0

    def end(self, flows: Iterable[Splice], now: float) -> None:
        """There is no limit any more: every window opens at once."""
        self._flows.clear()
        for flow in flows:
            owed = flow.owed
            flow.owed = flow.lent = 0
            if owed > 0:
                flow.conn.consumed(owed, now)
