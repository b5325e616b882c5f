"""Whether this device takes what a gateway names: lease addresses, and places to dial.

Theory of operation. The client is root, and acts on what a gateway says: it gives its NIC the
lease's addresses, makes the gateway's address its resolver, and dials the endpoints it is told.
So each of these is judged before it is acted on, against what no lease or endpoint may be and
against what this host is (`HostFacts`): when it comes, and again when the host changes. A
lease is judged whole, whether it came whole or by a delta: one address that is refused refuses
it. An endpoint is judged by itself and left out.

Who named an endpoint decides what it may be. The *user* may dial this device (`ssh -L`, a
forwarded port, a gateway on the same machine). What was *kept* - in a pairing URI or in the store,
where the user's own endpoints are, too - may be loopback as it is commonly written. What a
*gateway* told, or a *name* led to, may not. An IPv6 address that stands for an IPv4 address is
judged as that.

Pure: no system is asked here. Sources: RFC 6890 (special-purpose addresses), RFC 1918, RFC
6598, RFC 2544, RFC 4193 (where lease addresses come from), RFC 6052 and RFC 8215 (addresses
that embed others).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from vshp.config import LeaseConfig

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LEASE_RANGES: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "198.18.0.0/15",
        "fc00::/7",
    )
)
"""Where a lease's addresses may come from: private networks, and those that are for such uses.
Any other belongs to somebody, and this device would take it from him."""
METADATA: frozenset[Address] = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "fd00:ec2::254",
    )
)
"""Where machines in a cloud get their credentials."""
MAX_TOLD = 16
"""Networks that a gateway is told of."""

MAX_SCOPES = 4
"""Links on which a link-local address is looked for."""

_NOWHERE = tuple(
    ipaddress.ip_network(text) for text in ("0.0.0.0/8", "224.0.0.0/3", "::/128", "ff00::/8")
)
"""Unspecified, multicast, reserved, and the limited broadcast."""
_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
_LINK_LOCAL = (ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10"))
_EMBEDDING = tuple(
    IPv6Network(text)
    for text in (
        "::ffff:0:0/96",
        "::ffff:0:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "::/96",
    )
)
"""Their last 32 bits are an IPv4 address."""
_6TO4 = IPv6Network("2002::/16")
_NOT_FROM_FAR = (*_NOWHERE, *_LOOPBACK, *_LINK_LOCAL)


class Source(StrEnum):
    """Who named an endpoint."""

    USER = "user"
    KEPT = "kept"
    """A pairing URI, or the store."""
    GATEWAY = "gateway"
    NAME = "name"
    """A host's name led there, by the word of whoever answers for it."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A network whose hosts this device reaches without a router."""

    network: Network
    interface: str


@dataclass(frozen=True, slots=True)
class Router:
    """A default router: who passes on what goes to no network here."""

    address: Address
    interface: str


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What this host is, but for the tunnel's own interface."""

    own: frozenset[Address] = frozenset()
    """Its addresses."""
    attached: tuple[Attached, ...] = ()
    routed: tuple[Network, ...] = ()
    """Further private networks that it has routes to: not in a lease's way, but told of."""
    routers: frozenset[Address] = frozenset()
    resolvers: tuple[Address, ...] = ()
    """The servers that names are asked of without the tunnel, in their order."""
    scopes: tuple[str, ...] = ()
    """The interfaces on whose links an IPv6 link-local address may be."""
    defaults: tuple[Router, ...] = ()
    """Default routers, the one that the host prefers first."""

    def attached_to(self, address: Address) -> Attached | None:
        """The attached network that the address lies in."""
        for one in self.attached:
            if address in one.network:
                return one
        return None

    def told(self) -> tuple[Network, ...]:
        """The private IPv4 networks for a gateway to choose lease addresses beside, at most
        MAX_TOLD, those first that a lease may not lie in."""
        hosts = sorted({*self.routers, *self.resolvers, *self.own}, key=str)
        unique: dict[Network, None] = {}
        for network in (
            *(one.network for one in self.attached),
            *(ipaddress.ip_network(host) for host in hosts if self.attached_to(host) is None),
            *self.routed,
        ):
            if network.version == 4 and any(_overlap(network, r) for r in LEASE_RANGES):
                unique.setdefault(network)
        return tuple(unique)[:MAX_TOLD]


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is not taken from a gateway; `name` is stable, `sentence` says what and why."""

    name: str
    sentence: str


@dataclass(frozen=True, slots=True)
class LeaseAddresses:
    """A lease's addresses on one device, without those of a family it lacks."""

    own: tuple[Address, ...] = ()
    gateway: tuple[Address, ...] = ()
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, lease: LeaseConfig | None) -> LeaseAddresses:
        if lease is None:
            return cls()
        own, gateway, networks = [], [], []
        for mine, other, prefix in _families(lease):
            if any(mine):
                own.append(ipaddress.ip_address(mine))
                networks.append(ipaddress.ip_network((mine, prefix), strict=False))
            if any(other):
                gateway.append(ipaddress.ip_address(other))
        return cls(tuple(own), tuple(gateway), tuple(networks))


