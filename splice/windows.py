"""How much may be on its way to the sockets: receive windows out of one budget.

A window larger than what the socket behind it drains only builds a queue in
memory; the sum of the windows of a peer's uploading flows is therefore
held near one budget, about what a fast link needs, and split evenly. Flows
that do not upload keep the small window of their beginning. TCP never takes a
window back (RFC 9293 3.8.6), so a shrinking share comes into force as bytes
arrive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def first_window(limits: LinkLimits, connections: int) -> int:
    """The window of a new connection; the sum over all stays in the order of the backlog."""
    return min(
        limits.receive_window_min,
        max(FLOOR, limits.backlog_per_peer // max(1, connections)),
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
