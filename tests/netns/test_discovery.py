"""First contact without a QR code: found by mDNS, compared by six digits, remembered."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from control.exits import Exit
from control.oneshot import OneShot
from tests.netns.processes import wait_for
from tests.netns.product import EXECUTABLE, PORT, Client, Gateway
from tests.netns.world import GATEWAY_LAN, GATEWAY_LAN6, World

pytest.importorskip("zeroconf")


def found(world: World, client: Client, seconds: str) -> list[dict[str, Any]]:
    argv = [str(EXECUTABLE), "discover", "--seconds", seconds, "--json"]
    answer = json.loads(world.client.run(argv, env=client.environment()).stdout)
    gateways: list[dict[str, Any]] = answer["gateways"]
    return gateways


def found_with(world: World, client: Client, targets: list[str]) -> dict[str, Any]:
    """What is told of the one gateway there, as soon as it is told of these targets."""
    seen: list[dict[str, Any]] = []

    def told() -> bool:
        seen[:] = found(world, client, "0.5")
        return [each["targets"] for each in seen] == [targets]

    wait_for(told, f"the announcement of {targets}", 20.0)
    return seen[0]


def test_a_gateway_is_found_while_it_shares_and_met_by_its_code(fresh_world: World) -> None:
    world = fresh_world
    with Gateway(world) as gateway, Client(world) as client:
        gateway.share("--name", "Kitchen")
        client.start()
        seen = found_with(world, client, [f"{GATEWAY_LAN}:{PORT}"])
        assert seen["name"] == "Kitchen"
        assert seen["fingerprint"] == gateway.status()["fingerprint"]
        elsewhere = [f"{GATEWAY_LAN}:{PORT + 1}", f"[{GATEWAY_LAN6}]:{PORT + 1}"]
        gateway.command("set", "gateway.listen", ",".join(elsewhere))
        seen = found_with(world, client, elsewhere)
        attempt = client.begin_connect(seen["targets"][1])
        request = gateway.wait_for_request()
        assert (request["via"], len(request["code"])) == ("lan", 6)
        # Nobody sits there to say that they are the same.
        assert attempt.popen.wait(20) == Exit.UNCONFIRMED
        code: str = request["code"]
        assert f"{code[:3]} {code[3:]}" in attempt.tail()
        waiting = client.status()
        assert (waiting["state"], waiting["code"], waiting["lease"]) == ("asked", code, None)
        gateway.command("approve", request["id"])
        time.sleep(1.0)
        assert client.status()["state"] == "asked", "the owner's yes is not the user's"
        # As the console's key does.
        with OneShot(str(client.home / "client.sock"), "client") as service:
            assert service.call("confirm", code=code).state in ("waiting", "connected")
        wait_for(lambda: client.peek()["state"] == "connected", "the lease")
        client.command("disconnect")
        again = client.begin_connect("Kitchen")
        assert again.popen.wait(20) == 0
        assert gateway.requests() == []
        gateway.command("unshare")
        wait_for(lambda: not found(world, client, "2"), "the announcement to end", 20.0)
        gateway.pair()
        wait_for(lambda: found(world, client, "0.5"), "the announcement while pairing", 20.0)
