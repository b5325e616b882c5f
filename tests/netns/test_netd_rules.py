"""On a phone every packet of ours goes into the VPN unless it says otherwise: clients on the
LAN are served all the same, and what is forwarded goes by the VPN alone."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest

from client.plan import TRANSPORTS
from tests.netns import netd
from tests.netns.conftest import Tunnel, opened
from tests.netns.mixed_traffic import ask
from tests.netns.processes import wait_for
from tests.netns.product import NOBODY, PORT, Client, Gateway
from tests.netns.vpn_loss import Bench, Outside, lease_addresses
from tests.netns.wireguard_app import app_of, missing
from tests.netns.world import GATEWAY_LAN, GATEWAY_VPN, GATEWAY_VPN6, SERVER, SERVER6, Shape, World

CLIENT_LAN = "10.1.0.2"


@contextlib.contextmanager
def phone_world() -> Iterator[World]:
    with opened(Shape(vpn_kind="tun")) as world:
        netd.phone_routes(world)
        netd.vpn_up(world)
        yield world


@pytest.fixture(scope="module")
def phone() -> Iterator[World]:
    with phone_world() as world:
        yield world


@pytest.fixture(scope="module", params=["tcp", "udp"])
def pair(request: pytest.FixtureRequest, phone: World) -> Iterator[Tunnel]:
    transport: str = request.param
    if transport not in TRANSPORTS:
        pytest.skip(f"this client has no transport {transport}")
    with (
        phone.serving(secure=False),
        Gateway(phone, f"gateway-{transport}", user=NOBODY) as gateway,
        Client(phone, name=f"client-{transport}") as client,
    ):
        gateway.start("--listen", f"{GATEWAY_LAN}:{PORT}", "--share")
        client.start().join(gateway, "--transport", transport)
        assert client.status()["transport"] == transport
        yield Tunnel(phone, gateway, client)


def way(world: World, *words: str) -> str:
    """The interface by which the kernel would send, as `ip route get` says."""
    answer = world.gateway.run(["ip", "-j", "route", "get", *words]).stdout
    device: str = json.loads(answer)[0]["dev"]
    return device


def test_the_ladder_is_netds(phone: World) -> None:
    """The traps are set: a LAN client's address alone leads into the VPN."""
    user = ("uid", str(NOBODY))
    assert way(phone, CLIENT_LAN, *user) == netd.VPN
    assert way(phone, CLIENT_LAN, "from", GATEWAY_LAN, *user) == netd.VPN
    assert way(phone, CLIENT_LAN, "oif", "lan0", "mark", "0x20000", *user) == "lan0"
    assert way(phone, CLIENT_LAN, "mark", "0x30064", *user) == "lan0"
    assert way(phone, SERVER, *user) == way(phone, SERVER6, *user) == netd.VPN
    assert way(phone, SERVER, "mark", "0x20000", *user) == "under0"


def test_clients_are_served_and_all_goes_by_the_vpn(pair: Tunnel) -> None:
    world = pair.world
    bench = Bench(world, pair.gateway, pair.client, named=False)
    status = pair.gateway.status()
    assert (status["vpn"]["interface"], status["vpn"]["kind"]) == (netd.VPN, "tun")
    with Outside.of(world, lease_addresses(pair.gateway)) as outside:
        assert bench.all_served()
        with world.client.connect(SERVER, 7) as old4, world.client.connect(SERVER6, 7) as old6:
            ask(old4)
            ask(old6)
            flows = pair.gateway.peek("flows")["flows"]
            tcp = [f for f in flows if f["protocol"] == "tcp" and f["state"] == "established"]
            assert {f["destination"] for f in tcp} >= {f"{SERVER}:7", f"[{SERVER6}]:7"}
            assert {f["device"] for f in flows} == {netd.VPN}
            locals_ = {f["local"] for f in tcp}
            assert any(str(text).startswith(GATEWAY_VPN) for text in locals_)
            assert any(GATEWAY_VPN6 in str(text) for text in locals_)
        assert outside.packets() == []


def test_when_the_vpn_goes_the_default_network_gets_nothing(pair: Tunnel) -> None:
    world = pair.world
    bench = Bench(world, pair.gateway, pair.client, named=False)
    with Outside.of(world, lease_addresses(pair.gateway)) as outside:
        with world.client.connect(SERVER, 7) as old:
            ask(old)
            netd.vpn_down(world)
            try:
                assert way(world, SERVER, "uid", str(NOBODY)) == "under0"
                wait_for(
                    lambda: bench.sharing() == ("unavailable", "unavailable"),
                    "both sides to say that the VPN is lost",
                )
                old.settimeout(5)
                with pytest.raises(ConnectionResetError):
                    old.recv(1)
                for server in (SERVER, SERVER6):
                    with pytest.raises(OSError, match=r"unreachable|No route"):
                        world.client.connect(server, 7, timeout=5).close()
            finally:
                netd.vpn_up(world)
        wait_for(bench.all_served, "service after the VPN's return")
        assert outside.packets() == []


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_a_wireguard_device_is_served_and_all_goes_by_the_vpn() -> None:
    with (
        phone_world() as phone,
        phone.serving(secure=False),
        Gateway(phone, "gateway-wireguard", user=NOBODY) as gateway,
    ):
        gateway.start("--listen", f"{GATEWAY_LAN}:{PORT}", "--share")
        with app_of(gateway, phone, phone.client, CLIENT_LAN):
            leases = lease_addresses(gateway)
            with Outside.of(phone, leases) as outside:
                for server in (SERVER, SERVER6):
                    with phone.client.connect(server, 7) as old:
                        ask(old)
                        flows = gateway.peek("flows")["flows"]
                        assert {flow["device"] for flow in flows} == {netd.VPN}
                with phone.client.connect(SERVER, 7) as old:
                    ask(old)
                    netd.vpn_down(phone)
                    try:
                        wait_for(
                            lambda: gateway.peek()["sharing"] == "unavailable", "the VPN's loss"
                        )
                        old.settimeout(5)
                        with pytest.raises(ConnectionResetError):
                            old.recv(1)
                        with pytest.raises(OSError, match=r"unreachable|No route"):
                            phone.client.connect(SERVER, 7, timeout=5).close()
                    finally:
                        netd.vpn_up(phone)
                wait_for(lambda: gateway.peek()["sharing"] == "on", "the VPN's return", 20.0)
                with phone.client.connect(SERVER, 7) as new:
                    ask(new)
                assert outside.packets() == []
