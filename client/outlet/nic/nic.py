"""The virtual NIC: a TUN device whose packets are read and written as bytes.

The device is created by `pytun` where it is installed and by the same two
ioctls otherwise. Only its descriptor is used afterwards: `os.readv` and
`os.writev` take the caller's buffers, which pytun's own methods do not.

With offload the device is opened with `IFF_VNET_HDR`: every packet, read or
written, is preceded by a 10-byte virtio network header (little-endian
`<BBHHHH`: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset), and
TUNSETOFFLOAD lets the kernel hand over segments of up to 64 KiB with partial
checksums. `set_offload(False)` keeps the header (it is fixed at creation) but
makes the kernel cut and checksum again, for a lease that does not offload.

Sources: Linux Documentation/networking/tuntap.rst, include/uapi/linux/if_tun.h,
include/uapi/linux/virtio_net.h.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from typing import Any, Protocol

from client.model import ClientError
from client.outlet.outlet import MAX_MTU, MIN_MTU

VNET_HEADER_SIZE = 10
QUEUE_LENGTH = 2048
"""Packets that wait in the NIC to be read. The kernel's 500 drops the tail of a burst in which
more flows than that send at once, and each of those then waits 200 ms or more for its
retransmission (RFC 6298). How much one flow may have in there is bounded by its window."""

_TUN_PATH = "/dev/net/tun"
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_TUNSETIFF = 0x400454CA
TUNSETOFFLOAD = 0x400454D0
_TUNSETVNETHDRSZ = 0x400454D8
_TUNSETVNETLE = 0x400454DC
SIOCSIFMTU = 0x8922
_SIOCSIFTXQLEN = 0x8943
_TUN_F_CSUM = 0x01
_TUN_F_TSO4 = 0x02
_TUN_F_TSO6 = 0x04
_TUN_F_USO4 = 0x20
_TUN_F_USO6 = 0x40
OFFLOAD_TCP = _TUN_F_CSUM | _TUN_F_TSO4 | _TUN_F_TSO6
OFFLOAD_UDP = _TUN_F_USO4 | _TUN_F_USO6


class Nic(Protocol):
    """What the link needs of a virtual NIC."""

    name: str
    vnet_header: bool
    """Whether each packet is preceded by a virtio header, both ways; fixed for life."""
    offload_udp: bool
    """Whether the kernel segments UDP too (USO, Linux 6.2)."""

    def fileno(self) -> int:
        """A non-blocking descriptor: one read or write is one packet."""

    def set_offload(self, tcp: bool, udp: bool) -> None:
        """Let the kernel hand over unfinished segments, or not."""

    def set_mtu(self, mtu: int) -> None: ...

    def close(self) -> None:
        """Remove the device, with its addresses and routes. Safe to call twice."""


class TunDevice:
    """A TUN device of the Linux kernel; non-persistent, so that it dies with the process."""

    __slots__ = ("_device", "_fd", "name", "offload_udp", "vnet_header")

    def __init__(self, name: str = "vshp%d", offload: bool = True) -> None:
        """Create the device (down, without addresses).

        `name` may hold one %d, which the kernel fills in. Raises ClientError
        `nic_unavailable`, whose hint names the fix.
        """
        self.vnet_header = offload
        self.offload_udp = False
        self._device: Any = None
        self._fd = -1
        flags = _IFF_TUN | _IFF_NO_PI | (_IFF_VNET_HDR if offload else 0)
        try:
            self._fd, self.name, self._device = _create(name, flags)
            os.set_blocking(self._fd, False)
            os.set_inheritable(self._fd, False)
            if offload:
                fcntl.ioctl(self._fd, _TUNSETVNETHDRSZ, struct.pack("i", VNET_HEADER_SIZE))
                fcntl.ioctl(self._fd, _TUNSETVNETLE, struct.pack("i", 1))
                self.offload_udp = self._probe_offload_udp()
            with contextlib.suppress(PermissionError):
                # Root's alone, also in a user's own namespace: there rtnetlink sets it.
                self._configure(_SIOCSIFTXQLEN, QUEUE_LENGTH)
        except OSError as error:
            self.close()
            raise _explain(error, name) from error

    def fileno(self) -> int:
        return self._fd

    def set_offload(self, tcp: bool, udp: bool) -> None:
        """See `Nic`. `udp` needs `offload_udp`. Raises OSError if the device is gone."""
        if not self.vnet_header:
            return
        flags = (OFFLOAD_TCP if tcp else 0) | (OFFLOAD_UDP if tcp and udp else 0)
        fcntl.ioctl(self._fd, TUNSETOFFLOAD, flags)

    def set_mtu(self, mtu: int) -> None:
        """Set the MTU in bytes, MIN_MTU to MAX_MTU. Raises ClientError `nic_mtu`."""
        if not MIN_MTU <= mtu <= MAX_MTU:
            raise ClientError("nic_mtu", f"An MTU of {mtu} is not between {MIN_MTU} and {MAX_MTU}.")
        try:
            self._configure(SIOCSIFMTU, mtu)
        except OSError as error:
            raise ClientError(
                "nic_mtu",
                f"The system does not let {self.name} have an MTU of {mtu}.",
                "Set another: vpnshare set client.mtu 1400",
            ) from error

    def close(self) -> None:
        device, self._device = self._device, None
        fd, self._fd = self._fd, -1
        if device is not None:
            device.close()
        elif fd >= 0:
            os.close(fd)

    def _configure(self, request: int, value: int) -> None:
        """One of the interface ioctls that set a number (netdevice(7)). Raises OSError."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, request, struct.pack("16si20x", self.name.encode(), value))

    def _probe_offload_udp(self) -> bool:
        """Set the widest offload the kernel takes; TCP's is in every kernel with IFF_VNET_HDR."""
        try:
            fcntl.ioctl(self._fd, TUNSETOFFLOAD, OFFLOAD_TCP | OFFLOAD_UDP)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            fcntl.ioctl(self._fd, TUNSETOFFLOAD, OFFLOAD_TCP)
            return False
        return True


