"""The NIC, what the host was told about it, and the block: applies leases and wishes.

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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from client.block import Block, Event, Force, Phase
from client.guard import Guards
from client.judgement import HostFacts
from client.model import ClientConfig, ClientError, TransportEndpoint
from client.nic import MIN_MTU, Nic
from client.system.host import Host
from client.system.routes import TunnelAddresses
from vshp.config import LeaseConfig

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class Tunnel:
    """The receiving host's side of the wish and of the lease."""

    def __init__(self, host: Host, config: ClientConfig) -> None:
        self._host = host
        self._config = config
        self._worker = ThreadPoolExecutor(1, "vpnshare-host")
        self._block = Block()
        self._asked: Force | None = None
        """What the worker was last asked for; None when it failed, or an earlier run's stands."""
        self._set_for: tuple[TunnelAddresses, int] | None = None
        """The addresses and the MTU that the worker was last asked for."""
        # The worker's own:
        self._addresses: TunnelAddresses | None = None
        self._in_force: Force | None = None
        """What the host has; None when that is not known."""
        self._resolved = False
        self.facts = HostFacts()
        """What the host was at the last look."""
        self.mark = 0
        self.mtu = 0
        self.nic: Nic | None = None

    # --- the wish --------------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """How far the wish has come."""
        return self._block.phase

    @property
    def promised(self) -> bool:
        """Whether there is a wish that outlives this process."""
        return self._block.promised

    @property
    def open_on_failure(self) -> bool:
        """Whether this wish has the weaker promise."""
        return self._block.open_on_failure

    @property
    def guards(self) -> Guards:
        """What keeps traffic from leaving outside the tunnel at this moment."""
        return self._host.guards()

    async def found(self) -> bool:
        """Whether the block of an earlier run stands in the kernel."""
        return await self._do(self._host.found)

    async def wish(self, known: bool, open_on_failure: bool) -> None:
        """The user wishes to be connected, to a gateway that is `known` or to a stranger.

        Returns when what that promises is in force. Raises ClientError; the
        wish holds all the same, so that the caller decides what it becomes.
        """
        self._block.open_on_failure = open_on_failure
        await self._step(Event.PURSUE if known else Event.ASK)

    async def broken(self) -> None:
        """The attempt or the link ended by something that will pass."""
        await self._step(Event.BROKEN)

    async def hold(self) -> None:
        """... and has been for long: take traffic off the NIC. Raises ClientError."""
        await self._step(Event.LONG)

    async def refuse(self) -> None:
        """It ended by something final. Never raises: what stands already stays."""
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
        """The wish is taken back: reverse every change and remove the NIC. Never raises."""
        self._block.step(Event.DISCONNECT)
        self._asked = Force.NOTHING
        await self._do(self._undo)

    async def keep(self) -> None:
        """Try again what the host did not take before, if anything. Raises ClientError."""
        await self._carry_out()

    async def follow(self) -> None:
        """The host has changed: make it have what is needed. Raises ClientError."""
        if self._block.force is not Force.NOTHING:
            await self._do(self._enforce, self._block.force, True)

    async def reach(self, endpoints: Sequence[TransportEndpoint]) -> None:
        """Links to these are about to be tried. Raises ClientError."""
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

    async def prepare(self) -> Nic:
        """Create the NIC, so that what cannot work fails before a secret is spent.

        Raises ClientError `nic_unavailable`, `no_free_table`, `tool_missing`.
        """
        if self.nic is None:
            await self._do(self._prepare)
        assert self.nic is not None
        return self.nic

    async def look(self) -> HostFacts:
        """Look at what the host is now."""
        await self._do(self._look)
        return self.facts

    def fits(self, lease: LeaseConfig) -> bool:
        """Whether the host is set up for the lease's addresses already."""
        return self._addresses == _addresses(lease)

    async def apply(self, lease: LeaseConfig) -> Nic:
        """Make the host use `lease`, whatever it used before.

        The block stands before the first address of the lease is set. Raises
        ClientError; the block stays.
        """
        wanted = addresses, mtu = _addresses(lease), self._mtu(lease)
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
        if self.nic is None:
            raise ClientError("nic_lost", "The virtual network interface was removed.")
        return self.nic

    async def renew(self) -> None:
        """Somebody removed the NIC: another takes its place, without a moment outside."""
        await self._do(self._renew, self._block.force)

    async def keep_resolver(self) -> None:
        """Make sure that names are still asked of the gateway."""
        await self._do(self._keep_resolver)

    def close(self) -> None:
        """No more calls. What is in force stays."""
        self._worker.shutdown(wait=False)

    def _mtu(self, lease: LeaseConfig) -> int:
        return max(MIN_MTU, min(lease.mtu, self._config.mtu or lease.mtu))

    # --- in the worker ---------------------------------------------------------------------------

    def _look(self) -> None:
        self.facts = self._host.look(self.nic)

    def _enforce(self, force: Force, again: bool = False) -> None:
        if force is self._in_force and not again:
            return
        self._in_force = None
        if force is Force.NOTHING:
            self._resolved = False
        self._host.enforce(force, self.nic, self._addresses)
        self._in_force = force

    def _prepare(self) -> None:
        if self.nic is None:
            self.mark = self._host.prepare()
            self.nic = self._host.open_nic()

    def _apply(self, addresses: TunnelAddresses, mtu: int) -> None:
        self._prepare()
        assert self.nic is not None
        if mtu != self.mtu:
            self.nic.set_mtu(mtu)
            self.mtu = mtu
        if addresses != self._addresses:
            self._host.set_up(self.nic, addresses, self._addresses)
            self._addresses, self._resolved = addresses, False

    def _renew(self, force: Force) -> None:
        addresses, mtu = self._addresses, self.mtu
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
        if self.nic is None or self._addresses is None:
            return
        if self._resolved:
            self._host.keep_resolver(self.nic, self._addresses)
        else:
            self._host.set_resolver(self.nic, self._addresses)
            self._resolved = True

    def _drop_nic(self) -> None:
        """Remove the NIC; with it go its addresses, and the routes into it."""
        nic, self.nic = self.nic, None
        self._addresses, self._set_for, self._resolved, self.mtu = None, None, False, 0
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
