"""What the firewall does about the NIC: nobody comes in by it who is not meant, and those who
came in by another interface are answered there.

Theory of operation. One nftables table of our own, beside the kill switch's, where nft is
installed. It says in the kernel what `ingress` says before the NIC: from the NIC only the
lease's addresses are reached, by sources whose way back is the NIC. The kernel's own filter
does not do: of `rp_filter` the larger of two settings counts, and many systems set the loose
one for all; it knows IPv4 only; and an own IPv6 address is taken as a source (ip-sysctl.rst).

Each packet from the gateway pays for this, and most for the look at routes, above all of IPv6.
So a source that has passed is remembered in a set of the kernel's, and passes by one look-up for
a second; then its way back is looked at anew. The set is bounded: when it is full, those who are
not in it pay for their look, and pass or not as before.

Nothing is forwarded from the NIC but answers to what came from behind this device (its
containers); with `forward` off not even that, and nothing into it.

Connections that come in by another interface are answered by it: their first packet gets the
mark T, which only sockets outside the tunnel have, and the kernel gives it on to the socket
that accepts it and to the answers that it writes itself (`tcp_fwmark_accept`,
`fwmark_reflect`; `src_valid_mark` for the way back). So nothing that begins here can go that
way. A UDP service that does not bind to an address answers with the tunnel's; it is reached
from networks on the link only.

Rules name the NIC by its index, which no other interface will have, so a table that a killed
run left does nothing to a later NIC. Settings of the kernel are journalled.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.model import ClientError
from client.system.journal import Journal
from client.system.run import CommandError, Runner

log = logging.getLogger(__name__)

SETTINGS = (
    "ipv4/tcp_fwmark_accept",
    "ipv4/fwmark_reflect",
    "ipv6/fwmark_reflect",
    "ipv4/conf/all/src_valid_mark",
)
"""Set to 1 while connections that come in are answered by their interface."""
FORWARDING = ("ipv4/conf/all/forwarding", "ipv6/conf/all/forwarding")


_NOT_FAR = {
    "ipv4": "0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3",
    "ipv6": "::/127, fe80::/10, ff00::/8",
}
"""Sources that are nowhere beyond the link, whatever the routes say."""
MAX_SOURCES = 4096
"""Sources of a family that are remembered: an element is about 100 bytes of the kernel's."""
REMEMBERED = "1s"
"""How long a source passes without a look at the routes; a host that gets another network has it
for that long at most."""
_WORDS = {"ipv4": "ip", "ipv6": "ip6"}
"""The families in nft's words."""


@dataclass(frozen=True, slots=True)
class Inside:
    """The NIC as the rules need it."""

    index: int
    addresses: tuple[str, ...]
    whole: bool
    """Whether all that is not on the link is routed into it."""


class Fence:
    """The table, and the settings that go with it."""

    def __init__(self, runner: Runner, journal: Journal, proc: Path, forward: bool) -> None:
        """`proc` is /proc/sys/net; `forward`: what is behind this device may use the tunnel."""
        self._runner = runner
        self._journal = journal
        self._proc = proc
        self._forward = forward
        self._loaded = ""
        self._set: set[str] = set()
        journal.register("sysctl", self._undo)

    def load(self, mark: int, inside: Inside | None, answered: Sequence[str] | None) -> None:
        """Put it up as it has to be now. What cannot be done is logged: it opens nothing.

        `answered`: the interfaces by which connections that came in are answered; None for all.
        """
        if self._runner.which("nft") is None:
            log.info("nft is not installed: this device is fenced by the client alone")
            return
        if answered != []:
            self._settle()
        table = table_name(mark)
        text = ruleset(table, mark, inside, answered, self._forwards())
        try:
            if text != self._loaded or table not in self._tables():
                self._runner.run(["nft", "-f", "-"], text)
                self._loaded = text
        except CommandError as error:
            log.warning("the firewall does not fence the tunnel: %s", error)

    def unload(self, marks: Iterable[int]) -> None:
        """Remove the table of any of these marks, whoever loaded it. Raises CommandError."""
        self._loaded = ""
        if self._runner.which("nft") is None:
            return
        standing = self._tables()
        for name in map(table_name, marks):
            if name in standing:
                self._runner.run(["nft", "delete", "table", "inet", name])

    def _tables(self) -> set[str]:
        said = self._runner.run(["nft", "list", "tables"])
        return {line.removeprefix("table inet ") for line in said.splitlines()}

    def _forwards(self) -> bool | None:
        """Whether answers are forwarded; None where nothing is forwarded at all."""
        on = any(self._read(name) not in ("", "0") for name in FORWARDING)
        return self._forward if on else None

    def _settle(self) -> None:
        for name in SETTINGS:
            before = self._read(name)
            if name in self._set or before in ("", "1"):
                continue
            try:
                self._journal.record("sysctl", name=name, before=before)
                (self._proc / name).write_text("1")
                self._set.add(name)
            except (ClientError, OSError) as error:
                log.warning("connections from beyond the router may break: %s", error)

    def _undo(self, entry: Mapping[str, Any]) -> None:
        name, before = entry.get("name"), entry.get("before")
        if name not in SETTINGS or not isinstance(before, str) or not before.isdecimal():
            raise ClientError(
                "journal_unreadable", "A kernel setting in the undo journal is wrong."
            )
        self._set.discard(name)
        try:
            if self._read(name) == "1":
                (self._proc / name).write_text(before)
        except OSError as error:
            raise ClientError(
                "sysctl_unwritable",
                f"The kernel setting net/{name} cannot be put back: {error.strerror}.",
                f"Put it back by hand: sysctl net.{name.replace('/', '.')}={before}",
            ) from error

    def _read(self, name: str) -> str:
        try:
            return (self._proc / name).read_text().strip()
        except OSError:
            return ""


