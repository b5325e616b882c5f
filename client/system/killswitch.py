"""The strict kill switch: nftables drops what would leave outside the tunnel.

The routes already keep traffic in; this also holds against sockets that an
application binds to another interface, and against routes that someone adds.
A setting, off. While it is loaded only the loopback, the NIC, marked sockets
(the link's own), directly attached networks, DHCP and neighbour discovery
pass; everything else is rejected, so that applications learn at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from client.model import ClientError
from client.system.journal import Journal
from client.system.run import CommandError, Runner

_TABLE_NAME = re.compile(r"vpnshare_[0-9]{1,10}")
_PRIVATE_IPV4 = "10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 169.254.0.0/16, 224.0.0.0/4"
_PRIVATE_IPV6 = "fc00::/7, fe80::/10, ff00::/8"


class KillSwitch:
    """One nftables table of our own, named after the mark."""

    def __init__(self, runner: Runner, journal: Journal) -> None:
        self._runner = runner
        self._journal = journal
        journal.register("nft", self._undo)

    def load(self, interface: str, mark: int) -> str:
        """Start dropping; the table's name. Raises CommandError, its hint naming a missing tool."""
        table = f"vpnshare_{mark}"
        self._journal.record("nft", table=table)
        self._runner.run(["nft", "-f", "-"], ruleset(table, interface, mark))
        return table

    def _undo(self, entry: Mapping[str, Any]) -> None:
        table = entry.get("table")
        if not isinstance(table, str) or not _TABLE_NAME.fullmatch(table):
            raise ClientError(
                "journal_unreadable", "A firewall entry of the undo journal is wrong."
            )
        try:
            self._runner.run(["nft", "delete", "table", "inet", table])
        except CommandError as error:
            if "No such file or directory" not in error.stderr:
                raise


def ruleset(table: str, interface: str, mark: int) -> str:
    """The table as one transaction; loading it twice is the same as once."""
    return f"""table inet {table}
delete table inet {table}
table inet {table} {{
  chain out {{
    type filter hook output priority 0; policy drop;
    oifname {{ "lo", "{interface}" }} accept
    meta mark {mark} accept
    udp sport {{ 68, 546 }} udp dport {{ 67, 547 }} accept
    icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }} accept
    ip daddr {{ {_PRIVATE_IPV4} }} accept
    ip6 daddr {{ {_PRIVATE_IPV6} }} accept
    counter reject with icmpx type admin-prohibited
  }}
}}
"""
