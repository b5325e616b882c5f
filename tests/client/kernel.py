"""A small model of the kernel's routing, behind the same tools that the client runs.

It takes the `ip` and `nft` commands of the client line by line, and answers as
they do. `decide` then says where a packet would go, by the kernel's own order:
rules by preference, the longest prefix of a table, the next rule where a table
has nothing. It knows no word of the client's own reasoning.

`die_after` kills the client in the middle of its work: that many lines of
batches later `Killed` is raised, and what was done until then stays.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client.outlet.nic.nic import MemoryTun, Nic
from client.system.run import CommandError

MAIN, LOCAL = 254, 255
KERNEL, BOOT, DHCP, RA = 2, 3, 16, 9


class Killed(BaseException):
    """The client's process is gone."""


@dataclass(frozen=True)
class Route:
    table: int
    dst: str
    dev: str
    via: str | None = None
    src: str | None = None
    metric: int | None = None
    protocol: int = BOOT
    scope: str = "link"
    """`link`: its destinations are on the link; a next hop has to be."""


@dataclass
class Rule:
    priority: int
    mark: int | None = None
    inverted: bool = False
    to: str | None = None
    protocol_name: str | None = None
    port: int | None = None
    goto: int | None = None
    table: int | None = None
    protocol: int = BOOT


@dataclass
class Link:
    up: bool = True
    addresses: list[tuple[str, int]] = field(default_factory=list)


