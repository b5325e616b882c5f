"""A VPN made of two TUN devices: one here, one in another namespace, joined by a copy loop.

Run as `tun_forwarder.py NAME NAMESPACE_FILE OTHER_NAME`. Both devices have
the virtio header and offloads on, so packets pass in segments of up to
64 KiB with the header as it came. The devices vanish with the process, as
those of a VPN application do.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
import sys

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
TUNSETOFFLOAD = 0x400454D0
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
CSUM_TSO4_TSO6 = 7
LARGEST = 10 + 65535


def open_tun(name: str) -> int:
    """Descriptor of a new TUN device in the namespace that we are in."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    request = struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR)
    fcntl.ioctl(descriptor, TUNSETIFF, request)
    fcntl.ioctl(descriptor, TUNSETOFFLOAD, CSUM_TSO4_TSO6)
    return descriptor


def main() -> None:
    name, namespace, other_name = sys.argv[1:]
    here = open_tun(name)
    with open(namespace) as handle:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(handle.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    there = open_tun(other_name)
    print("ready", flush=True)
    poll = select.epoll()
    poll.register(here, select.EPOLLIN)
    poll.register(there, select.EPOLLIN)
    opposite = {here: there, there: here}
    buffer = bytearray(LARGEST)
    view = memoryview(buffer)
    while True:
        for descriptor, _ in poll.poll():
            for _ in range(64):
                try:
                    n = os.readv(descriptor, [buffer])
                except BlockingIOError:
                    break
                try:
                    os.write(opposite[descriptor], view[:n])
                except OSError:
                    pass  # The other device is down: the packet is lost, as on any wire.


if __name__ == "__main__":
    main()
