"""The proxy as an outlet: programs connect to it, and nothing of this device is changed.

Theory of operation. The listener is there from the start of the client to its end, so that
programs need not be told when there is a tunnel: without one they get an answer that says so.
Packets are made and taken by a TCP of the client's own (the dialer), which lives as long: links
are attached to it one after the other, and connections go on over the next link. They end with
the wish, or when the gateway has refused for good.

Whatever becomes of the tunnel, a program that uses the proxy has no other way out. So the promise
of a wish (`client/block.py`) is kept by doing nothing, and only its phase is followed: it decides
whether the gateway is pursued.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from client.block import Block, Event
from client.guard import Guards
from client.judgement import HostFacts
from client.model import ClientConfig, TransportEndpoint
from client.outlet.flows import Flows
from client.outlet.outlet import MAX_MTU, MIN_MTU, OutletKind, Terms
from client.outlet.passage import Passage
from client.outlet.port import Port
from client.outlet.proxy.outcome import Outcome
from client.outlet.proxy.passage import ProxyPassage, Sender
from vshp.config import LeaseConfig


class TunnelDialer(Port, Protocol):
    """The end of the tunnel that connections are made by. All on the loop."""

    @property
    def counters(self) -> Mapping[str, int]: ...

    def associate(
        self,
        on_datagram: Callable[[bytes, int, memoryview], None],
        on_error: Callable[[bytes, int, Outcome], None],
        /,
    ) -> Sender | None:
        """A UDP port of the tunnel's; None when a bound is reached."""

    def lease_over(self) -> None:
        """There will be no link for this lease any more: its connections are over."""

    def close(self) -> None:
        """End everything."""


class Listener(Protocol):
    """Where programs connect. All on the loop."""

    @property
    def flows(self) -> Flows:
        """The connections that go by the proxy."""

    @property
    def address(self) -> str:
        """As people write it; empty while it does not listen."""

    @property
    def counters(self) -> Mapping[str, int]: ...

    def start(self) -> None:
        """Raises ClientError."""

    def close(self) -> None:
        """Safe to call twice."""


class ProxyOutlet:
    """See `Outlet`."""

    kind = OutletKind.PROXY
    mark = 0

    def __init__(
        self,
        config: ClientConfig,
        dialer: TunnelDialer,
        listener: Listener,
        read_facts: Callable[[], HostFacts],
    ) -> None:
        """`read_facts` looks at the host; it takes some milliseconds, and is called in a thread."""
        self._config = config
        self._dialer = dialer
        self._listener = listener
        self._read_facts = read_facts
        self._block = Block()
        self._addresses: tuple[bytes, ...] | None = None
        """Of the lease in use."""
        self.facts = HostFacts()
        self.flows = listener.flows
        self.port: Port = dialer

    @property
    def name(self) -> str:
        """See `Outlet`."""
        return self._listener.address

    @property
    def terms(self) -> Terms:
        """See `Outlet`. Large segments cost this TCP no more than small ones."""
        offload = self._config.offload
        mtu = max(MIN_MTU, min(MAX_MTU, self._config.mtu or MAX_MTU))
        return Terms(offload, offload, mtu)

    @property
    def counters(self) -> Mapping[str, int]:
        """See `Outlet`."""
        return {**self._dialer.counters, **self._listener.counters}

    @property
    def guards(self) -> Guards:
        """See `Outlet`."""
        return Guards()

    @property
    def promised(self) -> bool:
        """See `Outlet`."""
        return self._block.promised

    @property
    def open_on_failure(self) -> bool:
        """See `Outlet`: nothing opens, so nothing is weaker."""
        return False

    async def start(self) -> None:
        """See `Outlet`. Raises ClientError where the proxy cannot listen."""
        self._listener.start()

    async def passage(self) -> Passage:
        """See `Outlet`."""
        return ProxyPassage(self._dialer.associate)

    async def stop(self) -> None:
        """See `Outlet`."""
        self._listener.close()
        await self.flows.stop()
        self._dialer.close()

    async def found(self) -> bool:
        """See `Outlet`."""
        return False

    async def look(self) -> HostFacts:
        """See `Outlet`."""
        self.facts = await asyncio.to_thread(self._read_facts)
        return self.facts

    # --- the wish -------------------------------------------------------------------------------

    async def wish(self, known: bool, open_on_failure: bool) -> None:
        """See `Outlet`."""
        self._block.step(Event.PURSUE if known else Event.ASK)

    async def broken(self) -> None:
        """See `Outlet`."""
        self._block.step(Event.BROKEN)

    async def hold(self) -> None:
        """See `Outlet`."""
        self._block.step(Event.LONG)

    async def refuse(self) -> None:
        """See `Outlet`."""
        self._block.step(Event.REFUSED)
        self._end()

    async def open(self) -> None:
        """See `Outlet`."""
        self._block.step(Event.DISCONNECT)
        self._end()

    async def keep(self) -> None:
        """See `Outlet`."""

    async def follow(self) -> None:
        """See `Outlet`."""

    async def reach(self, endpoints: Sequence[TransportEndpoint]) -> None:
        """See `Outlet`."""

    # --- the lease ------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """See `Outlet`."""

    def admit(self, lease: LeaseConfig | None, facts: HostFacts) -> None:
        """See `Outlet`: what comes in belongs to a connection of the dialer's, or is dropped."""

    def fits(self, lease: LeaseConfig) -> bool:
        """See `Outlet`."""
        return self._addresses == _addresses(lease)

    async def apply(self, lease: LeaseConfig) -> Port:
        """See `Outlet`."""
        self._block.step(Event.GRANTED)
        self._addresses = _addresses(lease)
        self._block.step(Event.APPLIED)
        return self.port

    async def renew(self) -> None:
        """See `Outlet`: this port does not end."""

    def _end(self) -> None:
        self._addresses = None
        self._dialer.lease_over()


def _addresses(lease: LeaseConfig) -> tuple[bytes, ...]:
    return lease.ipv4, lease.ipv6, lease.gateway_ipv4, lease.gateway_ipv6
