"""A phone over pyusb, with a model of the bus below it and a double of adbd behind that."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from reach import adb_host, adb_session
from reach.adb_host import MAX_OUTSTANDING, WINDOW
from reach.adb_key import AdbKey, load_key
from reach.adb_session import AdbSession
from reach.cable import CableError, PhoneState
from reach.usb_pipes import UsbPipes
from tests.fakes.adbd import OLD_VERSION, Adbd, UsbWire
from tests.fakes.echo import Echo, exchange
from tests.fakes.ports import free_port
from tests.fakes.usb_backend import FakeBackend
from tests.fakes.waiting import settle

PACKET_SIZES = (64, 512, 1024)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> AdbKey:
    return load_key(tmp_path_factory.mktemp("state"), "vpnshare@laptop")


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


class Cable:
    """A phone that is plugged in, and what speaks to it."""

    def __init__(self, key: AdbKey, packet_size: int = 512, **kind: Any) -> None:
        self.wire = UsbWire(packet_size)
        self.backend = FakeBackend(self.wire)
        self.key = key
        self.adbd = Adbd(self.wire, **kind).start()
        self.sessions: list[AdbSession] = []
        self.news = 0

    def session(self) -> AdbSession:
        def changed() -> None:
            self.news += 1

        def pipes() -> UsbPipes:
            return UsbPipes(self.backend, 1, 2)

        self.sessions.append(AdbSession(pipes, lambda: self.key, changed))
        return self.sessions[-1]

    async def close(self) -> None:
        for session in self.sessions:
            await session.wait_closed()
        self.adbd.stop()


@pytest.fixture(autouse=True)
def ends_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that is closed is waited for: a read's patience, each time."""
    monkeypatch.setattr(adb_session, "POLL", 0.05)


@pytest.fixture
async def plug(key: AdbKey) -> AsyncIterator[Callable[..., Cable]]:
    cables: list[Cable] = []

    def make(packet_size: int = 512, **kind: object) -> Cable:
        kind.setdefault("auth", False)
        cables.append(Cable(key, packet_size, **kind))
        return cables[-1]

    yield make
    for cable in cables:
        await cable.close()
        assert cable.adbd.violations == [] and cable.wire.broken == ""


def sizes(packet: int) -> list[int]:
    """Around every multiple of the packet size that matters, and of the longest payload."""
    near = (packet, 2 * packet, 3 * packet, 16384, 65536, 256 * 1024)
    return sorted({24, 1, *(n + d for n in near for d in (-1, 0, 1))})


@pytest.mark.parametrize("packet", PACKET_SIZES)
@pytest.mark.parametrize("delayed", [True, False], ids=["delayed_ack", "one_at_a_time"])
async def test_every_size_comes_through_whole_both_ways(
    plug: Callable[..., Cable], echo: Echo, packet: int, delayed: bool
) -> None:
    session = plug(packet, delayed=delayed).session()
    sock = await session.open_stream(echo.port)
    with sock:
        for size in sizes(packet):
            data = os.urandom(size)
            assert await exchange(sock, data) == data, size


async def test_a_phone_before_2017_wants_checksums_and_small_payloads(
    plug: Callable[..., Cable], echo: Echo
) -> None:
    """The double counts a wrong sum, and a payload beyond 4 KiB, as violations."""
    cable = plug(version=OLD_VERSION, delayed=False, max_payload=4096)
    with await cable.session().open_stream(echo.port) as sock:
        data = os.urandom(50_000)
        assert await exchange(sock, data) == data


async def test_nobody_listens_there(plug: Callable[..., Cable]) -> None:
    session = plug().session()
    with pytest.raises(CableError, match="nobody listens there on the phone") as caught:
        await session.open_stream(free_port())
    assert caught.value.errno == errno.ECONNREFUSED
    assert session.streams == 0


async def test_a_person_is_asked_once_and_the_key_is_known_from_then_on(
    plug: Callable[..., Cable], echo: Echo
) -> None:
    cable = plug(auth=True)
    session = cable.session()
    opening = asyncio.ensure_future(session.open_stream(echo.port))
    await settle(lambda: session.state is PhoneState.NOT_ALLOWED)
    assert not opening.done()
    await settle(cable.adbd.asked.is_set)
    cable.adbd.allow(cable.key.public_key())
    with await opening as sock:
        assert session.state is PhoneState.READY
        assert await exchange(sock, b"let in") == b"let in"
    await session.wait_closed()
    cable.adbd.asked.clear()
    with await cable.session().open_stream(echo.port) as sock:
        assert await exchange(sock, b"known") == b"known"
    assert not cable.adbd.asked.is_set()


async def test_who_gives_up_while_the_person_is_asked_leaves_nothing(
    plug: Callable[..., Cable], echo: Echo
) -> None:
    session = plug(auth=True).session()
    opening = asyncio.ensure_future(session.open_stream(echo.port))
    await settle(lambda: session.state is PhoneState.NOT_ALLOWED)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert session.streams == 0


async def test_the_ends_of_a_stream_are_told_to_the_other_side(
    plug: Callable[..., Cable], echo: Echo
) -> None:
    cable = plug()
    session = cable.session()
    loop = asyncio.get_running_loop()
    sock = await session.open_stream(echo.port)
    assert await exchange(sock, b"x") == b"x"
    echo.taken[0].shutdown(socket.SHUT_RDWR)
    async with asyncio.timeout(10):
        assert await loop.sock_recv(sock, 10) == b""
    sock.close()
    other = await session.open_stream(echo.port)
    assert await exchange(other, b"y") == b"y"
    other.close()
    await settle(lambda: "CLSE" in cable.adbd.log)
    await settle(lambda: session.streams == 0)


