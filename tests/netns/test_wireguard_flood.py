"""A flood of WireGuard initiations with the right mac1: it costs a device that is there little,
and one that comes gets in.

Another rate than in the suite, 0 for all that goes:

    VPNSHARE_FLOOD=20000 python -m pytest -s tests/netns/test_wireguard_flood.py
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.netns.conftest import opened
from tests.netns.hosts import Host
from tests.netns.processes import Process, wait_for
from tests.netns.product import Gateway
from tests.netns.wireguard_app import WIREGUARD_PORT, App, missing
from tests.netns.world import PROJECT, SERVER, Shape, World

FLOOD_RATE = int(os.environ.get("VPNSHARE_FLOOD", "5000"))
"""Initiations a second."""
COOKIE_RATE = 250
"""Of a flood that the gateway reads, and answers with cookies: more than handshakes are begun."""
RATE = "80mbit"
"""Of the established device's download, so that cores are there for the flood."""
KEPT = 0.8
WINDOW = 0.5
STRANGERS = tuple(f"10.1.1.{n}" for n in range(20, 30))

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]


@contextmanager
def flood(world: World, key: str, rate: int) -> Iterator[Process]:
    assert world.second is not None
    process = world.second.start(
        [sys.executable, "-m", "tests.netns.wireguard_flood", "10.1.1.1", str(WIREGUARD_PORT), key,
         f"--rate={rate}", *(f"--source={address}" for address in STRANGERS)],
        cwd=PROJECT,
    )  # fmt: skip
    process.wait_for_log("ready", 30.0)
    yield process
    assert process.stop() == 0, process.tail()
    print(process.tail(1), flush=True)


def app_on(world: World, gateway: Gateway, host: Host, name: str) -> App:
    """An app with a config of its own, which the owner has approved beforehand."""
    config = world.directory / f"{name}-{world.run_name[-11:]}.conf"
    config.touch(0o600)
    made = json.loads(gateway.command("wireguard", "add", name, "--json").stdout)
    config.write_text(made["text"] + "\n")
    return App(world, host, config)


class Meter:
    """What the device's tunnel brings it."""

    def __init__(self, app: App) -> None:
        self._bytes = Path(f"/sys/class/net/{app.interface}/statistics/rx_bytes")
        self._host = app.host

    def rates(self, windows: int) -> float:
        """Megabits a second: the median of so many windows."""
        found = []
        at, had = time.monotonic(), self._received()
        for _ in range(windows):
            time.sleep(WINDOW)
            then, got = time.monotonic(), self._received()
            found.append((got - had) * 8 / (then - at) / 1e6)
            at, had = then, got
        return statistics.median(found)

    def _received(self) -> int:
        return int(self._host.run(["cat", str(self._bytes)]).stdout)


def test_a_flood_costs_a_device_little_and_a_new_one_gets_in() -> None:
    with opened(Shape(second_client=True, third_client=True)) as world:
        assert world.second is not None and world.third is not None
        world.second.ip(*(f"addr add {address}/24 dev lan0" for address in STRANGERS))
        world.server.run(
            ["tc", "qdisc", "add", "dev", "net0", "root", "tbf", "rate", RATE,
             "burst", "128kb", "latency", "50ms"]
        )  # fmt: skip
        with world.serving(secure=False), Gateway(world) as gateway:
            gateway.configure("[gateway]\nauto_approve_qr = true\n")
            gateway.share(listen="0.0.0.0")
            app = app_on(world, gateway, world.client, "wg")
            newcomer = app_on(world, gateway, world.third, "wn")
            key = gateway.peek("wireguard")["key"]
            app.up()
            try:
                play(world, gateway, app, newcomer, key)
            finally:
                app.down()
                newcomer.down()


def play(world: World, gateway: Gateway, app: App, newcomer: App, key: str) -> None:
    download = f"while :; do curl -s -o /dev/null http://{SERVER}:8000/bytes/200000000; done"
    app.host.start(["sh", "-c", download])
    wait_for(app.handshakes, "the first handshake", 15.0)
    meter = Meter(app)
    time.sleep(1.0)
    quiet = meter.rates(6)
    with flood(world, key, COOKIE_RATE):
        cookies = "wireguard__handshake__under_load__cookie_"
        wait_for(lambda: counters(gateway)[f"{cookies}sent"], "cookies", 15.0, 0.2)
        cookie = meter.rates(6)
        seconds = comes_in(newcomer)
        # While the gateway has caught up with the flood for a moment it asks for no cookie, nor
        # does it once the kernel keeps the flood out.
        for _ in range(12):
            seen = counters(gateway)
            if seen[f"{cookies}good"] or seen["wireguard__flood__first_sifted"]:
                break
            newcomer.down()
            seconds = comes_in(newcomer)
        else:
            pytest.fail("no newcomer has brought a cookie")
    with flood(world, key, FLOOD_RATE):
        time.sleep(1.0)
        flooded = meter.rates(8)
        newcomer.host.run(["ping", "-c", "1", "-W", "5", SERVER])
        assert counters(gateway)["wireguard__flood__first_sifted"] >= 1
    print(
        f"{quiet:.0f} Mbit/s before, {cookie / quiet:.0%} kept beside cookies, "
        f"{flooded / quiet:.0%} beside the flood; the newcomer was in after {seconds:.1f} s",
        flush=True,
    )
    assert cookie >= KEPT * quiet
    assert flooded >= KEPT * quiet


def comes_in(app: App) -> float:
    """Turn the tunnel on; the seconds until there is a session."""
    app.up()
    began = time.monotonic()
    pings = app.host.start(["ping", "-i", "0.2", SERVER], name="newcomer")
    wait_for(app.handshakes, "the newcomer's session", 30.0)
    pings.kill()
    return time.monotonic() - began


def counters(gateway: Gateway) -> dict[str, int]:
    found: dict[str, int] = gateway.status()["counters"]
    return {**dict.fromkeys(WATCHED, 0), **found}


WATCHED = (
    "wireguard__handshake__under_load__cookie_sent",
    "wireguard__handshake__under_load__cookie_good",
    "wireguard__flood__first_sifted",
)