class Kernel:
    """One host. `lan0` has addresses and a router; the client's NIC comes and goes."""

    def __init__(self, proc: Path, ipv6: bool = True) -> None:
        self.proc = proc
        self.links: dict[str, Link] = {}
        self.rules: dict[int, list[Rule]] = {
            family: [
                Rule(0, table=LOCAL, protocol=KERNEL),
                Rule(32766, table=MAIN, protocol=KERNEL),
            ]
            for family in (4, 6)
        }
        self.routes: dict[int, set[Route]] = {4: set(), 6: set()}
        self.tables: dict[str, str] = {}
        self.die_after: int | None = None
        self.refuses = ""
        """A line that contains this text is refused."""
        self.log: list[str] = []
        (proc / "ipv6/conf/all").mkdir(parents=True)
        self.write("ipv4/conf/all/rp_filter", "0")
        self.ipv6 = True
        self.set_ipv6(ipv6)

    def write(self, name: str, value: str) -> None:
        path = self.proc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value + "\n")

    # ---- what the host becomes

    def set_ipv6(self, on: bool) -> None:
        self.ipv6 = on
        self.write("ipv6/conf/all/disable_ipv6", "0" if on else "1")
        if not on:
            self.routes[6].clear()
            for link in self.links.values():
                link.addresses = [a for a in link.addresses if ":" not in a[0]]

    def add_link(self, name: str, *addresses: str) -> None:
        self.links[name] = Link()
        for address in addresses:
            self.add_address(name, address)

    def add_address(self, name: str, address: str) -> None:
        local, length = address.split("/")
        if ":" in local and not self.ipv6:
            return
        self.links[name].addresses.append((local, int(length)))
        network = ipaddress.ip_interface(address).network
        if self.links[name].up and network.prefixlen < network.max_prefixlen:
            self.routes[network.version].add(Route(MAIN, str(network), name, protocol=KERNEL))

    def set_link(self, name: str, up: bool) -> None:
        link = self.links[name]
        if link.up and not up:
            for routes in self.routes.values():
                routes -= {route for route in routes if route.dev == name}
            link.addresses = [a for a in link.addresses if ":" not in a[0]]
        elif up and not link.up:
            link.up, again = True, link.addresses
            link.addresses = []
            for local, length in again:
                self.add_address(name, f"{local}/{length}")
        link.up = up

    def remove_link(self, name: str) -> None:
        if name in self.links:
            self.set_link(name, False)
            del self.links[name]

    def add_route(self, dst: str, dev: str, via: str | None = None, protocol: int = DHCP) -> None:
        family = 6 if ":" in dst or ":" in (via or "") else 4
        if family == 4 and via is not None:
            # fib_check_nh_v4_gw: the next hop is looked for by all rules, in scope link.
            found = self._route(4, via, 0, "", 0, dev, next_hop=True)
            assert found == dev, f"Nexthop has invalid gateway: {via} is at {found}"
        if family == 4 or self.ipv6:
            scope = "link" if via is None else "global"
            self.routes[family].add(Route(MAIN, dst, dev, via, protocol=protocol, scope=scope))

    def open_nic(self, name: str, offload: bool) -> Nic:
        kernel, free = self, next(n for n in range(99) if f"vshp{n}" not in self.links)

        class Tun(MemoryTun):
            def close(self) -> None:
                kernel.remove_link(self.name)
                super().close()

        self.links[f"vshp{free}"] = Link(up=False)
        self.write(f"ipv6/conf/vshp{free}/disable_ipv6", "0" if self.ipv6 else "1")
        return Tun(f"vshp{free}", offload)

    # ---- where a packet goes

    def decide(
        self, to: str, mark: int = 0, protocol: str = "tcp", port: int = 443, dev: str | None = None
    ) -> str:
        """The interface by which a packet leaves, or `unreachable`, or `rejected` by nftables."""
        family = 6 if ":" in to else 4
        if family == 6 and not self.ipv6:
            return "unreachable"
        out = self._route(family, to, mark, protocol, port, dev)
        if out == "unreachable" and family == 4 and dev is not None:
            # ip_route_output_key_hash_rcu: "Assume, that the destination is on link."
            out = dev
        if out == "unreachable" or all(self._passes(t, to, mark, protocol, port, out)
                                       for t in self.tables.values()):  # fmt: skip
            return out
        return "rejected"

    def _route(
        self, family: int, to: str, mark: int, protocol: str, port: int, dev: str | None,
        next_hop: bool = False,
    ) -> str:  # fmt: skip
        after = 0
        for rule in sorted(self.rules[family], key=lambda r: r.priority):
            if rule.priority < after or not _matches(rule, to, mark, protocol, port):
                continue
            if rule.goto is not None:
                after = rule.goto
            elif rule.table is None:
                return "unreachable"
            elif (found := self._lookup(family, rule.table, to, dev, next_hop)) is not None:
                return found
        return "unreachable"

    def _lookup(
        self, family: int, table: int, to: str, dev: str | None, next_hop: bool
    ) -> str | None:
        address = ipaddress.ip_address(to)
        fits = [
            route
            for route in self.routes[family]
            if route.table == table
            and (dev is None or route.dev in (dev, "unreachable"))
            and (not next_hop or route.scope == "link")
            and (route.dst == "default" or address in ipaddress.ip_network(route.dst))
        ]
        return max(fits, key=_longest).dev if fits else None

    def _passes(self, text: str, to: str, mark: int, protocol: str, port: int, out: str) -> bool:
        """Whether the one chain that the client loads accepts."""
        address = ipaddress.ip_address(to)
        for line in re.findall(r"^    (.*)$", text, re.M)[1:]:
            words = line.replace("{", "").replace("}", "").replace(",", "").split()
            verdict = "accept" in words
            if words[:2] == ["meta", "mark"]:
                hit = mark == int(words[2])
            elif words[:2] == ["meta", "l4proto"]:
                hit = protocol in ("tcp", "udp") and port == int(words[words.index("dport") + 1])
            elif words[0] == "oifname":
                hit = words[1].strip('"') == out
                if "daddr" in words:
                    network = ipaddress.ip_network(words[words.index("daddr") + 1])
                    hit = hit and address in network
            elif words[0] in ("udp", "icmpv6"):
                hit = False
            else:
                hit = True
            if hit:
                return verdict
        return True

    # ---- the tools

    def which(self, program: str) -> str | None:
        return f"/usr/sbin/{program}" if program in ("ip", "nft") else None

    def run(self, argv: Sequence[str], stdin: str = "") -> str:
        match list(argv):
            case ["ip", "-j", "addr"]:
                return json.dumps([self._link(name) for name in self.links])
            case ["ip", family, "-N", "-j", "rule", "show"]:
                return json.dumps([_rule_json(rule) for rule in self._sorted(int(family[1:]))])
            case ["ip", family, "-N", "-j", "route", "show", "table", "all", *rest]:
                wanted = int(rest[1]) if rest else None
                return json.dumps(
                    [
                        _route_json(route, int(family[1:]))
                        # iproute2 does not print what it was asked to select by.
                        | ({"protocol": str(route.protocol)} if wanted is None else {})
                        for route in sorted(self.routes[int(family[1:])], key=str)
                        if wanted is None or route.protocol == wanted
                    ]
                )
            case ["ip", family, *force, "-batch", "-"]:
                self._batch(int(family[1:]), stdin, bool(force))
                return ""
            case ["nft", "-f", "-"]:
                self._step("nft load")
                name = stdin.split()[2]
                self.tables[name] = stdin
                return ""
            case ["nft", "list", "tables"]:
                return "".join(f"table inet {name}\n" for name in self.tables)
            case ["nft", "delete", "table", "inet", name]:
                self._step("nft delete")
                if name not in self.tables:
                    raise CommandError("tool_failed", "no", stderr="No such file or directory")
                del self.tables[name]
                return ""
        raise AssertionError(f"the model does not know: {' '.join(argv)}")

    def _step(self, line: str) -> None:
        if self.die_after is not None:
            if self.die_after <= 0:
                raise Killed(line)
            self.die_after -= 1
        self.log.append(line)
        if self.refuses and self.refuses in line:
            raise CommandError("tool_failed", line, stderr="RTNETLINK answers: Not supported")

    def _batch(self, family: int, text: str, force: bool) -> None:
        errors = []
        for line in text.splitlines():
            self._step(line)
            try:
                self._line(family, line.split())
            except LookupError as error:
                if not force:
                    raise CommandError("tool_failed", line, stderr=f"RTNETLINK answers: {error}") \
                        from None  # fmt: skip
                errors.append(f"RTNETLINK answers: {error.args[0]}\nCommand failed -:1")
        if errors:
            raise CommandError("tool_failed", text, stderr="\n".join(errors))

    def _line(self, family: int, words: list[str]) -> None:
        match words:
            case ["rule", "add", *rest]:
                rule = _parse_rule(rest)
                if rule in self.rules[family]:
                    raise LookupError("File exists")
                self.rules[family].append(rule)
            case ["rule", "del", *rest]:
                wanted = _parse_rule(rest)
                for rule in self._sorted(family):
                    if _is_named(rule, wanted, rest):
                        self.rules[family].remove(rule)
                        return
                raise LookupError("No such file or directory")
            case ["route", "flush", "table", table]:
                self.routes[family] -= {r for r in self.routes[family] if r.table == int(table)}
            case ["route", ("append" | "replace" | "add") as verb, *rest]:
                route = _parse_route(rest, family)
                link = Link() if route.dev == "unreachable" else self.links.get(route.dev)
                if link is None or not link.up or (family == 6 and not self.ipv6):
                    raise LookupError("Cannot find device" if link is None else "Network is down")
                if verb == "replace":
                    self.routes[family] -= {
                        r
                        for r in self.routes[family]
                        if (r.table, r.dst, r.metric) == (route.table, route.dst, route.metric)
                    }
                if route in self.routes[family]:
                    raise LookupError("File exists")
                self.routes[family].add(route)
            case ["route", "del", *rest]:
                wanted_route = _parse_route(rest, family)
                for route in self.routes[family]:
                    here = (route.table, route.dst, route.dev)
                    if here == (wanted_route.table, wanted_route.dst, wanted_route.dev):
                        self.routes[family].remove(route)
                        return
                raise LookupError("No such process")
            case ["address", "replace", address, "dev", dev, *_]:
                if dev not in self.links:
                    raise LookupError("Cannot find device")
                if address.split("/")[0] not in [a for a, _ in self.links[dev].addresses]:
                    self.add_address(dev, address)
            case ["address", "del", address, "dev", dev]:
                local = address.split("/")[0]
                self.links[dev].addresses = [a for a in self.links[dev].addresses if a[0] != local]
            case ["link", "set", "dev", dev, *rest]:
                if dev not in self.links:
                    raise LookupError("Cannot find device")
                if rest == ["up"]:
                    self.set_link(dev, True)
            case _:
                raise AssertionError(f"the model does not know: {' '.join(words)}")

    def _sorted(self, family: int) -> list[Rule]:
        return sorted(self.rules[family], key=lambda rule: rule.priority)

    def _link(self, name: str) -> dict[str, Any]:
        link = self.links[name]
        return {
            "ifname": name,
            "flags": ["UP", "LOWER_UP"] if link.up else [],
            "addr_info": [
                {"family": "inet6" if ":" in a else "inet", "local": a, "prefixlen": n}
                for a, n in link.addresses
            ],
        }


