"""A phone on a cable, without adb: the product's own client speaks to it, and a real gateway is at
the far end. There is no USB here, so pyusb's backend and the phone's adbd are doubles; what they
keep of the bus's rules is in tests/fakes/adbd.py.

The suite moves 12 MB each way. The long form:

    VPNSHARE_USB_MEGABYTES=200 python -m pytest -s tests/netns/test_usb.py
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from reach.adb_key import KEY_FILE
from tests.fakes import remote_usb
from tests.fakes.sysfs import ADB, MTP, Sysfs
from tests.netns import usb_client
from tests.netns.conftest import opened
from tests.netns.processes import Process, wait_for
from tests.netns.product import Client, Gateway
from tests.netns.servers import FILE_NAME
from tests.netns.world import SERVER, World

SIZE = int(os.environ.get("VPNSHARE_USB_MEGABYTES", "12")) * 1_000_000
SERIAL = "R58M123"


class CabledClient(Client):
    """A client with the phone on its cable, and with no network but that."""

    def daemon(self) -> list[str]:
        folder = self.world.directory
        return [sys.executable, str(usb_client.__file__), str(folder / "usb"),
                str(folder / "machine"), "vpnshare", self.role]  # fmt: skip


@dataclass
class Desk:
    world: World
    gateway: Gateway
    client: CabledClient
    phone: Process


@pytest.fixture
def desk() -> Iterator[Desk]:
    with opened() as world, world.serving(secure=False), Gateway(world) as gateway:
        Sysfs(world.directory / "machine").plug(
            "1-1", MTP, ADB, serial=SERIAL, product="Pixel 8", address=2
        )
        gateway.share(listen="127.0.0.1")
        argv = [sys.executable, remote_usb.__file__, str(world.directory / "usb")]
        phone = world.gateway.start(argv, name="phone")
        phone.wait_for_log("plugged in")
        world.client.ip("link set lan0 down")
        with CabledClient(world) as client:
            client.start()
            client.join(gateway, "--transport", "usb")
            yield Desk(world, gateway, client, phone)


def moved(desk: Desk, folder: Path) -> tuple[float, float]:
    """Move SIZE each way, equal; megabytes a second, down and up."""
    curl = ["curl", "-sS", "--fail", "-m", "300"]
    got = folder / "got"
    began = time.monotonic()
    desk.world.client.run(
        [*curl, "-o", str(got), f"http://{SERVER}:8000/bytes/{SIZE}"], timeout=300
    )
    down = time.monotonic() - began
    with open(desk.world.directory / FILE_NAME, "rb") as file:
        expected = hashlib.sha256(file.read(SIZE)).hexdigest()
    assert hashlib.sha256(got.read_bytes()).hexdigest() == expected
    began = time.monotonic()
    said = desk.world.client.run(
        [*curl, "-T", str(got), f"http://{SERVER}:8000/upload"], timeout=300
    )
    up = time.monotonic() - began
    assert said.stdout == expected
    return SIZE / down / 1e6, SIZE / up / 1e6


def test_a_phone_on_the_cable_carries_it_all_and_a_killed_client_finds_it_again(
    desk: Desk, tmp_path: Path
) -> None:
    now = desk.client.status()
    assert (now["transport"], now["endpoint"]) == ("usb", f"usb:{SERIAL}:47800")
    assert desk.gateway.peers()[0]["connected"]
    down, up = moved(desk, tmp_path)
    print(f"\n{SIZE / 1e6:.0f} MB by the cable: {down:.0f} MB/s down, {up:.0f} MB/s up")
    [phone] = desk.client.ask("usb")
    assert (phone["serial"], phone["state"], phone["model"]) == (SERIAL, "ready", "Pixel 8")

    # Killed in the middle of a transfer; what it has left in the phone's pipes is not its next.
    download = desk.world.client.start(
        ["curl", "-s", "-o", "/dev/null", f"http://{SERVER}:8000/bytes/200000000"], name="bulk"
    )
    before = desk.client.status()["from_tunnel_bytes"]
    wait_for(lambda: desk.client.peek()["from_tunnel_bytes"] > before + 1_000_000, "a download")
    assert desk.client.process is not None
    desk.client.process.kill()
    desk.client.start()
    wait_for(lambda: desk.client.peek()["state"] == "connected", "the link to be back", 60)
    assert desk.client.status()["transport"] == "usb"
    download.stop()
    moved(desk, tmp_path)

    # The link ends with the key, and the next comes with another, which the person is asked for.
    [file] = desk.client.home.rglob(KEY_FILE)
    key = file.read_bytes()
    desk.client.command("usb", "forget")
    wait_for(lambda: file.exists() and file.read_bytes() != key, "another key")
    wait_for(lambda: desk.client.peek()["state"] == "connected", "the link to be back", 60)
