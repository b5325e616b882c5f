"""The client's daemon: `vpnshare client`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from client.client import Client
from client.model import ClientConfig, ClientError
from client.outlet.namespace.door import Door
from client.outlet.namespace.host import NamespaceHost
from client.outlet.nic.host import LinuxHost
from client.outlet.nic.outlet import NicOutlet
from client.outlet.outlet import Outlet
from client.outlet.proxy.outlet import ProxyOutlet
from client.system.facts import FactsReader
from client.system.run import SystemRunner
from control.paths import Paths, is_termux
from control.registry import Registry
from control.schema import Event
from control.server import bind_private
from services.client_api import ClientApi
from services.client_store import ClientDatabase
from services.config import Config
from services.daemon import Service, StartError, serve
from services.doctor.doctor import Doctor, of_client
from services.doctor.machine import Machine
from services.ending import runs_again
from services.events import EventBook
from services.hooks import Hook, judged
from services.logs import Ring
from services.settings import Place, Settings
from services.start import own_network_maker
from services.store_keeper import StoreKeeper

EXPECTED_SECONDS = 30.0
"""For the command to come that a service was started for."""


class ClientService:
    """The client, its store, its API."""

    ready = "client ready"

    def __init__(
        self,
        paths: Paths,
        settings: Settings,
        store: ClientDatabase,
        ring: Ring,
        shut_down: Callable[[], None],
        private: bool = False,
        while_used: bool = False,
    ) -> None:
        """`private`: in a network of its own, not the machine's; `while_used`: until the last
        command in there has ended."""
        self._paths = paths
        self._shut_down = shut_down
        self._while_used = while_used
        config = client_config(settings.config, paths)
        self._host = NamespaceHost(config, own_network_maker(), paths.resolver) if private else None
        self._door: Door | None = None
        self._keeper = StoreKeeper(store)
        self._events = EventBook(paths.events("client"), "client.events")
        ring.restore(self._events.lines())
        try:
            outlet = outlet_of(settings.config, config, self._host)
        except ClientError as exc:
            raise StartError(exc.message, exc.hint or None) from exc
        self._client = Client(store, config, outlet, on_event=self._events.note)
        settings.apply = self._apply
        label = settings.config.text("client", "label") or socket.gethostname()
        self._hook = Hook("client", label)
        self._hook.path = settings.config.text("client", "hook")
        machine = Machine("client", paths, told=self._keeper.told, hook=self._hook)
        examine = partial(of_client, self._client, machine, settings.config)
        self._api = ClientApi(
            self._client, store, ring, shut_down, settings, Doctor(examine), self._keeper.told,
            self._events,
        )  # fmt: skip

    def registry(self) -> Registry:
        return self._api.registry()

    async def start(self, changed: Callable[[], None]) -> None:
        def on_change() -> None:
            changed()
            self._api.traffic_history.wake()

        self._client.on_change = on_change
        self._client.on_timed = self._api.traffic_history.look

        def on_event(event: Event) -> None:
            changed()
            self._hook.tell(event)

        self._events.on_event = on_event
        self._keeper.start(changed)
        try:
            await self._client.start()
        except ClientError as exc:
            raise StartError(exc.message, exc.hint or None) from exc
        self._api.traffic_history.start()
        if self._host is not None:
            self._open_door(self._host)

    def _open_door(self, host: NamespaceHost) -> None:
        listener = bind_private(self._paths.door)
        listener.listen()
        unused = self._shut_down if self._while_used else lambda: None
        self._door = Door(listener, lambda: host.network.namespaces, host.resolver, unused)
        self._door.open()
        if self._while_used:
            self._door.expect(EXPECTED_SECONDS)

    async def stop(self, on_purpose: bool = True) -> None:
        # The user's wish outlives a restart, of the unit and of the machine.
        if self._door is not None:
            self._door.close()
            self._paths.door.unlink(missing_ok=True)
        self._api.traffic_history.stop()
        passing = on_purpose and await asyncio.to_thread(runs_again)
        await self._client.stop(on_purpose and not passing)
        await self._hook.stop()
        self._keeper.close()
        if self._host is not None:
            self._host.network.close()

    def _apply(self, config: Config, place: Place) -> None:
        """A setting has changed: most of the client's wait for its next start."""
        if place == ("logs", "level"):
            logging.getLogger().setLevel(config.text(*place).upper())
        elif place == ("client", "hook"):
            self._hook.path = judged(config.text(*place))


