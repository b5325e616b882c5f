"""The world itself: what the other tests take for granted."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.netns import world as addresses
from tests.netns.conftest import opened
from tests.netns.world import PREFIX, Shape, World, remove_stale_worlds


@pytest.fixture(scope="module", params=["veth", "tun"])
def plain(request: pytest.FixtureRequest) -> Iterator[World]:
    """A world without the product, whose gateway forwards packets itself."""
    with opened(Shape(vpn_kind=request.param)) as world, world.serving():
        yield world


def test_a_socket_bound_to_the_vpn_reaches_the_server_and_others_go_outside(plain: World) -> None:
    for family, server in (
        (socket.AF_INET, addresses.SERVER),
        (socket.AF_INET6, addresses.SERVER6),
    ):
        with plain.leaks() as leaks:
            inside = plain.gateway.open_socket(family, socket.SOCK_STREAM)
            inside.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"g1")
            inside.connect((server, 8013))
            seen = inside.recv(100).decode().strip()
            inside.close()
            assert leaks.count() == 0
        assert seen in (addresses.GATEWAY_VPN, addresses.GATEWAY_VPN6)
        with plain.leaks() as leaks:
            outside = plain.gateway.open_socket(family, socket.SOCK_STREAM)
            with pytest.raises(ConnectionRefusedError):
                outside.connect((server, 8013))
            outside.close()
            assert leaks.count() > 0


def test_the_client_reaches_nothing_by_itself_and_the_server_when_the_gateway_forwards(
    plain: World,
) -> None:
    ping = ["ping", "-c", "1", "-W", "1", addresses.SERVER]
    assert plain.client.run(ping, check=False).returncode
    plain.allow_direct()
    try:
        assert "1 received" in plain.client.run(ping).stdout
        answer = plain.client.run(
            ["dig", "+short", f"@{addresses.SERVER}", "text.test", "TXT"]
        ).stdout
        assert answer == '"first string" "second string"\n'
        for server in (addresses.SERVER, f"[{addresses.SERVER6}]"):
            got = plain.client.run(["curl", "-s", f"http://{server}:8000/digest"]).stdout
            assert got == "nothing"
    finally:
        plain.forbid_direct()
    assert plain.client.run(ping, check=False).returncode


def test_the_vpn_can_go_away_and_come_back(plain: World) -> None:
    plain.vpn_down()
    links = plain.gateway.run(["ip", "link", "show", "g1"], check=False)
    assert links.returncode
    plain.vpn_up()
    bound = ["ping", "-I", "g1", "-c", "1", "-W", "2", addresses.SERVER]
    assert "1 received" in plain.gateway.run(bound).stdout


def test_a_closed_world_leaves_nothing() -> None:
    world = World()
    prefix = f"{PREFIX}-{world.run_name}"
    sleeper = world.client.start(["sleep", "1000"])
    world.close()
    assert (
        prefix not in subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    )
    assert not sleeper.running()
    assert not world.directory.exists()
    assert not world.client.etc.exists()


def test_the_world_of_a_dead_run_is_removed_by_the_next() -> None:
    world = World()
    remove_stale_worlds()
    assert world.client.etc.exists(), "a living run's world was touched"
    world._lock.close()
    remove_stale_worlds()
    assert not world.client.etc.exists()
    world.close()
