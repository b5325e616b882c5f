"""A page of the tunnel's flows: filtered, sorted and cut before a record is made of any.

The sample may have thousands, and the loop that sorts them also carries the
packets; so only what is asked for becomes a record of the control API.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from client.outlet.flows import FlowSample, TunnelFlow
from control import methods as m
from control import schema as s

UNKNOWN = "?"
"""The program of a flow whose holder is not known."""

_SORT_KEYS: dict[str, Callable[[TunnelFlow], Any]] = {
    "age": lambda flow: -flow.seen,
    "idle": lambda flow: flow.idle,
    "label": lambda flow: flow.program,
    "protocol": lambda flow: flow.protocol,
    "state": lambda flow: flow.state,
    "source": lambda flow: flow.source,
    "destination": lambda flow: flow.destination,
    "from_tunnel_bytes": lambda flow: flow.from_tunnel_bytes,
    "to_tunnel_bytes": lambda flow: flow.to_tunnel_bytes,
    "from_tunnel_rate": lambda flow: flow.from_tunnel_rate,
    "to_tunnel_rate": lambda flow: flow.to_tunnel_rate,
    "rate": lambda flow: flow.from_tunnel_rate + flow.to_tunnel_rate,
    "bytes": lambda flow: flow.from_tunnel_bytes + flow.to_tunnel_bytes,
}
assert _SORT_KEYS.keys() == set(m.FLOW_SORTS)


def page(sample: FlowSample, params: m.FlowsParams, interface: str | None, now: float) -> s.Flows:
    """The flows that are asked for; `now` is monotonic, as in the sample.

    `params.peer` is a program's name here. Without filter or program, `total`
    counts flows beyond the sample's bound too.
    """
    found = sample.flows
    if params.peer is not None:
        found = [flow for flow in found if (flow.program or UNKNOWN) == params.peer]
    words = params.filter.casefold().split()
    if words:
        found = [flow for flow in found if _matches(flow, words)]
    total = sample.total if found is sample.flows else len(found)
    pick = heapq.nlargest if params.descending else heapq.nsmallest
    shown = pick(params.limit, found, key=_SORT_KEYS[params.sort])
    return s.Flows(total, [_flow(flow, interface, now) for flow in shown])


def _matches(flow: TunnelFlow, words: list[str]) -> bool:
    text = f"{flow.program} {flow.protocol} {flow.state} {flow.source} {flow.destination}"
    return all(word in text.casefold() for word in words)


def _flow(flow: TunnelFlow, interface: str | None, now: float) -> s.Flow:
    return s.Flow(
        id=flow.id,
        peer_id=flow.program or UNKNOWN,
        label=flow.program or UNKNOWN,
        protocol=flow.protocol,
        state=flow.state,
        source=flow.source,
        destination=flow.destination,
        age=max(0.0, now - flow.seen),
        idle=flow.idle,
        from_tunnel_bytes=flow.from_tunnel_bytes,
        to_tunnel_bytes=flow.to_tunnel_bytes,
        from_tunnel_rate=flow.from_tunnel_rate,
        to_tunnel_rate=flow.to_tunnel_rate,
        device=interface,
        pid=flow.pid,
        rtt_ms=None if flow.rtt is None else flow.rtt * 1000,
        retransmits=flow.retransmits,
        counted=flow.counted,
    )
