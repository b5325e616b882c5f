"""The host's network as one object: what the client changes on its system, and its undoing.

All methods run the system's tools and wait for them (some 5 ms each), so the
client calls them in a worker thread, one at a time.

What keeps traffic in is found in the kernel itself (`routes`), so it needs no
file and outlives this process; what the journal records is the resolver.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from client.block import Force
from client.guard import Guards
from client.judgement import HostFacts
from client.model import ClientConfig, ClientError, TransportEndpoint
from client.outlet.nic.nic import Nic, TunDevice
from client.outlet.nic.passage import NicPassage
from client.outlet.outlet import OutletKind
from client.outlet.passage import Passage
from client.system.facts import FactsReader
from client.system.fence import Fence, inside
from client.system.journal import Journal
from client.system.killswitch import KillSwitch
from client.system.onlink import NOTHING_LOCAL
from client.system.resolver import RESOLVER_KINDS, Resolver
from client.system.routes import Routes, TunnelAddresses, tables
from client.system.run import Runner, SystemRunner

log = logging.getLogger(__name__)

JOURNAL_NAME = "client-undo.jsonl"
IPV6_MULTICAST = "IPv6 multicast"
"""What routes and rules cannot hold where no network is local; the strict table does."""
MARKS = 500_000
"""Marks that the state folder chooses from, so that each folder has its own."""


class Host(Protocol):
    """What the outlet needs of its system; `MemoryHost` in the tests is another."""

    kind: OutletKind

    def found(self) -> bool:
        """Whether the block of an earlier run stands. It is taken over by `enforce`."""

    def prepare(self) -> int:
        """The mark for the link's socket, before anything is changed; 0 for none."""

    def open_nic(self) -> Nic:
        """Create the virtual NIC."""

    def look(self, nic: Nic | None) -> HostFacts:
        """What this host is at this moment, but for `nic`, which is the tunnel's."""

    def set_up(
        self, nic: Nic, addresses: TunnelAddresses, before: TunnelAddresses | None = None
    ) -> None:
        """Give the NIC its addresses, in place of those that it had `before`."""

    def enforce(
        self, force: Force, nic: Nic | None = None, addresses: TunnelAddresses | None = None
    ) -> None:
        """Make the system have what `force` needs, whatever it has now, and show it.

        Called whenever the force or the system has changed. `NOTHING` undoes
        the resolver, too.
        """

    def reach(self, endpoints: Sequence[TransportEndpoint]) -> bool:
        """The link may go to any of these; whether `enforce` has something to do for it."""

    def set_resolver(self, nic: Nic, addresses: TunnelAddresses) -> None:
        """Ask names of the gateway. What cannot be set is logged: it opens nothing."""

    def keep_resolver(self, nic: Nic, addresses: TunnelAddresses) -> None:
        """Set the resolver again if somebody has overwritten it."""

    def undo(self) -> None:
        """Reverse every change. What fails is logged, and stays to be undone."""

    def passage(self, nic: Nic, held: Sequence[str]) -> Passage:
        """A way into the tunnel by `nic`, where this host has the addresses `held`. Raises
        OSError, ClientError."""

    def guards(self) -> Guards:
        """What is in force that keeps traffic from leaving outside the tunnel.

        The one method that asks nothing of the system and may be called from any thread.
        """


