"""A phone on a cable: found, preferred to the network, moved to when it is plugged in."""

from __future__ import annotations

import errno
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from client import rounds
from client.client import Client
from client.model import ClientConfig, ClientSnapshot, ClientState
from client.outlet.nic.outlet import NicOutlet
from reach import adb_server, adb_session, usb_bus
from reach.adb_key import KEY_FILE, AdbKey, load_key
from reach.adb_server import AdbServer
from reach.cable import UDEV_RULE
from reach.usb import UsbCable
from reach.usb_bus import UsbBus
from tests.client.gateway_double import LEASE, GatewayDouble
from tests.client.test_client import UDP, Device
from tests.fakes.adb import FakeAdb
from tests.fakes.adbd import HEADER, Adbd, UsbWire
from tests.fakes.ports import free_port
from tests.fakes.sysfs import ADB, MTP, Sysfs
from tests.fakes.usb_backend import FakeBackend
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
        monkeypatch.setattr(rounds, "ALLOW_SECONDS", 0.2)
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


# --- a phone that is spoken to directly -----------------------------------------------------------


@functools.cache
def shared_key() -> AdbKey:
    """Made once: that takes longer than most of the tests."""
    return AdbKey(rsa.generate_private_key(public_exponent=65537, key_size=2048), "vpnshare@laptop")


class Cabled(Device):
    """A client with a phone on USB, which no adb server has."""

    def __init__(self, path: Path, wire: UsbWire | None = None) -> None:
        super().__init__(path)
        self.told: list[str] = []
        """Why the phone was not used."""
        self.broken_key = False
        self.machine = Sysfs(path / "machine")
        self.backend = FakeBackend(UsbWire() if wire is None else wire)
        bus = UsbBus(self.backend, self.machine.root)
        cable = UsbCable(AdbServer(), bus, self.key)
        config = ClientConfig(path, label="laptop", connect_timeout=1.0)
        self.client = Client(self.store, config, NicOutlet(self.host, config), cable=cable)

    def key(self) -> AdbKey:
        if self.broken_key:
            (self.machine.root / KEY_FILE).write_text("nonsense")
            return load_key(self.machine.root, "vpnshare@laptop")
        return shared_key()

    def plug(self) -> Cabled:
        self.machine.plug("1-1", MTP, ADB, serial="R58M123", product="Pixel 8")
        return self


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(adb_server.SERVER_VARIABLE, str(free_port()))
    monkeypatch.setattr(adb_session, "POLL", 0.05)


def held(device: Cabled, monkeypatch: pytest.MonkeyPatch) -> None:
    device.plug().machine.take("1-1:1.1", 4711)


def no_right(device: Cabled, monkeypatch: pytest.MonkeyPatch) -> None:
    device.plug()
    monkeypatch.setattr(os, "access", lambda path, mode: False)


def refused(device: Cabled, monkeypatch: pytest.MonkeyPatch) -> None:
    device.plug().backend.refuse = errno.EACCES


def debugging_off(device: Cabled, monkeypatch: pytest.MonkeyPatch) -> None:
    device.machine.plug("1-1", MTP, serial="R58M123", product="Pixel 8")


def no_key(device: Cabled, monkeypatch: pytest.MonkeyPatch) -> None:
    device.plug().broken_key = True


@pytest.mark.parametrize(
    ("arrange", "error", "words"),
    [
        (held, "phone_held", "adb (pid 4711)"),
        (no_right, "phone_no_right", UDEV_RULE),
        (refused, "phone_no_right", UDEV_RULE),
        (debugging_off, "phone_debugging_off", "tap Build number seven times"),
        (no_key, "usb_key", "vpnshare usb forget"),
    ],
)
async def test_what_keeps_a_phone_from_being_spoken_to_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_server: None,
    arrange: Callable[[Cabled, pytest.MonkeyPatch], None],
    error: str,
    words: str,
) -> None:
    async with Cabled(tmp_path) as device:
        arrange(device, monkeypatch)
        await device.client.connect("usb")
        now = await device.client.wait(10)
        assert (now.state, now.error) == (ClientState.FAILED, error)
        assert words in (now.reason or "")


WRTE = int.from_bytes(b"WRTE", "little")


def header(size: int, magic: int = WRTE ^ 0xFFFFFFFF) -> bytes:
    return HEADER.pack(WRTE, 1, 1, size, 0, magic)


class Liar(Adbd):
    """It says `lies` where it is asked for a stream; nothing where there are none."""

    lies: tuple[bytes, ...] = ()

    def _on_open(self, arg0: int, arg1: int, data: bytes) -> None:
        assert isinstance(self.wire, UsbWire)
        self.wire.write_raw(*self.lies)


