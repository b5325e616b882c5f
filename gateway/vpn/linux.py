"""The Linux source: interfaces and routes from the kernel, changes as it tells them.

Two netlink sockets. One is bound to the groups of links, addresses, routes and
rules, and only wakes the detector: what a notice says is not read, since the
tables are asked afresh anyway (notices may be lost when many come at once, the
kernel says so by ENOBUFS, and then too the tables are the truth). The other
asks (`asker`); a snapshot costs one to two milliseconds.

Where Internet traffic goes is found by look-ups toward both halves of each
family's address space, two destinations each, so that a host route to one of
them decides nothing. The kernel evaluates rules, tables and this process's
user as for its sockets. No packet is sent.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from gateway.vpn import rtnetlink as rt
from gateway.vpn.asker import Asker
from gateway.vpn.classify import tunnel_kind
from gateway.vpn.snapshot import (
    INET,
    INET6,
    MAX_ADDRESSES,
    MAX_INTERFACES,
    Address,
    Interface,
    Snapshot,
)

RECEIVE_SIZE = 1 << 16
EVENT_BUFFER = 1 << 20
"""Room for a burst of notices; more is ENOBUFS, which wakes just as well."""
MAX_DRAIN = 64
"""Notices read at one wake-up before the loop has its turn again."""

PROBES: dict[int, tuple[tuple[str, str], tuple[str, str]]] = {
    INET: (("1.1.1.1", "93.184.215.14"), ("193.0.14.129", "151.101.1.140")),
    INET6: (
        ("2001:500:2f::f", "2606:4700:4700::1111"),
        ("2a00:1450:4001:80b::200e", "2c0f:fb50::1"),
    ),
}
"""Far hosts of each half of the family's address space in use; nothing is sent to them."""


def _packed(version: int, text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET if version == INET else socket.AF_INET6, text)


class LinuxSource:
    """See the module's text."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._events: socket.socket | None = None
        self._asker = Asker()
        self._wake: Callable[[], None] = lambda: None

    @staticmethod
    def available() -> bool:
        """Whether this process may listen to the kernel's notices (not so on Android 13)."""
        try:
            with _netlink(rt.GROUPS):
                return True
        except OSError:
            return False

    def start(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._events = _netlink(rt.GROUPS)
        self._events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, EVENT_BUFFER)
        self._events.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._events.fileno(), self._on_notice)

    def stop(self) -> None:
        if self._events is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._events.fileno())
            self._events.close()
            self._events = None
        self._asker.close()

    def attend(self, sharing: bool) -> None:
        """Notices come by themselves."""

    def snapshot(self) -> Snapshot:
        interfaces = self._interfaces()
        reaches: set[tuple[int, int]] = set()
        default: dict[int, int] = {}
        for version in (INET, INET6):
            index = self._takes_all(version)
            if index:
                default[version] = index
        elsewhere: set[int] = set()
        for interface in interfaces:
            if not interface.running or interface.loopback:
                continue
            for version in (INET, INET6):
                if interface.sources(version) and self._reaches(version, interface.index):
                    reaches.add((version, interface.index))
            spare = tunnel_kind(interface) and interface.index not in default.values()
            if spare and any(self._has_default(v, interface.index) for v in (INET, INET6)):
                elsewhere.add(interface.index)
        return Snapshot(interfaces, default, frozenset(reaches), frozenset(elsewhere))

    def still(self, addresses: tuple[str, ...]) -> bool:
        """The kernel would have said otherwise."""
        return True

    def counters(self, index: int) -> tuple[int, int, int] | None:
        for message in self._asker.ask(rt.get_link(self._asker.next(), index)):
            return rt.parse_link(message).stats
        return None

    def _interfaces(self) -> tuple[Interface, ...]:
        links: dict[int, rt.Link] = {}
        for message in self._asker.ask(rt.dump_links(self._asker.next())):
            if message.type == rt.RTM_NEWLINK and len(links) < MAX_INTERFACES:
                link = rt.parse_link(message)
                links[link.index] = link
        addresses: dict[int, list[Address]] = {index: [] for index in links}
        for message in self._asker.ask(rt.dump_addresses(self._asker.next())):
            found = rt.parse_address(message) if message.type == rt.RTM_NEWADDR else None
            if found is None:
                continue
            of_link = addresses.get(found.index)
            if of_link is not None and len(of_link) < MAX_ADDRESSES:
                of_link.append(Address(found.packed, found.prefix, found.usable))
        return tuple(
            Interface(
                link.index,
                link.name,
                link.flags,
                link.kind,
                tuple(addresses[link.index]),
                link.port,
            )
            for link in links.values()
        )

    def _takes_all(self, version: int) -> int | None:
        """The interface by which both halves of the address space are reached."""
        halves = [
            {self._look_up(_packed(version, far)) for far in half} - {0} for half in PROBES[version]
        ]
        both = halves[0] & halves[1]
        return min(both) if both else None

    def _reaches(self, version: int, index: int) -> bool:
        return any(
            self._look_up(_packed(version, far), index) == index
            for half in PROBES[version]
            for far in half[:1]
        )

    def _look_up(self, destination: bytes, index: int = 0) -> int:
        """The interface a packet of ours would leave by; 0 when it would not leave."""
        try:
            for message in self._asker.ask(rt.get_route(self._asker.next(), destination, index)):
                if message.type == rt.RTM_NEWROUTE:
                    route = rt.parse_route(message)
                    return route.index if route.type == rt.RTN_UNICAST else 0
        except rt.NetlinkError:
            pass
        return 0

    def _has_default(self, version: int, index: int) -> bool:
        """Whether some table sends everything (or a half of it) by the interface."""
        family = rt.AF_INET if version == INET else rt.AF_INET6
        # /3 is 2000::/3, all of IPv6 in use.
        wide = 1 if version == INET else 3
        try:
            answer = self._asker.ask(rt.dump_routes(self._asker.next(), family, index))
        except rt.NetlinkError:
            return False
        routes = (rt.parse_route(m) for m in answer if m.type == rt.RTM_NEWROUTE)
        return any(
            r.index == index and r.length <= wide and r.type == rt.RTN_UNICAST for r in routes
        )

    def _on_notice(self) -> None:
        """Something changed: empty the socket, then let the detector look."""
        if self._events is None:
            return
        for _ in range(MAX_DRAIN):
            try:
                self._events.recv(RECEIVE_SIZE)
            except BlockingIOError:
                break
            except OSError:
                continue  # ENOBUFS: notices were lost, which is news too.
        self._wake()


def _netlink(groups: int) -> socket.socket:
    sock = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    try:
        sock.bind((0, groups))
    except OSError:
        sock.close()
        raise
    return sock
