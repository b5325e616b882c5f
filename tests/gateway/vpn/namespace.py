"""A network namespace of the test's own, with a VPN made of a TUN and an uplink to leak by.

    this process --- tun "vpn0" 10.8.0.2, fd08::2 ---> `Tunnel.packets()`: what went into the VPN
             \\------ veth "up0" 192.0.2.2, 2001:db8:1::2 ---> `Capture`: what left outside it

The uplink has default routes and a neighbour that answers nothing, so a packet that
escapes really leaves; the VPN takes all traffic by two halves of each family.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.addresses import wait_for_ipv6

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
ETH_P_ALL = 0x0003
PACKET_OUTGOING = 4

FAR4 = "198.51.100.7"
FAR6 = "2001:db8:ffff::7"

needs_namespaces = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/net/tun").exists(),
    reason="needs root and /dev/net/tun to build a namespace with a VPN",
)

_libc = ctypes.CDLL(None, use_errno=True)


def run(command: str) -> None:
    """`ip` or another program, in the namespace of this thread."""
    subprocess.run(command.split(), check=True, capture_output=True)


@contextlib.contextmanager
def fresh_namespace() -> Iterator[None]:
    """This thread is in a namespace of its own meanwhile; it ends with its last socket."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if _libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        try:
            run("ip link set lo up")
            yield
        finally:
            if _libc.setns(home, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(home)


def allow_ping() -> None:
    """Ping sockets for everybody, as on phones and most desktops."""
    Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 2147483647")


@contextlib.contextmanager
def inside(namespace: int) -> Iterator[None]:
    """This thread is in the namespace of a descriptor meanwhile."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if _libc.setns(namespace, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        yield
    finally:
        _libc.setns(home, CLONE_NEWNET)
        os.close(home)


class Tunnel:
    """A VPN's device, held open like a VPN program holds it."""

    def __init__(self, name: str = "vpn0", address: str = "10.8.0.2") -> None:
        self.name = name
        self.address4 = address
        self._fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(self._fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))

    def up(self, routes: bool = True) -> Tunnel:
        run(f"ip addr add {self.address4}/24 dev {self.name}")
        run(f"ip addr add fd08::2/64 dev {self.name} nodad")
        run(f"ip link set {self.name} up")
        wait_for_ipv6()
        if routes:
            self.route()
        return self

    def route(self) -> None:
        for half in ("0.0.0.0/1", "128.0.0.0/1"):
            run(f"ip route add {half} dev {self.name}")
        for half in ("::/1", "8000::/1"):
            run(f"ip -6 route add {half} dev {self.name}")

    def packets(self) -> list[bytes]:
        """IP packets that went in since the last call, less the system's own multicast."""
        found: list[bytes] = []
        while True:
            try:
                packet = os.read(self._fd, 65536)
            except BlockingIOError:
                return found
            if not is_multicast(packet):
                found.append(packet)

    def write(self, packet: bytes) -> None:
        os.write(self._fd, packet)

    def close(self) -> None:
        """The device and its routes vanish."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Uplink:
    """The way outside the VPN."""

    def __init__(self) -> None:
        run("ip link add up0 type veth peer name up1")
        run("ip addr add 192.0.2.2/24 dev up0")
        run("ip addr add 2001:db8:1::2/64 dev up0 nodad")
        run("ip link set up1 up")
        run("ip link set up0 up")
        wait_for_ipv6()
        for far in ("192.0.2.1", "2001:db8:1::1"):
            run(f"ip neigh add {far} lladdr 02:00:00:00:00:01 dev up0 nud permanent")
        run("ip route add default via 192.0.2.1")
        run("ip -6 route add default via 2001:db8:1::1")


class Capture:
    """IP packets that leave by an interface."""

    def __init__(self, interface: str = "up0") -> None:
        self._sock = socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(ETH_P_ALL)
        )
        self._sock.bind((interface, ETH_P_ALL))

    def packets(self) -> list[bytes]:
        found: list[bytes] = []
        while True:
            try:
                packet, origin = self._sock.recvfrom(65536)
            except BlockingIOError:
                return found
            if origin[2] == PACKET_OUTGOING and not is_multicast(packet):
                found.append(packet)

    def close(self) -> None:
        self._sock.close()


def is_multicast(packet: bytes) -> bool:
    """Router solicitations and the like, which every interface sends by itself."""
    if packet[0] >> 4 == 4:
        return 224 <= packet[16] < 240
    return packet[0] >> 4 != 6 or packet[24] == 0xFF