def run(args: argparse.Namespace) -> int:
    """Serve in the foreground; the exit code."""

    def build(paths: Paths, config: Config, ring: Ring, shut_down: Callable[[], None]) -> Service:
        store = ClientDatabase(paths.store("client"))
        settings = Settings("client", paths.config, config, _options(args), store.ledger)
        return ClientService(paths, settings, store, ring, shut_down, args.private, args.while_used)

    return serve("client", build, args.log_level, args.log_format)


def _options(args: argparse.Namespace) -> dict[Place, Any]:
    """The command line's settings, which go before the file's."""
    given = {
        ("client", "label"): args.label,
        ("client", "interface"): args.interface,
        ("client", "proxy"): args.proxy,
        ("client", "proxy_pac"): args.pac or None,
        ("client", "offload"): False if args.no_offload else None,
        ("client", "routes"): False if args.no_routes else None,
        ("client", "dns"): False if args.no_dns else None,
        ("client", "kill_switch"): args.kill_switch or None,
        ("client", "open_on_failure"): args.open_on_failure or None,
        ("logs", "level"): args.log_level,
        ("logs", "format"): args.log_format,
    }
    return {place: value for place, value in given.items() if value not in (None, "")}


def outlet_of(config: Config, client: ClientConfig, own: NamespaceHost | None) -> Outlet:
    """Where packets are to leave the tunnel: in a namespace of its `own`, or as the settings say.
    Runs on the loop. Raises ClientError."""
    proxy = config.text("client", "proxy")
    if own is not None:
        return NicOutlet(own, client, network=own.network.diag)
    if not proxy:
        return NicOutlet(LinuxHost(client), client)
    # Of what it needs (h11), a client with a NIC needs nothing.
    from client.outlet.proxy.dialer import Dialer
    from client.outlet.proxy.place import parse_place
    from client.outlet.proxy.server import ProxyConfig, ProxyServer
    from client.outlet.proxy.token import proxy_token

    password = config.text("client", "proxy_password")
    if not password and is_termux():
        raise ClientError(
            "proxy_open",
            "Android does not tell which app uses the proxy, so all would be let in, and no "
            "password is set.",
            "Set one: vpnshare set client.proxy_password -",
        )
    place = parse_place(proxy)
    word = password or proxy_token(client.state_dir)
    dialer = Dialer()
    server = ProxyServer(
        dialer, ProxyConfig(place, word, bool(password), config.flag("client", "proxy_pac"))
    )
    facts = FactsReader(SystemRunner(), client.resolv_conf)
    return ProxyOutlet(client, dialer, server, lambda: facts.read(None))


def client_config(config: Config, paths: Paths) -> ClientConfig:
    """The settings in the client's words."""
    return ClientConfig(
        state_dir=paths.state_dir,
        label=config.text("client", "label") or socket.gethostname(),
        platform=sys.platform,
        interface=config.text("client", "interface"),
        offload=config.flag("client", "offload"),
        mtu=config["client", "mtu"] or None,
        routes=config.flag("client", "routes"),
        resolver=config.flag("client", "dns"),
        forward=config.flag("client", "forward"),
        kill_switch=config.flag("client", "kill_switch"),
        open_on_failure=config.flag("client", "open_on_failure"),
        local_interfaces=tuple(config["client", "local_interfaces"]),
    )
