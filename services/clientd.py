"""The client's daemon: `vpnshare client`."""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Callable

from client.client import Client
from client.model import ClientConfig, ClientError
from services.client_api import ClientApi
from services.config import Config
from services.control.registry import Registry
from services.daemon import Service, StartError, serve
from services.logs import Ring
from services.paths import Paths
from services.store import ClientDatabase


class ClientService:
    """The client, its store, its API."""

    ready = "client ready"

    def __init__(
        self,
        config: ClientConfig,
        store: ClientDatabase,
        ring: Ring,
        shut_down: Callable[[], None],
    ) -> None:
        self._store = store
        self._client = Client(store, config)
        self._api = ClientApi(self._client, store, ring, shut_down)

    def registry(self) -> Registry:
        return self._api.registry()

    async def start(self, changed: Callable[[], None]) -> None:
        self._client.on_change = changed
        try:
            await self._client.start()
        except ClientError as exc:
            raise StartError(exc.message, exc.hint or None) from exc

    async def stop(self) -> None:
        await self._client.stop()
        self._store.close()


def run(args: argparse.Namespace) -> int:
    """Serve in the foreground; the exit code."""

    def build(paths: Paths, config: Config, ring: Ring, shut_down: Callable[[], None]) -> Service:
        store = ClientDatabase(paths.store("client"))
        return ClientService(_config(args, config, paths), store, ring, shut_down)

    return serve("client", build, args.log_level, args.log_format)


def _config(args: argparse.Namespace, config: Config, paths: Paths) -> ClientConfig:
    """The options go before the file."""
    return ClientConfig(
        state_dir=paths.state_dir,
        label=args.label or config.text("client", "label") or socket.gethostname(),
        platform=sys.platform,
        interface=args.interface or config.text("client", "interface"),
        offload=config.flag("client", "offload") and not args.no_offload,
        mtu=config["client", "mtu"] or None,
        routes=config.flag("client", "routes") and not args.no_routes,
        resolver=config.flag("client", "dns") and not args.no_dns,
        kill_switch=config.flag("client", "kill_switch") or args.kill_switch,
    )
