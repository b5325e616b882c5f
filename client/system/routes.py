"""Rules and routes that keep traffic in the tunnel, held in step with what the host becomes.

Theory of operation. Six preferences of our own lie before all other rules:

    P    to GATEWAY ipproto X dport N lookup main   only under strict reverse-path filtering
         from HERE to PEER ipproto tcp sport S dport D lookup main
                                                    a connection that came in before (`inbound`)
    P+1  ipproto udp dport 53 goto P+4              names are never asked beside the tunnel
    P+2  ipproto tcp dport 53 goto P+4
    P+3  not fwmark T lookup L                      networks on the link (see `onlink`)
    P+4  not fwmark T lookup T                      the default routes into the NIC
    P+5  not fwmark T unreachable                   IPv6: the block, nothing goes on from here

Only the link's own sockets carry the mark T (SO_MARK), so they alone get to
main, and to what a local network's router has announced there. The table L
holds copies of the connected networks, made from the host's addresses: a
network that is not copied yet goes into the tunnel. Without a default route in
T (there is no link, no NIC, no IPv6 in the lease) the last rule says no. Rules
need no interface and no address, so they stand for both families from the
beginning, also while IPv6 is off.

IPv4 has `unreachable default` in T in place of the last rule, and both of T's
routes are of scope global. The kernel looks for the next hop of a route that
the host sets in main by these very rules, in scope link (ip-route(8)); so it
passes over T and finds the connected network, which L may not have yet. With a
rule it would refuse a DHCP client's default route.

The kernel's own state is the journal: our rules and routes carry the protocol
number `PROTOCOL`, and T follows from the state folder. So a later run finds
what stands (`find`) and takes it over; `enforce` computes what has to be there
and changes the difference, at any time, however often. Nothing depends on a
file.

The NIC carries its addresses as /32 and /128, so that the lease's prefix never
shadows a local network.
"""

from __future__ import annotations

import ipaddress
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.block import Force
from client.model import ClientError, TransportEndpoint
from client.system.inbound import MAX_INBOUND, Inbound, inbound
from client.system.onlink import NOTHING_LOCAL, OnLink, is_chosen, on_link
from client.system.run import CommandError, Runner

log = logging.getLogger(__name__)

PROTOCOL = "178"
"""Marks our rules and routes (`ip rule`, `ip route`: proto 178); assigned to nobody."""
TABLES_TRIED = 8
"""Pairs of tables that are looked at for ours, or for a free one."""
_FIRST_PREFERENCE_LIMIT = 32766
"""The preference of main's own rule: ours are below the lowest in use, at most this."""
_REACH, _UDP, _TCP, _LOCAL, _INTO, _NOWHERE = range(6)
_RULES = 6
_DNS = 53

_GONE = ("No such file or directory", "No such process", "FIB table does not exist",
         "Cannot find device", "No such device", "Cannot assign requested address")  # fmt: skip
"""What `ip` says when there is nothing left to delete."""


