"""Phones by adb's server and phones of our own as one list, and who is asked for a stream."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from reach import adb_server, adb_session, uevents, usb
from reach.adb_key import KEY_FILE, load_key
from reach.adb_server import AdbServer
from reach.cable import LACKS, CableError, Phone, PhoneState, advice, lack
from reach.usb import UsbCable
from reach.usb_bus import UsbBus
from tests.fakes.adb import FakeAdb
from tests.fakes.adbd import Adbd, UsbWire
from tests.fakes.echo import Echo, exchange
from tests.fakes.ports import free_port
from tests.fakes.sysfs import ADB, KEYBOARD, MTP, STORAGE, Sysfs
from tests.fakes.usb_backend import FakeBackend
from tests.fakes.waiting import settle


@pytest.fixture(autouse=True)
def ends_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that is closed is waited for: a read's patience, each time."""
    monkeypatch.setattr(adb_session, "POLL", 0.05)


@pytest.fixture
def machine(tmp_path: Path) -> Sysfs:
    return Sysfs(tmp_path / "root")


@pytest.fixture
async def wire() -> AsyncIterator[UsbWire]:
    wire = UsbWire()
    adbd = Adbd(wire, auth=False).start()
    yield wire
    adbd.stop()
    assert adbd.violations == []


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(adb_server.SERVER_VARIABLE, str(free_port()))


def cable_of(machine: Sysfs, wire: UsbWire, state: Path) -> UsbCable:
    bus = UsbBus(FakeBackend(wire), machine.root)
    return UsbCable(AdbServer(), bus, lambda: load_key(state, "vpnshare@laptop"))


def seen(machine: Sysfs, wire: UsbWire) -> list[Phone]:
    return UsbBus(FakeBackend(wire), machine.root).phones()


# --- what hangs there ------------------------------------------------------------------------


def test_a_phone_is_told_from_what_else_hangs_on_usb(machine: Sysfs, wire: UsbWire) -> None:
    machine.plug("1-1", MTP, ADB, serial="R58M123", product="SM-A525F", address=2)
    machine.plug("1-2", MTP, serial="ZY22", product="moto g", idVendor="22b8", address=3)
    machine.plug("1-3", STORAGE, serial="USBSTICK", idVendor="04e8", address=4)
    machine.plug("1-4", MTP, serial="CAMERA", idVendor="04a9", address=5)
    machine.plug("1-5", KEYBOARD, idVendor="18d1", address=6)
    machine.plug("1-6.2", (0xE0, 1, 3), product="Pixel 6", address=7)
    assert seen(machine, wire) == [
        Phone("R58M123", PhoneState.READY, "SM-A525F"),
        Phone("ZY22", PhoneState.DEBUGGING_OFF, "moto g"),
        Phone("1-6.2", PhoneState.DEBUGGING_OFF, "Pixel 6"),
    ]


def test_a_serial_that_is_none_or_anothers_gives_way_to_the_place(
    machine: Sysfs, wire: UsbWire
) -> None:
    machine.plug("1-1", ADB, serial="0123456789ABCDEF", address=2)
    machine.plug("1-2.3", ADB, serial="0123456789ABCDEF", address=3)
    machine.plug("1-4", ADB, serial="a b;\x1b[2J", product="\x1b[2Jevil\u202e<b>", address=4)
    assert [p.serial for p in seen(machine, wire)] == ["0123456789ABCDEF", "1-2.3", "1-4"]
    assert seen(machine, wire)[2].model == "(2Jevil(b)"


def test_a_machine_without_usb_has_no_phones(machine: Sysfs, wire: UsbWire, tmp_path: Path) -> None:
    assert UsbBus(FakeBackend(wire), tmp_path / "nothing").phones() == []


def test_a_bus_with_devices_without_end_is_cut_short(machine: Sysfs, wire: UsbWire) -> None:
    for number in range(40):
        machine.plug(f"1-{number}", ADB, serial=f"S{number}", address=number + 2)
    assert len(seen(machine, wire)) == 16


