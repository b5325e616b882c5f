"""The host's network as one object: what the client changes on its system, and its undoing.

All methods run the system's tools and wait for them (some 5 ms each), so the
client calls them in a worker thread, one at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from client.guard import Guards
from client.judgement import HostFacts
from client.model import ClientConfig, ClientError
from client.nic import Nic, TunDevice
from client.system.facts import FactsReader
from client.system.journal import Journal
from client.system.killswitch import KillSwitch
from client.system.resolver import RESOLVER_KINDS, Resolver
from client.system.routes import Routes, TunnelAddresses
from client.system.run import Runner, SystemRunner

log = logging.getLogger(__name__)

JOURNAL_NAME = "client-undo.jsonl"


class Host(Protocol):
    """What the client needs of its system; `MemoryHost` in the tests is another."""

    def recover(self) -> None:
        """Undo what a killed process left behind."""

    def prepare(self) -> int:
        """The mark for the link's socket, before anything is changed; 0 for none."""

    def open_nic(self) -> Nic:
        """Create the virtual NIC."""

    def look(self, nic: Nic | None) -> HostFacts:
        """What this host is at this moment, but for `nic`, which is the tunnel's."""

    def set_up(self, nic: Nic, addresses: TunnelAddresses, gateway: str) -> None:
        """Addresses, routes and resolver; `gateway` is the link's far address."""

    def change(self, nic: Nic, old: TunnelAddresses, new: TunnelAddresses) -> None:
        """A new lease on a running NIC."""

    def renew(self, nic: Nic, addresses: TunnelAddresses) -> None:
        """The NIC was lost; this one takes its place under the rules that stand."""

    def reach(self, gateway: str) -> None:
        """The link's far address is another now."""

    def hold(self, into_tunnel: bool) -> None:
        """Whether traffic is routed into the NIC while the link is broken."""

    def keep_resolver(self, nic: Nic, addresses: TunnelAddresses) -> None:
        """Set the resolver again if somebody has overwritten it."""

    def undo(self) -> None:
        """Reverse every change. What fails is logged and stays journalled."""

    def guards(self) -> Guards:
        """What is in force that keeps traffic from leaving outside the tunnel.

        The one method that asks nothing of the system and may be called from any thread.
        """


class LinuxHost:
    """The real one."""

    def __init__(
        self,
        config: ClientConfig,
        runner: Runner | None = None,
        resolv_conf: Path | None = None,
        tun: Callable[[str, bool], Nic] = TunDevice,
    ) -> None:
        self._config = config
        self._tun = tun
        runner = SystemRunner() if runner is None else runner
        self.journal = Journal(config.state_dir / JOURNAL_NAME)
        self._routes = Routes(runner, self.journal)
        self._resolver = Resolver(runner, self.journal, resolv_conf or config.resolv_conf)
        self._kill_switch = KillSwitch(runner, self.journal)
        self._facts = FactsReader(runner, resolv_conf or config.resolv_conf)
        self._mark = 0
        self._guards = Guards()

    def guards(self) -> Guards:
        return self._guards

    def recover(self) -> None:
        try:
            if self.journal.entries():
                log.info("undoing what an earlier run left behind")
                self.journal.undo_all()
        except (ClientError, OSError) as error:
            log.warning("not undone: %s %s", error, getattr(error, "hint", ""))

    def prepare(self) -> int:
        """See `Host`. Raises ClientError when this system's rules leave no room."""
        if self._config.routes:
            self._mark = self._routes.reserve(self._config.mark)
        return self._mark

    def open_nic(self) -> Nic:
        """See `Host`. Raises ClientError `nic_unavailable`."""
        return self._tun(self._config.interface, self._config.offload)

    def look(self, nic: Nic | None) -> HostFacts:
        return self._facts.read(None if nic is None else nic.name)

    def set_up(self, nic: Nic, addresses: TunnelAddresses, gateway: str) -> None:
        """See `Host`. Raises ClientError; the caller then calls `undo`."""
        self._routes.set_addresses(nic.name, addresses)
        if self._config.routes:
            self._routes.keep_outside(gateway)
            self._guards = Guards(self._routes.take_all(self._config.block_while_reconnecting))
            if self._config.kill_switch:
                table = self._kill_switch.load(nic.name, self._mark)
                rules = (*self._guards.rules, f"nft table inet {table}")
                self._guards = Guards(rules, strict=True)
        if self._config.resolver:
            self._set_resolver(nic, addresses)

    def change(self, nic: Nic, old: TunnelAddresses, new: TunnelAddresses) -> None:
        """See `Host`. Raises ClientError."""
        self._routes.change_addresses(old, new)
        if self._config.routes:
            self._routes.hold(True)
        servers = (old.gateway_ipv4, old.gateway_ipv6), (new.gateway_ipv4, new.gateway_ipv6)
        if self._config.resolver and servers[0] != servers[1]:
            self.journal.undo_all(only=RESOLVER_KINDS)
            self._set_resolver(nic, new)

    def renew(self, nic: Nic, addresses: TunnelAddresses) -> None:
        """See `Host`. Raises ClientError."""
        self._routes.set_addresses(nic.name, addresses)
        if self._config.routes:
            self._routes.hold(True)
            if self._config.kill_switch:
                self._kill_switch.load(nic.name, self._mark)
        if self._config.resolver:
            self.journal.undo_all(only=RESOLVER_KINDS)
            self._set_resolver(nic, addresses)

    def reach(self, gateway: str) -> None:
        if self._config.routes:
            self._routes.keep_outside(gateway)

    def hold(self, into_tunnel: bool) -> None:
        if self._config.routes:
            self._routes.hold(into_tunnel)

    def keep_resolver(self, nic: Nic, addresses: TunnelAddresses) -> None:
        """See `Host`. Raises ClientError."""
        if self._config.resolver and not self._resolver.held():
            log.info("somebody has overwritten the resolver; set again")
            self.journal.undo_all(only=RESOLVER_KINDS)
            self._set_resolver(nic, addresses)

    def _set_resolver(self, nic: Nic, addresses: TunnelAddresses) -> None:
        servers = [a for a in (addresses.gateway_ipv4, addresses.gateway_ipv6) if a]
        way = self._resolver.set(nic.name, servers)
        log.info("resolver is %s, by %s", ", ".join(servers), way)

    def undo(self) -> None:
        try:
            self.journal.undo_all()
            # What could not be undone still stands, and is still shown.
            self._guards = Guards()
        except (ClientError, OSError) as error:
            log.warning("not undone: %s %s", error, getattr(error, "hint", ""))
