"""adb's client against a scripted adb server: what it asks, what it makes of the answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from reach import adb_server
from reach.adb_server import AdbError, AdbServer
from reach.cable import Phone, PhoneState, is_serial
from tests.fakes.adb import FakeAdb


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeAdb]:
    async with FakeAdb() as fake:
        monkeypatch.setenv(adb_server.SERVER_VARIABLE, str(fake.port))
        yield fake


async def test_phones_on_usb_are_told_from_other_devices(server: FakeAdb) -> None:
    assert await AdbServer().phones() == [
        Phone("R58M123", PhoneState.READY, "SM_A525F"),
        Phone("ZY22", PhoneState.NOT_ALLOWED, ""),
    ]


@pytest.mark.parametrize(
    ("line", "on_usb"),
    [
        ("R58M123ABC device usb:1-1 product:a model:b device:c transport_id:1", True),
        ("R58M123ABC device usb:3-1.4.2 product:a transport_id:1", True),
        ("R58M123ABC device usb:336592896X product:a", True),
        ("R58M123ABC device usb:1:7 product:a", True),
        ("R58M123ABC device 1-1 product:a52 model:SM_A525F device:a transport_id:1", True),
        ("R58M123ABC device 2-1.4 product:a52", True),
        ("R58M123ABC unauthorized 1-1 transport_id:1", True),
        ("R58M123ABC device product:a model:b", False),
        ("R58M123ABC device 1-1x product:a", False),
        ("R58M123ABC device", False),
        ("192.168.1.5:5555 device product:a model:b", False),
        ("emulator-5554 device 1-1 product:a", False),
        ("adb-R58M123-x._adb-tls-connect._tcp device 1-1 product:a", False),
    ],
)  # fmt: skip
def test_servers_of_every_kind_say_which_device_hangs_on_usb(line: str, on_usb: bool) -> None:
    """The native one writes `usb:` before the path, one on libusb writes the path alone."""
    assert bool(adb_server.parse_devices(line)) is on_usb


def test_a_server_that_lists_without_end_is_cut_short() -> None:
    endless = "".join(f"S{n} device usb:1-{n}\n" for n in range(1000))
    assert len(adb_server.parse_devices(endless)) == 16


async def test_a_stream_reaches_the_phones_port(server: FakeAdb) -> None:
    sock = await AdbServer().open_stream("R58M123", 47800)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, b"VSHP")
    assert await loop.sock_recv(sock, 100) == b"VSHP"
    sock.close()
    assert server.asked == ["host:transport:R58M123", "tcp:47800"]


async def test_a_device_that_is_gone_is_an_error_with_adbs_words(server: FakeAdb) -> None:
    with pytest.raises(AdbError, match="device 'gone' not found"):
        await AdbServer().open_stream("gone", 47800)


async def test_changes_are_told_until_the_server_ends(server: FakeAdb) -> None:
    told = asyncio.Queue[int]()
    task = asyncio.create_task(AdbServer().track(lambda: told.put_nowait(1)))
    async with asyncio.timeout(5):
        await told.get()
        server.changes.set()
        await told.get()
        with pytest.raises(AdbError, match="closed"):
            await task


@pytest.mark.parametrize(
    "garbage",
    [b"HTTP/1.1 400\r\n\r\n", b"OK", b"OKAYzzzz", b"OKAYffff", b"FAILffff", b"FAIL-001", b""],
)
async def test_garbage_is_an_error(server: FakeAdb, garbage: bytes) -> None:
    server.answer_with = garbage
    with pytest.raises(AdbError):
        await AdbServer().phones()


async def test_without_a_server_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeAdb() as fake:
        monkeypatch.setenv(adb_server.SERVER_VARIABLE, str(fake.port))
    with pytest.raises(ConnectionRefusedError):
        await AdbServer().phones()


@pytest.mark.parametrize("serial", ["", "a b", "x" * 65, "a;b", "1.2.3.4:5555"])
def test_what_no_serial_is(serial: str) -> None:
    assert not is_serial(serial)