def _longest(route: Route) -> tuple[int, int]:
    length = -1 if route.dst == "default" else ipaddress.ip_network(route.dst).prefixlen
    return length, -(route.metric or 0)


def _matches(rule: Rule, to: str, mark: int, protocol: str, port: int) -> bool:
    if rule.mark is not None and (mark == rule.mark) == rule.inverted:
        return False
    if rule.to is not None and rule.to != to:
        return False
    if rule.protocol_name is not None and rule.protocol_name != protocol:
        return False
    return rule.port is None or rule.port == port


def _parse_rule(words: list[str]) -> Rule:
    rule, rest = Rule(-1), iter(words)
    for word in rest:
        match word:
            case "pref":
                rule.priority = int(next(rest))
            case "not":
                rule.inverted = True
            case "fwmark":
                rule.mark = int(next(rest))
            case "to":
                rule.to = next(rest)
            case "ipproto":
                rule.protocol_name = next(rest)
            case "dport":
                rule.port = int(next(rest))
            case "goto":
                rule.goto = int(next(rest))
            case "lookup":
                table = next(rest)
                rule.table = MAIN if table == "main" else int(table)
            case "proto":
                rule.protocol = int(next(rest))
            case "unreachable":
                pass
            case _:
                raise AssertionError(f"the model does not know the word {word} of a rule")
    return rule


