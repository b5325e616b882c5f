"""The services examine themselves, are set anew, and prove their egress, while they work."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.netns import world as hosts
from tests.netns.conftest import Tunnel, connected
from tests.netns.product import Service
from tests.netns.world import World


def findings(service: Service) -> dict[str, dict[str, Any]]:
    """By id; the command ends with 1 when one of them is `broken`."""
    done = service.command("doctor", "--role", service.role, "--json", check=False)
    found = {each["id"]: each for each in json.loads(done.stdout)}
    broken = any(each["status"] == "broken" for each in found.values())
    assert done.returncode == (1 if broken else 0)
    return found


def test_nothing_is_wrong(tunnel: Tunnel) -> None:
    gateway = findings(tunnel.gateway)
    # The world's resolver knows its own names only, and says so.
    assert gateway["dns"]["found"] == f"The resolvers ({hosts.SERVER}:53) answer REFUSED."
    for id in ("vpn", "families", "guard", "reachable", "listeners", "mtu", "store"):
        assert gateway[id]["status"] == "ok", gateway[id]
    assert hosts.GATEWAY_LAN in gateway["reachable"]["found"]
    client = findings(tunnel.client)
    for id in ("tun", "privileges", "link", "gateway-sharing", "routes", "resolver", "client-mtu"):
        assert client[id]["status"] == "ok", client[id]


def test_settings_change_what_runs(tunnel: Tunnel) -> None:
    gateway = tunnel.gateway
    before = gateway.status()["name"]
    gateway.command("set", "gateway.name", "Renamed")
    gateway.command("set", "dns.recent", "9")
    assert gateway.status()["name"] == "Renamed"
    shown = {s["key"]: s for s in gateway.ask("settings", "--role", "gateway")}
    assert shown["dns.recent"]["value"] == 9 and shown["dns.recent"]["source"] == "file"
    gateway.command("set", "gateway.name", before)
    gateway.command("set", "dns.recent", "--default")
    assert gateway.status()["name"] == before


def test_every_flow_says_by_which_device_it_left(tunnel: Tunnel) -> None:
    for server, local in ((hosts.SERVER, hosts.GATEWAY_VPN), (hosts.SERVER6, hosts.GATEWAY_VPN6)):
        with tunnel.world.client.connect(server, 8000):
            flows = tunnel.gateway.ask("flows", "--filter", "tcp :8000")["flows"]
        found = [flow for flow in flows if server in flow["destination"]]
        assert found and all(flow["device"] == "g1" for flow in found)
        assert any(local in (flow["local"] or "") for flow in found)


def test_a_flow_has_the_name_that_its_device_asked_for_unless_the_owner_forbids_it(
    tunnel: Tunnel,
) -> None:
    resolver = tunnel.client.status()["lease"]["gateway_ipv4"]
    dig = ["dig", f"@{resolver}", "+short", "server.test"]
    assert tunnel.world.client.run(dig).stdout.split() == [hosts.SERVER]

    def name() -> str:
        flows = tunnel.gateway.ask("flows", "--filter", "tcp :8000")["flows"]
        (flow,) = (flow for flow in flows if hosts.SERVER in flow["destination"])
        return str(flow["name"])

    with tunnel.world.client.connect(hosts.SERVER, 8000):
        assert name() == "server.test"
        tunnel.gateway.command("set", "privacy.names", "false")
        assert name() == ""
        tunnel.gateway.command("set", "privacy.names", "--default")
        assert name() == ""


def test_a_vpn_that_is_gone_is_named(fresh_world: World) -> None:
    with connected(fresh_world) as pair:
        fresh_world.vpn_down()
        deadline = time.monotonic() + 20
        while (found := findings(pair.gateway))["vpn"]["status"] != "broken":
            assert time.monotonic() < deadline
        assert "Turn the VPN on" in found["vpn"]["advice"]
        assert found["dns"]["status"] == "skipped"
        client = findings(pair.client)
        assert client["gateway-sharing"]["status"] == "warn"
        assert client["gateway-sharing"]["advice"] == "Turn the VPN on there."
