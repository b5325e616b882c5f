"""adb's client against a scripted adb server: what it asks, what it makes of the answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.fakes.adb import FakeAdb
from vshp.transports import adb


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeAdb]:
    async with FakeAdb() as fake:
        monkeypatch.setenv(adb.SERVER_VARIABLE, str(fake.port))
        yield fake


async def test_devices_on_usb_are_told_from_others(server: FakeAdb) -> None:
    found = await adb.devices()
    assert [(d.serial, d.state, d.usb) for d in found] == [
        ("R58M123", "device", True),
        ("emulator-5554", "offline", False),
        ("ZY22", "unauthorized", True),
    ]
    assert found[0].model == "SM_A525F"


async def test_a_stream_reaches_the_phones_port(server: FakeAdb) -> None:
    sock = await adb.open_stream("R58M123", 47800)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, b"VSHP")
    assert await loop.sock_recv(sock, 100) == b"VSHP"
    sock.close()
    assert server.asked == ["host:transport:R58M123", "tcp:47800"]


async def test_a_device_that_is_gone_is_an_error_with_adbs_words(server: FakeAdb) -> None:
    with pytest.raises(adb.AdbError, match="device 'gone' not found"):
        await adb.open_stream("gone", 47800)


async def test_changes_are_told_until_the_server_ends(server: FakeAdb) -> None:
    told = asyncio.Queue[int]()
    task = asyncio.create_task(adb.track(lambda: told.put_nowait(1)))
    async with asyncio.timeout(5):
        await told.get()
        server.changes.set()
        await told.get()
        with pytest.raises(adb.AdbError, match="closed"):
            await task


@pytest.mark.parametrize(
    "garbage",
    [b"HTTP/1.1 400\r\n\r\n", b"OK", b"OKAYzzzz", b"OKAYffff", b"FAILffff", b"FAIL-001", b""],
)
async def test_garbage_is_an_error(server: FakeAdb, garbage: bytes) -> None:
    server.answer_with = garbage
    with pytest.raises(adb.AdbError):
        await adb.devices()


async def test_without_a_server_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeAdb() as fake:
        monkeypatch.setenv(adb.SERVER_VARIABLE, str(fake.port))
    with pytest.raises(ConnectionRefusedError):
        await adb.devices()


@pytest.mark.parametrize("serial", ["", "a b", "x" * 65, "a;b", "1.2.3.4:5555"])
def test_what_no_serial_is(serial: str) -> None:
    assert not adb.is_serial(serial)