LIES = {
    "a length beyond any": ((header(2**31),), "a payload of 2147483648 bytes is announced"),
    "more than comes": ((header(1000), bytes(10)), "10 bytes came, and 1000 were announced"),
    "less than comes": ((header(10), bytes(20)), "20 bytes came, and 10 were announced"),
    "beyond what is asked for": (
        (header(10), bytes(4000)),
        "512 bytes came, and 10 were announced",
    ),
    "half a header": ((header(0)[:12],), "a header of 12 bytes came"),
    "no header": ((header(0, 7),), "a header came that is none"),
}


@pytest.mark.parametrize("lie", sorted(LIES))
async def test_a_phone_that_lies_is_named_and_the_next_way_is_tried(
    tmp_path: Path, no_server: None, lie: str
) -> None:
    said, words = LIES[lie]
    wire = UsbWire()
    phone = Liar(wire, auth=False)
    phone.lies = said
    phone.start()
    async with GatewayDouble() as gateway, Cabled(tmp_path, wire) as device:
        now = await by_the_cable_then_otherwise(device.plug(), gateway)
        assert (now.state, now.error) == (ClientState.FAILED, "phone_garbled")
        assert any(words in why for why in device.told), device.told
        told = [n for n in device.client.status().counters if n.startswith("cable__violation__")]
        assert told, "what ended the session is counted where its owner can see it"
    phone.stop()


async def by_the_cable_then_otherwise(device: Cabled, gateway: GatewayDouble) -> ClientSnapshot:
    """What becomes of an attempt by the cable alone; the next way there is leads to the gateway."""
    await device.client.connect("usb")
    alone = await device.client.wait(10)
    device.told = [r.why for r in device.client.endpoints() if r.endpoint.transport == "usb"]
    await device.client.connect(gateway.uri())
    assert (await device.client.wait(10)).transport == "tcp"
    return alone


@pytest.mark.parametrize("after", [0, 1, 2, 3, 5, 8])
async def test_a_phone_unplugged_while_it_is_asked_is_named_and_the_next_way_is_tried(
    tmp_path: Path, no_server: None, after: int
) -> None:
    wire = UsbWire()
    wire.cut_after = after
    phone = Liar(wire, approve=lambda key: True).start()
    async with GatewayDouble() as gateway, Cabled(tmp_path, wire) as device:
        now = await by_the_cable_then_otherwise(device.plug(), gateway)
        assert (now.state, now.error) == (ClientState.FAILED, "phone_absent")
        assert device.told == ["the phone was unplugged"]
    phone.stop()


async def test_a_phone_that_never_answers_is_waited_for_so_long(
    tmp_path: Path, no_server: None
) -> None:
    """It greets, and says nothing to a request for a stream."""
    wire = UsbWire()
    phone = Liar(wire, auth=False).start()
    async with GatewayDouble() as gateway, Cabled(tmp_path, wire) as device:
        now = await by_the_cable_then_otherwise(device.plug(), gateway)
        assert (now.state, now.error) == (ClientState.FAILED, "phone_offline")
        assert device.told == ["no answer within 1 s"]
    phone.stop()


async def test_the_person_at_a_phone_that_was_chosen_is_waited_for(
    tmp_path: Path, no_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt has no answer in its time, as nobody looks at the phone so soon."""
    wire = UsbWire()
    phone = Adbd(wire).start()
    async with GatewayDouble() as gateway, Cabled(tmp_path, wire) as device:
        gateway.decide = lambda guest, hello: guest.session.pending(60, time.monotonic())
        monkeypatch.setattr("client.plan.DEFAULT_PORT", gateway.port)
        await device.plug().client.connect("usb:R58M123")
        await device.until(lambda: device.client.status().error == "phone_not_allowed")
        assert device.state is ClientState.CONNECTING
        assert "press Allow" in (device.client.status().reason or "")
        phone.allow(shared_key().public_key())
        await device.until(lambda: device.state is ClientState.ASKED)
    phone.stop()


async def test_a_cable_of_which_there_is_no_news_is_not_looked_at_for_a_better_way(
    tmp_path: Path, no_server: None
) -> None:
    async with GatewayDouble() as gateway, Cabled(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        pursuit = device.client._pursuit
        assert pursuit.plan is not None

        async def by_cable() -> bool:
            assert pursuit.plan is not None
            ways = await pursuit.ways.look(pursuit.plan, quiet=True, at_ease=True)
            return any(way.transport == "usb" for way in ways)

        device.plug()
        assert not await by_cable(), "nobody has told of it"
        pursuit._phone_news()
        assert await by_cable()
