"""News of the host's network: an interface, address, route or rule has come or gone.

Netlink sockets on the loop; nothing ticks. Bursts (one cable pulled is a
dozen messages) are told once. Where netlink cannot be had, there is no news,
and the session's own liveness has to do.

Sources: rtnetlink(7), linux/rtnetlink.h (RTNLGRP_*), linux/netfilter/nfnetlink.h
(NFNLGRP_NFTABLES).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

log = logging.getLogger(__name__)

_ROUTE_GROUPS = (1, 5, 7, 8, 9, 11, 12, 19)
"""LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_IFINFO, IPV6_RULE."""
_NETFILTER = 12
_NFTABLES_GROUP = 7
_SOL_NETLINK = 270
_ADD_MEMBERSHIP = 1
SETTLE = 0.2
"""Seconds from the first message of a burst to the news."""
_PIECE = 65536
_FAMILIES = 2
"""Of netlink: rtnetlink and netfilter."""


class NetworkWatch:
    """Calls `on_change` on the loop after a change."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._sockets: list[socket.socket] = []
        self._pending: asyncio.TimerHandle | None = None

    @property
    def hears(self) -> bool:
        """Whether nothing can change unheard."""
        return len(self._sockets) == _FAMILIES

    def start(self) -> None:
        """Begin to listen; a system without netlink is no error."""
        self._listen(socket.AF_NETLINK, socket.NETLINK_ROUTE, _ROUTE_GROUPS)
        self._listen(socket.AF_NETLINK, _NETFILTER, (_NFTABLES_GROUP,))

    def _listen(self, family: int, protocol: int, groups: tuple[int, ...]) -> None:
        try:
            sock = socket.socket(
                family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol
            )
        except OSError as error:
            log.info("network changes are not all watched: %s", error)
            return
        try:
            sock.bind((0, 0))
            for group in groups:
                sock.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        except OSError as error:
            log.info("network changes are not all watched: %s", error)
            sock.close()
            return
        self._sockets.append(sock)
        asyncio.get_running_loop().add_reader(sock.fileno(), self._ready, sock)

    def stop(self) -> None:
        """Safe to call twice."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        for sock in self._sockets:
            asyncio.get_running_loop().remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()

    def _ready(self, sock: socket.socket) -> None:
        while True:
            try:
                sock.recv(_PIECE)
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
