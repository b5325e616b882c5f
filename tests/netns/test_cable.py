"""Two machines on a cable, with the addresses that they give themselves; and one without any."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.netns.conftest import opened
from tests.netns.hosts import Host
from tests.netns.product import PORT, Client, Gateway
from tests.netns.world import SERVER, World


@pytest.fixture
def world() -> Iterator[World]:
    with opened() as fresh:
        yield fresh


def only(host: Host, interface: str, *addresses: str) -> None:
    """Leave the host these on the interface."""
    host.ip(f"address flush dev {interface}")
    for address in addresses:
        host.ip(f"address add {address} dev {interface}" + (" nodad" if ":" in address else ""))


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        (("169.254.10.1/16",), ("169.254.10.2/16",), "169.254.10.1"),
        (("fe80::aa01/64",), ("fe80::aa02/64",), "[fe80::aa01]"),
    ],
    ids=["169.254", "fe80"],
)
def test_link_local_addresses_are_enough(
    world: World, theirs: tuple[str, ...], ours: tuple[str, ...], said: str
) -> None:
    only(world.gateway, "lan0", *theirs)
    only(world.gateway, "under0")
    only(world.client, "lan0", *ours)
    with world.serving(secure=False), Gateway(world) as gateway, Client(world) as client:
        gateway.start("--listen", f"0.0.0.0:{PORT}", "--listen", f"[::]:{PORT}",
                      "--vpn-interface", "g1", "--share")  # fmt: skip
        offer = gateway.ask("pair")
        assert offer["endpoints"] == [f"{said}:{PORT}"] and not offer["note"]
        client.start()
        client.join(gateway)
        assert said.strip("[]") in client.status()["endpoint"]
        world.client.run(
            ["curl", "-sf", "-m", "10", "-o", "/dev/null", f"http://{SERVER}:8000/bytes/9"]
        )
        client.command("disconnect")
        client.command("connect", "--wait", "20")
        assert client.status()["state"] == "connected"


def test_a_device_on_no_network_says_so_and_what_to_do(world: World) -> None:
    only(world.gateway, "lan0")
    only(world.gateway, "under0")
    with Gateway(world) as gateway:
        gateway.start("--listen", f"0.0.0.0:{PORT}", "--vpn-interface", "g1", "--share")
        offer = gateway.ask("pair")
        assert offer["endpoints"] == [] and "hotspot" in offer["note"]
        told = gateway.command("pair", "--no-qr")
        assert "hotspot" in told.stderr and "127.0.0.1" not in told.stdout + told.stderr
