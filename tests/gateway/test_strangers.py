"""What strangers leave behind when they go: nothing."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from gateway import listeners
from gateway.gateway import Gateway
from gateway.link import SessionLink
from gateway.model import MemoryStore
from tests.fakes.waiting import settle
from tests.gateway.devices import CONFIG, Device, key, paired, port_of
from vshp.config import CloseReason, Hello
from vshp.constants import MAX_HALF_OPEN
from vshp.datagram_session import DatagramClientSession
from vshp.events import ApprovalPending
from vshp.session import ClientSession

HELLO = Hello("stranger", "linux")


@pytest.fixture
async def gateway(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    for name in ("HANDSHAKE_BURST", "ALL_HANDSHAKE_BURST", "CODE_BURST", "ALL_CODE_BURST"):
        monkeypatch.setattr(listeners, name, 1e6)
    monkeypatch.setattr(listeners, "MAX_STRANGERS_PER_ADDRESS", 1000)
    gateway = Gateway(CONFIG, MemoryStore())
    await gateway.start()
    yield gateway
    await gateway.stop()


@contextmanager
def nothing_for_the_collector() -> Iterator[None]:
    """What was let go inside is freed without the garbage collector's help."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
        gc.collect()
        rooms = "gateway", "vshp", "noise"
        assert [each for each in gc.garbage if type(each).__module__.startswith(rooms)] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def test_connections_begun_and_broken_off_are_freed_at_once(gateway: Gateway) -> None:
    there = ("127.0.0.1", port_of(gateway))
    with nothing_for_the_collector():
        for size in (0, 7, 2000) * 4:
            message = bytes(ClientSession(key(), None, HELLO, now=0.0).writer.output())
            with socket.create_connection(there) as stranger:
                stranger.send(message[:size])
                await settle(lambda: gateway._entrance.links.by_id)
                await asyncio.sleep(0.01)
            await settle(lambda: not gateway._entrance.links.by_id)


@pytest.mark.parametrize("udp", [False, True])
async def test_sessions_that_ended_are_freed_at_once(gateway: Gateway, udp: bool) -> None:
    await paired(gateway, udp=udp)
    with nothing_for_the_collector():
        for known in (True, False, False):
            device = Device(gateway, key(), known=known, udp=udp)
            if not known:
                await device.until(ApprovalPending)
            device.session.close(CloseReason.DISCONNECTED, device.loop.time())
            await device.flush()
            device.leave()
            del device
            await settle(lambda: len(gateway._entrance.links.by_id) <= 1)


async def test_half_open_datagram_sessions_that_make_way_leave_no_link(gateway: Gateway) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(("127.0.0.1", port_of(gateway)))
        for _ in range(MAX_HALF_OPEN + 20):
            session = DatagramClientSession(key(), None, HELLO, address="", now=loop.time())
            for _ in range(2):  # the second time with the cookie
                for data, _size in session.datagrams_to_send():
                    sock.send(data)
                answer = await asyncio.wait_for(loop.sock_recv(sock, 2048), 5)
                if answer[0] != 4:
                    break
                session.receive_datagram(memoryview(answer), "", loop.time())
    await settle(lambda: len(gateway._entrance.links.by_id) <= MAX_HALF_OPEN)
    assert (
        len(gateway._entrance.links.by_id) == len(gateway._entrance.links.doorman) == MAX_HALF_OPEN
    )
    for link in gateway._entrance.links.by_id.values():
        assert isinstance(link, SessionLink) and not link.session.closed
