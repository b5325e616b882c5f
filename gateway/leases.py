"""Lease addresses: stable per peer, from pools that clash with nothing in use.

A peer's lease number is given out once by the store and kept; its addresses
are that number inside the pool's two networks, so that a device keeps its
addresses across reconnects, restarts and months. Number 1 is the gateway's own
virtual address (the resolver); 0 and the last one are not used.

The IPv4 pool is the first candidate that overlaps no network the gateway is
attached to. A device that has this network in use says so and gets its
addresses from the next candidate, unless the owner has set the pool. The IPv6
pool is a unique local prefix (RFC 4193) whose global ID is taken from the
gateway's public key, so no two gateways share one.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, replace

from netstack.addresses import Addresses

IPV4_CANDIDATES = (
    "10.187.61.0/24",
    "172.27.61.0/24",
    "192.168.187.0/24",
    "100.91.61.0/24",
    "198.18.61.0/24",
)
"""Tried in turn; rare third octets, from every private range, so that one is free."""

SPACE = tuple(
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15",
        "fc00::/7",
    )
)  # fmt: skip
"""Clients take lease addresses of these only: any other is somebody's."""
LEASE_SECONDS = 24 * 3600.0
"""A lease lasts this long after its last use; every CONFIG renews it."""

IPv4Network = ipaddress.IPv4Network
IPv6Network = ipaddress.IPv6Network


class PoolError(ValueError):
    """The configured pool cannot be used; the text names the fix."""


@dataclass(frozen=True, slots=True)
class AddressPool:
    """The two networks that leases come from."""

    ipv4: IPv4Network
    ipv6: IPv6Network
    others: tuple[IPv4Network, ...] = ()
    """In place of `ipv4`, for devices that have it in use."""

    def beside(self, networks: Iterable[tuple[bytes, int]], held: bytes = b"") -> AddressPool:
        """The pool for a device that has these (address, prefix length): one that overlaps none
        of them, that of its `held` address if it may; where all overlap, this one."""
        used = [
            ipaddress.ip_network((address, prefix), strict=False)
            for address, prefix in networks
            if len(address) == 4 and prefix > 0
        ]
        free = [
            network
            for network in (self.ipv4, *self.others)
            if not any(network.overlaps(other) for other in used if other.version == 4)
        ]
        if not free:
            return self
        kept = ipaddress.IPv4Address(held) if len(held) == 4 else None
        chosen = next((n for n in free if kept is not None and kept in n), free[0])
        return replace(self, ipv4=chosen)

    @property
    def gateway_ipv4(self) -> bytes:
        return self.ipv4[1].packed

    @property
    def gateway_ipv6(self) -> bytes:
        return self.ipv6[1].packed

    @property
    def capacity(self) -> int:
        """How many peers can hold a lease (numbers 2 up to the last but one)."""
        return self.ipv4.num_addresses - 3

    def addresses(self, number: int) -> Addresses:
        """Those of the lease of a number. Raises PoolError past the pool's end."""
        if not 2 <= number < self.ipv4.num_addresses - 1:
            raise PoolError(
                f"the pool {self.ipv4} has no address left (peer number {number}): "
                "set a wider pool_ipv4 in the config"
            )
        return Addresses(
            self.ipv4[number].packed, self.ipv6[number].packed, self.gateway_ipv4, self.gateway_ipv6
        )


def is_lease_space(network: IPv4Network | IPv6Network) -> bool:
    """Whether a pool may lie there."""
    return any(
        network.network_address in space and network.prefixlen >= space.prefixlen for space in SPACE
    )


def unique_local_network(public_key: bytes) -> IPv6Network:
    """The gateway's own /64 inside fd00::/8 (RFC 4193 section 3.2), from its public key."""
    digest = hashlib.blake2s(b"vpnshare unique local prefix" + public_key).digest()
    return IPv6Network((b"\xfd" + digest[:7] + bytes(8), 64))


def choose_pool(
    public_key: bytes,
    attached: Iterable[tuple[bytes, int]],
    ipv4: str | None = None,
    ipv6: str | None = None,
) -> AddressPool:
    """Pick the pool's networks.

    `attached` are (network address, prefix length) of networks in use here;
    `ipv4` and `ipv6` are the owner's settings, taken as they are if they clash
    with nothing. Raises PoolError where no choice is left.
    """
    used = [
        ipaddress.ip_network((address, prefix), strict=False)
        for address, prefix in attached
        if prefix > 0
    ]
    used4 = [net for net in used if isinstance(net, IPv4Network)]
    used6 = [net for net in used if isinstance(net, IPv6Network)]
    first, *others = _choose_ipv4(ipv4, used4)
    return AddressPool(
        first,
        _checked_ipv6(ipv6, used6) if ipv6 else unique_local_network(public_key),
        tuple(others),
    )


def _choose_ipv4(setting: str | None, used: list[IPv4Network]) -> list[IPv4Network]:
    """The networks that can be used, the best first."""
    if setting is not None:
        try:
            network = IPv4Network(setting)
        except ValueError as error:
            raise PoolError(f"pool_ipv4 {setting!r} is not a network: {error}") from None
        if not is_lease_space(network):
            raise PoolError(f"pool_ipv4 {setting} must be a private network, such as 10.61.0.0/24")
        if not 8 <= network.prefixlen <= 29:
            raise PoolError(f"pool_ipv4 {setting} must be between a /8 and a /29")
        for other in used:
            if network.overlaps(other):
                raise PoolError(
                    f"pool_ipv4 {network} overlaps {other}, which is in use here: choose another"
                )
        return [network]
    candidates = [IPv4Network(candidate) for candidate in IPV4_CANDIDATES]
    free = [n for n in candidates if not any(n.overlaps(other) for other in used)]
    if free:
        return free
    raise PoolError(
        "every default address pool overlaps a network in use here: set pool_ipv4 in the config"
    )


def _checked_ipv6(setting: str, used: list[IPv6Network]) -> IPv6Network:
    try:
        network = IPv6Network(setting)
    except ValueError as error:
        raise PoolError(f"pool_ipv6 {setting!r} is not a network: {error}") from None
    if not is_lease_space(network):
        raise PoolError(f"pool_ipv6 {setting} must be a unique local network (fd00::/8)")
    if not 48 <= network.prefixlen <= 112:
        raise PoolError(f"pool_ipv6 {setting} must be between a /48 and a /112")
    for other in used:
        if network.overlaps(other):
            raise PoolError(
                f"pool_ipv6 {network} overlaps {other}, which is in use here: choose another"
            )
    return network
