"""The TCP connects of one client: those under way, and those that wait their turn.

A connect to a host that is there takes a round trip, one to a host that is not
takes minutes. So that a scan of dead addresses does not stand in everybody's
way, as many as `half_open_per_peer` are under way at a time, and when others
wait, one that has had PATIENCE without an answer gives way. Nobody is told
anything but what the owner's rules say: the client's system sends its SYN again
and gets another turn. Those
that wait begin in the order they came; beyond `connects_waiting_per_peer` a SYN
is dropped, and comes again as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.nat.shares import PATIENCE, RULES_LIMIT, claim
from splice.timers import NEVER

if TYPE_CHECKING:
    from gateway.nat.side import ClientSide
    from gateway.nat.tcp import TcpFlow
    from splice.splice import Splice


class Connects:
    """In order of age, by the flow's key."""

    __slots__ = ("_peer", "under_way", "waiting")

    def __init__(self, peer: ClientSide) -> None:
        self._peer = peer
        self.under_way: dict[bytes, TcpFlow] = {}
        self.waiting: dict[bytes, TcpFlow] = {}
        """Whose SYN is held and whose connect has not begun."""

    def has_place(self) -> bool:
        """Whether one more may at least wait."""
        return len(self.waiting) < self._peer.limits.connects_waiting_per_peer

    def admit(self, flow: TcpFlow, now: float) -> str:
        """Begin or wait: what became of the SYN, a counter's name."""
        if not self.waiting and self._has_turn(now):
            return self._begin(flow, now)
        self.waiting[flow.key] = flow
        self._peer.set_timer()
        return "tcp__syn__held"

    def leave(self, flow: Splice) -> None:
        """The flow is connected, or no more."""
        self.under_way.pop(flow.key, None)
        self.waiting.pop(flow.key, None)
        if self.waiting:
            self._peer.set_timer()

    def due(self) -> float:
        """When the next one has its turn."""
        if not self.waiting:
            return NEVER
        peer = self._peer
        if len(self.under_way) < peer.limits.half_open_per_peer:
            return peer.timers.now
        return next(iter(self.under_way.values())).last_used + PATIENCE

    def handle_timer(self, now: float) -> None:
        """Begin what has its turn."""
        while self.waiting and self._has_turn(now):
            key = next(iter(self.waiting))
            self._begin(self.waiting.pop(key), now)

    def _has_turn(self, now: float) -> bool:
        under_way = self.under_way
        if len(under_way) < self._peer.limits.half_open_per_peer:
            return True
        oldest = next(iter(under_way.values()))
        if now < oldest.last_used + PATIENCE:
            return False
        self._peer.counts["tcp__connect__gave_way"] += 1
        oldest.give_way(now)
        return True

    def _begin(self, flow: TcpFlow, now: float) -> str:
        peer = self._peer
        bound = claim(peer, now)
        if bound:
            peer.counts["tcp__connect__no_room"] += 1
            if bound == RULES_LIMIT:
                return flow.prohibited(f"tcp__{bound}", now)
            flow.vanish()
            return f"tcp__{bound}__dropped"
        self.under_way[flow.key] = flow
        return flow.connect(peer.nat.outward, now)
