"""One device against the others: a gateway with few descriptors, and devices that want them all."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from gateway.nat.limits import limits_for
from gateway.nat.shares import PATIENCE
from tests.netns import world as hosts
from tests.netns.conftest import Tunnel, opened
from tests.netns.hosts import Host
from tests.netns.processes import wait_for
from tests.netns.product import Client, Gateway
from tests.netns.world import Shape

DESCRIPTORS = 384
LIMITS = limits_for(DESCRIPTORS)


class SmallGateway(Gateway):
    """One that may open few descriptors."""

    def _as_user(self, argv: Sequence[str]) -> list[str]:
        return ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}", *super()._as_user(argv)]


@pytest.fixture(scope="module")
def small() -> Iterator[Tunnel]:
    """A small gateway with a first and a second device; the third is still to come."""
    with (
        opened(Shape(second_client=True, third_client=True)) as world,
        world.serving(secure=False),
        SmallGateway(world) as gateway,
        Client(world) as first,
        Client(world, world.second, "second") as second,
    ):
        gateway.share(listen="0.0.0.0")
        for client in (first, second):
            client.start()
            client.join(gateway)
        yield Tunnel(world, gateway, first)


@pytest.fixture
def held() -> Iterator[ExitStack]:
    """Sockets of the test."""
    with ExitStack() as stack:
        yield stack


def connect(held: ExitStack, host: Host, timeout: float = 3.0) -> socket.socket:
    """A TCP connection to the echo server."""
    return held.enter_context(host.connect(hosts.SERVER, 7, timeout))


def answers(one: socket.socket) -> bool:
    """Whether the connection is there, by an echo."""
    try:
        one.sendall(b"?")
        return one.recv(1) == b"?"
    except OSError:
        return False


def take_all(held: ExitStack, host: Host, wanted: int) -> list[socket.socket]:
    """As many connections as are given, up to so many."""
    got: list[socket.socket] = []
    for _ in range(wanted):
        try:
            got.append(connect(held, host, timeout=0.5))
        except OSError:
            break
    return got


def test_two_devices_that_hold_all_flows_give_a_third_its_share(
    small: Tunnel, held: ExitStack
) -> None:
    world = small.world
    assert world.second is not None
    assert world.third is not None
    greedy = take_all(held, world.client, LIMITS.flows)
    running = greedy[0]
    assert answers(running)
    greedier = take_all(held, world.second, LIMITS.flows)
    assert len(greedy) + len(greedier) >= LIMITS.flows - LIMITS.reserve - 4
    with Client(world, world.third, "third") as client:
        client.start()
        client.join(small.gateway)
        assert answers(running)
        third = [connect(held, world.third) for _ in range(LIMITS.flows // 4)]
        assert all(answers(one) for one in third)
    # Idle connections have made room, and their programs were told; what runs was spared.
    assert answers(running)
    assert sum(answers(one) for one in greedy[1:] + greedier) < len(greedy + greedier) - 1


def test_a_scan_of_dead_hosts_refuses_nobody(small: Tunnel, held: ExitStack) -> None:
    host = small.world.client
    scan = []
    for number in range(LIMITS.half_open_per_peer + 20):
        one = held.enter_context(host.open_socket(socket.AF_INET, socket.SOCK_STREAM))
        one.setblocking(False)
        one.connect_ex((hosts.SILENT, 1000 + number))
        scan.append(one)
    wait_for(
        lambda: small.gateway.peek("flows")["total"] >= LIMITS.half_open_per_peer,
        "the scan to reach the gateway",
    )

    assert answers(connect(held, host, timeout=PATIENCE + 6))
    errors = [one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for one in scan]
    assert errors == [0] * len(scan)
