"""Where the proxy listens: its address as people write it, and the socket."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat
from dataclasses import dataclass

from client.model import ClientError

PORT = 1080
"""SOCKS's own (RFC 1928, 3)."""
BACKLOG = 256
_MAX_PATH = 107
"""Bytes of a Unix socket's path (unix(7))."""

_FIXES = {
    errno.EADDRINUSE: "Another program uses it. Choose another port: vpnshare client --proxy 1081",
    errno.EADDRNOTAVAIL: "This device does not have it. Leave it out for this device alone: "
    "vpnshare client --proxy",
    errno.EACCES: "Ports below 1024 are root's. Choose another: vpnshare client --proxy 1080",
}


@dataclass(frozen=True, slots=True)
class ProxyPlace:
    """An address and port, or a Unix socket's path."""

    host: str = "127.0.0.1"
    port: int = PORT
    path: str = ""

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return bool(self.path) or ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_place(text: str) -> ProxyPlace:
    """`127.0.0.1:1080`, `[::1]:1080`, a port or an address alone, `unix:PATH`; "" is the default.

    Raises ClientError `proxy_address`.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path or len(os.fsencode(path)) > _MAX_PATH:
            raise _unreadable(f"{text!r} is not the path of a Unix socket")
        return ProxyPlace(path=path)
    host, port = "", str(PORT)
    if text.isdecimal():
        port = text
    elif text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise _unreadable(f"{text!r} is not an address and a port")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host = text
    host = "127.0.0.1" if host in ("", "localhost") else host
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536):
        raise _unreadable(f"{text!r} has no port between 1 and 65535")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise _unreadable(f"{host!r} is not an address of this device") from None
    return ProxyPlace(str(address), int(port))


def _unreadable(sentence: str) -> ClientError:
    return ClientError(
        "proxy_address",
        f"{sentence}.",
        "Write it as 127.0.0.1:1080, [::1]:1080 or unix:/run/user/1000/proxy, or leave it out.",
    )


class Listener(socket.socket):
    """A stream socket that programs connect to.

    `accept` asks a socket of its family and its kind, and the answers are members of Enums that
    are looked up each time: eight calls, in the way of each connection. Here they are known.
    """

    family = socket.AF_UNSPEC
    type = socket.SOCK_STREAM

    def __init__(self, family: socket.AddressFamily) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self.family = family


def listen(place: ProxyPlace) -> Listener:
    """A non-blocking listening socket. Raises ClientError `proxy_address`."""
    try:
        return _listen_unix(place.path) if place.path else _listen_tcp(place)
    except OSError as error:
        raise ClientError(
            "proxy_address",
            f"The proxy cannot listen on {place}: {(error.strerror or str(error)).lower()}.",
            _FIXES.get(error.errno or 0, "Choose another address: vpnshare client --proxy"),
        ) from error


def _listen_tcp(place: ProxyPlace) -> Listener:
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    sock = Listener(family)
    try:
        # Connections of an earlier run do not stand in the way.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # What is let in inherits it.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind((place.host, place.port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _listen_unix(path: str) -> Listener:
    sock = Listener(socket.AF_UNIX)
    try:
        before = os.umask(0o177)
        try:
            _bind_unix(sock, path)
        finally:
            os.umask(before)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_unix(sock: socket.socket, path: str) -> None:
    """Bind; a socket that nobody listens on any more is in nobody's way."""
    try:
        sock.bind(path)
        return
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not _abandoned(path):
            raise
    os.unlink(path)
    sock.bind(path)


def _abandoned(path: str) -> bool:
    status = os.lstat(path)
    if not stat.S_ISSOCK(status.st_mode) or status.st_uid != os.geteuid():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def remove(place: ProxyPlace) -> None:
    """Take a Unix socket's name away, when its listener has closed."""
    if place.path:
        with contextlib.suppress(OSError):
            os.unlink(place.path)
