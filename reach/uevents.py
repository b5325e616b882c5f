"""The kernel's own news of what is plugged in and out (netlink, `NETLINK_KOBJECT_UEVENT`).

A datagram is `ACTION@DEVPATH` and `NAME=VALUE` texts, each ended by a NUL. Group 1 is the
kernel's; udev's own news are group 2. The sender's port has to be 0, the kernel: anybody else
may send to the socket's address. Sources: netlink(7); Linux, lib/kobject_uevent.c.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

_KOBJECT_UEVENT = 15
_KERNEL = 1
_FROM_KERNEL = 0
MAX_EVENT = 8192
"""The kernel's own bound is 2 KiB (UEVENT_BUFFER_SIZE)."""
_ACTIONS = (b"add", b"remove", b"bind")
"""`bind` comes when the device's interfaces are known."""


async def track(changed: Callable[[], None]) -> None:
    """Call `changed` whenever a USB device comes or goes.

    Until cancelled; costs nothing while nothing happens. Raises OSError where it cannot be heard.
    """
    news = asyncio.Event()
    sock = socket.socket(
        socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
        _KOBJECT_UEVENT,
    )  # fmt: skip
    with sock:
        sock.bind((0, _KERNEL))
        loop = asyncio.get_running_loop()

        def readable() -> None:
            if _usb_in(sock):
                news.set()

        loop.add_reader(sock.fileno(), readable)
        try:
            while True:
                await news.wait()
                news.clear()
                changed()
        finally:
            loop.remove_reader(sock.fileno())


def _usb_in(sock: socket.socket) -> bool:
    """Take all that is there; whether something of it is about USB, or was lost."""
    told = False
    while True:
        try:
            data, sender = sock.recvfrom(MAX_EVENT)
        except BlockingIOError:
            return told
        except OSError as error:
            told = True
            if error.errno != errno.ENOBUFS:
                return told
            # The kernel drops more, and says nothing, until all that is there has been taken.
            continue
        told = told or (sender[0] == _FROM_KERNEL and is_usb(data))


def is_usb(event: bytes) -> bool:
    """Whether a datagram of the kernel's is about a USB device.

    News of interfaces are left out: our own claim of one is told, too.
    """
    head, *fields = event.split(b"\0")
    device = b"SUBSYSTEM=usb" in fields and b"DEVTYPE=usb_device" in fields
    return device and head.partition(b"@")[0] in _ACTIONS
