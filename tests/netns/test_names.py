"""A gateway by the name of its host, with a real DNS server beyond the router.

The server's address is not on the client's network, so what keeps the client's traffic in while
a gateway is sought keeps every question from it, but for those that leave as the link does.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.exits import Exit
from tests.netns.conftest import opened
from tests.netns.processes import Process, wait_for
from tests.netns.product import PORT, Client, Gateway
from tests.netns.world import GATEWAY_LAN, Shape, World

pytest.importorskip("aiodns")

RESOLVER = "10.53.0.53"
MOVED = "10.1.0.77"
MUTE = f"""table inet mute {{
    chain incoming {{
        type filter hook input priority 0
        ip daddr {RESOLVER} drop
    }}
}}
"""


class Names:
    """A dnsmasq whose table can be changed while it runs."""

    def __init__(self, world: World) -> None:
        self._table = world.directory / "hosts"
        self._table.touch()
        world.gateway.ip(f"address add {RESOLVER}/32 dev lo")
        world.client.resolver(RESOLVER)
        self._server: Process = world.gateway.start(
            ["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root",
             "--conf-file=/dev/null", "--pid-file=", "--log-facility=-", "--bind-interfaces",
             f"--listen-address={RESOLVER}", f"--addn-hosts={self._table}", "--local=/lan/"]
        )  # fmt: skip
        self._server.wait_for_log("started", 20.0)
        self._read = 0

    def say(self, **addresses: str) -> None:
        """These names in `lan` lead to these addresses, and no others anywhere."""
        lines = [f"{address} {name}.lan\n" for name, address in addresses.items()]
        self._table.write_text("".join(lines))
        self._read = self._count()
        self._server.popen.send_signal(signal.SIGHUP)
        wait_for(lambda: self._count() > self._read, "dnsmasq to have read its table")

    def _count(self) -> int:
        return Path(self._server.log).read_text().count(f"read {self._table}")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with opened(Shape()) as world:
        yield world


@pytest.fixture(scope="module")
def names(world: World) -> Names:
    return Names(world)


def test_a_gateway_that_moves_is_found_by_its_name(world: World, names: Names) -> None:
    world.gateway.ip(f"address add {MOVED}/24 dev lan0")
    names.say(phone=GATEWAY_LAN)
    with Gateway(world) as gateway, Client(world, name="names") as client:
        gateway.share()
        client.start()
        attempt = client.begin_connect("phone.lan", "--yes")
        gateway.approve_next()
        assert attempt.popen.wait(30) == Exit.OK, attempt.tail()
        (known,) = client.ask("gateways")
        assert f"tcp:phone.lan:{PORT}" in known["endpoints"]
        gateway.stop()
        wait_for(lambda: client.peek()["state"] == "reconnecting", "the loss", 20.0)
        names.say(phone=MOVED)
        gateway.share(listen=MOVED)
        wait_for(lambda: client.peek()["state"] == "connected", "the gateway's new place", 60.0)
        assert client.status()["endpoint"] == f"tcp:{MOVED}:{PORT}"
        client.command("disconnect")


def test_names_that_lead_to_no_gateway(world: World, names: Names) -> None:
    names.say(loop="127.0.0.1", here="10.1.0.2", empty="10.1.0.1")
    with Client(world, name="nowhere") as client:
        client.start()

        def refused(name: str) -> tuple[int, str]:
            done = client.command("connect", name, "--wait", "10", check=False)
            assert client.status()["state"] in ("idle", "failed")
            return done.returncode, done.stderr

        code, said = refused("nobody.lan")
        assert code == Exit.NOT_FOUND and "no host has that name" in said
        for name in ("loop.lan", "here.lan"):
            code, said = refused(name)
            assert code != Exit.OK and "this device itself" in said
        code, said = refused("empty.lan:9")
        assert code == Exit.FAILED and "Connection refused" in said
        world.gateway.nft(MUTE)
        code, said = refused("loop.lan")
        world.gateway.nft("delete table inet mute")
        assert code == Exit.FAILED and "loop.lan leads to no gateway" in said