class LinuxHost:
    """The real one."""

    kind = OutletKind.NIC

    def __init__(
        self,
        config: ClientConfig,
        runner: Runner | None = None,
        resolv_conf: Path | None = None,
        tun: Callable[[str, bool], Nic] = TunDevice,
        proc: Path = Path("/proc/sys/net"),
    ) -> None:
        self._config = config
        self._tun = tun
        runner = SystemRunner() if runner is None else runner
        self.journal = Journal(config.state_dir / JOURNAL_NAME)
        self._routes = Routes(runner, config.local_interfaces, config.resolver, proc)
        self._resolver = Resolver(runner, self.journal, resolv_conf or config.resolv_conf)
        self._kill_switch = KillSwitch(runner)
        self._fence = Fence(runner, self.journal, proc, config.forward)
        self._facts = FactsReader(runner, resolv_conf or config.resolv_conf)
        self._mark = 0
        self._guards = Guards()

    def passage(self, nic: Nic, held: Sequence[str]) -> Passage:
        """See `Host`."""
        return NicPassage(nic.name, held)

    def guards(self) -> Guards:
        return self._guards

    def found(self) -> bool:
        """See `Host`. Where the system cannot be asked, nothing of ours can stand."""
        if not self._config.routes:
            return False
        first = _first_mark(self._config)
        standing = False
        for look in (self._routes.find, self._table_stands):
            try:
                standing |= look(first)
            except ClientError as error:
                log.warning("%s %s", error, error.hint)
        return standing

    def _table_stands(self, first: int) -> bool:
        return self._kill_switch.find(tables(first)) is not None

    def prepare(self) -> int:
        """See `Host`. Raises ClientError when this system's rules leave no room."""
        if self._config.routes:
            self._mark = self._routes.reserve(_first_mark(self._config))
        return self._mark

    def open_nic(self) -> Nic:
        """See `Host`. Raises ClientError `nic_unavailable`."""
        return self._tun(self._config.interface, self._config.offload)

    def look(self, nic: Nic | None) -> HostFacts:
        return self._facts.read(None if nic is None else nic.name)

    def set_up(
        self, nic: Nic, addresses: TunnelAddresses, before: TunnelAddresses | None = None
    ) -> None:
        """See `Host`. Raises ClientError."""
        routes = self._config.routes
        if before is None:
            self._routes.set_addresses(nic.name, addresses, routes)
        else:
            self._routes.change_addresses(nic.name, before, addresses, routes)

    def enforce(
        self, force: Force, nic: Nic | None = None, addresses: TunnelAddresses | None = None
    ) -> None:
        """See `Host`. Raises ClientError."""
        if force is Force.NOTHING:
            self._clear()
            self._undo_journal()
            return
        if not self._config.routes:
            return
        mark = self.prepare()
        name = None if nic is None else nic.name
        self._put_fence(mark, force, name, addresses)
        rules = self._routes.enforce(force, name, addresses)
        direct, strict = self._routes.direct, self._config.kill_switch
        beside = direct.names()
        if NOTHING_LOCAL in self._config.local_interfaces:
            # The kernel's own table, before all rules, sends it out by an interface's link.
            beside += (IPV6_MULTICAST,)
        self._guards = Guards(rules, beside=beside)
        if strict:
            carrier = name if force is Force.TUNNEL else None
            table = self._kill_switch.load(
                mark, carrier, direct.networks, self._config.resolver, self._routes.came_in
            )
            rules = (*rules, f"nft table inet {table}")
            self._guards = Guards(rules, True, direct.names())

    def _put_fence(
        self, mark: int, force: Force, nic: str | None, addresses: TunnelAddresses | None
    ) -> None:
        """Before the routes change: who comes in meanwhile is answered."""
        held = () if addresses is None else (addresses.ipv4, addresses.ipv6)
        within = inside(nic, held, force is Force.TUNNEL)
        self._fence.load(mark, within, self._routes.answered(nic))

    def reach(self, endpoints: Sequence[TransportEndpoint]) -> bool:
        return self._config.routes and self._routes.reach(endpoints)

    def set_resolver(self, nic: Nic, addresses: TunnelAddresses) -> None:
        """See `Host`."""
        if not self._config.resolver:
            return
        servers = [a for a in (addresses.gateway_ipv4, addresses.gateway_ipv6) if a]
        try:
            self.journal.undo_all(only=RESOLVER_KINDS)
            way = self._resolver.set(nic.name, servers)
        except (ClientError, OSError) as error:
            log.warning("names are not asked of the gateway: %s", error)
            return
        log.info("resolver is %s, by %s", ", ".join(servers), way)

    def keep_resolver(self, nic: Nic, addresses: TunnelAddresses) -> None:
        if self._config.resolver and not self._resolver.held():
            log.info("somebody has overwritten the resolver; set again")
            self.set_resolver(nic, addresses)

    def undo(self) -> None:
        try:
            self._clear()
        except ClientError as error:
            log.warning("not undone: %s %s", error, error.hint)
        self._undo_journal()

    def _clear(self) -> None:
        """Let traffic pass as if we had never been. Raises ClientError.

        Each part by itself: a tool that fails keeps no other from its part. What could not be
        undone still stands, and is still shown.
        """
        refused: list[ClientError] = []
        stands: list[str] = []
        if self._config.routes:
            first = _first_mark(self._config)
            for clear, tool in ((self._unload, "nft"), (self._clear_routes, "ip")):
                try:
                    clear(first)
                except ClientError as error:
                    refused.append(error)
                    stands += [rule for rule in self._guards.rules if rule.startswith(tool)]
            self._unfence(first)
            self._mark = 0
        self._guards = replace(self._guards, rules=tuple(stands)) if stands else Guards()
        if refused:
            raise refused[0]

    def _unload(self, first: int) -> None:
        """Remove the strict table, if there is one. Who never wanted one need not hear that nft
        cannot be asked."""
        try:
            standing = self._mark or self._kill_switch.find(tables(first))
            if standing is not None:
                self._kill_switch.unload(standing)
        except ClientError as error:
            if self._guards.strict or self._config.kill_switch:
                raise
            log.info("nft cannot be asked: %s", error)

    def _clear_routes(self, first: int) -> None:
        if self._mark or self._routes.find(first):
            self._routes.clear()

    def _unfence(self, first: int) -> None:
        """It closes nothing, and names an interface that is gone."""
        try:
            self._fence.unload(tables(first))
        except ClientError as error:
            log.warning("the tunnel's fence is not removed: %s", error)

    def _undo_journal(self) -> None:
        try:
            self.journal.undo_all()
        except (ClientError, OSError) as error:
            log.warning("not undone: %s %s", error, getattr(error, "hint", ""))


def _first_mark(config: ClientConfig) -> int:
    """Where to look for our table: the same for every run in this state folder."""
    folder = str(config.state_dir.absolute()).encode()
    return config.mark + 2 * (zlib.crc32(folder) % MARKS)
