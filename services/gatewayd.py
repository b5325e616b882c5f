"""The gateway's daemon: `vpnshare gateway`."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Callable

from gateway.gateway import Gateway, GatewayConfig
from gateway.leases import PoolError
from gateway.listeners import ListenError
from services.config import Config, parse_listen
from services.control.registry import Registry
from services.daemon import Service, StartError, serve
from services.gateway_api import GatewayApi
from services.logs import Ring, clean
from services.notify import Notifier, find_backend
from services.paths import Paths
from services.store import GatewayDatabase


class GatewayService:
    """The gateway, its store, its API, its notification."""

    ready = "gateway ready"

    def __init__(
        self,
        config: GatewayConfig,
        store: GatewayDatabase,
        notifier: Notifier,
        ring: Ring,
        shut_down: Callable[[], None],
    ) -> None:
        self._store = store
        self._notifier = notifier
        notifier.on_stop = self.stop_sharing
        self._gateway = Gateway(config, store)
        self._api = GatewayApi(self._gateway, ring, shut_down)
        self._started = False

    def registry(self) -> Registry:
        return self._api.registry()

    async def start(self, changed: Callable[[], None]) -> None:
        def on_change() -> None:
            changed()
            if self._started:
                self._show()

        self._gateway.on_change = on_change
        try:
            await self._gateway.start()
        except (ListenError, PoolError) as exc:
            raise StartError(clean(str(exc))) from exc
        self._started = True
        listen = ", ".join(self._gateway.status().listen)
        self.ready = f"gateway {self._gateway.config.name!r} ready on {listen}"
        self._show()

    async def stop(self) -> None:
        if self._started:
            self._started = False
            await self._gateway.stop()
        await self._notifier.stop()
        self._store.close()

    def stop_sharing(self) -> None:
        """The notification's button."""
        self._gateway.unshare()

    def _show(self) -> None:
        """Keep the notification true: there while sharing is wanted, with the device count."""
        status = self._gateway.status()
        if status.sharing == "off":
            self._notifier.show(None)
            return
        devices = "1 device" if status.connected == 1 else f"{status.connected} devices"
        text = f"{devices} connected"
        if status.sharing == "unavailable":
            text += "; waiting for the VPN"
        self._notifier.show(text)


def run(args: argparse.Namespace) -> int:
    """Serve in the foreground; the exit code."""

    def build(paths: Paths, config: Config, ring: Ring, shut_down: Callable[[], None]) -> Service:
        chosen = _config(args, config)
        store = GatewayDatabase(paths.store("gateway"))
        backend = find_backend() if config.flag("notify", "enabled") else None
        return GatewayService(chosen, store, Notifier(backend), ring, shut_down)

    return serve("gateway", build, args.log_level, args.log_format)


def _config(args: argparse.Namespace, config: Config) -> GatewayConfig:
    """The options go before the file. Raises `StartError`."""
    name = args.name or config.text("gateway", "name") or socket.gethostname()
    try:
        listen = tuple(
            parse_listen(entry) for entry in (args.listen or config["gateway", "listen"])
        )
    except ValueError as exc:
        raise StartError(f"--listen: {exc}.") from None
    return GatewayConfig(
        listen=listen,
        vpn_interface=args.vpn_interface or config.text("gateway", "vpn_interface") or None,
        name=name,
        share=args.share,
        pool_ipv4=config.text("gateway", "pool_ipv4") or None,
        pool_ipv6=config.text("gateway", "pool_ipv6") or None,
        auto_approve_qr=config.flag("gateway", "auto_approve_qr"),
        bypass=config.flag("gateway", "bypass"),
    )
