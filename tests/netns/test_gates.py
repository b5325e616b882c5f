"""When a device may use the tunnel, with real programs: a quota ends a download where it says, a
pause, an end and hours end what runs; each tells why, and all goes on afterwards.

A device of ours and a WireGuard app. Hours and periods of quotas that
come and go by the clock are shown in `tests/gateway/test_gates.py`, whose clock is handed in.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.netns.conftest import opened
from tests.netns.hosts import Host
from tests.netns.processes import wait_for
from tests.netns.product import Client, Gateway
from tests.netns.wireguard_app import app_of, missing
from tests.netns.world import SERVER, Shape

SECOND_LAN = "10.1.1.2"
CURL_NO_CONNECTION, CURL_BROKEN = 7, 56
FIGURE = 8_000_000
"""Bytes until a quota is spent."""
PLENTY = 10**12
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@dataclass
class Device:
    """A device, as its owner bounds it and as its programs see that."""

    gateway: Gateway
    host: Host
    id: str
    client: Client | None = None
    """Where it is one of ours."""

    def rule(self, *options: str) -> None:
        self.gateway.command("rules", self.id, *options)

    def lease(self) -> dict[str, Any]:
        return next(lease for lease in self.gateway.leases() if lease["peer_id"] == self.id)

    def used(self) -> int:
        """Bytes that count toward a quota of today's, down."""
        self.rule("--quota", f"{PLENTY}B/day down")
        left = self.lease()["quota_left"]
        assert isinstance(left, int)
        return PLENTY - left

    def curl(self, path: str) -> tuple[int, int]:
        """The exit status (28 would be that nobody told it anything), and bytes that came."""
        url = f"http://{SERVER}:8000{path}"
        argv = ["curl", "-s", "-m", "60", "-o", "/dev/null", "-w", "%{size_download}", url]
        done = self.host.run(argv, check=False)
        return done.returncode, int(done.stdout or 0)

    def is_told(self, gate: str, words: str) -> None:
        """Its gate is closed for this reason; its programs, and its client, are told."""
        wait_for(lambda: self.lease()["gate"] == gate, f"the gate to be {gate}")
        assert words in self.lease()["shut_out"]
        assert self.curl("/bytes/10")[0] == CURL_NO_CONNECTION
        ping = self.host.run(["ping", "-c1", "-W10", SERVER], check=False)
        assert "Packet filtered" in ping.stdout + ping.stderr
        client = self.client
        if client is not None:
            wait_for(lambda: words in client.status()["shut_out"], "the client to be told")

    def goes_on(self) -> None:
        assert self.lease()["gate"] == "open"
        assert self.curl("/bytes/100000") == (0, 100_000)
        client = self.client
        if client is not None:
            wait_for(lambda: not client.status()["shut_out"], "the client to be told")


@dataclass
class Home:
    ours: Device
    app: Device


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with (
        opened(Shape(second_client=True)) as world,
        world.serving(secure=False),
        Gateway(world) as gateway,
        Client(world) as client,
    ):
        gateway.share()
        client.start()
        client.join(gateway)
        assert world.second is not None
        with app_of(gateway, world, world.second, SECOND_LAN):
            kinds = {peer["kind"]: peer["id"] for peer in gateway.peers()}
            yield Home(
                Device(gateway, world.client, kinds["vshp"], client),
                Device(gateway, world.second, kinds["wireguard"]),
            )


@pytest.fixture(params=["ours", "app"])
def device(home: Home, request: pytest.FixtureRequest) -> Iterator[Device]:
    device: Device = getattr(home, request.param)
    yield device
    device.rule("--clear")


def test_a_quota_ends_a_download_where_it_says(device: Device) -> None:
    figure = device.used() + FIGURE
    device.rule("--quota", f"{figure}B/day down")
    status, size = device.curl("/bytes/100000000")
    assert status == CURL_BROKEN
    # Headers count, and what was lost on the way as well.
    assert 0.8 * FIGURE <= size <= FIGURE
    device.is_told("quota_spent", "has used its quota")
    used = device.used()
    assert figure <= used <= figure + max(65536, FIGURE // 100)
    device.goes_on()


@pytest.mark.parametrize(
    ("device", "rule", "gate", "words"),
    [
        ("ours", "pause", "paused", "is paused by the owner"),
        ("app", "end", "ended", "its time has ended"),
        ("ours", "hours", "outside_hours", "is outside its hours; they begin again on"),
    ],
    indirect=["device"],
)
def test_what_runs_is_ended_and_goes_on(device: Device, rule: str, gate: str, words: str) -> None:
    url = f"http://{SERVER}:8000/slow/1000000"
    download = device.host.start(["curl", "-sS", "-m", "120", "-o", "/dev/null", url])
    there = f"{SERVER}:8000"

    def running() -> bool:
        flows = device.gateway.peek("flows", peer=device.id)["flows"]
        return any(f["destination"] == there and f["to_tunnel_bytes"] for f in flows)

    wait_for(running, "the download to run")
    in_three_days = DAYS[(time.localtime().tm_wday + 3) % 7]
    options = {
        "pause": ["--pause"],
        "end": ["--for", "1s"],
        "hours": ["--hours", in_three_days],
    }[rule]
    device.rule(*options)
    device.is_told(gate, words)
    assert download.popen.wait(30) == CURL_BROKEN, download.tail()
    device.rule("--clear")
    device.goes_on()
