"""The gateway's way of asking: its guarded sockets and the leases' resolver, as devices have it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Iterable, Sequence

from gateway.gateway import Gateway
from gateway.model import VpnNetwork
from gateway.vpn.snapshot import Interface
from netstack.dns import TYPE_A, TYPE_AAAA, MalformedMessage
from netstack.dns_data import packed_addresses
from services.check.asking import KINDS, Line, Unanswered, question, resolved, seen_in
from services.check.verdict import Address, Found, Outside

IPV6_LINK = 64
"""Bits of an IPv6 network: a host has many addresses of it, and is the same one by each."""
_HINT = "Turn the VPN on; see: vpnshare doctor --role gateway"


class GatewayWay:
    """See `asking.Way`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def open(self, host: str, port: int) -> Line:
        """See `Way`. Raises GuardRefused, which is an OSError."""
        guard = self._gateway.guard
        sock = guard.udp_socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if not guard.connectable:
            return Line(sock, (host, port), False)
        try:
            sock.connect((host, port))
        except OSError:
            sock.close()
            raise
        return Line(sock, (host, port))

    async def addresses(self, name: str) -> Sequence[str]:
        """See `Way`."""
        answers = await self._ask(name, (TYPE_A, TYPE_AAAA))
        found: list[str] = []
        for kind, wire in answers.items():
            with contextlib.suppress(MalformedMessage):
                found += [str(ipaddress.ip_address(a)) for a in packed_addresses(wire, kind)]
        if not found:
            raise Unanswered("unnamed")
        return found

    async def seen_by(self, name: str) -> Sequence[Address]:
        """See `Way`."""
        return seen_in(await self._ask(name, KINDS))

    async def _ask(self, name: str, kinds: Sequence[int]) -> dict[int, bytes]:
        """The answers by type, but for those that did not come. Raises Unanswered for none."""
        wires = [question(name, kind) for kind in kinds]
        said = await asyncio.gather(
            *(resolved(self._gateway.snapshots.resolve, wire) for wire in wires),
            return_exceptions=True,
        )
        for each in said:
            if isinstance(each, BaseException) and not isinstance(each, Unanswered):
                raise each
        found = {k: wire for k, wire in zip(kinds, said, strict=True) if isinstance(wire, bytes)}
        if not found:
            raise Unanswered("silent")
        return found


def before(gateway: Gateway, families: Sequence[int]) -> Found:
    """What is known before anybody is asked. `absent` says that nobody is to be."""
    network = gateway.guard.network
    carried = frozenset(f for f in families if (network.ipv4 if f == 4 else network.ipv6))
    return Found(
        "gateway",
        absent=_absent(network, carried),
        bypass=gateway.guard.bypass,
        families=tuple(families),
        carried=carried,
        outside=outside(gateway.detector.survey(), gateway.detector.network.interface),
    )


def _absent(network: VpnNetwork, carried: frozenset[int]) -> tuple[str, str] | None:
    if not network.usable:
        return network.reason or "There is no VPN.", _HINT
    if not carried:
        return "The VPN carries nothing of what was to be looked at.", _HINT
    return None


def outside(interfaces: Iterable[Interface], tunnel: str | None) -> tuple[Outside, ...]:
    """From where packets come that go beside `tunnel`: the addresses of the other interfaces, for
    IPv6 with their neighbours'."""
    found = []
    for each in interfaces:
        if each.loopback or each.name == tunnel:
            continue
        for address in each.addresses:
            if not address.scoped:
                bits = 32 if address.version == 4 else max(address.prefix, IPV6_LINK)
                network = ipaddress.ip_network(f"{address}/{bits}", strict=False)
                found.append(Outside(each.name, network))
    return tuple(found)
