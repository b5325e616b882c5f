"""The device's own network lies where the gateway's addresses do: it keeps it, and is connected."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest

from gateway.leases import IPV4_CANDIDATES
from tests.netns.conftest import Tunnel, connected, opened
from tests.netns.processes import wait_for
from tests.netns.product import EXECUTABLE, Client, Gateway
from tests.netns.world import SERVER, World

POOL = ipaddress.IPv4Network(IPV4_CANDIDATES[0])
NEIGHBOUR = f"{POOL[1]}"
"""A host on the device's own network, with the address that a gateway would call its own."""


def neighbour(world: World) -> None:
    """A network of the device's own that holds the first pool, and a host in it."""
    host = world._host("n")
    world.client.ip(
        f"link add own0 type veth peer name own0 netns {host.namespace}",
        f"address add {POOL[7]}/24 dev own0",
        "link set own0 up",
    )
    host.ip(f"address add {NEIGHBOUR}/24 dev own0", "link set own0 up")


@pytest.fixture
def world() -> Iterator[World]:
    with opened() as fresh:
        yield fresh


def works(world: World) -> None:
    """The tunnel and the device's own network, both."""
    world.client.run(
        ["curl", "-sf", "-m", "10", "-o", "/dev/null", f"http://{SERVER}:8000/bytes/9"]
    )
    world.client.run(["ping", "-c", "1", "-W", "5", NEIGHBOUR])


def lease_network(client: Client) -> str:
    address = client.status()["lease"]["ipv4"]
    return next(c for c in IPV4_CANDIDATES if ipaddress.ip_address(address) in
                ipaddress.ip_network(c))  # fmt: skip


@pytest.mark.parametrize("qr", [True, False], ids=["by code", "by address"])
def test_the_gateway_chooses_other_addresses(world: World, qr: bool) -> None:
    neighbour(world)
    with world.serving(secure=False), Gateway(world) as gateway, Client(world) as client:
        gateway.share()
        client.start()
        if qr:
            client.join(gateway)
        else:
            client.host.start(
                [str(EXECUTABLE), "connect", "10.1.0.1", "--yes", "--wait", "30"],
                name="connect", env=client.environment(),
            )  # fmt: skip
            gateway.approve_next()
            wait_for(lambda: client.peek()["state"] == "connected", "the connection", 20)
        assert lease_network(client) == IPV4_CANDIDATES[1]
        works(world)


def test_a_network_that_comes_later_moves_the_lease(world: World) -> None:
    with connected(world) as tunnel:
        assert lease_network(tunnel.client) == IPV4_CANDIDATES[0]
        neighbour(world)
        wait_for(lambda: _moved(tunnel), "another lease", 20)
        works(world)


def _moved(tunnel: Tunnel) -> bool:
    now = tunnel.client.status()
    return now["state"] == "connected" and lease_network(tunnel.client) == IPV4_CANDIDATES[1]


def test_a_pool_that_the_owner_has_set_is_said_to_clash(world: World) -> None:
    neighbour(world)
    with Gateway(world) as gateway, Client(world) as client:
        gateway.configure(f'[gateway]\npool_ipv4 = "{POOL}"\n')
        gateway.share()
        client.start()
        client.begin_connect(gateway.pair())
        gateway.approve_next()
        wait_for(lambda: client.peek()["error"] == "lease_clashes", "the clash to be said", 15)
        reason = client.status()["reason"]
        assert "own0" in reason and "pool_ipv4" in reason
        world.client.run(["ping", "-c", "1", "-W", "5", NEIGHBOUR])
