"""The sessions of one round of attempts: who we are, and what the plan holds at that moment."""

from __future__ import annotations

from dataclasses import replace

from client.model import ClientConfig
from client.outlet.outlet import Outlet
from client.plan import Plan
from vshp.config import Capability, Carrier, Hello, Route, Suite
from vshp.datagram_session import DatagramClientSession
from vshp.session import ClientSession


class Sessions:
    """Implements `SessionMaker`."""

    def __init__(self, identity: bytes, plan: Plan, hello: Hello, suite: Suite) -> None:
        self._identity = identity
        self._plan = plan
        self._hello = hello
        self._suite = suite

    def stream(self, now: float, usb: bool) -> ClientSession:
        """For a byte stream; `usb`: which a cable carries, as the gateway cannot see by itself."""
        plan = self._plan
        key = plan.public_key
        return ClientSession(
            self._identity,
            key,
            replace(self._hello, carrier=Carrier.USB) if usb else self._hello,
            now=now,
            secret=plan.secret if key else None,
            resume=plan.resume if key else None,
            suite=self._suite,
        )

    def datagram(self, now: float, address: str) -> DatagramClientSession:
        """For datagrams to `address`, as the link names it."""
        plan = self._plan
        key = plan.public_key
        return DatagramClientSession(
            self._identity,
            key,
            self._hello,
            address=address,
            now=now,
            secret=plan.secret if key else None,
            resume=plan.resume if key else None,
            suite=self._suite,
        )


def hello_of(config: ClientConfig, outlet: Outlet, plan: Plan) -> Hello:
    """What the plan's gateway is told of this device, as its outlet and its networks are now."""
    terms = outlet.terms
    capabilities = Capability.IPV6
    if terms.offload:
        capabilities |= Capability.OFFLOAD
    if terms.offload_udp:
        capabilities |= Capability.OFFLOAD_UDP
    # Whoever answers at first contact is told no more of this device than its name.
    told = outlet.facts.told() if plan.public_key is not None else ()
    networks = tuple(Route(n.network_address.packed, n.prefixlen) for n in told)
    return Hello(config.label, config.platform, capabilities, terms.mtu, networks=networks)
