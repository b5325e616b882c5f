"""The gateway's daemon: `vpnshare gateway`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from control.paths import Paths
from control.registry import Registry
from control.schema import Event
from gateway.dns.forwarder import DnsConfig
from gateway.dns.upstreams import parse_server
from gateway.gateway import Gateway
from gateway.leases import PoolError
from gateway.listeners import ListenError
from gateway.records import GatewayConfig
from services.announcing import Announcing, Sought
from services.config import FILTERING, Config, parse_listen
from services.daemon import Service, StartError, serve
from services.doctor.doctor import Doctor, of_gateway
from services.doctor.machine import Machine
from services.doctor.system import Awake
from services.events import EventBook
from services.gateway_api import GatewayApi, cannot_listen
from services.gateway_store import GatewayDatabase
from services.holders import asked
from services.hooks import Hook, judged
from services.logs import Ring, clean
from services.notify import Notifier, find_backend
from services.settings import Place, Settings
from services.store_keeper import StoreKeeper
from services.wake import WakeLock

INVITED_AGAIN = 30.0
"""Seconds between looks whether the last pairing URI is still good."""


class GatewayService:
    """The gateway, its store, its API, its notification, the phone's wake lock."""

    ready = "gateway ready"

    def __init__(
        self,
        paths: Paths,
        settings: Settings,
        store: GatewayDatabase,
        notifier: Notifier,
        wake: WakeLock,
        ring: Ring,
        shut_down: Callable[[], None],
        share: bool = False,
    ) -> None:
        self._store = store
        self._keeper = StoreKeeper(store)
        self._share = share and store.held is None
        self._notifier = notifier
        self._wake = wake
        notifier.on_stop = self.stop_sharing
        self._events = EventBook(paths.events("gateway"), "gateway.journal")
        ring.restore(self._events.lines())
        configured = gateway_config(settings.config, self._share)
        self._gateway = Gateway(configured, store, self._events.note)
        self._gateway.on_alarm = self._alarm
        self._hook = Hook("gateway", configured.name)
        self._hook.path = settings.config.text("gateway", "hook")
        notifier.requests = settings.config.flag("notify", "requests")
        settings.apply = self._apply
        settings.interfaces = lambda: self._gateway.detector.survey()
        notifier.enable(settings.config.flag("notify", "enabled"))
        wake.enable(settings.config.flag("gateway", "wake_lock"))
        examine = partial(
            of_gateway, self._gateway,
            Machine("gateway", paths, told=self._keeper.told, hook=self._hook), settings, wake,
            Awake(),
        )  # fmt: skip
        self._api = GatewayApi(
            self._gateway, ring, shut_down, settings, wake, Doctor(examine), self._keeper.told,
            self._events,
        )  # fmt: skip
        self._announcing = Announcing(self._gateway.fingerprint, self._sought)
        self._announcing.enable(settings.config.flag("gateway", "announce"))
        self._invited: asyncio.TimerHandle | None = None
        self._started = False

    def registry(self) -> Registry:
        return self._api.registry()

    async def start(self, changed: Callable[[], None]) -> None:
        def on_change() -> None:
            changed()
            if self._started:
                self._show()
                self._api.traffic_history.wake()

        self._gateway.on_change = on_change
        self._gateway.on_usage = self._api.traffic_history.look

        def on_event(event: Event) -> None:
            changed()
            self._hook.tell(event)
            if event.kind == "asked":
                self._notifier.ask(event.text)

        self._events.on_event = on_event
        try:
            await self._gateway.start()
        except ListenError as exc:
            who = await asyncio.to_thread(asked, *exc.in_use) if exc.in_use else None
            hint = f"The port is in use by {clean(who)}." if who else None
            raise StartError(clean(str(exc)), hint) from exc
        except PoolError as exc:
            raise StartError(clean(str(exc))) from exc
        self._started = True
        self._api.traffic_history.start()
        self._store.prepare()
        self._keeper.start(on_change)
        listen = ", ".join(self._gateway.snapshots.status().listen)
        self.ready = f"gateway {self._gateway.owner.config.name!r} ready on {listen}"
        self._show()

    async def stop(self, on_purpose: bool = True) -> None:
        self._api.traffic_history.stop()
        if self._started:
            self._started = False
            await self._gateway.stop()
        await self._hook.stop()
        if self._invited is not None:
            self._invited.cancel()
        await self._announcing.stop()
        await self._notifier.stop()
        await self._wake.stop()
        self._keeper.close()

    def stop_sharing(self) -> None:
        """The notification's button."""
        self._gateway.owner.unshare()

    def _apply(self, config: Config, place: Place) -> None:
        """A setting has changed (`Settings.apply`)."""
        if place == ("notify", "enabled"):
            self._notifier.enable(config.flag(*place))
        elif place == ("notify", "requests"):
            self._notifier.requests = config.flag(*place)
        elif place == ("gateway", "hook"):
            self._hook.path = judged(config.text(*place))
        elif place == ("gateway", "templates"):
            pass  # they are read when one is asked for
        elif place == ("gateway", "wake_lock"):
            self._wake.enable(config.flag(*place))
        elif place == ("gateway", "announce"):
            self._announcing.enable(config.flag(*place))
        elif place == ("logs", "level"):
            logging.getLogger().setLevel(config.text(*place).upper())
        elif place[0] in ("gateway", "dns", "privacy"):
            self._hook.name = config.text("gateway", "name") or socket.gethostname()
            try:
                self._gateway.owner.configure(gateway_config(config, self._share))
            except ListenError as exc:
                raise cannot_listen(exc) from None

    def _alarm(self, text: str) -> None:
        self._notifier.alert(text)

    def _show(self) -> None:
        """Keep the notification true: there while sharing is wanted, with the device count."""
        status = self._gateway.snapshots.status()
        if status.sharing != "off":
            self._store.release()
        self._announce(status.sharing != "off")
        self._wake.want(status.sharing != "off")
        if status.sharing == "off":
            self._notifier.show(None)
            return
        devices = "1 device" if status.connected == 1 else f"{status.connected} devices"
        text = f"{devices} connected"
        if status.sharing == "unavailable":
            text += "; waiting for the VPN"
        if self._keeper.told():
            text += "; changes cannot be stored (vpnshare doctor)"
        self._notifier.show(text)

    def _announce(self, sharing: bool) -> None:
        """Be found by mDNS while sharing, and while a pairing URI is good."""
        inviting = self._gateway.owner.inviting()
        if inviting and not sharing and self._invited is None:
            self._invited = asyncio.get_running_loop().call_later(INVITED_AGAIN, self._look_again)
        port, addresses = self._gateway.snapshots.lan_addresses()
        name = self._gateway.owner.config.name
        # What is heard is multicast over IPv4.
        wanted = (sharing or inviting) and any(":" not in address for address in addresses)
        self._announcing.want((name, port, addresses) if wanted else None)

    def _sought(self) -> Sought:
        """Whether somebody looks for this gateway now."""
        gateway = self._gateway
        if gateway.owner.inviting() or gateway.snapshots.requests():
            return Sought.PAIRING
        return Sought.AWAY if gateway.snapshots.missing() else Sought.NOT

    def _look_again(self) -> None:
        self._invited = None
        if self._started:
            self._show()


