"""A phone on a cable: found, preferred to the network, moved to when it is plugged in."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from client import client as client_module
from client.model import ClientState
from reach import adb_server, usb_bus
from tests.client.gateway_double import LEASE, GatewayDouble
from tests.client.test_client import UDP, Device
from tests.fakes.adb import FakeAdb
from tests.fakes.ports import free_port
from vshp.config import Carrier


async def test_usb_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with GatewayDouble() as gateway, FakeAdb(gateway.port) as fake:
        monkeypatch.setenv(adb_server.SERVER_VARIABLE, str(fake.port))
        async with Device(tmp_path) as device:
            await device.client.connect(gateway.uri())
            now = await device.client.wait(5)
            assert (now.state, now.transport) == (ClientState.CONNECTED, "usb")
            assert now.endpoint == f"usb:R58M123:{gateway.port}"


async def test_the_gateway_is_told_of_the_cable_and_only_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with GatewayDouble() as gateway, FakeAdb(gateway.port) as fake:
        monkeypatch.setenv(adb_server.SERVER_VARIABLE, str(fake.port))
        async with Device(tmp_path) as device:
            for transport, carrier in (("usb", Carrier.USB), ("tcp", Carrier.UNKNOWN)):
                await device.client.connect(gateway.uri(), transport)
                assert (await device.client.wait(5)).transport == transport
                hello = gateway.guests[-1].hello
                assert hello is not None and hello.carrier is carrier


async def test_a_cable_plugged_in_is_moved_to_and_one_pulled_out_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with GatewayDouble() as gateway, FakeAdb(gateway.port) as fake:
        monkeypatch.setenv(adb_server.SERVER_VARIABLE, str(fake.port))
        plugged, fake.devices = fake.devices, ""
        async with Device(tmp_path) as device:
            await device.client.connect(gateway.uri())
            now = await device.client.wait(5)
            assert now.transport == "tcp"
            fake.devices = plugged
            fake.changes.set()
            await device.until(lambda: device.client.status().transport == "usb")
            device.write(bytes(10) + UDP)
            await gateway.until(lambda: gateway.packets == [(bytes(10), UDP)])
            assert device.client.status().reconnects == 0
            fake.devices = ""
            gateway.guests[-1].cut()
            await device.until(
                lambda: (
                    device.client.status().reconnects == 1 and device.state is ClientState.CONNECTED
                )
            )
            assert device.client.status().transport == "tcp"


async def test_a_phone_on_the_cable_is_met_without_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with GatewayDouble() as gateway, FakeAdb(gateway.port) as fake:
        monkeypatch.setenv(adb_server.SERVER_VARIABLE, str(fake.port))
        async with Device(tmp_path) as device:
            gateway.decide = lambda guest, hello: guest.session.pending(60, time.monotonic())
            await device.client.connect("usb")
            await device.until(lambda: device.state is ClientState.ASKED)
            await gateway.heard(1)
            hello = gateway.guests[-1].hello
            assert hello is not None and hello.proof == "none"
            assert hello.code is not None and hello.code == device.client.status().code
            await device.client.confirm(hello.code)
            await gateway.until(lambda: gateway.guests[-1].session.agreed)
            gateway.guests[-1].approve(LEASE)
            assert (await device.client.wait(5)).state is ClientState.CONNECTED
            [known] = device.store.gateways()
            assert known.public_key == gateway.public_key


@pytest.mark.parametrize(
    ("devices", "error", "words"),
    [
        (None, "usb_absent", "apt install libusb-1.0-0"),
        ("192.168.1.5:5555 device product:x\n", "phone_absent", "No phone is seen on USB"),
        ("ZY22 unauthorized usb:1-2\n", "phone_not_allowed", "press Allow"),
        ("ZY22 offline usb:1-2\n", "phone_offline", "does not answer"),
        ("DEAD device usb:1-2\n", "phone_absent", "A cable that only charges"),
        ("R58M123 device usb:1-2\n", "phone_closed", "./vpnshare up"),
    ],
)
async def test_what_is_missing_on_the_cable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: str | None, error: str, words: str
) -> None:
    async with FakeAdb() as fake, Device(tmp_path) as device:
        port = free_port() if devices is None else fake.port
        fake.devices, fake.closed = devices or "", True
        monkeypatch.setenv(adb_server.SERVER_VARIABLE, str(port))
        monkeypatch.setattr(usb_bus, "library", lambda backend: None if devices is None else 1)
        monkeypatch.setattr(client_module, "ALLOW_SECONDS", 0.2)
        await device.client.connect("usb")
        now = await device.client.wait(10)
        assert (now.state, now.error) == (ClientState.FAILED, error)
        assert words in (now.reason or "") and "same network" not in (now.reason or "")


async def test_a_person_who_is_asked_at_the_phone_has_time_to_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client says what it waits for, and goes on when the phone tells that it is allowed."""
    async with GatewayDouble() as gateway, FakeAdb(gateway.port) as fake:
        monkeypatch.setenv(adb_server.SERVER_VARIABLE, str(fake.port))
        fake.devices = "R58M123 unauthorized usb:1-2\n"
        async with Device(tmp_path) as device:
            await device.client.connect(gateway.uri(), "usb")
            await device.until(lambda: device.client.status().error == "phone_not_allowed")
            assert "press Allow" in (device.client.status().reason or "")
            assert device.state is ClientState.CONNECTING
            fake.devices = "R58M123 device usb:1-2\n"
            fake.changes.set()
            assert (await device.client.wait(10)).state is ClientState.CONNECTED


async def test_who_can_be_reached_otherwise_is_not_told_of_the_cable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(adb_server.SERVER_VARIABLE, str(free_port()))
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        uri = gateway.uri()
        await gateway.deafen()
        await device.client.connect(uri)
        assert (await device.client.wait(10)).error == "unreachable"
