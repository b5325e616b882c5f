"""The VPN goes away under traffic: nothing leaves by another way, and it is served again after."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.netns.conftest import Tunnel, connected, opened
from tests.netns.processes import Process, wait_for
from tests.netns.product import NOBODY, Client, Gateway
from tests.netns.world import GATEWAY_VPN, GATEWAY_VPN6, SERVER, SERVER6, Shape, World

TRAFFIC = (
    "while :; do"
    f" curl -s -m 2 -o /dev/null http://{SERVER}:8000/bytes/3000000;"
    f" curl -s -m 2 -o /dev/null 'http://[{SERVER6}]:8000/bytes/3000000';"
    " dig +tries=1 +time=1 server.test AAAA >/dev/null;"
    f" ping -c 1 -W 1 {SERVER} >/dev/null; ping -c 1 -W 1 {SERVER6} >/dev/null; echo turn; done"
)
TURNS = 20
"""Of the traffic while there is no VPN."""


@pytest.fixture(scope="module", params=["veth", "tun"])
def fragile(request: pytest.FixtureRequest) -> Iterator[Tunnel]:
    """A pair whose VPN these tests break, on either kind of interface."""
    with opened(Shape(vpn_kind=request.param)) as world, connected(world) as pair:
        yield pair


def delete(world: World) -> None:
    world.vpn_down()


def restore_deleted(world: World) -> None:
    world.vpn_up()


def set_down(world: World) -> None:
    world.gateway.ip("link set g1 down")


def set_up(world: World) -> None:
    world.gateway.ip(
        "link set g1 up",
        f"-6 address replace {GATEWAY_VPN6}/64 dev g1 nodad",
    )
    world.vpn_routes()


def remove_addresses(world: World) -> None:
    world.gateway.ip("address flush dev g1 scope global")


def restore_addresses(world: World) -> None:
    world.gateway.ip(
        f"address replace {GATEWAY_VPN}/24 dev g1",
        f"-6 address replace {GATEWAY_VPN6}/64 dev g1 nodad",
    )
    world.vpn_routes()


def another(turns: int, traffic: Process) -> None:
    """Wait until the device has tried everything so many times more."""
    enough = turns + traffic.log.read_text().count("turn")
    wait_for(lambda: traffic.log.read_text().count("turn") >= enough, "the device to try", 60.0)


def reaches(world: World, server: str) -> bool:
    try:
        with world.client.connect(server, 7, timeout=3) as connection:
            connection.sendall(b"hello")
            return connection.recv(10) == b"hello"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("lose", "restore"),
    [
        pytest.param(delete, restore_deleted, id="deleted"),
        pytest.param(set_down, set_up, id="set down"),
        pytest.param(remove_addresses, restore_addresses, id="addresses removed"),
    ],
)
def test_nothing_leaves_outside_a_vpn_that_is_lost(
    fragile: Tunnel, lose: Callable[[World], None], restore: Callable[[World], None]
) -> None:
    world = fragile.world
    assert reaches(world, SERVER) and reaches(world, SERVER6)
    traffic = world.client.start(["sh", "-c", TRAFFIC])
    udp = world.client.start(["sh", "-c", f"while :; do echo x | nc -u -w1 {SERVER6} 7; done"])
    try:
        with world.leaks() as leaks:
            another(1, traffic)
            lose(world)
            wait_for(
                lambda: fragile.gateway.peek()["sharing"] == "unavailable",
                "the gateway to notice that the VPN is lost",
            )
            with pytest.raises(OSError):
                world.client.connect(SERVER, 7, timeout=3).close()
            with pytest.raises(OSError):
                world.client.connect(SERVER6, 7, timeout=3).close()
            another(TURNS, traffic)
            with world.vpn_setting_up():
                restore(world)
            wait_for(
                lambda: reaches(world, SERVER) and reaches(world, SERVER6),
                "the server to be reached again",
                20.0,
            )
            assert leaks.count() == 0, "\n".join(leaks.lines()[:20])
    finally:
        traffic.kill()
        udp.kill()


def test_a_gateway_without_privileges_serves_and_leaks_nothing(fresh_world: World) -> None:
    world = fresh_world
    with (
        world.serving(secure=False),
        Gateway(world, user=NOBODY) as gateway,
        Client(world) as client,
    ):
        gateway.share()
        client.start().join(gateway)
        assert reaches(world, SERVER) and reaches(world, SERVER6)
        for server in (SERVER, SERVER6):
            got = world.client.run(["ping", "-c", "2", "-i", "0.2", server])
            assert "2 received" in got.stdout
        assert world.client.run(["dig", "+short", "server.test", "AAAA"]).stdout
        with world.leaks() as leaks:
            world.vpn_down()
            for server in (SERVER, SERVER6):
                assert not reaches(world, server)
                ping = world.client.run(["ping", "-c", "2", "-W", "1", server], check=False)
                assert " 0 received" in ping.stdout
            assert leaks.count() == 0, "\n".join(leaks.lines()[:20])


def test_a_vpn_without_ipv6_says_so_at_once() -> None:
    with opened(Shape(vpn_ipv6=False)) as world, connected(world) as pair:
        with world.leaks() as leaks:
            assert reaches(world, SERVER)
            with pytest.raises(OSError, match=r"unreachable|No route"):
                world.client.connect(SERVER6, 7, timeout=5)
            assert leaks.count() == 0
        assert not pair.gateway.status()["vpn"]["ipv6"]


def test_without_a_vpn_pairing_works_and_sharing_waits_for_it(fresh_world: World) -> None:
    world = fresh_world
    world.vpn_down()
    with world.serving(secure=False), Gateway(world) as gateway, Client(world) as client:
        gateway.share()
        client.start().join(gateway)
        assert gateway.status()["sharing"] == "unavailable"
        with world.leaks() as leaks:
            with pytest.raises(OSError):
                world.client.connect(SERVER, 7, timeout=3).close()
            assert leaks.count() == 0
        world.vpn_up()
        wait_for(lambda: reaches(world, SERVER), "the server through the new VPN", 15.0)