@dataclass(frozen=True, slots=True)
class TunnelAddresses:
    """What the lease says about the NIC; addresses as text, None for a family it lacks."""

    ipv4: str | None
    ipv6: str | None
    gateway_ipv4: str | None
    gateway_ipv6: str | None


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of ours: its preference, and the rest as `ip rule` takes it."""

    preference: int
    text: str

    def __str__(self) -> str:
        return f"pref {self.preference} {self.text}"


@dataclass(frozen=True, slots=True)
class Direct:
    """What the last look found that goes beside the tunnel."""

    networks: tuple[OnLink, ...] = ()
    gateways: tuple[str, ...] = ()
    """Far ends of links, and of connections that came in, that have a rule of their own."""
    others: tuple[str, ...] = ()
    """Rules of other programs that decide before ours."""

    def names(self) -> tuple[str, ...]:
        """As people are told."""
        networks = dict.fromkeys(str(network) for network in self.networks)
        return (*networks, *self.gateways, *self.others)


class Routes:
    """The host's routing as the wish needs it, and back."""

    def __init__(
        self,
        runner: Runner,
        local_interfaces: Sequence[str] = (),
        keep_dns: bool = True,
        proc: Path = Path("/proc/sys/net"),
    ) -> None:
        """`local_interfaces`: see `on_link`; `keep_dns`: names are asked in the tunnel only."""
        self._runner = runner
        self._chosen = tuple(local_interfaces)
        self._keep_dns = keep_dns
        self._proc = proc
        self._table = 0
        self._preference = 0
        self._exempt: set[tuple[str, str, int]] = set()
        self._inbound: tuple[Inbound, ...] = ()
        self.direct = Direct()

    # --- which tables and rules are ours ---------------------------------------------------------

    def find(self, first: int) -> bool:
        """Whether rules of an earlier run stand; if so, they are ours from now on.

        `first` is the first of the tables that this state folder uses. Raises CommandError.
        """
        rules = [rule for family in self._families() for rule in self._rules(family)]
        for table in tables(first):
            for rule in rules:
                offset = _place(rule, table)
                if offset is not None:
                    self._table, self._preference = table, rule["priority"] - offset
                    return True
        return False

    def reserve(self, first: int) -> int:
        """The table T, which is also the mark: the one in use, an earlier run's, or a free one.

        Nothing is changed yet. Raises CommandError, or ClientError
        `no_free_table` when the rules in use leave no room.
        """
        if self._preference or self.find(first):
            return self._table
        used: set[int] = set()
        lowest = _FIRST_PREFERENCE_LIMIT
        for family in self._families():
            for rule in self._rules(family):
                if rule["priority"]:
                    lowest = min(lowest, rule["priority"])
                used |= _numbers(rule.get("table"), rule.get("fwmark"))
            for route in self._json(family, "route", "show", "table", "all"):
                # Routes of ours without a rule are of a run that died before it had made one.
                if str(route.get("protocol")) != PROTOCOL:
                    used |= _numbers(route.get("table"))
        # The link's sockets may carry a mark already: it stays the same.
        table = self._table or next((t for t in tables(first) if not {t, t + 1} & used), None)
        if table is None or lowest <= _RULES:
            raise ClientError(
                "no_free_table",
                "This system's routing rules leave no room for the tunnel's.",
                f"Look at: ip rule; ip -6 rule. Rules with a preference of 1 to {_RULES} must go.",
            )
        self._table, self._preference = table, lowest - _RULES
        return table

    # --- the NIC ---------------------------------------------------------------------------------

    def set_addresses(self, interface: str, addresses: TunnelAddresses, routes: bool) -> None:
        """Give the NIC its addresses and bring it up; without `routes`, reach the gateway there.

        With routes the gateway's virtual addresses need none of their own.
        """
        lines = [
            f"link set dev {interface} multicast off addrgenmode none",
            f"link set dev {interface} up",
        ]
        lines += _address_lines(interface, addresses, 4, routes)
        self._batch(4, lines)
        if addresses.ipv6 is not None and self._ipv6_in_use(self._links(), interface):
            self._allow_ipv6(interface)
            self._batch(6, _address_lines(interface, addresses, 6, routes))

    def change_addresses(
        self, interface: str, old: TunnelAddresses, new: TunnelAddresses, routes: bool
    ) -> None:
        """Move the NIC from one lease's addresses to another's.

        The new ones come first: with its last address of a family the NIC
        would lose every route of that family.
        """
        self.set_addresses(interface, new, routes)
        for family, host, was, now in (
            (4, 32, (old.ipv4, old.gateway_ipv4), (new.ipv4, new.gateway_ipv4)),
            (6, 128, (old.ipv6, old.gateway_ipv6), (new.ipv6, new.gateway_ipv6)),
        ):
            stale = []
            if was[1] is not None and was[1] != now[1] and not routes:
                stale.append(f"route del {was[1]}/{host} dev {interface}")
            if was[0] is not None and was[0] != now[0]:
                stale.append(f"address del {was[0]}/{host} dev {interface}")
            if stale:
                self._forced(family, stale)

    # --- what has to be in force -----------------------------------------------------------------

    def enforce(
        self, force: Force, interface: str | None, addresses: TunnelAddresses | None
    ) -> tuple[str, ...]:
        """Make the kernel have what `force` needs, and nothing more of ours.

        `interface` is the NIC, if there is one, and `addresses` what it has to
        have. Returns what then keeps traffic in, as ip(8) names it. What only
        lets traffic out beside the tunnel may fail; raises CommandError for the
        rest, and ClientError `block_incomplete` when the kernel has not got it.
        """
        if force is Force.NOTHING:
            self.clear()
            return ()
        links = self._links()
        networks = on_link(links, interface or "", self._chosen)
        families = self._families()
        self._inbound = self._came_in(links, networks, interface or "")
        before = {}
        for family in families:
            present = self._present(family)
            self._set_nowhere(family, present)
            self._set_local(family, present, [n for n in networks if n.network.version == family])
            before[family] = self._set_rules(family)
            nic = interface if force is Force.TUNNEL else None
            if family == 6 and not self._ipv6_in_use(links, interface or ""):
                nic = None
            if nic is not None and addresses is not None:
                self._keep_addresses(nic, addresses, family, links)
            self._set_default(family, present, nic)
        self.direct = Direct(
            networks,
            (
                *(f"{host} {protocol} {port}" for host, protocol, port in sorted(self._exempt)),
                *(f"{one.peer} logged in by port {one.local_port}" for one in self._inbound),
            ),
            tuple(self._others(before)),
        )
        return tuple(line for family in families for line in self._holding(family))

    def clear(self) -> None:
        """Remove all of ours from the kernel. Raises CommandError."""
        self._exempt.clear()
        self.direct = Direct()
        if not self._preference:
            return
        for family in self._families():
            ours = [rule for rule in self._rules(family) if self._is_ours(rule)]
            # The block goes last: a process that dies meanwhile leaves a closed network.
            ours.sort(key=lambda rule: rule["priority"])
            lines = [f"rule del pref {rule['priority']} proto {PROTOCOL}" for rule in ours]
            found = {table for table, _ in self._present(family)}
            lines += [f"route flush table {table}" for table in sorted(found)]
            if lines:
                self._forced(family, lines)
        self._preference = 0

    def reach(self, endpoints: Sequence[TransportEndpoint]) -> bool:
        """Let answers from `endpoints` pass strict reverse-path filtering, where that is on.

        The filter looks an answer's way back up without our mark. On a local
        network it finds the table L; beyond a router it would find the NIC and
        drop the answer, so there a rule says otherwise, for that port alone
        (RFC 3704 2.2). Whether `enforce` has to be called for it.
        """
        if not any(value == "1" for value in self._filters()):
            return False
        needed = {
            (e.host, e.transport, e.port)
            for e in endpoints
            if e.transport in ("tcp", "udp") and self._is_filtered(e.host)
        }
        if needed <= self._exempt:
            return False
        self._exempt |= needed
        return True

    # --- the difference --------------------------------------------------------------------------

    def _wanted(self, family: int) -> list[Rule]:
        """The rules that keep traffic in, the block first."""
        first, table = self._preference, self._table
        other = f"not fwmark {table}"
        rules = [Rule(first + _NOWHERE, f"{other} unreachable")] if family == 6 else []
        rules.append(Rule(first + _INTO, f"{other} lookup {table}"))
        if self._keep_dns:
            rules += [
                Rule(first + at, f"ipproto {protocol} dport {_DNS} goto {first + _INTO}")
                for at, protocol in ((_UDP, "udp"), (_TCP, "tcp"))
            ]
        rules.append(Rule(first + _LOCAL, f"{other} lookup {table + 1}"))
        if family == 4:
            rules += [
                Rule(first + _REACH, f"to {host} ipproto {protocol} dport {port} lookup main")
                for host, protocol, port in sorted(self._exempt)
            ]
        rules += [
            Rule(
                first + _REACH,
                f"from {one.local} to {one.peer} ipproto tcp sport {one.local_port} "
                f"dport {one.peer_port} lookup main",
            )
            for one in self._inbound
            if one.family == family
        ]
        return rules

    def _holding(self, family: int) -> list[str]:
        """What keeps traffic in, as ip(8) names it."""
        rules = [r for r in self._wanted(family) if r.preference >= self._preference + _INTO]
        lines = [f"ip -{family} rule {rule}" for rule in rules]
        if family == 4:
            lines.append(f"ip -4 route {_BLOCKED} table {self._table}")
        return lines

    def _set_nowhere(self, family: int, present: set[tuple[int, _Route]]) -> None:
        """IPv4's block, before any rule leads to it."""
        if family == 4 and (self._table, _BLOCKED) not in present:
            self._batch(
                4, [f"route replace {_BLOCKED} scope global proto {PROTOCOL} table {self._table}"]
            )

    @property
    def came_in(self) -> tuple[Inbound, ...]:
        """Connections from beyond the router that the last look found."""
        return self._inbound

    def answered(self, interface: str | None) -> list[str] | None:
        """The interfaces by which connections that come in are answered; None for all of them."""
        if NOTHING_LOCAL in self._chosen:
            return []
        if not self._chosen:
            return None
        names = (str(link.get("ifname", "")) for link in self._links())
        return [name for name in names if name != interface and is_chosen(name, self._chosen)]

    def _came_in(
        self, links: Sequence[dict[str, Any]], networks: Sequence[OnLink], nic: str
    ) -> tuple[Inbound, ...]:
        """Who is logged in from beyond the router, by an interface that is answered."""
        if NOTHING_LOCAL in self._chosen:
            return ()
        here = {
            str(address.get("local"))
            for link in links
            if (name := str(link.get("ifname", ""))) != nic and is_chosen(name, self._chosen)
            for address in link.get("addr_info", ())
        }
        near = [one.network for one in networks]
        return tuple(
            one
            for one in inbound(self._proc.parents[1] / "net")
            if one.local in here
            and not any(ipaddress.ip_address(one.peer) in network for network in near)
        )[:MAX_INBOUND]

    def _set_rules(self, family: int) -> list[dict[str, Any]]:
        """The rules that the kernel had before."""
        present = self._rules(family)
        wanted = self._wanted(family)
        missing = [rule for rule in wanted if not _stands(rule, present)]
        stale = [
            found
            for found in present
            if self._is_ours(found) and not any(_is(rule, found) for rule in wanted)
        ]
        if missing:
            self._batch(family, [f"rule add {rule} proto {PROTOCOL}" for rule in missing])
        if stale:
            self._forced(family, [f"rule del {_words(found)}" for found in stale])
        if missing:
            self._check(family, wanted)
        return present

    def _check(self, family: int, wanted: list[Rule]) -> None:
        """A block is not believed in before the kernel shows it."""
        present = self._rules(family)
        lost = [f"ip -{family} rule {rule}" for rule in wanted if not _stands(rule, present)]
        if lost:
            raise ClientError(
                "block_incomplete",
                f"The kernel has not taken: {'; '.join(lost)}.",
                "Another program may remove rules: look at ip rule, ip monitor rule.",
            )

    def _set_local(
        self, family: int, present: set[tuple[int, _Route]], networks: list[OnLink]
    ) -> None:
        """The networks on the link. A failure leaves less direct, never more."""
        table = self._table + 1
        wanted = {_route(network) for network in networks}
        have = {route for t, route in present if t == table}
        lines = [f"route del {route} table {table}" for route in have if route not in wanted]
        lines += [
            f"route append {route} proto {PROTOCOL} table {table}"
            for route in sorted(wanted - have, key=str)
        ]
        if lines:
            try:
                self._forced(family, lines)
            except CommandError as error:
                log.info("not direct: %s", error)

    def _set_default(self, family: int, present: set[tuple[int, _Route]], nic: str | None) -> None:
        """The default route into the NIC, or none."""
        table = self._table
        have = {route for t, route in present if t == table and route != _BLOCKED}
        stale = [route for route in have if (route.dst, route.dev) != ("default", nic)]
        if stale:
            self._forced(family, [f"route del {route} table {table}" for route in stale])
        if nic is not None and len(have) == len(stale):
            scope = " scope global" if family == 4 else ""
            line = f"route replace default dev {nic}{scope} proto {PROTOCOL} table {table}"
            self._batch(family, [line])

    def _keep_addresses(
        self, nic: str, addresses: TunnelAddresses, family: int, links: list[dict[str, Any]]
    ) -> None:
        """Give the NIC back what it has lost of this family, or never had: IPv6 was off."""
        wanted = addresses.ipv4 if family == 4 else addresses.ipv6
        here = next((link for link in links if link.get("ifname") == nic), {})
        has = {address.get("local") for address in here.get("addr_info", ())}
        if wanted is not None and wanted not in has:
            if family == 6:
                self._allow_ipv6(nic)
            lines = [f"link set dev {nic} up", *_address_lines(nic, addresses, family, True)]
            self._batch(family, lines)

    def _present(self, family: int) -> set[tuple[int, _Route]]:
        """Our routes in the kernel, with their tables."""
        found = set()
        for route in self._json(family, "route", "show", "table", "all", "proto", PROTOCOL):
            for table in _numbers(route.get("table")) & {self._table, self._table + 1}:
                dst, source, metric = route.get("dst"), route.get("prefsrc"), route.get("metric")
                if route.get("type") is not None:
                    found.add((table, _BLOCKED if dst == "default" else _Route(f"{dst}", "")))
                else:
                    found.add((table, _Route(f"{dst}", str(route.get("dev")), source, metric)))
        return found

    def _is_ours(self, rule: dict[str, Any]) -> bool:
        place = rule["priority"] - self._preference
        return 0 <= place < _RULES and str(rule.get("protocol")) == PROTOCOL

    def _others(self, rules: dict[int, list[dict[str, Any]]]) -> Iterable[str]:
        """Rules of other programs that decide before ours."""
        for family, present in rules.items():
            for rule in present:
                first = 0 < rule["priority"] < self._preference
                if first and str(rule.get("protocol")) != PROTOCOL:
                    yield f"ip -{family} rule {rule['priority']}"

    # --- looking ---------------------------------------------------------------------------------

    def _families(self) -> tuple[int, ...]:
        """Those that the kernel has, whether in use or not."""
        return (4, 6) if (self._proc / "ipv6").is_dir() else (4,)

    def _ipv6_in_use(self, links: list[dict[str, Any]], nic: str) -> bool:
        if 6 not in self._families():
            return False
        return self._read("ipv6/conf/all/disable_ipv6") == "0" or any(
            address.get("family") == "inet6"
            for link in links
            if link.get("ifname") != nic and "LOOPBACK" not in link.get("flags", ())
            for address in link.get("addr_info", ())
        )

    def _allow_ipv6(self, interface: str) -> None:
        """Enable IPv6 on the NIC where new interfaces have it off; it dies with the NIC."""
        path = self._proc / "ipv6/conf" / interface / "disable_ipv6"
        try:
            if path.read_text().strip() == "1":
                path.write_text("0")
        except OSError as error:
            log.warning("IPv6 on %s: %s", interface, error)

    def _filters(self) -> list[str]:
        try:
            names = [path.name for path in (self._proc / "ipv4/conf").iterdir()]
        except OSError:
            return []
        return [self._read(f"ipv4/conf/{name}/rp_filter") for name in names]

    def _is_filtered(self, host: str) -> bool:
        """The kernel takes the larger of `all` and the interface's own value (ip-sysctl.rst)."""
        address = ipaddress.ip_address(host.partition("%")[0])
        if address.version != 4 or address.is_loopback:
            return False
        try:
            found = self._json(4, "route", "get", host, "mark", str(self._table))
        except CommandError:
            return False
        if not found or "gateway" not in found[0]:
            return False
        values = (
            self._read(f"ipv4/conf/{name}/rp_filter") for name in ("all", str(found[0]["dev"]))
        )
        return max(values, default="0") == "1"

    def _read(self, name: str) -> str:
        try:
            return (self._proc / name).read_text().strip()
        except OSError:
            return ""

    def _rules(self, family: int) -> list[dict[str, Any]]:
        return self._json(family, "rule", "show")

    def _links(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self._runner.run(["ip", "-j", "addr"]) or "[]")
        return [link for link in found if link]

    def _json(self, family: int, *arguments: str) -> list[dict[str, Any]]:
        text = self._runner.run(["ip", f"-{family}", "-N", "-j", *arguments])
        found: list[dict[str, Any]] = json.loads(text or "[]")
        return found

    def _batch(self, family: int, lines: Sequence[str]) -> None:
        self._runner.run(["ip", f"-{family}", "-batch", "-"], "\n".join(lines) + "\n")

    def _forced(self, family: int, lines: Sequence[str]) -> None:
        """Run every line whatever happens to the others; what is gone already is no error."""
        try:
            self._runner.run(["ip", f"-{family}", "-force", "-batch", "-"], "\n".join(lines) + "\n")
        except CommandError as error:
            if error.name != "tool_failed" or not _all_gone(error.stderr):
                raise