async def test_what_was_sent_before_the_end_is_delivered(
    plug: Callable[..., Cable], echo: Echo
) -> None:
    """The phone ends a stream while our reader is far behind."""
    echo.echoing = False
    sock = await plug().session().open_stream(echo.port)
    await settle(lambda: echo.taken)
    data = os.urandom(WINDOW - 1000)
    await asyncio.to_thread(_send_and_close, echo.taken[0], data)
    got = bytearray()
    async with asyncio.timeout(20):
        while piece := await asyncio.get_running_loop().sock_recv(sock, 10_000):
            got += piece
    sock.close()
    assert bytes(got) == data


def _send_and_close(sock: socket.socket, data: bytes) -> None:
    sock.sendall(data)
    sock.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("delayed", [True, False], ids=["delayed_ack", "one_at_a_time"])
async def test_who_does_not_read_costs_a_window_and_nobody_else(
    plug: Callable[..., Cable], echo: Echo, delayed: bool
) -> None:
    """Our own reader stops, with a host behind it that sends for ever; another stream goes on."""
    cable = plug(delayed=delayed)
    session = cable.session()
    echo.echoing = False
    lazy = await session.open_stream(echo.port)
    await settle(lambda: echo.taken)
    sender = echo.taken[0]
    sender.settimeout(0.2)
    sent = await asyncio.to_thread(_send_until_full, sender)
    assert sent > WINDOW // 4
    assert _held(session) <= WINDOW
    echo.echoing = True
    with await session.open_stream(echo.port) as sock:
        data = os.urandom(700_000)
        assert await exchange(sock, data) == data
    assert _held(session) <= WINDOW
    lazy.close()


def _send_until_full(sock: socket.socket) -> int:
    total = 0
    with contextlib.suppress(TimeoutError):
        while total < 64 << 20:
            total += sock.send(bytes(65536))
    return total


def _held(session: AdbSession) -> int:
    """Bytes that wait in the session's memory."""
    return sum(stream.size for stream in list(session._streams.values()))


@pytest.mark.parametrize("delayed", [True, False], ids=["delayed_ack", "one_at_a_time"])
async def test_a_reader_on_the_phone_that_stops_is_waited_for_outside_the_phone(
    plug: Callable[..., Cable], echo: Echo, delayed: bool
) -> None:
    cable = plug(delayed=delayed)
    session = cable.session()
    echo.echoing = False
    stuck = await session.open_stream(echo.port)
    await settle(lambda: echo.taken)
    stuck.setblocking(True)
    stuck.settimeout(0.2)
    sent = await asyncio.to_thread(_send_until_full, stuck)
    assert 0 < sent < 32 << 20
    assert cable.adbd.most_queued <= MAX_OUTSTANDING
    echo.echoing = True
    with await session.open_stream(echo.port) as sock:
        data = os.urandom(300_000)
        assert await exchange(sock, data) == data
    stuck.close()


async def test_many_streams_at_once_keep_their_bytes_apart(
    plug: Callable[..., Cable], echo: Echo
) -> None:
    session = plug().session()

    async def one() -> bool:
        with await session.open_stream(echo.port) as sock:
            data = os.urandom(150_000)
            return await exchange(sock, data) == data

    assert all(await asyncio.gather(*(one() for _ in range(12))))
    await settle(lambda: session.streams == 0)


@pytest.mark.parametrize("after", [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 20])
async def test_a_phone_unplugged_in_the_middle_of_any_message_is_told_as_that(
    key: AdbKey, echo: Echo, after: int
) -> None:
    cable = Cable(key, auth=True, approve=lambda key: True)
    cable.wire.cut_after = after
    session = cable.session()
    with pytest.raises(OSError):
        async with asyncio.timeout(20):
            sock = await session.open_stream(echo.port)
            with sock:
                while await exchange(sock, bytes(5000)):
                    pass
            raise ConnectionResetError
    await settle(lambda: session.over)
    assert session.error is not None and "unplugged" in str(session.error)
    assert cable.backend.claimed == 0
    with pytest.raises(CableError, match="unplugged"):
        await session.open_stream(echo.port)
    await cable.close()


LEFT_BY_A_KILLED_HOST = {
    "in a payload": (b"WRTE", 40_000, 16384),
    "before a zero-length transfer": (b"WRTE", 1024, 1024),
}


@pytest.mark.parametrize("left", sorted(LEFT_BY_A_KILLED_HOST))
async def test_a_session_that_was_killed_in_a_message_is_recovered_from(
    plug: Callable[..., Cable], echo: Echo, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The phone waits for the rest of a message; the greeting is taken for it, and then heard."""
    monkeypatch.setattr(adb_host, "GREETING_PAUSE", 0.3)
    cable = plug()
    _break_off(cable.wire, *LEFT_BY_A_KILLED_HOST[left])
    session = cable.session()
    with await session.open_stream(echo.port) as sock:
        assert await exchange(sock, b"again") == b"again"
    await session.wait_closed()
    assert cable.wire.resets or session.counted()["greeting__repeated"]
    cable.wire.broken = ""


def _break_off(wire: UsbWire, command: bytes, announced: int, sent: int) -> None:
    """A host that is killed when it has sent so much of a message's payload."""
    from reach.adb_wire import HEADER

    word = int.from_bytes(command, "little")
    wire.host_out(HEADER.pack(word, 1, 1, announced, 0, word ^ 0xFFFFFFFF))
    if sent:
        wire.host_out(bytes(sent))
