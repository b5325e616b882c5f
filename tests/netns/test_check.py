"""`vpnshare check` on both sides, against servers behind the VPN that see what they see; and no
packet of it leaves outside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.netns import exits, outside
from tests.netns.capture import Capture
from tests.netns.conftest import Tunnel
from tests.netns.exits import BESIDE, INSIDE, ONE, OWN, TWO, seen
from tests.netns.product import Service
from tests.netns.world import GATEWAY_VPN, SERVER_OTHER


@pytest.fixture(scope="module")
def asked(tunnel: Tunnel) -> Iterator[Tunnel]:
    """The pair, which asks servers that see it."""
    with exits.asked(tunnel.world, tunnel.gateway, tunnel.client.home):
        yield tunnel


def checked(service: Service, exit: int, *options: str) -> dict[str, Any]:
    done = service.command("check", "--json", *options, check=False)
    assert done.returncode == exit, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_gateway(asked: Tunnel) -> None:
    gateway = asked.gateway
    with asked.world.leaks() as leaks:
        found = checked(gateway, 0)
        assert (found["side"], found["name"]) == ("gateway", "inside"), found
        assert seen(found) == INSIDE
        assert [each["addresses"] for each in found["askers"]] == [[GATEWAY_VPN]] * 2

        gateway.command("set", "check.whoami", f"whoami.test@{SERVER_OTHER}:{outside.TAKEN}")
        found = checked(gateway, 0)
        assert any("answers port 53 itself" in each["sentence"] for each in found["notes"])
        gateway.command("set", "check.whoami", OWN)

        gateway.command("set", "check.stun", f"{ONE},{TWO}:{outside.LIES}")
        found = checked(gateway, 10, "--ipv4")
        assert found["name"] == "servers_disagree" and outside.LIE in found["sentence"]

        # What the VPN's other end lets out by the gateway's own network has an address of that.
        gateway.command("set", "check.stun", f"{ONE},{TWO}:{outside.HOME}")
        found = checked(gateway, 1, "--ipv6")
        assert found["name"] == "exit_outside" and "under0" in found["sentence"], found
        gateway.command("set", "check.stun", f"{ONE},{TWO}")
        assert leaks.count() == 0, leaks.lines()


def test_the_device(asked: Tunnel) -> None:
    client = asked.client
    with asked.world.leaks() as leaks, Capture.of(client.host, "lan0", BESIDE) as beside:
        found = checked(client, 0)
        assert (found["side"], found["name"]) == ("client", "inside"), found
        assert seen(found) == INSIDE
        assert [each["addresses"] for each in found["askers"]] == [[GATEWAY_VPN]] * 2
        assert "there: vpnshare check" in found["notes"][-1]["sentence"]
        assert beside.count() == 0, beside.lines()
        assert leaks.count() == 0, leaks.lines()


def test_a_family_that_would_leave_beside_the_tunnel_is_told_and_not_tried(asked: Tunnel) -> None:
    client = asked.client
    rule = ["ip", "-6", "rule", "add", "pref", "1", "lookup", "4711"]
    route = ["ip", "-6", "route", "add", "default", "dev", "lan0", "table", "4711"]
    with asked.world.leaks() as leaks, Capture.of(client.host, "lan0", f"ip6 and {BESIDE}") as out:
        client.host.run(route)
        client.host.run(rule)
        try:
            found = checked(client, 1)
        finally:
            client.host.run(["del" if word == "add" else word for word in rule])
            client.host.run(["del" if word == "add" else word for word in route])
        assert found["name"] == "route_outside" and "by lan0" in found["sentence"], found
        assert {each["family"] for each in found["exits"]} == {"ipv4"}
        assert out.count() == 0, out.lines()
        assert leaks.count() == 0, leaks.lines()
