"""What this host is, as `judgement` wants it: asked of `ip` and resolv.conf.

What the tunnel itself has put there is left out: its interface, and the resolver file that
is ours. Where a tool cannot be run or does not speak JSON the facts are fewer, never wrong.
"""

from __future__ import annotations

import ipaddress
import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from client.judgement import Address, Attached, HostFacts, Network, Router
from client.system.resolv_conf import is_ours, nameservers
from client.system.run import CommandError, Runner

log = logging.getLogger(__name__)

MAX_ROUTES = 4096
"""Routes looked at; a host with more is a router of the Internet."""
NARROW = {4: 16, 6: 48}
"""Bits of an on-link route that names one network. A wider one (all of 10/8 into another VPN)
is a direction, in which no host's neighbours lie."""
RESOLVED_UPSTREAM = Path("/run/systemd/resolve/resolv.conf")
"""Where systemd-resolved writes the servers that it asks."""
_DOWN = frozenset({"linkdown", "dead"})
"""What `ip` says of a route whose interface has no carrier, or is off."""


class FactsReader:
    """Looks at the host; remembers what only a look before the tunnel can see."""

    def __init__(self, runner: Runner, resolv_conf: Path) -> None:
        self._runner = runner
        self._resolv_conf = resolv_conf
        self._resolvers: tuple[Address, ...] = ()

    def read(self, interface: str | None) -> HostFacts:
        """The facts at this moment; `interface` is the tunnel's own. Takes some milliseconds."""
        own: set[Address] = set()
        attached: dict[Network, str] = {}
        routed: dict[Network, None] = {}
        routers: set[Address] = set()
        scopes: list[str] = []
        defaults: list[tuple[int, Router]] = []
        for device in self._ask("address", "show"):
            name = device.get("ifname", "")
            if name == interface:
                continue
            for entry in device.get("addr_info", ()):
                address = _address(entry.get("local"))
                if address is None or address.is_loopback:
                    continue
                own.add(address)
                if address.version == 6 and address.is_link_local and _is_up(device):
                    scopes.append(name)
                network = _network(f"{entry.get('address') or address}/{entry.get('prefixlen')}")
                if network is not None and network.prefixlen < network.max_prefixlen:
                    attached.setdefault(network, name)
        for family in (4, 6):
            routes = self._ask("route", "show", "table", "main", family=family)
            for route in routes[:MAX_ROUTES]:
                hops = list(_hops(route))
                routers.update(hop for hop in hops if hop is not None)
                defaults += _defaults(route, interface)
                network = _network(route.get("dst"))
                if network is None or route.get("dev") == interface or route.get("type"):
                    continue
                if None in hops and network.prefixlen >= NARROW[family]:
                    if network.prefixlen < network.max_prefixlen:
                        attached.setdefault(network, route.get("dev", ""))
                elif network.prefixlen:
                    routed.setdefault(network)
        found = self._servers()
        if found is not None:
            self._resolvers = found
        return HostFacts(
            frozenset(own),
            tuple(
                Attached(network, name)
                for network, name in attached.items()
                if not network.is_link_local
            ),
            tuple(network for network in routed if not network.is_multicast),
            frozenset(routers),
            self._resolvers,
            tuple(dict.fromkeys(scopes)),
            tuple(dict.fromkeys(router for _, router in sorted(defaults, key=lambda d: d[0]))),
        )

    def _servers(self) -> tuple[Address, ...] | None:
        """The servers that the host asks without the tunnel; None while that cannot be seen."""
        texts = []
        for path in (self._resolv_conf, RESOLVED_UPSTREAM):
            try:
                texts.append(path.read_text(errors="replace"))
            except OSError:
                texts.append("")
        if is_ours(texts[0]):
            return None
        servers = (_address(server) for text in texts for server in nameservers(text))
        return tuple(dict.fromkeys(s for s in servers if s is not None and not s.is_loopback))

    def _ask(self, *arguments: str, family: int | None = None) -> list[dict[str, Any]]:
        options = [] if family is None else [f"-{family}"]
        try:
            found = json.loads(self._runner.run(["ip", *options, "-j", *arguments]) or "[]")
        except (CommandError, ValueError) as error:
            log.warning("this host's network cannot be seen: %s", error)
            return []
        return [one for one in found if isinstance(one, dict)]


def _is_up(device: dict[str, Any]) -> bool:
    return "LOWER_UP" in device.get("flags", ()) and "master" not in device


def _hops(route: dict[str, Any]) -> Iterator[Address | None]:
    """The routers of a route; None for a hop that has none."""
    for hop in _legs(route):
        yield _router(hop)


def _defaults(route: dict[str, Any], interface: str | None) -> Iterator[tuple[int, Router]]:
    """The routers of a default route whose links are up, with the route's metric."""
    if route.get("dst") != "default":
        return
    metric = route.get("metric")
    for hop in _legs(route):
        address, name = _router(hop), str(hop.get("dev") or route.get("dev") or "")
        up = not _DOWN.intersection(hop.get("flags") or ())
        if address is not None and name and name != interface and up:
            yield metric if isinstance(metric, int) else 0, Router(address, name)


def _legs(route: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """The parts of a route that each have a router: one, or those of a multipath route."""
    return route.get("nexthops") or (route,)


def _router(hop: dict[str, Any]) -> Address | None:
    via = hop.get("via")
    return _address(hop.get("gateway") or (via.get("host") if isinstance(via, dict) else None))


def _address(text: object) -> Address | None:
    try:
        return ipaddress.ip_address(str(text).partition("%")[0])
    except ValueError:
        return None


def _network(text: object) -> Network | None:
    try:
        return ipaddress.ip_network(str(text), strict=False)
    except ValueError:
        return None
