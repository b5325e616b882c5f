"""The strict kill switch: nftables drops what would leave outside the tunnel.

The rules and routes already keep traffic in; this also holds against sockets
that an application binds to another interface, and against rules that another
program puts before ours. A setting, off. While it is loaded only the loopback,
the NIC, marked sockets (the link's own), networks on the link, DHCP and
neighbour discovery pass; everything else is rejected, so that applications
learn at once. What is on the link is the same for it as for the routes
(`onlink`): a packet has to leave by the very interface, too.

The table is replaced as a whole, in one transaction, whenever what it says has
changed or somebody has flushed it: no packet meets half of it.
"""

from __future__ import annotations

from collections.abc import Iterable

from client.system.inbound import Inbound
from client.system.onlink import OnLink
from client.system.run import CommandError, Runner


class KillSwitch:
    """One nftables table of our own, named after the mark."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._loaded = ""

    def find(self, marks: Iterable[int]) -> int | None:
        """Which of these marks an earlier run's table stands for, if any."""
        if self._runner.which("nft") is None:
            return None
        tables = self._tables()
        return next((mark for mark in marks if table_name(mark) in tables), None)

    def load(
        self,
        mark: int,
        interface: str | None,
        networks: Iterable[OnLink],
        dns: bool,
        came_in: Iterable[Inbound] = (),
    ) -> str:
        """Drop what does not pass; the table's name. Does nothing where all stands already.

        `interface` is the NIC while it carries; `dns`: names are asked in the tunnel only;
        `came_in`: connections that are answered outside it.
        Raises CommandError, its hint naming a missing tool.
        """
        table = table_name(mark)
        text = ruleset(table, interface, mark, networks, dns, came_in)
        if text != self._loaded or table not in self._tables():
            self._runner.run(["nft", "-f", "-"], text)
            self._loaded = text
        return table

    def unload(self, mark: int) -> None:
        """Remove the table, whoever loaded it. Raises CommandError."""
        self._loaded = ""
        if self._runner.which("nft") is None:
            return
        try:
            self._runner.run(["nft", "delete", "table", "inet", table_name(mark)])
        except CommandError as error:
            if "No such file or directory" not in error.stderr:
                raise

    def _tables(self) -> set[str]:
        said = self._runner.run(["nft", "list", "tables"])
        return {line.removeprefix("table inet ") for line in said.splitlines()}


def table_name(mark: int) -> str:
    return f"vpnshare_{mark}"


def ruleset(
    table: str,
    interface: str | None,
    mark: int,
    networks: Iterable[OnLink],
    dns: bool,
    came_in: Iterable[Inbound] = (),
) -> str:
    """The table as one transaction; loading it twice is the same as once."""
    networks = tuple(networks)
    nic = "" if interface is None else f'\n    oifname "{interface}" accept'
    lines = []
    if dns:
        lines.append("meta l4proto { tcp, udp } th dport 53 counter reject with icmpx type "
                     "admin-prohibited")  # fmt: skip
    for network in networks:
        family = "ip" if network.network.version == 4 else "ip6"
        lines.append(f'oifname "{network.interface}" {family} daddr {network.network} accept')
    for one in came_in:
        family = "ip" if one.family == 4 else "ip6"
        lines.append(f"{family} saddr {one.local} {family} daddr {one.peer} "
                     f"tcp sport {one.local_port} tcp dport {one.peer_port} accept")  # fmt: skip
    local = "".join(f"\n    {line}" for line in lines)
    return f"""table inet {table}
delete table inet {table}
table inet {table} {{
  chain out {{
    type filter hook output priority 0; policy drop;
    oifname "lo" accept{nic}
    meta mark {mark} accept
    udp sport {{ 68, 546 }} udp dport {{ 67, 547 }} accept
    icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }} accept{local}
    counter reject with icmpx type admin-prohibited
  }}
}}
"""