@dataclass(frozen=True, slots=True)
class _Route:
    """One route of ours, without table."""

    dst: str
    dev: str
    src: str | None = None
    metric: int | None = None

    def __str__(self) -> str:
        words = [self.dst, *(["dev", self.dev] if self.dev else [])]
        words += ["src", self.src] if self.src is not None else []
        words += ["metric", str(self.metric)] if self.metric is not None else []
        return " ".join(words)


_BLOCKED = _Route("unreachable default", "", None, 4000)


def _route(network: OnLink) -> _Route:
    # iproute2 prints a host's network without its length.
    whole = network.network
    single = whole.prefixlen == whole.max_prefixlen
    dst = str(whole.network_address) if single else str(whole)
    return _Route(dst, network.interface, network.source, network.metric)


def tables(first: int) -> range:
    """The tables that can be T for a state folder, in the order in which they are tried."""
    return range(first, first + 2 * TABLES_TRIED, 2)


def _place(rule: dict[str, Any], table: int) -> int | None:
    """Where among our preferences a rule that `ip -N -j rule` printed stands, if it is of T."""
    if str(rule.get("protocol")) != PROTOCOL or _numbers(rule.get("fwmark")) != {table}:
        return None
    if rule.get("action") is not None:
        return _NOWHERE
    return _LOCAL if table + 1 in _numbers(rule.get("table")) else _INTO


