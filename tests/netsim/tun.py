"""A network namespace whose only way out is a TUN device that this process holds.

    namespace: kernel TCP -- tunN 10.99.0.1/24, fd99::1/64     descriptor: here

The device is created here and then moved, so this process never leaves its own
namespace. Everything is gone when the context ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from tests.fakes.addresses import wait_for_ipv6

TUNSETIFF = 0x400454CA
TUNSETOFFLOAD = 0x400454D0
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
CSUM_TSO4_TSO6 = 7


def why_not() -> str | None:
    """Why there can be no such namespace on this machine; None where there can."""
    if os.geteuid():
        return "needs root: network namespaces and TUN devices"
    if not os.path.exists("/dev/net/tun"):
        return "needs /dev/net/tun"
    return None


@dataclass(frozen=True, slots=True)
class KernelHost:
    """A namespace and the descriptor of the TUN device in it."""

    namespace: str
    descriptor: int

    def popen(self, *argv: str) -> subprocess.Popen[bytes]:
        """Start a program in the namespace."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, *argv],
            stdout=subprocess.PIPE,
        )


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@contextlib.contextmanager
def kernel_host(
    name: str,
    ipv4: str,
    ipv6: str,
    *,
    mtu: int = 1500,
    offload: bool = False,
    congestion: str | None = None,
) -> Iterator[KernelHost]:
    """A namespace with the given addresses; `offload`: packets carry virtio headers, TSO is on.

    `congestion` names the kernel's congestion control there; None: the machine's default.
    """
    namespace = f"tcp-{os.getpid()}-{name}"
    device = f"tcp{os.getpid()}{name}"[-15:]
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        flags = IFF_TUN | IFF_NO_PI | (IFF_VNET_HDR if offload else 0)
        fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", device.encode(), flags))
        if offload:
            fcntl.ioctl(descriptor, TUNSETOFFLOAD, CSUM_TSO4_TSO6)
        _ip("netns", "add", namespace)
        try:
            _ip("link", "set", device, "netns", namespace)
            inside = ("-n", namespace)
            _ip(*inside, "address", "add", f"{ipv4}/24", "dev", device)
            _ip(*inside, "address", "add", f"{ipv6}/64", "dev", device, "nodad")
            _ip(*inside, "link", "set", device, "mtu", str(mtu), "txqueuelen", "5000", "up")
            _ip(*inside, "link", "set", "lo", "up")
            wait_for_ipv6(namespace)
            if congestion is not None:
                setting = f"net.ipv4.tcp_congestion_control={congestion}"
                _ip("netns", "exec", namespace, "sysctl", "-qw", setting)
            yield KernelHost(namespace, descriptor)
        finally:
            _ip("netns", "delete", namespace)
    finally:
        os.close(descriptor)
