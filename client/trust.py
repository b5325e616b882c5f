"""What a run takes from its gateway: leases and endpoints, judged on this host as it is now.

The judgement's driver: it looks at the host when a lease comes and when the host has changed,
counts what is refused, and tells the outlet whose packets may come in.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from client.judgement import HostFacts, LeaseAddresses, Source, judge_endpoint, judge_lease, scoped
from client.model import TransportEndpoint
from client.outlet.outlet import Outlet
from client.plan import Plan, by_transport
from client.reconnect import Ending
from vshp.config import LeaseConfig

log = logging.getLogger(__name__)


class Trust:
    """The lease in force, and what was refused."""

    def __init__(self, outlet: Outlet, count: Callable[[str], None]) -> None:
        """`count` is told a counter's name for each refusal."""
        self._outlet = outlet
        self._count = count
        self._lease: LeaseConfig | None = None
        self._peer = ""
        self.misled = ""
        """Why an address that a name led to was not dialled when `dialled` was asked last."""

    async def take(self, lease: LeaseConfig, endpoint: TransportEndpoint) -> Ending | None:
        """Judge a lease that came over a link to `endpoint`: None when it is in force now, else
        how the link ends. Nothing may be done with a lease before."""
        peer = "" if endpoint.transport == "usb" else endpoint.host
        return self._judged_lease(lease, peer, await self._outlet.look())

    async def look_again(self) -> Ending | None:
        """The host may have changed: judge the lease in force anew."""
        facts = await self._outlet.look()
        return None if self._lease is None else self._judged_lease(self._lease, self._peer, facts)

    def _judged_lease(self, lease: LeaseConfig, peer: str, facts: HostFacts) -> Ending | None:
        refusal = judge_lease(lease, facts, peer)
        if refusal is not None:
            self._count(f"{refusal.name.replace('_', '__')}__refused")
            self.drop()
            return Ending(refusal.name, refusal.sentence)
        self._lease, self._peer = lease, peer
        self._outlet.admit(lease, facts)
        return None

    def drop(self) -> None:
        """There is no lease any more: nothing passes."""
        self._lease = None
        self._outlet.admit(None, self._outlet.facts)

    def told(self, lease: LeaseConfig) -> list[TransportEndpoint]:
        """Where the gateway says it listens, as far as it is believed."""
        return self._judged(by_transport(lease.endpoints), lambda _: Source.GATEWAY, lease)

    def dialled(
        self, plan: Plan, addresses: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    ) -> list[TransportEndpoint]:
        """The plan's endpoints that may be dialled on this host as it is now; link-local ones on
        each of its links. Names are dialled at their `addresses`, after all that have one."""

        def source(endpoint: TransportEndpoint) -> Source:
            return Source.USER if endpoint.host in plan.given else Source.KEPT

        self.misled = ""
        led = [
            replace(endpoint, host=address)
            for endpoint in plan.endpoints
            if endpoint.named
            for address in addresses.get(endpoint.host, ())
        ]
        facts = self._outlet.facts
        return [
            replace(endpoint, host=host)
            for endpoint in (
                *self._judged((e for e in plan.endpoints if not e.named), source, self._lease),
                *self._judged(led, lambda _: Source.NAME, self._lease),
            )
            for host in scoped(endpoint.host, facts)
        ]

    def announced(
        self, host: str, sender: str, port: int, transport: str
    ) -> TransportEndpoint | None:
        """A guess, where `sender` has announced on one of this host's links that the gateway is
        at `host`, on one of them, too; None for what is neither, or is not dialled."""
        facts = self._outlet.facts
        carrier = {"auto": "tcp", "tcp": "tcp", "udp": "udp"}.get(transport)
        addresses = [ipaddress.ip_address(text) for text in (host, sender)]
        if carrier is None or not all(facts.attached_to(address) for address in addresses):
            return None
        endpoint = TransportEndpoint(carrier, host, port, guessed=True)
        taken = self._judged((endpoint,), lambda _: Source.GATEWAY, self._lease)
        return endpoint if taken else None

    def _judged(
        self,
        endpoints: Iterable[TransportEndpoint],
        source: Callable[[TransportEndpoint], Source],
        lease: LeaseConfig | None,
    ) -> list[TransportEndpoint]:
        addresses = LeaseAddresses.of(lease)
        taken = []
        for endpoint in endpoints:
            if endpoint.transport != "usb":
                facts = self._outlet.facts
                refusal = judge_endpoint(endpoint.host, facts, addresses, source(endpoint))
                if refusal is not None:
                    log.debug("%s is not dialled: %s", endpoint, refusal.sentence)
                    self._count(f"{refusal.name.replace('_', '__')}__refused")
                    if source(endpoint) is Source.NAME:
                        self.misled = refusal.sentence
                    continue
            taken.append(endpoint)
        return taken
