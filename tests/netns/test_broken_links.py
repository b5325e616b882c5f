"""The link between client and gateway breaks in every way; what runs through it goes on."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.netns import cuts
from tests.netns.conftest import Tunnel, connected, opened
from tests.netns.processes import wait_for
from tests.netns.product import PORT
from tests.netns.servers import FILE_NAME
from tests.netns.world import GATEWAY_LAN, SERVER, World

SIZE = 100_000_000
RATE = "100mbit"
"""Of a transfer while it is cut, so that it lasts; what is left comes at full speed."""


@dataclass(frozen=True)
class Pair:
    tunnel: Tunnel
    file: Path
    """What is sent to the server, which are the same bytes that come from there."""
    digest: str


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    # By TCP only, which is what the cuts are made for; `test_sessions` changes the transport.
    with opened() as world, connected(world, "", "--transport", "tcp") as tunnel:
        file = world.directory / "sent.bin"
        with (world.directory / FILE_NAME).open("rb") as whole:
            file.write_bytes(whole.read(SIZE))
        yield Pair(tunnel, file, cuts.content(world, SIZE))


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
    pair: Pair, cut: Callable[[World], None], direction: str, tmp_path: Path
) -> None:
    world, client = pair.tunnel.world, pair.tunnel.client
    got = tmp_path / "got"
    before = client.status()["reconnects"]
    address = f"http://{SERVER}:8000"
    argv = ["curl", "-sS", "--fail", "-o", str(got)]
    if direction == "down":
        argv += [f"{address}/bytes/{SIZE}"]
        sender = world.server
    else:
        argv += ["-T", str(pair.file), f"{address}/upload"]
        sender = world.vpn_exit
    sender.run(["tc", "qdisc", "add", "dev", "net0", "root", "tbf", "rate", RATE,
                "burst", "128kb", "latency", "50ms"])  # fmt: skip
    try:
        transfer = world.client.start(argv)
        for _ in range(2):
            time.sleep(1.0)
            assert transfer.running(), f"it was over before the cuts were: {transfer.tail()}"
            cut(world)
            wait_for(lambda: client.peek()["state"] == "connected", "the link to be back", 30.0)
    finally:
        sender.run(["tc", "qdisc", "delete", "dev", "net0", "root"])
    assert transfer.popen.wait(90) == 0, transfer.tail()
    if direction == "down":
        with got.open("rb") as content:
            assert hashlib.file_digest(content, "sha256").hexdigest() == pair.digest
    else:
        assert got.read_text() == pair.digest
    assert client.status()["reconnects"] > before or cut is not reset
    assert len(pair.tunnel.gateway.leases()) == 1
