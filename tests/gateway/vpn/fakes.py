"""A source of snapshots that a test writes itself, and interfaces to fill them with."""

from __future__ import annotations

import socket
from collections.abc import Callable

from gateway.vpn.snapshot import (
    IFF_LOOPBACK,
    IFF_POINTOPOINT,
    IFF_RUNNING,
    IFF_UP,
    Address,
    Interface,
    Snapshot,
)

UP = IFF_UP | IFF_RUNNING
TUNNEL = UP | IFF_POINTOPOINT
LOOPBACK = UP | IFF_LOOPBACK


def address(text: str, usable: bool = True) -> Address:
    """`10.8.0.2/24` or `fd00::2/64`."""
    host, _, prefix = text.partition("/")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return Address(socket.inet_pton(family, host), int(prefix), usable)


def interface(index: int, name: str, *addresses: str, flags: int = UP, kind: str = "") -> Interface:
    return Interface(index, name, flags, kind, tuple(address(a) for a in addresses))


class ScriptedSource:
    """Shows `now`; `change` sets another snapshot and wakes the detector."""

    def __init__(self, now: Snapshot | OSError) -> None:
        self.now = now
        self.sharing = False
        self.stays = True
        self._wake: Callable[[], None] = lambda: None

    def change(self, now: Snapshot | OSError) -> None:
        self.now = now
        self._wake()

    def start(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def stop(self) -> None:
        self._wake = lambda: None

    def attend(self, sharing: bool) -> None:
        self.sharing = sharing

    def snapshot(self) -> Snapshot:
        if isinstance(self.now, OSError):
            raise self.now
        return self.now

    def still(self, addresses: tuple[str, ...]) -> bool:
        return self.stays

    def counters(self, index: int) -> tuple[int, int, int] | None:
        return (index, 2 * index, 0)