def _words(found: dict[str, Any]) -> str:
    """A rule that `ip -N -j rule` printed, as one of ours would be written."""
    words = ["pref", str(found["priority"])]
    if found.get("src", "all") != "all":
        words += ["from", str(found["src"])]
    if "dst" in found:
        words += ["to", str(found["dst"])]
    if "fwmark" in found:
        words += ["not"] * ("not" in found) + ["fwmark", str(_number(found["fwmark"]))]
    if "ipproto" in found:
        number = str(found["ipproto"]).removeprefix("ipproto-")
        words += ["ipproto", {"6": "tcp", "17": "udp"}.get(number, number)]
    if "sport" in found:
        words += ["sport", str(found["sport"])]
    if "dport" in found:
        words += ["dport", str(found["dport"])]
    if "goto" in found:
        words += ["goto", str(found["goto"])]
    elif "action" in found:
        words.append({"7": "unreachable"}.get(str(found["action"]), str(found["action"])))
    else:
        table = str(found.get("table"))
        words += ["lookup", {"254": "main"}.get(table, table)]
    return " ".join(words)


def _is(rule: Rule, found: dict[str, Any]) -> bool:
    return str(found.get("protocol")) == PROTOCOL and _words(found) == str(rule)


def _stands(rule: Rule, present: list[dict[str, Any]]) -> bool:
    return any(_is(rule, found) for found in present)


