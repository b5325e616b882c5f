"""The NIC as an outlet: what the host was told about it, and the block. Applies leases and wishes.

Theory of operation. The phase of the wish (`client/block.py`) moves on the
loop, at once; what it needs is then carried out on the host. The host's tools
are slow for a loop (some 5 ms each), so all of it runs in one worker thread,
in order, each piece with the force that held when it was asked for. What was
asked for last is therefore what the host has in the end, also when the caller
of an earlier piece was cancelled.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from client.block import Block, Event, Force, Phase
from client.guard import Guards
from client.judgement import HostFacts
from client.model import ClientConfig, ClientError, TransportEndpoint
from client.outlet.flows import Flows
from client.outlet.nic.flows import Network, TunnelFlows, own_network
from client.outlet.nic.host import Host
from client.outlet.nic.ingress import Ingress
from client.outlet.nic.nic import Nic
from client.outlet.nic.pump import NicPort
from client.outlet.outlet import MAX_MTU, MIN_MTU, Terms
from client.outlet.passage import Passage
from client.system.files import FileWatch
from client.system.routes import TunnelAddresses
from eventloop.tasks import cancel, create_task
from vshp.config import LeaseConfig

log = logging.getLogger(__name__)

RESOLVER_PAUSE = 1.0
"""Seconds from somebody's writing of resolv.conf to our own: two who insist do not race."""

P = ParamSpec("P")
T = TypeVar("T")


