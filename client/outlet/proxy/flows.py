"""The connections that go by the proxy, told as the kernel's are with a NIC.

Theory of operation. A connection is entered when it is asked for, and leaves when it is over. Its
figures are the TCP machine's, looked at only when somebody looks. Which program it is, is found by
the inode of the socket that the program holds, where the kernel says it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Protocol

from client.outlet.flows import FlowSample, TunnelFlow
from client.outlet.proxy.access import Caller
from client.outlet.proxy.asking import Destination, spell
from client.rates import RateMeter
from client.system.owners import Owners
from eventloop.clock import SYSTEM

MAX_FLOWS = 2048
"""Flows of a sample; how many there were is said in any case."""
LEAST_PAUSE = 0.2
"""Seconds between two samples, however many look."""
TURN = 64
"""Flows made before the loop gets its turn."""


class Figures(Protocol):
    """Where a flow's figures are read: a dialler's connection, or an association."""

    @property
    def host(self) -> bytes:
        """The far side's address; empty while there is none."""

    @property
    def local(self) -> tuple[bytes, int] | None:
        """Our own end in the tunnel."""

    @property
    def state(self) -> str: ...

    @property
    def from_tunnel_bytes(self) -> int: ...

    @property
    def to_tunnel_bytes(self) -> int: ...

    @property
    def last_used(self) -> float:
        """Monotonic seconds."""

    @property
    def rtt(self) -> float | None:
        """Seconds."""

    @property
    def retransmits(self) -> int | None: ...


class Entry:
    """One connection, or the datagrams of one program."""

    __slots__ = (
        "caller", "destination", "down", "figures", "id", "protocol", "since", "up",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        protocol: str,
        destination: Destination | None,
        caller: Caller,
        now: float,
    ) -> None:
        self.id = number
        self.protocol = protocol
        self.destination = destination
        """None: anybody, by UDP."""
        self.caller = caller
        self.since = now
        self.figures: Figures | None = None
        self.down: RateMeter | None = None
        self.up: RateMeter | None = None


class ProxyFlows:
    """The table, and what a look at it says."""

    def __init__(
        self, clock: Callable[[], float] = SYSTEM.now, owners: Owners | None = None
    ) -> None:
        self.problem: str | None = None
        """Nothing stands in the way of a look."""
        self._clock = clock
        self._owners = Owners() if owners is None else owners
        self._entries: dict[int, Entry] = {}
        self._number = 0
        self._sample = FlowSample()

    def __len__(self) -> int:
        return len(self._entries)

    def enter(
        self, protocol: str, destination: Destination | None, caller: Caller, now: float
    ) -> Entry:
        """A connection is asked for."""
        self._number += 1
        entry = self._entries[self._number] = Entry(
            self._number, protocol, destination, caller, now
        )
        return entry

    def leave(self, entry: Entry) -> None:
        """It is over. Safe to call twice."""
        self._entries.pop(entry.id, None)

    async def look(self) -> FlowSample:
        """A sample of this moment, or one that is hardly older."""
        if self._clock() - self._sample.at < LEAST_PAUSE:
            return self._sample
        entries = list(islice(self._entries.values(), MAX_FLOWS))
        await self._owners.find((each.caller.inode for each in entries), self._clock())
        flows = []
        now = self._clock()
        for number, each in enumerate(entries):
            if number % TURN == 0:
                await asyncio.sleep(0)
            flows.append(self._flow(each, now))
        self._sample = FlowSample(now, flows, len(self._entries))
        return self._sample

    async def count(self) -> int | None:
        """How many TCP connections are open."""
        return sum(_state(each) == "established" for each in self._entries.values())

    async def stop(self) -> None:
        """No more samples."""

    def _flow(self, each: Entry, now: float) -> TunnelFlow:
        owner = self._owners.known(each.caller.inode)
        figures = each.figures
        place = "*" if each.destination is None else str(each.destination)
        if each.destination is not None and figures is not None and figures.host:
            place = spell(figures.host, each.destination.port)
        local = None if figures is None else figures.local
        flow = TunnelFlow(
            id=each.id,
            protocol=each.protocol,
            state=_state(each),
            source=spell(*local) if local else "*",
            destination=place,
            program="" if owner is None else owner.program,
            pid=None if owner is None else owner.pid,
            seen=each.since,
            idle=now - each.since,
        )
        if figures is not None:
            each.down, each.up = each.down or RateMeter(), each.up or RateMeter()
            flow.counted = True
            flow.idle = max(0.0, now - max(figures.last_used, each.since))
            flow.from_tunnel_bytes = figures.from_tunnel_bytes
            flow.to_tunnel_bytes = figures.to_tunnel_bytes
            flow.from_tunnel_rate = each.down.sample(flow.from_tunnel_bytes, now)
            flow.to_tunnel_rate = each.up.sample(flow.to_tunnel_bytes, now)
            flow.rtt, flow.retransmits = figures.rtt, figures.retransmits
        return flow


def _state(each: Entry) -> str:
    return "connecting" if each.figures is None else each.figures.state