def run(args: argparse.Namespace) -> int:
    """Serve in the foreground; the exit code."""

    def build(paths: Paths, config: Config, ring: Ring, shut_down: Callable[[], None]) -> Service:
        options = _options(args)
        store = GatewayDatabase(paths.store("gateway"), slates=paths.slates("gateway"))
        settings = Settings("gateway", paths.config, config, options, store.ledger)
        return GatewayService(
            paths, settings, store, Notifier(find_backend()), WakeLock(), ring, shut_down,
            args.share,
        )  # fmt: skip

    return serve("gateway", build, args.log_level, args.log_format)


def _options(args: argparse.Namespace) -> dict[Place, Any]:
    """The command line's settings, which go before the file's. Raises `StartError`."""
    for entry in args.listen or []:
        try:
            parse_listen(entry)
        except ValueError as exc:
            raise StartError(f"--listen: {exc}.") from None
    given = {
        ("gateway", "listen"): args.listen,
        ("gateway", "vpn_interface"): args.vpn_interface,
        ("gateway", "name"): args.name,
        ("logs", "level"): args.log_level,
        ("logs", "format"): args.log_format,
    }
    return {place: value for place, value in given.items() if value}


def gateway_config(config: Config, share: bool) -> GatewayConfig:
    """The settings in the gateway's words; `share`: from the start."""
    return GatewayConfig(
        listen=tuple(parse_listen(entry) for entry in config["gateway", "listen"]),
        vpn_interface=config.text("gateway", "vpn_interface") or None,
        name=config.text("gateway", "name") or socket.gethostname(),
        share=share,
        pool_ipv4=config.text("gateway", "pool_ipv4") or None,
        pool_ipv6=config.text("gateway", "pool_ipv6") or None,
        mtu=config["gateway", "mtu"],
        grace=config["gateway", "grace"],
        lease=config["gateway", "lease"],
        auto_approve_qr=config.flag("gateway", "auto_approve_qr"),
        bypass=config.flag("gateway", "bypass"),
        address_dependent_filtering=config.text("gateway", "udp_filtering") == FILTERING[0],
        wireguard=config["gateway", "wireguard"],
        dns=DnsConfig(
            servers=tuple(parse_server(entry) for entry in config["dns", "servers"]),
            stale=config["dns", "stale"],
            names=config.flag("privacy", "names"),
            recent=config["dns", "recent"],
            rebinding_protection=config.flag("dns", "rebinding_protection"),
            rebinding_exempt=tuple(config["dns", "rebinding_exempt"]),
        ),
    )