def judge_lease(lease: LeaseConfig, facts: HostFacts, peer: str = "") -> Refusal | None:
    """Why the lease is not taken, if it is not; `peer` is the link's far address, if it has one.

    The name is `lease_forbidden` for what no device may take, and `lease_clashes` for what
    this one cannot take as it is now.
    """
    far = _parse(peer)
    held = False
    for mine, other, prefix in _families(lease):
        if not any(mine) and not any(other):
            continue
        held = True
        family = "IPv4" if len(mine) == 4 else "IPv6"
        if not any(mine) or not any(other):
            return _forbidden(f"it has one {family} address in place of two")
        if mine == other:
            return _forbidden("this device's address in it is the gateway's, too")
        network = ipaddress.ip_network((mine, prefix), strict=False)
        for what, packed in (("the gateway's", other), ("this device's", mine)):
            address = ipaddress.ip_address(packed)
            why = _no_lease_address(address, network)
            if why is not None:
                return _forbidden(f"{what} address {address} in it {why}")
            why = _in_use(address, facts, far)
            if why is not None:
                return Refusal("lease_clashes", f"{what} address {address} in it {why}")
    return None if held else _forbidden("it has no address")


def judge_endpoint(
    host: str, facts: HostFacts, lease: LeaseAddresses, source: Source
) -> Refusal | None:
    """Why an endpoint at `host` (an address, perhaps with a %scope) is not dialled, if it is not.

    The name is `endpoint_forbidden`, or `endpoint_here` for one that is this device.
    """
    address = _parse(host)
    if address is None:
        return Refusal("endpoint_forbidden", f"{host} is no address")
    plain = embedded(address)
    if _within(plain, _NOWHERE):
        return Refusal("endpoint_forbidden", f"{host} is no one host's address")
    if any(plain in _for_all(one.network) for one in facts.attached):
        return Refusal("endpoint_forbidden", f"{host} stands for a whole network here")
    if source is Source.USER:
        return None
    if plain in METADATA:
        return Refusal("endpoint_forbidden", f"{host} is a cloud's metadata service")
    if _within(plain, _LOOPBACK):
        if source is Source.KEPT and plain == address:
            return None
        return Refusal("endpoint_here", f"{host} is this device itself")
    if plain in facts.own:
        return Refusal("endpoint_here", f"{host} is this device itself")
    if plain in lease.own or plain in lease.gateway or _within(plain, lease.networks):
        return Refusal("endpoint_forbidden", f"{host} lies inside the tunnel")
    return None


def scoped(host: str, facts: HostFacts) -> tuple[str, ...]:
    """The host, on each link where it may be: one IPv6 link-local address is on every link
    another host, and who is told it has to find out (RFC 4007 section 6)."""
    address = _parse(host)
    if address is None or address not in _LINK_LOCAL[1] or "%" in host:
        return (host,)
    return tuple(f"{host}%{name}" for name in facts.scopes[:MAX_SCOPES])


def from_far(address: Address, facts: HostFacts, lease: LeaseAddresses) -> bool:
    """Whether a packet out of the tunnel may have this source: a host beyond the gateway."""
    plain = embedded(address)
    return not (
        _within(plain, _NOT_FROM_FAR)
        or plain in lease.own
        or plain in facts.own
        or facts.attached_to(plain) is not None
    )


def embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for; any other as it is."""
    if isinstance(address, IPv4Address) or address in (_UNSPECIFIED, _LOOPBACK_IPV6):
        return address
    if address in _6TO4:
        return IPv4Address(address.packed[2:6])
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in _EMBEDDING):
        return IPv4Address(address.packed[12:])
    return address


_UNSPECIFIED = IPv6Address(0)
_LOOPBACK_IPV6 = IPv6Address(1)


def _no_lease_address(address: Address, network: Network) -> str | None:
    """What keeps any lease from having the address."""
    if address in METADATA:
        return "is a cloud's metadata service"
    if not _within(address, LEASE_RANGES):
        return "is not of a private network"
    if address not in network:
        return f"is not of the lease's network {network}"
    if address in _for_all(network):
        return f"stands for the whole network {network}"
    return None


def _in_use(address: Address, facts: HostFacts, far: Address | None) -> str | None:
    """What this host has at the address."""
    if address in facts.own:
        return "is one that this device has already"
    if far is not None and address == far:
        return "is where the gateway itself is reached"
    if address in facts.routers:
        return "is this device's router"
    if address in facts.resolvers:
        return "is this device's resolver"
    found = facts.attached_to(address)
    return None if found is None else f"lies in {found.network}, the network at {found.interface}"


def _forbidden(why: str) -> Refusal:
    return Refusal("lease_forbidden", why)


def _families(lease: LeaseConfig) -> tuple[tuple[bytes, bytes, int], ...]:
    return (
        (lease.ipv4, lease.gateway_ipv4, lease.prefix_ipv4),
        (lease.ipv6, lease.gateway_ipv6, lease.prefix_ipv6),
    )


def _parse(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _for_all(network: Network) -> tuple[Address, ...]:
    """The addresses in a network that are no one host's (RFC 919, RFC 3021; RFC 4291 2.6.1)."""
    if network.prefixlen >= network.max_prefixlen - 1:
        return ()
    if isinstance(network, IPv6Network):
        return (network.network_address,)
    return network.network_address, network.broadcast_address
