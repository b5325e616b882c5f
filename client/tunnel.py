"""The NIC and what the host was told about it: applies leases, undoes everything.

The host's tools are slow for a loop (some 5 ms each), so all of it runs in one
worker thread, in order. An undo asked for while a set-up is still running (its
caller was cancelled) therefore comes after it, and finds everything it did.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

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
    """The receiving host's side of the lease."""

    def __init__(self, host: Host, config: ClientConfig) -> None:
        self._host = host
        self._config = config
        self._worker = ThreadPoolExecutor(1, "vpnshare-host")
        self._addresses: TunnelAddresses | None = None
        self._gateway = ""
        self._held = False
        self.facts = HostFacts()
        """What the host was at the last look."""
        self.mark = 0
        self.mtu = 0
        self.nic: Nic | None = None

    async def recover(self) -> None:
        """Undo what a killed process left behind."""
        await self._do(self._host.recover)

    async def prepare(self) -> Nic:
        """Create the NIC, so that what cannot work fails before a secret is spent.

        Raises ClientError `nic_unavailable`, `no_free_table`, `tool_missing`.
        """
        await self._do(self._prepare)
        assert self.nic is not None
        return self.nic

    def _prepare(self) -> None:
        if self.nic is None:
            self.mark = self._host.prepare()
            self.nic = self._host.open_nic()

    async def look(self) -> HostFacts:
        """Look at what the host is now."""
        await self._do(self._look)
        return self.facts

    def _look(self) -> None:
        self.facts = self._host.look(self.nic)

    def fits(self, lease: LeaseConfig) -> bool:
        """Whether the host is set up for the lease's addresses already."""
        return self._addresses == _addresses(lease)

    async def apply(self, lease: LeaseConfig, endpoint: TransportEndpoint) -> Nic:
        """Make the host use `lease`, whatever it used before, over a link to `endpoint`.

        Raises ClientError; `undo` then puts right what was done half.
        """
        addresses = _addresses(lease)
        mtu = self._mtu(lease)
        # What adb carries over USB leaves by the loopback interface.
        gateway = "127.0.0.1" if endpoint.transport == "usb" else endpoint.host
        if self._addresses == addresses and self.mtu == mtu and self._gateway == gateway:
            assert self.nic is not None
            await self.hold(False)
            return self.nic
        await self._do(self._apply, addresses, mtu, gateway)
        assert self.nic is not None
        return self.nic

    def _apply(self, addresses: TunnelAddresses, mtu: int, gateway: str) -> None:
        self._prepare()
        assert self.nic is not None
        if mtu != self.mtu:
            self.nic.set_mtu(mtu)
            self.mtu = mtu
        if self._addresses is None:
            self._host.set_up(self.nic, addresses, gateway)
        else:
            if gateway != self._gateway:
                self._host.reach(gateway)
            if addresses != self._addresses:
                self._host.change(self.nic, self._addresses, addresses)
                self._held = False
            if self._held:
                self._host.hold(True)
                self._held = False
        self._addresses, self._gateway = addresses, gateway

    async def renew(self) -> None:
        """Somebody removed the NIC: another takes its place, without a moment outside."""
        await self._do(self._renew)

    def _renew(self) -> None:
        nic, self.nic = self.nic, None
        if nic is not None:
            nic.close()
        self.nic = self._host.open_nic()
        if self._addresses is not None:
            self.nic.set_mtu(self.mtu)
            self._host.renew(self.nic, self._addresses)
            self._held = False

    async def hold(self, held: bool) -> None:
        """Take traffic off the NIC (the link has been broken for long), or put it back."""
        if held is not self._held and self._addresses is not None:
            await self._do(self._hold, held)

    def _hold(self, held: bool) -> None:
        self._host.hold(not held)
        self._held = held

    async def keep_resolver(self) -> None:
        """Make sure that names are still asked of the gateway. Raises ClientError."""
        await self._do(self._keep_resolver)

    def _keep_resolver(self) -> None:
        if self.nic is not None and self._addresses is not None:
            self._host.keep_resolver(self.nic, self._addresses)

    @property
    def guards(self) -> Guards:
        """What keeps traffic from leaving outside the tunnel at this moment."""
        return self._host.guards()

    async def undo(self) -> None:
        """Reverse every change and remove the NIC. Never raises."""
        await self._do(self._undo)

    def _undo(self) -> None:
        nic, self.nic = self.nic, None
        self._addresses, self._gateway, self._held, self.mtu = None, "", False, 0
        try:
            self._host.undo()
        finally:
            if nic is not None:
                nic.close()

    def close(self) -> None:
        """No more calls."""
        self._worker.shutdown(wait=False)

    def _mtu(self, lease: LeaseConfig) -> int:
        return max(MIN_MTU, min(lease.mtu, self._config.mtu or lease.mtu))

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
    """Take note of how abandoned work ended; the undo that follows sees to the rest."""
    error = None if done.cancelled() else done.exception()
    if error is not None and not isinstance(error, ClientError):
        log.error("setting up the host failed", exc_info=error)


def _addresses(lease: LeaseConfig) -> TunnelAddresses:
    def text(address: bytes) -> str | None:
        return str(ipaddress.ip_address(address)) if any(address) else None

    return TunnelAddresses(
        text(lease.ipv4), text(lease.ipv6), text(lease.gateway_ipv4), text(lease.gateway_ipv6)
    )
