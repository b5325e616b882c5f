"""The paths from client to server that are measured: direct, and through VPN Share.

A path is a context manager over a world; inside it the client reaches
`path.server`. What runs in the client's and the gateway's namespace when the
path has been opened is the path: its memory and processor time are theirs.
"""

from __future__ import annotations

import contextlib
import copy
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path as File

from tests.netns.hosts import Host
from tests.netns.processes import Failed, cpu_seconds, rss, wait_for, wake_ups
from tests.netns.product import EXECUTABLE, Client, Gateway
from tests.netns.unprivileged import User
from tests.netns.world import SERVER, World

ECHO_PORT = 7200
"""Where `load.py serve` listens."""
LASTING = 0.5
"""Seconds after which what runs is a service."""


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
    """What runs in a host and stays: not the commands that a service runs when it begins."""
    now = set(_listed(host))
    time.sleep(LASTING)
    return [pid for pid in _listed(host) if pid in now]


def _listed(host: Host) -> list[int]:
    listed = subprocess.run(["ip", "netns", "pids", host.namespace], capture_output=True, text=True)
    return [int(word) for word in listed.stdout.split()]


@contextlib.contextmanager
def direct(world: World) -> Iterator[Path]:
    """The bare, routed veth pairs: what there is to be had."""
    world.allow_direct()
    yield Path(world)


def vpnshare(
    client_config: str = "", transport: str = "auto", executable: File = EXECUTABLE
) -> Opener:
    """The product, with the client configured so, by that transport."""

    @contextlib.contextmanager
    def open_path(world: World) -> Iterator[Path]:
        with Gateway(world) as gateway, Client(world) as client:
            gateway.executable = client.executable = executable
            client.configure(client_config)
            gateway.share()
            client.start()
            client.join(gateway, "--transport", transport)
            yield Path(world)

    return open_path


class Inside(Host):
    """The client's host, its programs run by `vpnshare run` as a user without rights."""

    def __init__(self, user: User) -> None:
        # The same namespace, logs and processes; nothing is made anew.
        self.__dict__.update(user.host.__dict__)
        self._user = user

    def argv(self, argv: Sequence[str]) -> list[str]:
        words = self._user.argv(str(EXECUTABLE), "run", "--join", "--", *argv)
        variables = [f"{name}={value}" for name, value in self._user.environment().items()]
        return super().argv(["env", *variables, *words])


@contextlib.contextmanager
def private(world: World) -> Iterator[Path]:
    """A network of its own (`vpnshare run`), by a service of a user without rights."""
    with Gateway(world) as gateway:
        gateway.share()
        user = User(world, "user")
        service = user.start("client", "--private", name="client")
        wait_for((user.home / "client.sock").exists, "the service", 20)
        connecting = user.start("connect", gateway.pair(), "--wait", "30", name="connect")
        gateway.approve_next()
        try:
            if connecting.popen.wait(30):
                raise Failed(f"not connected:\n{connecting.tail()}")
            path = Path(world)
            path.world = copy.copy(world)
            path.world.client = Inside(user)
            yield path
        finally:
            service.kill()


NIC: dict[str, tuple[str, str]] = {
    "vpnshare": ("", "auto"),
    "vpnshare-plain": ("[client]\noffload = false\n", "auto"),
    "vpnshare-udp": ("", "udp"),
}
"""The product with a NIC: the client's configuration and transport. `vpnshare-plain` is a client
that cannot offload: MTU 1500, a packet a frame."""

OWN: dict[str, Opener] = {
    "direct": direct,
    **{name: vpnshare(*words) for name, words in NIC.items()},
    "vpnshare-run": private,
}
"""`vpnshare-run` is a network of its own."""
