"""The kernel's news of USB: real datagrams, broadcast by the kernel in a network of the test's own.

A user who rules a network namespace may have its kernel broadcast an event there (Linux,
lib/kobject_uevent.c, uevent_net_rcv): as with real news, the sender is the kernel, port 0.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest

from reach import uevents
from tests.fakes.waiting import settle

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a network of its own")

KOBJECT_UEVENT = 15
CLONE_NEWNET = 0x40000000
REQUEST, EVENT = 1, 16
HEADER = struct.Struct("<IHHII")
KERNEL, EVERYBODY = (0, 0), (0, 1)
PHONE = b"SUBSYSTEM=usb\0DEVTYPE=usb_device\0"


def event(action: bytes, place: bytes = b"1-1", kind: bytes = PHONE) -> bytes:
    path = b"/devices/pci0000:00/usb1/" + place
    return b"%s@%s\0ACTION=%s\0DEVPATH=%s\0%s" % (action, path, action, path, kind)


class Sender:
    """Who sends news in a namespace, with the kernel's help or without."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, KOBJECT_UEVENT)
        self.sock.bind((0, 0))

    def by_kernel(self, data: bytes) -> None:
        """The kernel broadcasts it, with a number of its own at the end."""
        size = HEADER.size + len(data)
        self.sock.sendto(HEADER.pack(size, EVENT, REQUEST, 0, 0) + data, KERNEL)

    def forged(self, data: bytes, to: tuple[int, int] = EVERYBODY) -> None:
        self.sock.sendto(data, to)


def in_a_network_of_its_own(test: Callable[[Sender], Awaitable[None]]) -> None:
    """Run `test` on a loop in a thread whose network nobody else is in."""

    def body() -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "no network of its own")
        sender = Sender()
        with sender.sock:
            asyncio.run(_to_its_end(test(sender)))

    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        thread.submit(body).result(60)


async def _to_its_end(test: Awaitable[None]) -> None:
    await test


async def turns() -> None:
    """What lies in a socket is read: netlink delivers before `sendto` returns."""
    for _ in range(20):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def listening(told: list[int]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(uevents.track(lambda: told.append(1)))
    await turns()
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_what_the_kernel_tells_of_phones_is_heard_and_nobody_else() -> None:
    async def test(sender: Sender) -> None:
        told: list[int] = []
        async with listening(told):
            for number, action in enumerate((b"add", b"bind", b"remove"), 1):
                sender.by_kernel(event(action))
                await settle(partial(lambda n: len(told) == n, number))
            for data in (
                event(b"bind", b"1-1:1.1", b"SUBSYSTEM=usb\0DEVTYPE=usb_interface\0"),
                event(b"change"),
                event(b"add", b"x", b"SUBSYSTEM=net\0"),
                b"nonsense",
                bytes(1500),
            ):
                sender.by_kernel(data)
            port = _listener()
            sender.forged(event(b"add"))
            sender.forged(event(b"add"), (port, 0))
            sender.forged(bytes(70_000))
            await turns()
            assert len(told) == 3, "others' news, and what only looks like the kernel's"
            sender.by_kernel(event(b"add"))
            await settle(lambda: len(told) == 4)

    in_a_network_of_its_own(test)


def _listener() -> int:
    """The port of the only other socket that hears the kernel in this thread's network."""
    with open("/proc/thread-self/net/netlink") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    [port] = [int(r[2]) for r in rows if int(r[1]) == KOBJECT_UEVENT and int(r[3], 16) & 1]
    return port


def test_news_that_were_lost_are_taken_for_news_of_phones() -> None:
    """More than the socket holds, while nobody reads: the kernel drops some, and says so."""

    async def test(sender: Sender) -> None:
        told: list[int] = []
        async with listening(told):
            for _ in range(4_000):
                sender.by_kernel(event(b"add", b"x" * 900, b"SUBSYSTEM=net\0"))
            await settle(lambda: told)
            sender.by_kernel(event(b"add"))
            await settle(lambda: len(told) > 1)

    in_a_network_of_its_own(test)


def test_a_watch_that_is_over_leaves_no_socket() -> None:
    async def test(sender: Sender) -> None:
        before = set(os.listdir("/proc/self/fd"))
        async with listening([]):
            pass
        assert set(os.listdir("/proc/self/fd")) <= before

    in_a_network_of_its_own(test)