def _is_named(rule: Rule, wanted: Rule, words: list[str]) -> bool:
    """Whether `ip rule del` with these words takes this rule: what is not said does not matter."""
    said = set(words)
    return (
        rule.priority == wanted.priority
        and ("proto" not in said or rule.protocol == wanted.protocol)
        and ("fwmark" not in said or (rule.mark, rule.inverted) == (wanted.mark, wanted.inverted))
        and ("lookup" not in said or rule.table == wanted.table)
        and ("to" not in said or rule.to == wanted.to)
        and ("ipproto" not in said or rule.protocol_name == wanted.protocol_name)
    )


def _parse_route(words: list[str], family: int) -> Route:
    if words[0] == "unreachable":
        words = [words[1], "dev", words[0], *words[2:]]
    named = dict(zip(words[1::2], words[2::2], strict=True))
    dst = words[0]
    if dst != "default":
        dst = str(ipaddress.ip_network(dst))
    metric = int(named["metric"]) if "metric" in named else (1024 if family == 6 else None)
    return Route(
        int(named.get("table", MAIN)), dst, named["dev"], named.get("via"), named.get("src"),
        metric, int(named.get("proto", BOOT)), named.get("scope", "link"),
    )  # fmt: skip


def _rule_json(rule: Rule) -> dict[str, Any]:
    shown: dict[str, Any] = {"priority": rule.priority, "src": "all"}
    if rule.inverted:
        shown["not"] = None
    if rule.to is not None:
        shown["dst"] = rule.to
    if rule.mark is not None:
        shown["fwmark"] = hex(rule.mark)
    if rule.protocol_name is not None:
        shown["ipproto"] = {"udp": "ipproto-17", "tcp": "ipproto-6"}[rule.protocol_name]
    if rule.port is not None:
        shown["dport"] = rule.port
    if rule.goto is not None:
        shown["goto"] = rule.goto
    elif rule.table is not None:
        shown["table"] = str(rule.table)
    else:
        shown["action"] = "7"
    if rule.protocol != KERNEL:
        shown["protocol"] = str(rule.protocol)
    return shown


def _route_json(route: Route, family: int) -> dict[str, Any]:
    dst = route.dst.removesuffix("/32" if family == 4 else "/128")
    shown: dict[str, Any] = {"dst": dst, "dev": route.dev, "flags": []}
    if route.dev == "unreachable":
        shown = {"type": "7", "dst": dst, "flags": []}
    shown["protocol"] = str(route.protocol)
    if route.table != MAIN:
        shown["table"] = str(route.table)
    for name, value in (
        ("gateway", route.via),
        ("prefsrc", route.src),
        ("metric", route.metric),
    ):
        if value is not None:
            shown[name] = value
    return shown
