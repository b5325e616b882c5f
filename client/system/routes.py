"""Addresses and routes of the tunnel: all traffic in, the tunnel's own packets out.

Theory of operation, after wg-quick(8). A routing table of our own, T, holds
the default routes into the NIC. Three rules, before all others, decide:

    P    to GATEWAY lookup main           only where reverse-path filtering needs it
    P+1  lookup main suppress_prefixlength N   local networks stay direct; main's
                                               default, and halves of one, do not count
    P+2  not fwmark T lookup T            everything else goes into the tunnel

The link's own socket carries the mark T (SO_MARK), so it alone passes by the
last rule and finds main's default route. Below T's default lies `unreachable
default metric 4000`: when the NIC vanishes (a crash), or its default route is
taken away (`hold(False)`: the link has been broken for long), applications
get "host unreachable" at once, and nothing falls through to main.

The NIC carries its addresses as /32 and /128, so that the lease's prefix
never shadows a local network; the gateway's virtual addresses get a host
route each. Addresses and routes through the NIC vanish with it; the rules and
the unreachable routes do not, and are journalled.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.model import ClientError
from client.system.journal import Journal
from client.system.run import CommandError, Runner

log = logging.getLogger(__name__)

SUPPRESS_PREFIX = {4: 7, 6: 6}
"""Routes of main this short or shorter are ignored: defaults, halves of one (0/1), 2000::/3.

Local networks are longer (10/8, fc00::/7), so they stay direct.
"""
BLOCK_METRIC = 4000
MAX_TABLES_TRIED = 1000
_RULES = 3
_FIRST_PREFERENCE_LIMIT = 32766
"""The preference of main's own rule: ours are below the lowest in use, at most this."""

_UNDO_LINE = re.compile(r"(rule del|route flush|route del) [0-9a-zA-Z .:/_]+")
_GONE = ("No such file or directory", "No such process", "FIB table does not exist",
         "Cannot find device", "No such device")  # fmt: skip
"""What `ip` says when there is nothing left to delete."""


@dataclass(frozen=True, slots=True)
class TunnelAddresses:
    """What the lease says about the NIC; addresses as text, None for a family it lacks."""

    ipv4: str | None
    ipv6: str | None
    gateway_ipv4: str | None
    gateway_ipv6: str | None