def test_who_holds_the_phone_is_named(machine: Sysfs, wire: UsbWire) -> None:
    machine.plug("1-1", MTP, ADB, serial="R58M123")
    machine.take("1-1:1.1", 4711, "adb\x1b[31m")
    [phone] = seen(machine, wire)
    assert phone == Phone("R58M123", PhoneState.HELD, "", "adb(31m (pid 4711)")
    assert "adb(31m (pid 4711)" in advice(phone) and lack([phone]) == "phone_held"


def test_a_phone_that_this_user_may_not_open_brings_the_rule_to_write(
    machine: Sysfs, wire: UsbWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.plug("1-1", ADB, serial="R58M123")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    [phone] = seen(machine, wire)
    assert phone.state is PhoneState.NO_RIGHT
    assert "/etc/udev/rules.d/70-vpnshare.rules" in advice(phone)
    assert 'ENV{ID_USB_INTERFACES}=="*:ff4201:*"' in advice(phone)


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.EBUSY, "phone_held"), (errno.EACCES, "phone_no_right"), (errno.EIO, "phone_offline")],
)
async def test_a_phone_that_cannot_be_claimed_says_why(
    machine: Sysfs, wire: UsbWire, tmp_path: Path, no_server: None, number: int, reason: str
) -> None:
    machine.plug("1-1", MTP, ADB, serial="R58M123")
    backend = FakeBackend(wire)
    backend.refuse = number
    bus = UsbBus(backend, machine.root)
    cable = UsbCable(AdbServer(), bus, lambda: load_key(tmp_path, "x"))
    with pytest.raises(CableError) as caught:
        await cable.open_stream("R58M123", 47800)
    assert (caught.value.reason, caught.value.errno) == (reason, number)
    assert (caught.value.strerror or "").startswith(LACKS[reason])
    await cable.close()


def test_the_reason_told_is_that_of_the_phone_nearest_to_use() -> None:
    states = [PhoneState.DEBUGGING_OFF, PhoneState.HELD, PhoneState.NOT_ALLOWED]
    phones = [Phone(str(n), state) for n, state in enumerate(states)]
    assert lack(phones) == "phone_not_allowed" and lack(phones[:2]) == "phone_held"
    assert lack([]) == "phone_absent" and lack([Phone("x", PhoneState.READY)]) == ""


def test_every_state_but_ready_has_a_sentence() -> None:
    for state in PhoneState:
        assert bool(advice(Phone("x", state))) is (state is not PhoneState.READY)


# --- the server and our own -------------------------------------------------------------------


