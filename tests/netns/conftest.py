"""The worlds that tests share, and what is shown when one of them fails."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.netns import world as hosts
from tests.netns.product import Client, Gateway
from tests.netns.world import Shape, World

HERE = Path(__file__).parent
NEEDED = ("ip", "nft", "ss", "tcpdump", "curl", "dig", "dnsmasq", "openssl", "ping", "iperf3")

_worlds: list[World] = []


def why_not() -> str | None:
    """Why these tests cannot run on this machine; None when they can."""
    if os.geteuid():
        return "needs root: network namespaces and TUN devices"
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun"
    missing = [name for name in NEEDED if shutil.which(name) is None]
    return f"needs {', '.join(missing)}" if missing else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_not()
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.netns)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and HERE in item.path.parents:
        for world in _worlds:
            if world.directory.exists():
                report.sections.append((f"logs of world {world.run_name}", world.log_tails()))
    return report


@contextlib.contextmanager
def opened(shape: Shape | None = None) -> Iterator[World]:
    """A world for a fixture: known to the failure report, removed at the end."""
    with World(shape) as world:
        _worlds.append(world)
        try:
            yield world
        finally:
            _worlds.remove(world)


@dataclass(frozen=True)
class Tunnel:
    """A connected pair in a world whose servers run."""

    world: World
    gateway: Gateway
    client: Client


@contextlib.contextmanager
def connected(world: World, client_config: str = "", *options: str) -> Iterator[Tunnel]:
    """Gateway and client, paired and connected (with these options), in a world of its own."""
    with world.serving(), Gateway(world) as gateway, Client(world) as client:
        client.configure(client_config)
        gateway.share()
        client.start()
        client.join(gateway, *options)
        yield Tunnel(world, gateway, client)


@pytest.fixture(scope="session")
def tunnel_world() -> Iterator[World]:
    with opened(Shape(second_client=True)) as world:
        yield world


@pytest.fixture(scope="session")
def tunnel(tunnel_world: World) -> Iterator[Tunnel]:
    """The pair that tests share which leave it as they found it."""
    with connected(tunnel_world) as pair:
        yield pair


@pytest.fixture(scope="module")
def nothing_leaks(tunnel: Tunnel) -> Iterator[None]:
    """Fails at the end of a module whose traffic was seen outside the VPN."""
    with tunnel.world.leaks() as leaks:
        yield
        assert leaks.count() == 0, "packets left outside the VPN:\n" + "\n".join(leaks.lines()[:20])


@pytest.fixture
def fresh_world() -> Iterator[World]:
    """A world for one test, which may do with it what it likes."""
    with opened(Shape(second_client=True)) as world:
        yield world


@pytest.fixture
def server(family: int) -> str:
    """The server's address in the family that the test is run for."""
    return hosts.SERVER if family == 4 else hosts.SERVER6


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest) -> int:
    """4 and 6 in turn."""
    version: int = request.param
    return version
