"""The phone's source: interfaces as an unprivileged Android app may read them.

An app gets no routing notices and no link table there (binding a netlink socket
is refused, /proc/net is closed). What is left, and used here: addresses of both
families over a netlink socket that is not bound (as bionic's own getifaddrs does
it), ioctls for names and flags, and a connected UDP socket, which sends nothing
but makes the kernel choose a source address by the rules for this very app - the
interface that owns it is the one that takes the app's traffic. A VPN that excludes
the app therefore shows as another interface's address while the tunnel stands in
the list.

Without notices the detector looks every `POLL` seconds, and only while someone
shares; in between a sharing phone's sockets fail closed by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
from collections.abc import Callable

from gateway.vpn import rtnetlink as rt
from gateway.vpn.asker import Asker
from gateway.vpn.classify import tunnel_kind
from gateway.vpn.linux import PROBES
from gateway.vpn.snapshot import (
    IFF_LOOPBACK,
    IFF_POINTOPOINT,
    INET,
    INET6,
    MAX_ADDRESSES,
    MAX_INTERFACES,
    Address,
    Interface,
    Snapshot,
)

POLL = 1.5
"""Seconds between looks while sharing."""
SIOCGIFFLAGS = 0x8913
PROBE_PORT = 53


class AndroidSource:
    """See the module's text. It works, slower, on any Linux."""

    def __init__(self, poll: float = POLL) -> None:
        self._poll = poll
        self._wake: Callable[[], None] = lambda: None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._sharing = False
        self._asker = Asker()

    def start(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self.attend(self._sharing)

    def stop(self) -> None:
        self._sharing = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._asker.close()
        self._loop = None

    def attend(self, sharing: bool) -> None:
        self._sharing = sharing
        if sharing and self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(self._poll, self._tick)
        elif not sharing and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def snapshot(self) -> Snapshot:
        interfaces = self._interfaces()
        owners = {a.packed: i for i in interfaces for a in i.addresses if not a.scoped}
        default: dict[int, int] = {}
        reaches: set[tuple[int, int]] = set()
        for version in (INET, INET6):
            halves = []
            for half in PROBES[version]:
                sources = (_source_toward(version, far) for far in half)
                halves.append({owners[s].index for s in sources if s in owners})
            both = halves[0] & halves[1]
            if both:
                default[version] = min(both)
                reaches.add((version, min(both)))
        # A tunnel that stands there while this app's traffic goes by another interface:
        # what the VPN app's own settings decide, and only they can change.
        elsewhere = frozenset(
            i.index for i in interfaces if tunnel_kind(i) and i.index not in default.values()
        )
        return Snapshot(interfaces, default, frozenset(reaches), elsewhere)

    def still(self, addresses: tuple[str, ...]) -> bool:
        """One connected socket per family of the VPN; costs a tenth of a snapshot."""
        for version in (INET, INET6):
            family = socket.AF_INET if version == INET else socket.AF_INET6
            own = {
                socket.inet_pton(family, a) for a in addresses if (":" in a) == (version == INET6)
            }
            if own and _source_toward(version, PROBES[version][0][0]) in own:
                return True
        return False

    def counters(self, index: int) -> tuple[int, int, int] | None:
        """Android shows apps no interface's counters."""
        return None

    def _interfaces(self) -> tuple[Interface, ...]:
        """All that have an address; those without one are of no use to anybody here."""
        addresses: dict[int, list[Address]] = {}
        for message in self._asker.ask(rt.dump_addresses(self._asker.next())):
            found = rt.parse_address(message) if message.type == rt.RTM_NEWADDR else None
            if found is not None:
                of_index = addresses.setdefault(found.index, [])
                if len(of_index) < MAX_ADDRESSES:
                    of_index.append(Address(found.packed, found.prefix, found.usable))
        interfaces = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asker:
            for index, of_index in list(addresses.items())[:MAX_INTERFACES]:
                with contextlib.suppress(OSError):
                    name = socket.if_indextoname(index)
                    flags = _flags(asker, name)
                    # Names are all there is to tell a tunnel by, and a bridge or a virtual
                    # Ethernet may have a tunnel's name: a real one is point to point.
                    kind = "" if flags & (IFF_POINTOPOINT | IFF_LOOPBACK) else "ethernet"
                    interfaces.append(Interface(index, name, flags, kind, tuple(of_index)))
        return tuple(interfaces)

    def _tick(self) -> None:
        self._timer = None
        self._wake()
        self.attend(self._sharing)


def _flags(asker: socket.socket, name: str) -> int:
    request = struct.pack("16s24x", name.encode())
    answer = fcntl.ioctl(asker.fileno(), SIOCGIFFLAGS, request)
    return int(struct.unpack_from("=H", answer, 16)[0])


def _source_toward(version: int, destination: str) -> bytes | None:
    """The address the kernel would send from toward a far host; nothing is sent."""
    family = socket.AF_INET if version == INET else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.connect((destination, PROBE_PORT))
            return socket.inet_pton(family, sock.getsockname()[0])
    except OSError:
        return None
