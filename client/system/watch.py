"""News of the host's network: an interface, address or route has come or gone.

A netlink socket on the loop; nothing ticks. Bursts (one cable pulled is a
dozen messages) are told once. Where netlink cannot be had, there is no news,
and the session's own liveness has to do.

Source: rtnetlink(7), linux/rtnetlink.h (RTMGRP_*).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

log = logging.getLogger(__name__)

_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE."""
SETTLE = 0.2
"""Seconds from the first message of a burst to the news."""
_PIECE = 65536


class NetworkWatch:
    """Calls `on_change` on the loop after a change."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._socket: socket.socket | None = None
        self._pending: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to listen; a system without netlink is no error."""
        try:
            sock = socket.socket(
                socket.AF_NETLINK,
                socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
                socket.NETLINK_ROUTE,
            )
        except (OSError, AttributeError) as error:
            log.info("network changes are not watched: %s", error)
            return
        try:
            sock.bind((0, _GROUPS))
        except OSError as error:
            log.info("network changes are not watched: %s", error)
            sock.close()
            return
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock.fileno(), self._ready)

    def stop(self) -> None:
        """Safe to call twice."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _ready(self) -> None:
        assert self._socket is not None
        while True:
            try:
                self._socket.recv(_PIECE)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                # ENOBUFS: news were lost, so there was news.
                break
        if self._pending is None:
            self._pending = asyncio.get_running_loop().call_later(SETTLE, self._tell)

    def _tell(self) -> None:
        self._pending = None
        self._on_change()


def is_local(address: str) -> bool:
    """Whether a socket could use `address` now: it is (still) this host's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if "%" in address or address.startswith("fe80:"):
        return True
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
