"""kill -9, restarts, renewal, revocation: what lasts, and what ends at once.

The suite runs a short form of the kills. The long one:

    VPNSHARE_KILLS=50 python -m pytest -s tests/netns/test_survival.py
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator

import pytest

from tests.netns.conftest import Tunnel, connected, opened
from tests.netns.hosts import Host
from tests.netns.processes import wait_for
from tests.netns.product import Client, Gateway, Service
from tests.netns.world import SERVER

KILLS = int(os.environ.get("VPNSHARE_KILLS", "6"))
BACK_SECONDS = 40.0


@pytest.fixture(scope="module")
def pair() -> Iterator[Tunnel]:
    with opened() as world, connected(world) as tunnel:
        yield tunnel


def download(host: Host, size: int = 100_000) -> int:
    """The bytes that a fresh download brings."""
    argv = ["curl", "-sS", "--fail", "--max-time", "20", "-o", "/dev/null",
            "-w", "%{size_download}", f"http://{SERVER}:8000/bytes/{size}"]  # fmt: skip
    return int(host.run(argv).stdout)


def kill(service: Service) -> None:
    assert service.process is not None
    service.process.stop(signal.SIGKILL)


def start_again(service: Gateway | Client) -> None:
    if isinstance(service, Gateway):
        service.share()
    else:
        service.start()


def is_connected(client: Client) -> bool:
    state: str = client.peek()["state"]
    return state == "connected"


@pytest.mark.slow
@pytest.mark.timeout(KILLS * 45 + 120)
@pytest.mark.parametrize("seed", [20])
def test_killed_at_any_moment_the_pair_comes_back(pair: Tunnel, seed: int) -> None:
    chance = random.Random(seed)
    world, gateway, client = pair.world, pair.gateway, pair.client
    [peer] = gateway.ask("peers")
    lease = client.status()["lease"]
    traffic = world.client.start(
        ["sh", "-c", f"while :; do curl -s -m 5 -o /dev/null http://{SERVER}:8000/bytes/50000000;"
         f" curl -s -m 5 -T /etc/services -o /dev/null http://{SERVER}:8000/up; done"]
    )  # fmt: skip
    slowest = 0.0
    for number in range(KILLS):
        time.sleep(chance.uniform(0.1, 1.5))
        choices: list[list[Gateway | Client]] = [[gateway], [client], [gateway, client]]
        victims = choices[number % 3]
        for victim in victims:
            kill(victim)
        time.sleep(chance.uniform(0.0, 0.5))
        began = time.monotonic()
        for victim in victims:
            start_again(victim)
        wait_for(lambda: is_connected(client), "the pair to be back by itself", BACK_SECONDS)
        slowest = max(slowest, time.monotonic() - began)
        assert download(world.client) == 100_000
    traffic.kill()
    print(f"\n{KILLS} kills, back after {slowest:.1f} s at most", flush=True)
    [same] = gateway.peers()
    for name in ("id", "label", "fingerprint", "revoked", "first_seen_at"):
        assert same[name] == peer[name], name
    after = client.status()["lease"]
    assert (after["ipv4"], after["gateway_ipv4"]) == (lease["ipv4"], lease["gateway_ipv4"])
    assert len(client.ask("gateways")) == 1


def test_a_gateway_restarted_keeps_lease_and_pairing(pair: Tunnel) -> None:
    gateway, client = pair.gateway, pair.client
    before = client.status()["lease"]
    assert gateway.stop() == 0
    wait_for(lambda: not is_connected(client), "the client to notice")
    gateway.share()
    wait_for(lambda: is_connected(client), "the client to be back", BACK_SECONDS)
    after = client.status()["lease"]
    for name in ("ipv4", "ipv6", "gateway_ipv4", "gateway_ipv6"):
        assert after[name] == before[name], name
    assert gateway.requests() == []
    assert download(pair.world.client) == 100_000


def test_revocation_ends_session_and_flows_at_once(pair: Tunnel) -> None:
    gateway, client, host = pair.gateway, pair.client, pair.world.client
    with host.connect(SERVER, 7) as echo:
        echo.sendall(b"x")
        assert echo.recv(1) == b"x"
        assert gateway.peek("flows")["total"] >= 1
        [peer] = gateway.peers()
        gateway.command("revoke", peer["id"])
        assert gateway.peek("flows")["total"] == 0
        assert gateway.leases() == []
        wait_for(lambda: client.peek()["state"] == "failed", "the client to be told", 5.0)
        assert client.status()["error"] == "revoked"
    refused = client.begin_connect(client.peek("gateways")[0]["name"])
    assert refused.popen.wait(20) != 0
    assert "revoked" in refused.tail()
    client.join(gateway)
    assert download(host) == 100_000


def test_a_resolver_file_that_dhcp_overwrites_is_ours_again(pair: Tunnel) -> None:
    world, client = pair.world, pair.client
    theirs = "nameserver 192.0.2.7\n"
    path = world.client.etc / "resolv.conf"
    path.write_text(theirs)
    server = client.status()["lease"]["gateway_ipv4"]
    wait_for(lambda: f"nameserver {server}" in path.read_text(), "the resolver to be back", 10.0)
    assert world.client.run(["dig", "+short", "server.test", "A"]).stdout == f"{SERVER}\n"
    client.command("disconnect")
    assert path.read_text() == theirs
    back = client.begin_connect(client.peek("gateways")[0]["name"])
    assert back.popen.wait(20) == 0
