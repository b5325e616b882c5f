"""Which destinations a client may reach through us: the egress policy, pure.

What is refused by default would let a client look behind the gateway instead
of through its VPN: the gateway's own addresses and loopback, link-local,
multicast, broadcast and unspecified addresses, and every network the gateway
is attached to outside the VPN. The detector hands the networks in. An IPv6
destination that merely spells an IPv4 one (mapped, compatible, NAT64, 6to4,
Teredo, ISATAP) is judged as what it spells, so that no spelling opens a
refused door.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from gateway.spellings import spelled_ipv4

ALLOWED = ""
"""The verdict of a destination that may be reached; every other verdict is a reason's name."""

MAX_VERDICTS = 16_384
"""Cached verdicts. A client that scans addresses makes the cache start over, no more."""

_FIXED: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "unspecified"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link_local"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("fe80::/10", "link_local"),
    ("fec0::/10", "link_local"),
    ("ff00::/8", "multicast"),
)

_Ranges = list[tuple[int, int, str]]


class EgressPolicy:
    """Verdicts by destination address, cached."""

    __slots__ = ("_cache", "_fixed", "_own", "version")

    def __init__(self) -> None:
        self._cache: dict[bytes, str] = {}
        self._fixed = _ranges((ip_network(text), name) for text, name in _FIXED)
        self._own: dict[int, _Ranges] = {4: [], 16: []}
        self.version = 0
        """Raised by every change: verdicts taken before it are void."""

    def set_networks(self, own: Iterable[str], attached: Iterable[str]) -> None:
        """Replace the gateway's own addresses and the networks outside the VPN.

        `own` are addresses, `attached` networks in CIDR notation, of both
        families; scope ids are ignored. The VPN's own network is not in
        `attached`: clients may use it.
        """
        found: list[tuple[IPv4Network | IPv6Network, str]] = []
        for text in own:
            found.append((ip_network(ip_address(text.split("%")[0])), "own_address"))
        for text in attached:
            address, _, prefix = text.partition("/")
            bare = address.split("%")[0]
            network = ip_network(f"{bare}/{prefix}" if prefix else bare, strict=False)
            found.append((network, "attached_network"))
        self._own = _ranges(found)
        self._cache.clear()
        self.version += 1

    def verdict(self, host: bytes) -> str:
        """ALLOWED, or why `host` (4 or 16 bytes) is refused: a short name, for counters."""
        found = self._cache.get(host)
        if found is None:
            if len(self._cache) >= MAX_VERDICTS:
                self._cache.clear()
            found = self._judge(host)
            self._cache[host] = found
        return found

    def _judge(self, host: bytes) -> str:
        value = int.from_bytes(host, "big")
        for ranges in (self._fixed, self._own):
            for low, high, name in ranges[len(host)]:
                if low <= value <= high:
                    return name
        if len(host) == 16:
            for inner in spelled_ipv4(host):
                verdict = self._judge(inner)
                if verdict:
                    return verdict
            if host[:12] == bytes(10) + b"\xff\xff" or host[:12] == bytes(12):
                return "mapped"
        return ALLOWED


def _ranges(networks: Iterable[tuple[IPv4Network | IPv6Network, str]]) -> dict[int, _Ranges]:
    found: dict[int, _Ranges] = {4: [], 16: []}
    for network, name in networks:
        low = int(network.network_address)
        size = network.max_prefixlen // 8
        found[size].append((low, low + network.num_addresses - 1, name))
    return found
