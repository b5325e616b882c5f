"""Who may have how many sockets, and who gives one back when there are none left.

A flow is a descriptor, and there are only so many. Four rules, asked in
`claim` before each opening:

    the owner's      bound on a client's flows, `TunnelPeer.max_flows`: who has as
                     many gives one of its own as below, and is told where it has
                     none to give

    a fair share     is `Nat.share`: what there is, divided by the clients. Who
                     has as much gives a flow of its own for a new one, if that
                     has rested for OWN_IDLE seconds, else it gets none
    a reserve        the last sixteenth of all is for clients with fewer than
                     LITTLE flows
    the richest      gives when there is none left for somebody with less: first
                     what waits for an answer that does not come, then the
                     longest idle, and running flows last

What is taken back is told to both sides as they can be told: RST, a closed
port; a connect that is under way is dropped, and the client's SYN comes again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import nsmallest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.nat.side import ClientSide
    from splice.flow import Flow

LITTLE = 32
"""Sockets below which a client may draw on the reserve, and which each client may have however
many clients there are."""
PATIENCE = 4.0
"""Seconds in which a host that is there answers, the SYNs sent again after 1 and 3 s included."""
UNANSWERED = 86_400.0
"""Seconds of idleness that a flow is charged to which nobody has answered in PATIENCE: it goes
before what is merely idle."""
OWN_IDLE = 60.0
"""Seconds of rest after which a client's own flow gives way to its next one."""

LOOKED_OUT = 256
"""Flows that one look at all of a client's finds, so that a look is rare."""
LOOK_INTERVAL = 0.2
"""Seconds between two such looks, which take some milliseconds at twenty thousand flows. When
more is wanted meanwhile, the oldest flow goes."""

GOOD_FOR = 10.0
"""Seconds after which what a look has found is out of date."""


RULES_LIMIT = "rules_flow_limit"
"""The bound that the owner has set for a client. Unlike the others it is no want of ours that
passes, so who meets it is told."""


def claim(peer: ClientSide, now: float) -> str:
    """See to it that `peer` may open one more socket: empty, or the bound that forbids it."""
    nat = peer.nat
    limits = peer.limits
    if peer.max_flows is not None and peer.sockets >= peer.max_flows:
        return _give_own(peer, RULES_LIMIT, now)
    if peer.sockets >= nat.share():
        return _give_own(peer, "peer_flow_limit", now)
    if nat.sockets < limits.flows - (0 if peer.sockets < LITTLE else limits.reserve):
        return ""
    richest = max(nat.peers.values(), key=lambda other: other.sockets)
    if richest.sockets <= peer.sockets + 1:
        return _give_own(peer, "flow_limit", now)
    flow = richest.spares.take(now)
    if flow is None:
        return "flow_limit"
    peer.counts["flows__taken_back"] += 1
    flow.give_way(now)
    richest.wake()
    return ""


def _give_own(peer: ClientSide, bound: str, now: float) -> str:
    flow = peer.spares.take(now, OWN_IDLE)
    if flow is None:
        return bound
    peer.counts["flows__gave_way"] += 1
    flow.give_way(now)
    return ""


class Spares:
    """Which of a client's flows would be missed least: the longest idle."""

    __slots__ = ("_flows", "_found", "_looked")

    def __init__(self, flows: Callable[[], Iterable[Flow]]) -> None:
        self._flows = flows
        self._found: list[tuple[float, int, Flow]] = []
        """Flows of the last look, with since when they counted as idle; the least one last."""
        self._looked = -LOOK_INTERVAL

    def take(self, now: float, idle: float = 0.0) -> Flow | None:
        """The longest idle, for its `give_way`; None if it has not been idle for that long."""
        if now - self._looked >= GOOD_FOR:
            self._look(now)
        flow = self._next(now, idle)
        if flow is None and now - self._looked >= LOOK_INTERVAL and not self._found:
            self._look(now)
            flow = self._next(now, idle)
        if flow is None and not self._found and not idle:
            return next((flow for flow in self._flows() if flow.sock is not None), None)
        return flow

    def _next(self, now: float, idle: float) -> Flow | None:
        """Of those found: what was used since the look is no longer one of them."""
        found = self._found
        while found:
            since, _, flow = entry = found.pop()
            if flow.sock is not None and _idle_since(flow, now) <= since:
                if now - since >= idle:
                    return flow
                found.append(entry)
                return None
        return None

    def _look(self, now: float) -> None:
        self._looked = now
        open_flows = (flow for flow in self._flows() if flow.sock is not None)
        ranked = ((_idle_since(flow, now), flow.id, flow) for flow in open_flows)
        self._found = nsmallest(LOOKED_OUT, ranked)[::-1]


def _idle_since(flow: Flow, now: float) -> float:
    since = flow.last_used
    return since if flow.answered or now - since < PATIENCE else since - UNANSWERED
