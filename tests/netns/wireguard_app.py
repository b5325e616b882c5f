"""A device with the WireGuard app: wg-quick and Debian's wireguard-go, with a config of ours.

wg-quick has names resolved by `resolvconf`, which is a part of the distribution that a
namespace cannot have; two lines stand in for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.netns.hosts import Host
from tests.netns.processes import Process, wait_for
from tests.netns.product import Gateway
from tests.netns.world import SERVER, World

WIREGUARD_PORT = 51820
RESOLVCONF = """#!/bin/sh
[ "$1" != -a ] || cat >/etc/resolv.conf
"""


@dataclass
class App:
    """wg-quick on a host, with one config."""

    world: World
    host: Host
    config: Path
    address: str = "10.1.0.2"
    """Of the host, in the LAN."""
    interface: str = field(init=False)

    def __post_init__(self) -> None:
        self.interface = self.config.stem
        tools = self.world.directory / "tools"
        tools.mkdir(exist_ok=True)
        (tools / "resolvconf").write_text(RESOLVCONF)
        (tools / "resolvconf").chmod(0o755)
        self._env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}

    def up(self) -> None:
        self.host.run(["wg-quick", "up", str(self.config)], env=self._env)

    def down(self) -> None:
        self.host.run(["wg-quick", "down", str(self.config)], env=self._env, check=False)

    def handshakes(self) -> int:
        """Unix time of the latest handshake, 0 before the first."""
        shown = self.host.run(["wg", "show", self.interface, "latest-handshakes"]).stdout
        return int(shown.split()[1])


def missing() -> str | None:
    absent = [name for name in ("wg-quick", "wg", "wireguard-go") if shutil.which(name) is None]
    return f"needs {', '.join(absent)}" if absent else None


def let_in(gateway: Gateway, app: App, patient: bool = False) -> None:
    """Turn the tunnel on, and have the owner approve.

    Who is patient waits until the app asks again, which takes it five seconds. Turned off and
    on, as others do, it asks at once.
    """
    app.up()
    ask = asking(app)
    request = gateway.approve_next()
    assert (request["via"], request["address"]) == ("wireguard", app.address)
    if not patient:
        ask.kill()
        app.down()
        app.up()
        ask = asking(app)
    wait_for(app.handshakes, "the first handshake", 15.0)
    ask.kill()


def asking(app: App) -> Process:
    """Traffic, for which the app tries to reach the gateway."""
    return app.host.start(["ping", "-i", "0.5", SERVER], name="asking")


@contextlib.contextmanager
def app_of(gateway: Gateway, world: World, host: Host, address: str) -> Iterator[App]:
    """A device on this host that is let in and connected."""
    # Sockets of wireguard-go lie in one folder for all namespaces: a name for this run only.
    config = world.directory / f"wg-{world.run_name[-11:]}.conf"
    # The gateway may run as somebody who may write nothing here.
    made = json.loads(gateway.command("wireguard", "add", "an app", "--json").stdout)
    config.touch(0o600)
    config.write_text(made["text"] + "\n")
    app = App(world, host, config, address)
    try:
        let_in(gateway, app)
        yield app
    finally:
        app.down()
        config.unlink()