class NicOutlet:
    """The receiving host's side of the wish and of the lease: see `Outlet`."""

    def __init__(
        self,
        host: Host,
        config: ClientConfig,
        flows: Flows | None = None,
        network: Network = own_network,
    ) -> None:
        """`flows` are the kernel's, unless somebody else knows of them; it is asked by sockets of
        `network` (see `TunnelFlows`)."""
        self._host = host
        self._config = config
        self._worker = ThreadPoolExecutor(1, "vpnshare-host")
        self._block = Block()
        self._asked: Force | None = None
        """What the worker was last asked for; None when it failed, or an earlier run's stands."""
        self._set_for: tuple[TunnelAddresses, int] | None = None
        """The addresses and the MTU that the worker was last asked for."""
        self._ingress = Ingress()
        self._resolver_watch = FileWatch(config.resolv_conf, self._resolver_changed)
        self._keeping: asyncio.Task[None] | None = None
        # The worker's own:
        self._addresses: TunnelAddresses | None = None
        self._in_force: Force | None = None
        """What the host has; None when that is not known."""
        self._resolved = False
        self._nic: Nic | None = None
        self._mtu = 0
        self.kind = host.kind
        self.facts = HostFacts()
        self.mark = 0
        self.port: NicPort | None = None
        self.flows = TunnelFlows(self._held, network=network) if flows is None else flows

    @property
    def name(self) -> str:
        """See `Outlet`."""
        nic = self._nic
        return "" if nic is None else nic.name

    @property
    def terms(self) -> Terms:
        """See `Outlet`."""
        nic = self._nic
        offload = nic is not None and nic.vnet_header
        offload_udp = nic is not None and offload and nic.offload_udp
        mtu = max(MIN_MTU, min(MAX_MTU, self._config.mtu or MAX_MTU))
        return Terms(offload, offload_udp, mtu)

    async def start(self) -> None:
        """See `Outlet`."""
        self._resolver_watch.start()

    # --- the wish --------------------------------------------------------------------------------

    @property
    def counters(self) -> Mapping[str, int]:
        """See `Outlet`: each link counts for itself."""
        return {}

    @property
    def phase(self) -> Phase:
        """How far the wish has come."""
        return self._block.phase

    @property
    def promised(self) -> bool:
        """See `Outlet`."""
        return self._block.promised

    @property
    def open_on_failure(self) -> bool:
        """See `Outlet`."""
        return self._block.open_on_failure

    @property
    def guards(self) -> Guards:
        """See `Outlet`."""
        return self._host.guards()

    async def found(self) -> bool:
        """See `Outlet`: in the kernel."""
        return await self._do(self._host.found)

    async def wish(self, known: bool, open_on_failure: bool) -> None:
        """See `Outlet`."""
        self._block.open_on_failure = open_on_failure
        await self._step(Event.PURSUE if known else Event.ASK)

    async def broken(self) -> None:
        """See `Outlet`."""
        await self._step(Event.BROKEN)

    async def hold(self) -> None:
        """See `Outlet`: traffic is taken off the NIC."""
        await self._step(Event.LONG)

    async def refuse(self) -> None:
        """See `Outlet`. The NIC is removed."""
        self._block.step(Event.REFUSED)
        if self._block.phase is Phase.OPEN:
            await self._do(self._undo)
            return
        try:
            await self._carry_out()
        except ClientError as error:
            log.warning("%s %s", error, error.hint)
        await self._do(self._drop_nic)

    async def open(self) -> None:
        """See `Outlet`. The NIC is removed."""
        self._block.step(Event.DISCONNECT)
        self._asked = Force.NOTHING
        await self._do(self._undo)

    async def keep(self) -> None:
        """See `Outlet`."""
        await self._carry_out()

    async def follow(self) -> None:
        """See `Outlet`."""
        if self._block.force is not Force.NOTHING:
            await self._do(self._enforce, self._block.force, True)

    async def reach(self, endpoints: Sequence[TransportEndpoint]) -> None:
        """See `Outlet`."""
        await self._do(self._reach, tuple(endpoints), self._block.force)

    async def _step(self, event: Event) -> None:
        self._block.step(event)
        await self._carry_out()

    async def _carry_out(self) -> None:
        force = self._block.force
        if self._asked is force:
            return
        self._asked = force
        try:
            await self._do(self._enforce, force)
        except ClientError:
            self._asked = None
            raise

    # --- the NIC and the lease -------------------------------------------------------------------

    async def prepare(self) -> None:
        """See `Outlet`. Raises ClientError `nic_unavailable`, `no_free_table`, `tool_missing`."""
        if self._nic is None:
            await self._do(self._prepare)

    async def look(self) -> HostFacts:
        """See `Outlet`."""
        await self._do(self._look)
        return self.facts

    def admit(self, lease: LeaseConfig | None, facts: HostFacts) -> None:
        """See `Outlet`."""
        self._ingress.admit(lease, facts)

    def fits(self, lease: LeaseConfig) -> bool:
        """See `Outlet`."""
        return self._addresses == _addresses(lease)

    async def apply(self, lease: LeaseConfig) -> NicPort:
        """See `Outlet`. The block stands before the first address of the lease is set."""
        wanted = addresses, mtu = _addresses(lease), self._least_mtu(lease)
        self._block.step(Event.GRANTED)
        await self._carry_out()
        if self._set_for != wanted:
            self._set_for = wanted
            try:
                await self._do(self._apply, addresses, mtu)
            except ClientError:
                self._set_for = None
                raise
        await self._step(Event.APPLIED)
        if not self._resolved:
            await self._do(self._keep_resolver)
        if self.port is None:
            raise ClientError("nic_lost", "The virtual network interface was removed.")
        return self.port

    async def renew(self) -> None:
        """See `Outlet`: without a moment outside."""
        await self._do(self._renew, self._block.force)

    async def passage(self) -> Passage:
        """See `Outlet`. Raises ClientError `nic_lost`."""
        return await self._do(self._passage)

    async def stop(self) -> None:
        """See `Outlet`."""
        self._resolver_watch.stop()
        await cancel(self._keeping)
        await self.flows.stop()
        self._worker.shutdown(wait=False)

    def _held(self) -> tuple[str, ...]:
        """The addresses that this host has in the tunnel."""
        addresses = self._addresses
        held = () if addresses is None else (addresses.ipv4, addresses.ipv6)
        return tuple(address for address in held if address is not None)

    def _resolver_changed(self) -> None:
        """Somebody wrote resolv.conf, perhaps we ourselves: look, once they are done."""
        if self._addresses is not None and (self._keeping is None or self._keeping.done()):
            self._keeping = create_task(self._look_at_resolver(), "client-keep-resolver")

    async def _look_at_resolver(self) -> None:
        await asyncio.sleep(RESOLVER_PAUSE)
        try:
            await self._do(self._keep_resolver)
        except ClientError as error:
            log.warning("names may be asked outside the tunnel: %s", error)

    def _least_mtu(self, lease: LeaseConfig) -> int:
        return max(MIN_MTU, min(lease.mtu, self._config.mtu or lease.mtu))

    # --- in the worker ---------------------------------------------------------------------------

    def _passage(self) -> Passage:
        if self._nic is None:
            raise ClientError("nic_lost", "The virtual network interface was removed.")
        return self._host.passage(self._nic, self._held())

    def _look(self) -> None:
        self.facts = self._host.look(self._nic)

    def _enforce(self, force: Force, again: bool = False) -> None:
        if force is self._in_force and not again:
            return
        self._in_force = None
        if force is Force.NOTHING:
            self._resolved = False
        self._host.enforce(force, self._nic, self._addresses)
        self._in_force = force

    def _prepare(self) -> None:
        if self._nic is None:
            self.mark = self._host.prepare()
            self._nic = self._host.open_nic()
            self.port = NicPort(self._nic, self._ingress)

    def _apply(self, addresses: TunnelAddresses, mtu: int) -> None:
        self._prepare()
        assert self._nic is not None
        if mtu != self._mtu:
            self._nic.set_mtu(mtu)
            self._mtu = mtu
        if addresses != self._addresses:
            self._host.set_up(self._nic, addresses, self._addresses)
            self._addresses, self._resolved = addresses, False

    def _renew(self, force: Force) -> None:
        addresses, mtu = self._addresses, self._mtu
        self._drop_nic()
        self._prepare()
        if addresses is not None:
            self._apply(addresses, mtu)
            self._enforce(force, True)
            self._keep_resolver()

    def _reach(self, endpoints: tuple[TransportEndpoint, ...], force: Force) -> None:
        if self._host.reach(endpoints) and force is not Force.NOTHING:
            self._enforce(force, True)

    def _keep_resolver(self) -> None:
        if self._nic is None or self._addresses is None:
            return
        if self._resolved:
            self._host.keep_resolver(self._nic, self._addresses)
        else:
            self._host.set_resolver(self._nic, self._addresses)
            self._resolved = True

    def _drop_nic(self) -> None:
        """Remove the NIC; with it go its addresses, and the routes into it."""
        nic, self._nic, self.port = self._nic, None, None
        self._addresses, self._set_for, self._resolved, self._mtu = None, None, False, 0
        if nic is not None:
            nic.close()

    def _undo(self) -> None:
        self._in_force = None
        try:
            self._host.undo()
        finally:
            self._drop_nic()

    async def _do(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run in the worker. Cancelling the caller does not cancel the work."""
        done = asyncio.get_running_loop().run_in_executor(
            self._worker, lambda: work(*args, **kwargs)
        )
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            done.add_done_callback(_heed)
            raise


def _heed(done: asyncio.Future[T]) -> None:
    """Take note of how abandoned work ended; what follows it sees to the rest."""
    error = None if done.cancelled() else done.exception()
    if error is not None and not isinstance(error, ClientError):
        log.error("setting up the host failed", exc_info=error)


def _addresses(lease: LeaseConfig) -> TunnelAddresses:
    def text(address: bytes) -> str | None:
        return str(ipaddress.ip_address(address)) if any(address) else None

    return TunnelAddresses(
        text(lease.ipv4), text(lease.ipv6), text(lease.gateway_ipv4), text(lease.gateway_ipv6)
    )