def inside(interface: str | None, addresses: Sequence[str | None], whole: bool) -> Inside | None:
    """The NIC of this name, if it is there."""
    if interface is None:
        return None
    try:
        index = socket.if_nametoindex(interface)
    except OSError:
        return None
    return Inside(index, tuple(address for address in addresses if address is not None), whole)


def table_name(mark: int) -> str:
    return f"vpnshare_fence_{mark}"


def ruleset(
    table: str,
    mark: int,
    nic: Inside | None,
    answered: Sequence[str] | None,
    forward: bool | None,
) -> str:
    """The table as one transaction; loading it twice is the same as once."""
    chains = []
    if nic is not None:
        if nic.whole:
            chains.append(_sources(nic))
        chains.append(_enter(nic))
        chains.append(_pass(nic, forward))
    if answered is None or answered:
        chains.append(_answer(mark, nic, answered))
    body = "".join(chains)
    return f"table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n{body}}}\n"


def _sources(nic: Inside) -> str:
    """The sets of the sources whose way back is the NIC."""
    sets = (
        f"  set far_{_WORDS[family]} {{\n"
        f"    type {family}_addr; size {MAX_SOURCES}; flags dynamic, timeout; "
        f"timeout {REMEMBERED};\n  }}\n"
        for family in _families(nic)
    )
    return "".join(sets)


def _enter(nic: Inside) -> str:
    """Before connections are tracked, so that a forged packet belongs to none."""
    own = _families(nic)
    lines = [
        "type filter hook prerouting priority raw; policy accept;",
        f"iif != {nic.index} accept",
    ]
    for family, address in own.items() if nic.whole else ():
        word = _WORDS[family]
        lines.append(f"{word} daddr {address} {word} saddr @far_{word} accept")
    for family, word in _WORDS.items():
        other = f"{word} daddr != {own[family]}" if family in own else f"meta nfproto {family}"
        lines.append(f"{other} counter drop")
        lines.append(f"{word} saddr {{ {_NOT_FAR[family]} }} counter drop")
    if nic.whole:
        lines.append(f"fib saddr oif != {nic.index} counter drop")
        lines += (f"add @far_{_WORDS[family]} {{ {_WORDS[family]} saddr }}" for family in own)
    return _chain("enter", lines)


def _families(nic: Inside) -> dict[str, str]:
    """The NIC's own address of each family that it has one of."""
    return {
        family: address
        for family in _WORDS
        for address in reversed(nic.addresses)
        if (":" in address) is (family == "ipv6")
    }


def _pass(nic: Inside, forward: bool | None) -> str:
    lines = ["type filter hook forward priority filter; policy accept;"]
    if forward:
        lines.append(f"iif {nic.index} ct state established,related accept")
    lines.append(f"iif {nic.index} counter drop")
    if not forward:
        lines.append(f"oif {nic.index} counter reject with icmpx type admin-prohibited")
    return _chain("pass", lines)


def _answer(mark: int, nic: Inside | None, answered: Sequence[str] | None) -> str:
    lines = [
        "type filter hook prerouting priority mangle; policy accept;",
        *([f"iif {nic.index} accept"] if nic is not None else []),
        'iif "lo" accept',
    ]
    if answered is not None:
        names = ", ".join(f'"{name}"' for name in answered)
        lines.append(f"iifname != {{ {names} }} accept")
    lines.append(
        "meta mark 0 meta l4proto { tcp, icmp, ipv6-icmp } fib daddr type local "
        f"meta mark set {mark}"
    )
    return _chain("answer", lines)


def _chain(name: str, lines: Sequence[str]) -> str:
    return f"  chain {name} {{\n" + "".join(f"    {line}\n" for line in lines) + "  }\n"
