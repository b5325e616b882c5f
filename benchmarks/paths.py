"""The paths from client to server that are measured: direct, and through VPN Share.

A path is a context manager over a world; inside it the client reaches
`path.server`. What runs in the client's and the gateway's namespace when the
path has been opened is the path: its memory and processor time are theirs.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from tests.netns.hosts import Host
from tests.netns.processes import cpu_seconds, rss, wake_ups
from tests.netns.product import Client, Gateway
from tests.netns.world import SERVER, World

ECHO_PORT = 7200
"""Where `load.py serve` listens."""


class Missing(Exception):
    """A program that the path consists of is not installed here."""


@dataclass
class Path:
    """An open path. Pids are taken when it has been opened, before any load runs."""

    world: World
    server: str = SERVER
    udp: bool = True
    client_pids: list[int] = field(default_factory=list)
    gateway_pids: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client_pids = pids(self.world.client)
        self.gateway_pids = pids(self.world.gateway)

    def cpu(self) -> tuple[float, float]:
        """Processor seconds so far: client's, gateway's."""
        return sum(map(cpu_seconds, self.client_pids)), sum(map(cpu_seconds, self.gateway_pids))

    def rss(self) -> tuple[int, int]:
        """Resident bytes: client's, gateway's."""
        return sum(map(rss, self.client_pids)), sum(map(rss, self.gateway_pids))

    def wake_ups(self) -> tuple[int, int]:
        """Times that a thread has slept and been woken: client's, gateway's."""
        return sum(map(wake_ups, self.client_pids)), sum(map(wake_ups, self.gateway_pids))


Opener = Callable[[World], AbstractContextManager[Path]]


def pids(host: Host) -> list[int]:
    """What runs in a host."""
    listed = subprocess.run(["ip", "netns", "pids", host.namespace], capture_output=True, text=True)
    return [int(word) for word in listed.stdout.split()]


@contextlib.contextmanager
def direct(world: World) -> Iterator[Path]:
    """The bare, routed veth pairs: what there is to be had."""
    world.allow_direct()
    yield Path(world)


def vpnshare(client_config: str = "", transport: str = "auto") -> Opener:
    """The product, with the client configured so, by that transport."""

    @contextlib.contextmanager
    def open_path(world: World) -> Iterator[Path]:
        with Gateway(world) as gateway, Client(world) as client:
            client.configure(client_config)
            gateway.share()
            client.start()
            client.join(gateway, "--transport", transport)
            yield Path(world)

    return open_path


OWN: dict[str, Opener] = {
    "direct": direct,
    "vpnshare": vpnshare(),
    "vpnshare-plain": vpnshare("[client]\noffload = false\n"),
    "vpnshare-udp": vpnshare(transport="udp"),
}
"""`vpnshare-plain` is a client that cannot offload: MTU 1500, a packet a frame."""