async def test_the_servers_phones_and_ours_are_one_list(
    machine: Sysfs, wire: UsbWire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.plug("1-1", ADB, serial="R58M123", product="SM-A525F")
    machine.take("1-1:1.0", 4711)
    machine.plug("1-7", MTP, serial="OFF", product="Pixel", address=9)
    async with FakeAdb() as fake:
        monkeypatch.setenv(adb_server.SERVER_VARIABLE, str(fake.port))
        found = await cable_of(machine, wire, tmp_path).phones()
    assert [(p.serial, p.state) for p in found] == [
        ("R58M123", PhoneState.READY),
        ("ZY22", PhoneState.NOT_ALLOWED),
        ("OFF", PhoneState.DEBUGGING_OFF),
    ]


async def test_a_phone_of_the_servers_is_reached_through_it(
    machine: Sysfs, wire: UsbWire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.plug("1-1", MTP, ADB, serial="R58M123")
    async with FakeAdb() as fake:
        monkeypatch.setenv(adb_server.SERVER_VARIABLE, str(fake.port))
        cable = cable_of(machine, wire, tmp_path)
        with await cable.open_stream("R58M123", 47800) as sock:
            assert await exchange(sock, b"by the server") == b"by the server"
        assert "tcp:47800" in fake.asked
        await cable.close()


OLDER = b"FAIL0014unknown host service"
"""A server of before 2011, which knows no `host:devices-l`."""


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 400\r\n\r\n", b"OKAYffff", b"FAIL", b"", OLDER])
async def test_what_is_no_adb_server_does_not_stand_in_the_way(
    machine: Sysfs,
    wire: UsbWire,
    echo: Echo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    garbage: bytes,
) -> None:
    machine.plug("1-1", MTP, ADB, serial="R58M123")
    async with FakeAdb() as fake:
        monkeypatch.setenv(adb_server.SERVER_VARIABLE, str(fake.port))
        fake.answer_with = garbage
        cable = cable_of(machine, wire, tmp_path)
        assert [p.serial for p in await cable.phones()] == ["R58M123"]
        with await cable.open_stream("R58M123", echo.port) as sock:
            assert await exchange(sock, b"directly") == b"directly"
        await cable.close()


async def test_a_server_of_another_version_that_has_the_phone_is_named(
    machine: Sysfs, wire: UsbWire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be asked nothing, and holds what hangs there."""
    machine.plug("1-1", MTP, ADB, serial="R58M123")
    machine.take("1-1:1.1", 4711)
    backend = FakeBackend(wire)
    backend.refuse = errno.EBUSY
    async with FakeAdb() as fake:
        monkeypatch.setenv(adb_server.SERVER_VARIABLE, str(fake.port))
        fake.answer_with = OLDER
        bus = UsbBus(backend, machine.root)
        cable = UsbCable(AdbServer(), bus, lambda: load_key(tmp_path, "x"))
        [phone] = await cable.phones()
        assert (phone.state, phone.detail) == (PhoneState.HELD, "adb (pid 4711)")
        with pytest.raises(CableError, match=r"adb \(pid 4711\)") as caught:
            await cable.open_stream("R58M123", 47800)
        assert caught.value.reason == "phone_held"
        await cable.close()


async def test_a_server_that_another_version_replaces_is_asked_again(
    machine: Sysfs, wire: UsbWire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`adb` of another version ends the server that it finds and begins its own."""
    async with FakeAdb() as first:
        monkeypatch.setenv(adb_server.SERVER_VARIABLE, str(first.port))
        cable = cable_of(machine, wire, tmp_path)
        stream = await cable.open_stream("R58M123", 47800)
        assert await exchange(stream, b"by the first") == b"by the first"
        first.drop()
        async with asyncio.timeout(10):
            assert await asyncio.get_running_loop().sock_recv(stream, 1) == b""
        stream.close()
    assert await cable.phones() == []
    async with FakeAdb() as second:
        monkeypatch.setenv(adb_server.SERVER_VARIABLE, str(second.port))
        with await cable.open_stream("R58M123", 47800) as sock:
            assert await exchange(sock, b"by the second") == b"by the second"
    await cable.close()


async def test_a_server_that_says_nothing_is_not_waited_for(
    machine: Sysfs, wire: UsbWire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.plug("1-1", MTP, ADB, serial="R58M123")
    monkeypatch.setattr(usb, "SERVER_PATIENCE", 0.1)
    silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    monkeypatch.setenv(adb_server.SERVER_VARIABLE, str(silent.sockets[0].getsockname()[1]))
    assert [p.serial for p in await cable_of(machine, wire, tmp_path).phones()] == ["R58M123"]
    silent.close()


async def test_without_server_and_library_nothing_speaks_to_phones(
    machine: Sysfs, tmp_path: Path, no_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reach.usb_bus.library", lambda backend: None)
    cable = UsbCable(AdbServer(), UsbBus(None, machine.root), lambda: load_key(tmp_path, "x"))
    with pytest.raises(OSError, match="libusb"):
        await cable.phones()
    machine.plug("1-1", ADB, serial="R58M123")
    assert [p.state for p in await cable.phones()] == [PhoneState.UNSUPPORTED]
    with pytest.raises(CableError, match="libusb") as caught:
        await cable.open_stream("R58M123", 47800)
    assert caught.value.reason == "usb_absent"


async def test_a_phone_that_nobody_uses_is_given_back(
    machine: Sysfs,
    wire: UsbWire,
    echo: Echo,
    tmp_path: Path,
    no_server: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(usb, "IDLE_SECONDS", 0.05)
    machine.plug("1-1", MTP, ADB, serial="R58M123")
    backend = FakeBackend(wire)
    bus = UsbBus(backend, machine.root)
    cable = UsbCable(AdbServer(), bus, lambda: load_key(tmp_path, "x"))
    sock = await cable.open_stream("R58M123", echo.port)
    assert backend.claimed == 1
    sock.close()
    await settle(lambda: backend.claimed == 0)
    with await cable.open_stream("R58M123", echo.port) as again:
        assert await exchange(again, b"again") == b"again"
    await cable.close()
    assert backend.claimed == 0


async def test_a_phone_that_is_just_being_given_back_is_waited_for(
    machine: Sysfs, wire: UsbWire, echo: Echo, tmp_path: Path, no_server: None
) -> None:
    machine.plug("1-1", MTP, ADB, serial="R58M123")
    cable = cable_of(machine, wire, tmp_path)
    (await cable.open_stream("R58M123", echo.port)).close()
    cable._sessions["R58M123"].close()
    with await cable.open_stream("R58M123", echo.port) as again:
        assert await exchange(again, b"again") == b"again"
    await cable.close()


async def test_a_phone_that_is_ours_is_not_held_by_another(
    machine: Sysfs, echo: Echo, tmp_path: Path, no_server: None
) -> None:
    """While its person is asked, it says so; when they have pressed Allow, it is ready."""
    machine.plug("1-1", MTP, ADB, serial="R58M123")
    machine.take("1-1:1.1")
    wire = UsbWire()
    adbd = Adbd(wire).start()
    cable = cable_of(machine, wire, tmp_path)
    news: list[int] = []
    watching = asyncio.ensure_future(cable.track(lambda: news.append(1)))
    opening = asyncio.ensure_future(cable.open_stream("R58M123", echo.port))
    await settle(lambda: news)
    assert [p.state for p in await cable.phones()] == [PhoneState.NOT_ALLOWED]
    await settle(adbd.asked.is_set)
    adbd.allow(load_key(tmp_path, "x").public_key())
    with await opening:
        assert [p.state for p in await cable.phones()] == [PhoneState.READY]
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await cable.close()
    adbd.stop()


async def test_a_key_that_is_none_is_told_with_what_to_do(
    machine: Sysfs, wire: UsbWire, tmp_path: Path, no_server: None
) -> None:
    machine.plug("1-1", MTP, ADB, serial="R58M123")
    (tmp_path / KEY_FILE).write_text("nonsense")
    cable = cable_of(machine, wire, tmp_path)
    with pytest.raises(CableError, match="vpnshare usb forget") as caught:
        await cable.open_stream("R58M123", 47800)
    assert caught.value.reason == "usb_key"


# --- the kernel's news ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "about"),
    [
        (b"add@/devices/x/1-1\0ACTION=add\0SUBSYSTEM=usb\0DEVTYPE=usb_device\0", True),
        (b"bind@/devices/x/1-1\0ACTION=bind\0SUBSYSTEM=usb\0DEVTYPE=usb_device\0", True),
        (b"remove@/devices/x/1-1\0ACTION=remove\0DEVTYPE=usb_device\0SUBSYSTEM=usb\0", True),
        (b"bind@/devices/x/1-1:1.1\0SUBSYSTEM=usb\0DEVTYPE=usb_interface\0", False),
        (b"change@/devices/x/1-1\0SUBSYSTEM=usb\0DEVTYPE=usb_device\0", False),
        (b"add@/devices/x\0SUBSYSTEM=net\0", False),
        (b"libudev\0\xfe\xed\xca\xfe", False),
        (b"", False),
        (b"\0\0\0", False),
    ],
)
def test_which_of_the_kernels_news_are_about_phones(event: bytes, about: bool) -> None:
    assert uevents.is_usb(event) is about