class MemoryTun:
    """A NIC without a kernel behind it: `host` is the end where a test is the host.

    Each message on `host` is what the kernel would hand over or accept:
    a virtio header first when `vnet_header` is set, then the packet.
    """

    __slots__ = ("_socket", "host", "mtu", "name", "offload", "offload_udp", "vnet_header")

    def __init__(self, name: str = "vshp0", offload: bool = True) -> None:
        self.name = name
        self.vnet_header = offload
        self.offload_udp = offload
        self.offload = (offload, offload)
        self.mtu = 1500
        self._socket, self.host = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self.host.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def set_offload(self, tcp: bool, udp: bool) -> None:
        self.offload = (tcp, udp)

    def set_mtu(self, mtu: int) -> None:
        self.mtu = mtu

    def vanish(self) -> None:
        """As when somebody deletes the device: it is readable, and there is nothing."""
        self.host.close()

    def close(self) -> None:
        self._socket.close()


def _create(name: str, flags: int) -> tuple[int, str, Any]:
    """A new device's descriptor, name, and pytun's object, which owns the descriptor, if any."""
    try:
        import pytun
    except ImportError:
        fd = os.open(_TUN_PATH, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            request = struct.pack("16sH22x", name.encode(), flags)
            answer = fcntl.ioctl(fd, _TUNSETIFF, request)
        except OSError:
            os.close(fd)
            raise
        return fd, answer[:16].rstrip(b"\0").decode(), None
    device = pytun.TunTapDevice(name, flags, _TUN_PATH)
    return device.fileno(), device.name, device


def _explain(error: OSError, name: str) -> ClientError:
    """The same failure as a sentence, with what to do about it."""
    match error.errno:
        case errno.ENOENT | errno.ENODEV | errno.ENXIO:
            return ClientError(
                "nic_unavailable",
                f"This system offers no TUN device ({_TUN_PATH}).",
                "Load the driver with: sudo modprobe tun. In a container, start it with "
                "--device /dev/net/tun --cap-add NET_ADMIN.",
            )
        case errno.EPERM | errno.EACCES if os.geteuid() == 0:
            return ClientError(
                "nic_unavailable",
                f"Root may not create a virtual network interface here ({_TUN_PATH} is refused): "
                "this is a container, or a service with fewer rights.",
                "Start the container with --device /dev/net/tun --cap-add NET_ADMIN; a unit needs "
                "CAP_NET_ADMIN and DeviceAllow=/dev/net/tun.",
            )
        case errno.EPERM | errno.EACCES:
            return ClientError(
                "nic_unavailable",
                "Only root may create a virtual network interface.",
                "Run the client as root: sudo vpnshare client",
            )
        case errno.EBUSY:
            called = name if "%" not in name else "of the next free name"
            return ClientError(
                "nic_unavailable",
                f"The network interface {called} is in use by another program.",
                "Choose another name: sudo vpnshare client --interface vpn7",
            )
        case errno.EINVAL if "%" not in name:
            return ClientError(
                "nic_unavailable",
                f"{name!r} cannot be the name of a virtual network interface: there is one of "
                "another kind, or the system does not take the name.",
                "Choose another name: sudo vpnshare client --interface vpn7",
            )
        case errno.ENFILE | errno.EMFILE | errno.ENOMEM:
            return ClientError(
                "nic_unavailable",
                "The system has no room for another virtual network interface: "
                f"{(error.strerror or '').lower()}.",
                "End other programs, or raise the limit of open files: ulimit -n",
            )
    return ClientError(
        "nic_unavailable",
        f"No virtual network interface can be created: {(error.strerror or '').lower()}.",
        "Find out what this system lacks: vpnshare doctor --role client",
    )
