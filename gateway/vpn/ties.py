"""The ways to tie a socket to one interface without privilege, and which of them work here.

=========  ==========  ============================================================
way        for         how
=========  ==========  ============================================================
index      all         SO_BINDTOIFINDEX (Linux 5.0; unprivileged since 5.7)
name       all         SO_BINDTODEVICE (unprivileged since 5.7)
unicast    datagrams   IP_UNICAST_IF, IPV6_UNICAST_IF: the device of each datagram
                       sent; the socket must stay unconnected (before 6.0 the route
                       of a connected one is chosen without it)
scope      TCP         see below
address    TCP, IPv4   bind() to the VPN's address: holds when the address goes, but
                       not when only the device's routes or its up flag do
=========  ==========  ============================================================

*Scope.* An IPv6 TCP socket that connects to a link-local address becomes tied to
the interface in its scope, by the same field in the kernel that SO_BINDTODEVICE
sets, and stays tied when that connect has failed (net/ipv6/tcp_ipv6.c,
tcp_v6_connect). So a connect to the interface's own link-local address, which
never leaves the host and is refused or unreachable at once, ties the socket; the
disconnect that follows (connect to AF_UNSPEC, tcp_disconnect) keeps it. The same
socket then connects to IPv6 hosts, or as `MappedSocket` to IPv4 hosts by their
mapped addresses. What the kernel holds is read back each time.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from struct import Struct
from typing import Any

SO_BINDTODEVICE = 25
SO_BINDTOIFINDEX = 62
IP_BIND_ADDRESS_NO_PORT = 24
IP_UNICAST_IF = 50
IPV6_UNICAST_IF = 76
IFNAMSIZ = 16

LOOPBACK_INDEX = 1
"""The index of `lo` in every network namespace."""
LOOPBACK_NAME = "lo"
SCOPE_PORT = 1
"""tcpmux, which nobody serves; the address is our own, and whoever did would see a connect."""
NO_LINK_LOCAL = "fe80::1"
"""Connected to when the interface has no link-local address: there is then no route to it."""

_NETWORK_INDEX = Struct("!I")
_UNSPEC = Struct("=H14x").pack(socket.AF_UNSPEC)
_libc = ctypes.CDLL(None, use_errno=True)

MAPPED = "::ffff:"


class MappedSocket(socket.socket):
    """An IPv6 socket that talks to IPv4 hosts and speaks of their addresses as IPv4's."""

    def connect(self, address: Any, /) -> None:
        super().connect((MAPPED + address[0], address[1]))

    def connect_ex(self, address: Any, /) -> int:
        return super().connect_ex((MAPPED + address[0], address[1]))

    def getsockname(self) -> Any:
        return _unmapped(super().getsockname())

    def getpeername(self) -> Any:
        return _unmapped(super().getpeername())


def _unmapped(name: tuple[Any, ...]) -> tuple[Any, ...]:
    host = str(name[0]).removeprefix(MAPPED)
    return ("0.0.0.0" if host == "::" else host, name[1])


class Ties:
    """The system calls. `set_option` is the seam by which tests refuse some of them."""

    def set_option(self, sock: socket.socket, level: int, option: int, value: bytes | int) -> None:
        sock.setsockopt(level, option, value)

    def by_index(self, sock: socket.socket, index: int) -> None:
        self.set_option(sock, socket.SOL_SOCKET, SO_BINDTOIFINDEX, index)

    def by_name(self, sock: socket.socket, index: int, name: str) -> None:
        self.set_option(sock, socket.SOL_SOCKET, SO_BINDTODEVICE, name.encode())
        if socket.if_nametoindex(name) != index:
            raise OSError(errno.ENODEV, "the interface's name has passed to another one")

    def by_unicast(self, sock: socket.socket, index: int) -> None:
        packed = _NETWORK_INDEX.pack(index)
        if sock.family == socket.AF_INET6:
            self.set_option(sock, socket.IPPROTO_IPV6, IPV6_UNICAST_IF, packed)
        else:
            self.set_option(sock, socket.IPPROTO_IP, IP_UNICAST_IF, packed)

    def by_scope(self, sock: socket.socket, index: int, name: str, link_local: str | None) -> None:
        """Tie an IPv6 TCP socket, non-blocking and fresh; see the module's text."""
        # The plain method: a `MappedSocket`'s own would take the address for IPv4.
        socket.socket.connect_ex(sock, (link_local or NO_LINK_LOCAL, SCOPE_PORT, 0, index))
        if _libc.connect(sock.fileno(), _UNSPEC, len(_UNSPEC)) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        if bound_device(sock) != name:
            raise OSError(errno.ENODEV, "the kernel did not tie the socket to the interface")

    def by_address(self, sock: socket.socket, address: str) -> None:
        # The port is chosen at connect, so that one port serves many far hosts.
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((address, 0))

    def probe_index(self) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                self.by_index(sock, LOOPBACK_INDEX)
                return sock.getsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX) == LOOPBACK_INDEX
            except OSError:
                return False

    def probe_name(self) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                self.by_name(sock, LOOPBACK_INDEX, LOOPBACK_NAME)
                return True
            except OSError:
                return False

    def probe_unicast(self) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                self.by_unicast(sock, LOOPBACK_INDEX)
                return True
            except OSError:
                return False

    def probe_scope(self) -> bool:
        try:
            with socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
                self.by_scope(sock, LOOPBACK_INDEX, LOOPBACK_NAME, None)
                return True
        except OSError:
            return False


def bound_device(sock: socket.socket) -> str | None:
    """The name of the device that a socket is tied to; None if to none, or to one that is gone."""
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, IFNAMSIZ)
    except OSError:
        return None  # ENODEV: tied to a device that is gone.
    return raw.rstrip(b"\0").decode("utf-8", "replace") or None


def unicast_device(sock: socket.socket) -> str | None:
    """The name of the device that a socket's datagrams are sent by, where that is set."""
    try:
        if sock.family == socket.AF_INET6:
            index = sock.getsockopt(socket.IPPROTO_IPV6, IPV6_UNICAST_IF)
        else:
            index = sock.getsockopt(socket.IPPROTO_IP, IP_UNICAST_IF)
        index = socket.ntohl(index & 0xFFFFFFFF)
        return socket.if_indextoname(index) if index else None
    except OSError:
        return None
