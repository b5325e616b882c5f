"""The phone's source: interfaces as an unprivileged Android app may read them.

An app gets no routing notices and no link table there (binding a netlink socket
is refused, /proc/net is closed). What is left, and used here: SIOCGIFCONF-like
ioctls for flags and indexes, libc's `getifaddrs` for addresses of both families
by ctypes, and a connected UDP socket, which sends nothing but makes the kernel
choose a source address by the rules for this very app - the interface that owns
it is the one that takes the app's traffic. A VPN that excludes the app therefore
shows as another interface's address while the tunnel stands in the list.

Without notices the detector looks every `POLL` seconds, and only while someone
shares; in between a sharing phone's sockets fail closed by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import socket
import struct
import sys
from collections.abc import Callable, Iterator

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
MAX_ENTRIES = MAX_INTERFACES * 8
"""Of getifaddrs' list: a bound against a list that ends nowhere."""


class _SockAddr(ctypes.Structure):
    _fields_ = (("family", ctypes.c_ushort), ("data", ctypes.c_ubyte * 26))


class _IfAddrs(ctypes.Structure):
    pass


_IfAddrs._fields_ = (
    ("next", ctypes.POINTER(_IfAddrs)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.POINTER(_SockAddr)),
    ("netmask", ctypes.POINTER(_SockAddr)),
    ("destination", ctypes.POINTER(_SockAddr)),
    ("data", ctypes.c_void_p),
)


class AndroidSource:
    """See the module's text. It works, slower, on any Linux."""

    def __init__(self, poll: float = POLL) -> None:
        self._poll = poll
        self._wake: Callable[[], None] = lambda: None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._sharing = False

    def start(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self.attend(self._sharing)

    def stop(self) -> None:
        self._sharing = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
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
        addresses: dict[str, list[Address]] = {}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asker:
            for name, address in interface_addresses():
                of_name = addresses.setdefault(name, [])
                if address is not None and len(of_name) < MAX_ADDRESSES:
                    of_name.append(address)
            interfaces = []
            for name, found in list(addresses.items())[:MAX_INTERFACES]:
                with contextlib.suppress(OSError):
                    flags = _flags(asker, name)
                    # Names are all there is to tell a tunnel by, and a bridge or a virtual
                    # Ethernet may have a tunnel's name: a real one is point to point.
                    kind = "" if flags & (IFF_POINTOPOINT | IFF_LOOPBACK) else "ethernet"
                    index = socket.if_nametoindex(name)
                    interfaces.append(Interface(index, name, flags, kind, tuple(found)))
        return tuple(interfaces)

    def _tick(self) -> None:
        self._timer = None
        self._wake()
        self.attend(self._sharing)


def _flags(asker: socket.socket, name: str) -> int:
    request = struct.pack("16s24x", name.encode())
    answer = fcntl.ioctl(asker.fileno(), SIOCGIFFLAGS, request)
    return int(struct.unpack_from("=H", answer, 16)[0])


def interface_addresses() -> Iterator[tuple[str, Address | None]]:
    """Every interface's name with each of its addresses (None: it has none of our families)."""
    libc = ctypes.CDLL(None, use_errno=True)
    head = ctypes.POINTER(_IfAddrs)()
    if libc.getifaddrs(ctypes.byref(head)) != 0:
        raise OSError(ctypes.get_errno(), "getifaddrs failed")
    found: list[tuple[str, Address | None]] = []
    try:
        entry = head
        for _ in range(MAX_ENTRIES):
            if not entry:
                break
            item = entry.contents
            if item.name:
                name = item.name.decode("utf-8", "replace")
                found.append((name, _address(item)))
            entry = item.next
    finally:
        libc.freeifaddrs(head)
    yield from found


def _address(item: _IfAddrs) -> Address | None:
    packed = _packed(item.address)
    if packed is None:
        return None
    mask = _packed(item.netmask)
    prefix = len(packed) * 8 if mask is None else int.from_bytes(mask, sys.byteorder).bit_count()
    return Address(packed, prefix)


def _packed(pointer: ctypes._Pointer[_SockAddr]) -> bytes | None:
    """The address in a sockaddr_in (at 4) or sockaddr_in6 (at 8)."""
    if not pointer:
        return None
    sockaddr = pointer.contents
    if sockaddr.family == socket.AF_INET:
        return bytes(sockaddr.data[2:6])
    if sockaddr.family == socket.AF_INET6:
        return bytes(sockaddr.data[6:22])
    return None


def _source_toward(version: int, destination: str) -> bytes | None:
    """The address the kernel would send from toward a far host; nothing is sent."""
    family = socket.AF_INET if version == INET else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.connect((destination, PROBE_PORT))
            return socket.inet_pton(family, sock.getsockname()[0])
    except OSError:
        return None