class Routes:
    """The host's routing as the tunnel needs it, and back."""

    def __init__(
        self, runner: Runner, journal: Journal, proc: Path = Path("/proc/sys/net")
    ) -> None:
        self._runner = runner
        self._journal = journal
        self._proc = proc
        self._table = 0
        self._preference = 0
        self._interface = ""
        self._families: tuple[int, ...] = (4, 6)
        self._exempt: set[str] = set()
        journal.register("ip", self._undo_ip)

    def reserve(self, first: int) -> int:
        """Choose a free table, `first` or later; its number is also the mark.

        Nothing is changed yet. Raises CommandError, or ClientError
        `no_free_table` when the rules in use leave no room.
        """
        self._families = (4, 6) if self._ipv6_enabled() else (4,)
        self._exempt.clear()
        used: set[int] = set()
        lowest = _FIRST_PREFERENCE_LIMIT
        for family in self._families:
            for rule in self._json(family, "rule", "show"):
                if rule["priority"]:
                    lowest = min(lowest, rule["priority"])
                used |= _numbers(rule.get("table"), rule.get("fwmark"))
            for route in self._json(family, "route", "show", "table", "all"):
                used |= _numbers(route.get("table"))
        self._preference = lowest - _RULES
        table = next((t for t in range(first, first + MAX_TABLES_TRIED) if t not in used), None)
        if table is None or self._preference < 1:
            raise ClientError(
                "no_free_table",
                "This system's routing rules leave no room for the tunnel's.",
                "Look at: ip rule; ip -6 rule. Rules with a preference of 1 to 3 must go.",
            )
        self._table = table
        return table

    def set_addresses(self, interface: str, addresses: TunnelAddresses) -> None:
        """Give the NIC its addresses, bring it up, and route the gateway's virtual addresses."""
        self._interface = interface
        lines = [
            f"link set dev {interface} multicast off addrgenmode none",
            f"link set dev {interface} up",
        ]
        lines += _address_lines(interface, addresses.ipv4, addresses.gateway_ipv4, 32, "")
        self._batch(4, lines)
        if addresses.ipv6 is not None and 6 in self._families:
            self._allow_ipv6(interface)
            v6 = _address_lines(interface, addresses.ipv6, addresses.gateway_ipv6, 128, " nodad")
            self._batch(6, v6)

    def change_addresses(self, old: TunnelAddresses, new: TunnelAddresses) -> None:
        """Move the NIC from one lease's addresses to another's.

        The new ones come first: with its last address of a family the NIC
        would lose every route of that family.
        """
        dev = self._interface
        for family, host, options, was, now in (
            (4, 32, "", (old.ipv4, old.gateway_ipv4), (new.ipv4, new.gateway_ipv4)),
            (6, 128, " nodad", (old.ipv6, old.gateway_ipv6), (new.ipv6, new.gateway_ipv6)),
        ):
            if was == now or family not in self._families:
                continue
            lines = _address_lines(dev, now[0], now[1], host, options, verb="replace")
            if lines:
                self._batch(family, lines)
            stale = []
            if was[1] is not None and was[1] != now[1]:
                stale.append(f"route del {was[1]}/{host} dev {dev}")
            if was[0] is not None and was[0] != now[0]:
                stale.append(f"address del {was[0]}/{host} dev {dev}")
            if stale:
                self._forced_batch(family, stale)

    def take_all(self, block: bool) -> tuple[str, ...]:
        """Send all traffic into the NIC; with `block`, nowhere when the NIC cannot take it.

        Returns what then keeps traffic in, as ip(8) names it.
        """
        holding = []
        table, preference = self._table, self._preference
        for family in self._families:
            local = f"pref {preference + 1} table main suppress_prefixlength"
            everything = f"pref {preference + 2} not fwmark {table} table {table}"
            self._journal.record(
                "ip",
                family=family,
                lines=[
                    f"rule del {local} {SUPPRESS_PREFIX[family]}",
                    f"rule del {everything}",
                    f"route flush table {table}",
                ],
            )
            lines = [f"route add default dev {self._interface} table {table}"]
            if block:
                nowhere = f"unreachable default metric {BLOCK_METRIC} table {table}"
                lines.append(f"route add {nowhere}")
                holding += [f"ip -{family} rule {everything}", f"ip -{family} route {nowhere}"]
            lines.append(f"rule add {everything}")
            lines.append(f"rule add {local} {SUPPRESS_PREFIX[family]}")
            self._batch(family, lines)
        return tuple(holding)

    def keep_outside(self, gateway: str) -> None:
        """Let answers from `gateway` pass strict reverse-path filtering, where that is on.

        The filter looks an answer's way back up without our mark. On a local
        network it finds main's route; beyond a router it would find the NIC
        and drop the answer, so there a rule says otherwise (RFC 3704 2.2).
        """
        address = ipaddress.ip_address(gateway.partition("%")[0])
        if address.version != 4 or address.is_loopback or gateway in self._exempt:
            return
        found = self._json(4, "route", "get", gateway, "mark", str(self._table))
        if not found or "gateway" not in found[0] or not self._filters_strictly(found[0]["dev"]):
            return
        rule = f"pref {self._preference} to {gateway} table main"
        self._journal.record("ip", family=4, lines=[f"rule del {rule}"])
        self._batch(4, [f"rule add {rule}"])
        self._exempt.add(gateway)

    def hold(self, into_tunnel: bool) -> None:
        """Route into the NIC again, or (False) not: then what is below T's default decides."""
        verb = "replace" if into_tunnel else "del"
        batch = self._batch if into_tunnel else self._forced_batch
        for family in self._families:
            batch(family, [f"route {verb} default dev {self._interface} table {self._table}"])

    def _batch(self, family: int, lines: Iterable[str]) -> None:
        self._runner.run(["ip", f"-{family}", "-batch", "-"], "\n".join(lines) + "\n")

    def _forced_batch(self, family: int, lines: Iterable[str]) -> None:
        """Run every deletion whatever happens to the others; what is gone already is no error."""
        try:
            self._runner.run(["ip", f"-{family}", "-force", "-batch", "-"], "\n".join(lines) + "\n")
        except CommandError as error:
            if error.name != "tool_failed" or not _all_gone(error.stderr):
                raise

    def _json(self, family: int, *arguments: str) -> list[dict[str, Any]]:
        text = self._runner.run(["ip", f"-{family}", "-j", *arguments])
        found: list[dict[str, Any]] = json.loads(text or "[]")
        return found

    def _undo_ip(self, entry: Mapping[str, Any]) -> None:
        family, lines = entry.get("family"), entry.get("lines")
        if family not in (4, 6) or not isinstance(lines, list):
            raise ClientError("journal_unreadable", "A routing entry of the undo journal is wrong.")
        for line in lines:
            if not isinstance(line, str) or not _UNDO_LINE.fullmatch(line):
                raise ClientError("journal_unreadable", "A routing entry names no inverse.")
        self._forced_batch(family, lines)

    def _ipv6_enabled(self) -> bool:
        return self._read("ipv6/conf/all/disable_ipv6") == "0"

    def _allow_ipv6(self, interface: str) -> None:
        """Enable IPv6 on the NIC where new interfaces have it off; it dies with the NIC."""
        path = self._proc / "ipv6/conf" / interface / "disable_ipv6"
        try:
            if path.read_text().strip() == "1":
                path.write_text("0")
        except OSError as error:
            log.warning("IPv6 on %s: %s", interface, error)

    def _filters_strictly(self, device: str) -> bool:
        """The kernel takes the larger of `all` and the interface's own value (ip-sysctl.rst)."""
        values = (self._read(f"ipv4/conf/{name}/rp_filter") for name in ("all", device))
        return max(values, default="0") == "1"

    def _read(self, name: str) -> str:
        try:
            return (self._proc / name).read_text().strip()
        except OSError:
            return ""


def _address_lines(
    interface: str,
    address: str | None,
    gateway: str | None,
    prefix: int,
    options: str,
    verb: str = "add",
) -> list[str]:
    lines = []
    if address is not None:
        lines.append(f"address {verb} {address}/{prefix} dev {interface}{options}")
    if gateway is not None:
        lines.append(f"route {verb} {gateway}/{prefix} dev {interface}")
    return lines


def _numbers(*values: object) -> set[int]:
    """Tables and marks as `ip -j` prints them: decimal or hexadecimal, or a name."""
    numbers = set()
    for value in values:
        try:
            numbers.add(int(str(value), 0))
        except ValueError:
            continue
    return numbers


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
