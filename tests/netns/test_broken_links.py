"""The link between client and gateway breaks in every way; what runs through it goes on."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.netns.conftest import Tunnel, connected, opened
from tests.netns.processes import wait_for
from tests.netns.product import PORT
from tests.netns.servers import FILE_NAME, FILE_SIZE
from tests.netns.world import GATEWAY_LAN, SERVER, World

RATE = "25M"
"""Bytes a second of the transfer, so that it lasts long enough to be broken several times."""


@pytest.fixture(scope="module")
def pair() -> Iterator[Tunnel]:
    # By TCP only, which is what the cuts are made for; `test_sessions` changes the transport.
    with opened() as world, connected(world, "", "--transport", "tcp") as tunnel:
        yield tunnel


def table(world: World, rule: str) -> None:
    world.gateway.nft(
        "table inet broken { chain in { type filter hook input priority 0;\n"
        f"iifname lan0 {rule}\n}}\n}}"
    )


def reset(world: World) -> None:
    """Someone on the way resets the connection."""
    table(world, f"tcp dport {PORT} reject with tcp reset")
    time.sleep(1.0)
    world.gateway.nft("delete table inet broken")


def silence(world: World) -> None:
    """Packets vanish for a while, and nobody says so."""
    table(world, "drop")
    time.sleep(4.0)
    world.gateway.nft("delete table inet broken")


def change_address(world: World) -> None:
    """The client gets another address on the LAN."""
    current = world.client.run(["ip", "-4", "-o", "addr", "show", "lan0"]).stdout.split()[3]
    other = "10.1.0.3/24" if current.startswith("10.1.0.2") else "10.1.0.2/24"
    world.client.ip(
        f"addr del {current} dev lan0",
        f"addr add {other} dev lan0",
        f"route replace default via {GATEWAY_LAN}",
    )


def pull_cable(world: World) -> None:
    """The interface loses its carrier and gets it back."""
    world.gateway.ip("link set lan0 down")
    time.sleep(1.5)
    world.gateway.ip("link set lan0 up")


@pytest.mark.parametrize("direction", ["down", "up"])
@pytest.mark.parametrize("cut", [reset, silence, change_address, pull_cable])
def test_a_transfer_survives(
    pair: Tunnel, cut: Callable[[World], None], direction: str, tmp_path: Path
) -> None:
    world = pair.world
    file = world.directory / FILE_NAME
    got = tmp_path / "got"
    before = pair.client.status()["reconnects"]
    address = f"http://{SERVER}:8000"
    argv = ["curl", "-sS", "--fail", "--limit-rate", RATE, "-o", str(got)]
    if direction == "down":
        argv += [f"{address}/bytes/{FILE_SIZE}"]
    else:
        argv += ["-T", str(file), f"{address}/upload"]
    transfer = world.client.start(argv)
    for _ in range(2):
        time.sleep(1.0)
        cut(world)
        wait_for(lambda: pair.client.peek()["state"] == "connected", "the link to be back", 30.0)
    assert transfer.popen.wait(90) == 0, transfer.tail()
    with file.open("rb") as content:
        expected = hashlib.file_digest(content, "sha256").hexdigest()
    if direction == "down":
        with got.open("rb") as content:
            assert hashlib.file_digest(content, "sha256").hexdigest() == expected
    else:
        assert got.read_text() == expected
    assert pair.client.status()["reconnects"] > before or cut is not reset
    assert len(pair.gateway.leases()) == 1