def _address_lines(
    interface: str, addresses: TunnelAddresses, family: int, routes: bool
) -> list[str]:
    if family == 4:
        own, gateway, prefix, options = addresses.ipv4, addresses.gateway_ipv4, 32, ""
    else:
        own, gateway, prefix, options = addresses.ipv6, addresses.gateway_ipv6, 128, " nodad"
    lines = []
    if own is not None:
        lines.append(f"address replace {own}/{prefix} dev {interface}{options}")
    if gateway is not None and not routes:
        lines.append(f"route replace {gateway}/{prefix} dev {interface} proto {PROTOCOL}")
    return lines


def _number(text: object) -> int | None:
    try:
        return int(str(text), 0)
    except ValueError:
        return None


def _numbers(*values: object) -> set[int]:
    """Tables and marks as `ip -j` prints them: decimal or hexadecimal, or a name."""
    return {number for value in values if (number := _number(value)) is not None}


def _all_gone(stderr: str) -> bool:
    """Whether every complaint of `ip -force -batch` is about something already deleted."""
    complaints = [
        line
        for line in stderr.splitlines()
        if line.strip()
        and not line.startswith("Command failed")
        and line.strip() not in {"Flush terminated", "Dump terminated"}
    ]
    return all(any(phrase in line for phrase in _GONE) for line in complaints)
