"""Who may use the proxy.

Theory of operation. On a machine with several users a port on loopback is open to all of them.
The programs of the user that this client runs as, and of root, need no password: the kernel tells
whose a connection's other end is. For a Unix socket that is SO_PEERCRED, for TCP from this
machine the kernel's list of sockets (sock_diag), asked for the one socket with the two ends of
the connection. Everybody else needs the password, and so does everybody where the kernel does not
say (Android), or where the connection comes from another machine.

What makes it sound: the socket must be held by a process still. One whose holder has closed it is
listed as root's, with no inode; a connection like that is nobody's. A connection's ends are taken
for as long as ours is open, so nobody else's socket is found in the place of the one asked for.
Whoever passes connections on (ssh -L, socat) does so as its user: what such a program lets in,
that user lets in.

A datagram's sender is asked for in the same way: the socket that it came from must be the user's
who holds the TCP connection of its association.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

from client.outlet.proxy.asking import unmapped
from client.system.inet_diag import NETLINK_SOCK_DIAG, DiagError, DiagSocket, parse, request_one

USER = b"vpnshare"
"""The name that goes with the password."""
_PEER = struct.Struct("=iII")
"""`struct ucred`: pid, uid, gid (unix(7))."""
_ANSWER = 4096
_NOBODY = 65534
"""Stands for users that this user namespace does not know, and so for nobody."""


class Caller(NamedTuple):
    """Whose program is at the other end."""

    uid: int | None = None
    """None: the kernel does not say, or it is another machine's."""
    inode: int = 0
    """Of the socket there; 0 where it is not known."""
    known: bool = False
    """It needs no password."""


class Sockets:
    """Asks the kernel for one socket at a time; the answer is there when the question is."""

    def __init__(self) -> None:
        self._sock: socket.socket | None = None
        self._number = 0

    def find(
        self, protocol: int, source: tuple[bytes, int], destination: tuple[bytes, int]
    ) -> DiagSocket | None:
        """The socket with these ends; None when there is none, or the kernel does not say."""
        try:
            if self._sock is None:
                kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
                self._sock = socket.socket(socket.AF_NETLINK, kind, NETLINK_SOCK_DIAG)
            self._sock.send(request_one(protocol, source, destination))
            found, _ = parse(self._sock.recv(_ANSWER), protocol, measured=False)
        except DiagError:
            return None
        except OSError:
            # An answer that comes late would be taken for the next question's.
            self.close()
            return None
        return found[0] if found else None

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None


class Access:
    """Knows the password, and asks the kernel."""

    def __init__(
        self,
        password: str,
        find: Callable[[int, tuple[bytes, int], tuple[bytes, int]], DiagSocket | None],
    ) -> None:
        self._password = password.encode()
        self._find = find
        own = os.geteuid()
        self._trusted = frozenset({0, own} - {_NOBODY})

    def right(self, name: bytes, password: bytes) -> bool:
        """Whether this is the name and the password, in a time that tells nothing of them."""
        same = hmac.compare_digest(name, USER)
        return hmac.compare_digest(password, self._password) and same

    def caller(
        self, sock: socket.socket, address: object, here: tuple[bytes, int] | None = None
    ) -> Caller:
        """Whose program is at the other end of a connection that has just come in from `address`,
        as `accept` says it; to `here`, where the listener has one address only."""
        if not isinstance(address, tuple):
            # Of a Unix socket.
            with contextlib.suppress(OSError):
                raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
                _, uid, _ = _PEER.unpack(raw)
                return Caller(uid, known=uid in self._trusted)
            return Caller()
        try:
            there = end_of(address)
            if here is None:
                here = end_of(sock.getsockname())
        except OSError:
            return Caller()
        if not _here(there, here):
            return Caller()
        found = self._find(socket.IPPROTO_TCP, there, here)
        # A socket without the other end is a listener at that port.
        if found is None or (found.source_port, found.destination_port) != (there[1], here[1]):
            return Caller()
        return self._holder(found)

    def sender(self, there: tuple[bytes, int], here: tuple[bytes, int]) -> Caller:
        """Whose socket a datagram came from `there`, to our socket `here`."""
        if not _here(there, here):
            return Caller()
        # Kernels differ in whose ends these are for UDP: the socket's, or those of a datagram
        # that would come to it.
        for ends in ((here, there), (there, here)):
            found = self._find(socket.IPPROTO_UDP, *ends)
            if (
                found is not None
                and found.source_port == there[1]
                and (found.source == there[0] or not any(found.source))
            ):
                return self._holder(found)
        return Caller()

    def _holder(self, found: DiagSocket) -> Caller:
        if not found.inode:
            return Caller()
        return Caller(found.uid, found.inode, found.uid in self._trusted)


def _here(there: tuple[bytes, int], here: tuple[bytes, int]) -> bool:
    """Whether both ends are this machine's."""
    return there[0] == here[0] or is_loopback(there[0])


def end_of(address: tuple[object, ...]) -> tuple[bytes, int]:
    """A socket's address as Python spells it, packed."""
    host, port = str(address[0]), address[1]
    assert isinstance(port, int)
    if ":" in host:
        return unmapped(socket.inet_pton(socket.AF_INET6, host.partition("%")[0])), port
    return socket.inet_pton(socket.AF_INET, host), port


def is_loopback(address: bytes) -> bool:
    """Whether only this machine can have sent from there."""
    return address[0] == 127 if len(address) == 4 else address == bytes(15) + b"\1"
