"""The gateway's flows as consoles ask for them: sorted, filtered, with rates, a page at a time.

A gateway may have thousands of flows, a console shows forty. So a look goes in
two steps: for every flow a few numbers are read, for the page alone records are
made, with addresses spelled out. The first step gives way to the packets after
each `SLICE` flows, so what a page shows may be some milliseconds apart; a flow
that ended in between is shown as it ended.

Rates are computed when somebody looks: each flow's last reading is kept, for
the flows that were there at the last look only.
"""

from __future__ import annotations

import asyncio
import heapq
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

from control import methods as m
from control import schema as s
from gateway.rates import MIN_INTERVAL
from splice.flow import FlowInfo

SLICE = 200
"""Flows that are looked at in one go: a third of a millisecond."""
MAX_KEPT = 16384
"""Flows whose last reading is kept while only one device's are looked at."""


NameOf = Callable[[str, bytes, float], str]
"""By which name a device, by its id, found an address to which it opened a connection then, by the
loop's clock; empty where that is not known."""


class OpenFlow(Protocol):
    """What is read of a flow; `splice.flow.Flow` has it. Times are of the loop's clock."""

    id: int
    created: float
    last_used: float
    from_tunnel_bytes: int
    to_tunnel_bytes: int

    @property
    def peer(self) -> _Peer: ...

    def info(self) -> FlowInfo: ...


class _Peer(Protocol):
    @property
    def id(self) -> str: ...


class _Meter:
    """The two rates of a flow between looks; until there are two, since it began."""

    __slots__ = ("_at", "_down_total", "_up_total", "down", "up")

    def __init__(self, created: float) -> None:
        self._at = created
        self._up_total = self._down_total = 0
        self.up = self.down = 0.0
        """Bytes a second from and to the tunnel."""

    def read(self, up_total: int, down_total: int, now: float) -> None:
        """Look again; two looks closer together than MIN_INTERVAL get the same rates."""
        elapsed = now - self._at
        if elapsed >= MIN_INTERVAL:
            self.up = (up_total - self._up_total) / elapsed
            self.down = (down_total - self._down_total) / elapsed
            self._at, self._up_total, self._down_total = now, up_total, down_total


class _Found(NamedTuple):
    """A flow that belongs to the answer."""

    flow: OpenFlow
    meter: _Meter
    label: str
    name_of: NameOf

    def name(self, info: FlowInfo) -> str:
        """What its device calls the destination; empty where that is not known."""
        if info.destination is None:
            return ""
        return self.name_of(info.peer_id, info.destination[0], self.flow.created)


class FlowPages:
    """Makes pages; keeps the last readings."""

    def __init__(self, name_of: NameOf) -> None:
        self._name_of = name_of
        self._meters: dict[int, _Meter] = {}

    async def page(
        self,
        flows: Sequence[OpenFlow],
        labels: Mapping[str, str],
        params: m.FlowsParams,
        now: float,
    ) -> s.Flows:
        """The page that `params` ask for, of the flows that are open (of its peer).

        Args:
            flows: open ones; some may end while this waits.
            labels: the devices' names by their ids.
            now: of the flows' clock.
        """
        words = params.filter.casefold().split()
        meters: dict[int, _Meter] = {}
        key = _SORT_KEYS[params.sort]
        keyed: list[tuple[Any, _Found]] = []
        for start in range(0, len(flows), SLICE):
            if start:
                await asyncio.sleep(0)
            for flow in flows[start : start + SLICE]:
                meter = self._meters.get(flow.id)
                if meter is None:
                    meter = _Meter(flow.created)
                meter.read(flow.from_tunnel_bytes, flow.to_tunnel_bytes, now)
                meters[flow.id] = meter
                label = labels.get(flow.peer.id, flow.peer.id)
                found = _Found(flow, meter, label, self._name_of)
                if not words or _matches(found, words):
                    keyed.append((key(found), found))
        if params.peer is not None and len(self._meters) < MAX_KEPT:
            self._meters |= meters
        else:
            self._meters = meters
        if len(flows) > SLICE:
            await asyncio.sleep(0)
        pick = heapq.nlargest if params.descending else heapq.nsmallest
        page = pick(params.limit, keyed, key=itemgetter(0))
        return s.Flows(len(keyed), [_record(found, now) for _, found in page])


def _record(found: _Found, now: float) -> s.Flow:
    flow, meter, info = found.flow, found.meter, found.flow.info()
    return s.Flow(
        id=flow.id,
        peer_id=info.peer_id,
        label=found.label,
        protocol=info.protocol,
        state=info.state,
        source=_source(info),
        destination=_destination(info),
        age=now - flow.created,
        idle=max(0.0, now - flow.last_used),
        from_tunnel_bytes=flow.from_tunnel_bytes,
        to_tunnel_bytes=flow.to_tunnel_bytes,
        from_tunnel_rate=meter.up,
        to_tunnel_rate=meter.down,
        device=info.device,
        local=None if info.local is None else _spelled(info.protocol, info.local),
        name=found.name(info),
    )


_SORT_KEYS: dict[str, Callable[[_Found], Any]] = {
    # The youngest and the busiest are the least.
    "age": lambda found: -found.flow.created,
    "idle": lambda found: -found.flow.last_used,
    "label": lambda found: found.label,
    "protocol": lambda found: found.flow.info().protocol,
    "state": lambda found: found.flow.info().state,
    "source": lambda found: _source(found.flow.info()),
    "destination": lambda found: _named(found, found.flow.info()),
    "from_tunnel_bytes": lambda found: found.flow.from_tunnel_bytes,
    "to_tunnel_bytes": lambda found: found.flow.to_tunnel_bytes,
    "from_tunnel_rate": lambda found: found.meter.up,
    "to_tunnel_rate": lambda found: found.meter.down,
    "rate": lambda found: found.meter.up + found.meter.down,
    "bytes": lambda found: found.flow.from_tunnel_bytes + found.flow.to_tunnel_bytes,
}


def _matches(found: _Found, words: list[str]) -> bool:
    info = found.flow.info()
    text = f"{found.label} {info.protocol} {info.state} {_source(info)} "
    text += " ".join(_named(found, info))
    return all(map(text.casefold().__contains__, words))


def _destination(info: FlowInfo) -> str:
    return "*" if info.destination is None else _spelled(info.protocol, info.destination)


def _named(found: _Found, info: FlowInfo) -> tuple[str, str]:
    """The destination's name, if it is known, and its address."""
    return found.name(info), _destination(info)


def _source(info: FlowInfo) -> str:
    return _spelled(info.protocol, info.source)


def _spelled(protocol: str, endpoint: tuple[bytes, int]) -> str:
    """`host:port`, IPv6 in brackets; pings have no port."""
    address = ipaddress.ip_address(endpoint[0])
    if protocol == "icmp":
        return str(address)
    return f"[{address}]:{endpoint[1]}" if address.version == 6 else f"{address}:{endpoint[1]}"
