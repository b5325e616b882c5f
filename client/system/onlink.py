"""Which networks are direct: those on the link of an interface, judged by its own addresses.

Theory of operation. What reaches a destination without the tunnel is decided
by the host's *addresses*, never by its routes: whoever runs a local network
can announce routes at will (DHCP option 121, RFC 3442; router advertisements,
RFC 4191), but an address is on the host's own interface, and its prefix says
what is on that link. A hostile server chooses that prefix, too, so it is
bounded: by default only networks of private and link-local space count
(RFC 1918, 3927, 4193, 6598), since nothing of the Internet lives there. On an
interface that the user names, any network counts that is not absurdly short.

Groups go where the networks are: multicast and the limited broadcast, which is how hosts on
a link find each other (mDNS, SSDP), belong to every interface that has a direct network
of the family. A program that names no interface is served by the first.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

MIN_PREFIX = {4: 8, 6: 32}
"""Bits of the shortest network that can be direct, whoever says so."""
MAX_NETWORKS = 256
"""Networks that are direct at most; the rest of a host that has more goes into the tunnel."""
NOTHING_LOCAL = "none"
"""The name, in place of interfaces, that closes the local networks, too."""

_PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10",
        "fc00::/7", "fe80::/10",
    )
)  # fmt: skip
_INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_LINK_LOCAL_METRIC = 256
GROUPS = {
    4: (ipaddress.ip_network("224.0.0.0/4"), ipaddress.ip_network("255.255.255.255/32")),
    6: (ipaddress.ip_network("ff00::/8"),),
}
"""Multicast (RFC 5771, RFC 4291 2.7) and the limited broadcast (RFC 919)."""
_FIRST_METRIC = 100

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class OnLink:
    """A network that is reached without the tunnel."""

    network: Network
    interface: str
    source: str | None
    """The host's own address there (IPv4)."""
    metric: int
    """Which of two interfaces in one network is used: the first that `ip addr` names."""

    def __str__(self) -> str:
        groups = self.network in GROUPS[self.network.version]
        return f"{self.interface} {'multicast and broadcast' if groups else self.network}"


def on_link(links: Sequence[Any], nic: str, chosen: Sequence[str]) -> tuple[OnLink, ...]:
    """The direct networks of a host, from what `ip -j addr` said.

    `nic` is our own interface. `chosen` holds the interfaces that the user
    calls local, as names or patterns; empty: all of them, as far as they are
    private.
    """
    found: dict[tuple[Network, str], OnLink] = {}
    if NOTHING_LOCAL in chosen:
        return ()
    for rank, link in enumerate(links):
        name, flags = str(link.get("ifname", "")), link.get("flags", ())
        if name == nic or not _INTERFACE.fullmatch(name) or "LOOPBACK" in flags:
            continue
        if not {"UP", "LOWER_UP"} <= set(flags):
            continue
        if not is_chosen(name, chosen):
            continue
        for address in link.get("addr_info", ()):
            network = _network(address)
            if network is None or not _is_direct(network, bool(chosen)):
                continue
            v4 = network.version == 4
            local = not v4 and network.is_link_local
            metric = _LINK_LOCAL_METRIC if local else _FIRST_METRIC + rank
            source = str(address["local"]) if v4 else None
            found.setdefault((network, name), OnLink(network, name, source, metric))
    networks = tuple(found.values())[:MAX_NETWORKS]
    return networks + _groups(networks)


def is_chosen(interface: str, chosen: Sequence[str]) -> bool:
    """Whether the user calls the interface local; all are where he names none."""
    return not chosen or any(fnmatchcase(interface, pattern) for pattern in chosen)


def _groups(networks: Sequence[OnLink]) -> tuple[OnLink, ...]:
    """The groups of every interface with a direct network, the first interface first."""
    found: dict[tuple[Network, str], OnLink] = {}
    for one in networks:
        for group in GROUPS[one.network.version]:
            metric = _FIRST_METRIC + len(found)
            found.setdefault(
                (group, one.interface), OnLink(group, one.interface, one.source, metric)
            )
    return tuple(found.values())


def _network(address: Any) -> Network | None:
    """What the address says is on its link; None for nothing but itself."""
    try:
        own = ipaddress.ip_address(address["local"])
        # A point-to-point link's far end; its prefix belongs to that.
        there = ipaddress.ip_address(address.get("address", address["local"]))
        network = ipaddress.ip_network(f"{there}/{address['prefixlen']}", strict=False)
    except (KeyError, ValueError, TypeError):
        return None
    alone = network.prefixlen == network.max_prefixlen
    return None if alone and there == own else network


def _is_direct(network: Network, named: bool) -> bool:
    if network.prefixlen < MIN_PREFIX[network.version]:
        return False
    if network.is_loopback or network.is_multicast or network.is_unspecified:
        return False
    return named or any(
        network.network_address in private and network.prefixlen >= private.prefixlen
        for private in _PRIVATE
    )
