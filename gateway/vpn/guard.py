"""EgressGuard: every socket toward the network is tied to the VPN, or is not opened.

Theory of operation. A socket follows the system's routes, and these change the
moment a VPN drops; so each one is tied to the VPN's device before its first
packet. The kernel then fails it closed: a socket tied to a device that is gone
sends nowhere, and stays dead when another device takes the old name.

- *device*: SO_BINDTOIFINDEX (or SO_BINDTODEVICE) on every socket. Needs no
  privilege since Linux 5.7. The index is used where possible: a name may pass
  to another interface between our look and our call, an index does not.
- *unicast-if*: where that is refused, IP_UNICAST_IF and IPV6_UNICAST_IF fix the
  device of UDP and ping sockets, provided that they stay unconnected (kernels
  before 6.0 route a connected one as they please). TCP over IPv4 is bound to
  the VPN's address, which stops sending when the address goes. TCP over IPv6
  is refused: neither option nor address holds it.
- *address*: where even these are refused only TCP over IPv4 is left.
- *none*: bypass, an explicit setting of the owner's: sockets go where the
  system sends them. Shown as long as it is on.

What the kernel allows is found once, by trying on sockets that are never used.
A refusal is `GuardRefused` with a stable reason, counted by that name.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from enum import StrEnum

from gateway.model import VpnNetwork, VpnState
from gateway.vpn.detector import VpnDetector

SO_BINDTODEVICE = 25
SO_BINDTOIFINDEX = 62
IP_BIND_ADDRESS_NO_PORT = 24
IP_UNICAST_IF = 50
IPV6_UNICAST_IF = 76
LOOPBACK_INDEX = 1
"""The index of `lo` in every network namespace."""

_INDEX = struct.Struct("@i")
_NETWORK_INDEX = struct.Struct("!I")

SetOption = Callable[[socket.socket, int, int, bytes | int], None]


class Strength(StrEnum):
    """What ties sockets to the VPN."""

    DEVICE = "device"
    UNICAST_IF = "unicast-if"
    ADDRESS = "address"
    NONE = "none"


REASONS = {
    "vpn_absent": "there is no VPN to send it into",
    "ipv4_unavailable": "the VPN carries no IPv4",
    "ipv6_unavailable": "the VPN carries no IPv6",
    "tcp_ipv6_unguarded": "this kernel cannot hold IPv6 TCP inside the VPN",
    "datagram_unguarded": "this kernel cannot hold datagrams inside the VPN",
    "bind_failed": "the VPN's device or address is just gone",
    "no_descriptor": "the system has no socket left",
}


class GuardRefused(OSError):
    """No socket: it could not be held inside the VPN. `reason` is one of `REASONS`."""

    def __init__(self, reason: str, number: int = errno.ENETUNREACH) -> None:
        super().__init__(number, REASONS[reason])
        self.reason = reason


def _setsockopt(sock: socket.socket, level: int, option: int, value: bytes | int) -> None:
    sock.setsockopt(level, option, value)


class EgressGuard:
    """Opens sockets inside the VPN that `detector` sees; `set_option` is a seam for tests."""

    def __init__(
        self,
        detector: VpnDetector,
        bypass: bool = False,
        set_option: SetOption = _setsockopt,
    ) -> None:
        self.detector = detector
        self.bypass = bypass
        self.counters: dict[str, int] = {}
        """`guard__open__ok` and `guard__refused__<reason>`."""
        self._set_option = set_option
        self._by_index = False
        self.held = self._probe()
        """The strength that the kernel allows, whether or not bypass is on."""

    @property
    def strength(self) -> Strength:
        return Strength.NONE if self.bypass else self.held

    @property
    def generation(self) -> int:
        """See `VpnDetector.generation`."""
        return self.detector.generation

    @property
    def connectable(self) -> bool:
        """Whether a UDP socket may be connected and still be held."""
        return self.bypass or self.held is Strength.DEVICE

    @property
    def network(self) -> VpnNetwork:
        """Where forwarded traffic goes now: the VPN, or with bypass whatever there is."""
        network = self.detector.network
        if not self.bypass:
            return network
        return VpnNetwork(
            VpnState.ACTIVE,
            interface=network.interface or "any",
            kind="bypass",
            addresses=network.addresses,
            ipv4=True,
            ipv6=True,
            reason="Bypass is on: traffic may leave outside the VPN.",
        )

    def open(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A non-blocking, close-on-exec socket tied to the VPN. Raises GuardRefused.

        `kind` is SOCK_STREAM or SOCK_DGRAM; `protocol` IPPROTO_ICMP or
        IPPROTO_ICMPV6 makes a ping socket.
        """
        if self.bypass:
            return self._socket(family, kind, protocol)
        detector = self.detector
        network, index = detector.network, detector.index
        if index is None or network.state is not VpnState.ACTIVE:
            raise self._refuse("vpn_absent")
        if family == socket.AF_INET6:
            if not network.ipv6:
                raise self._refuse("ipv6_unavailable")
        elif not network.ipv4:
            raise self._refuse("ipv4_unavailable")
        sock = self._socket(family, kind, protocol)
        try:
            self._hold(sock, family, kind, index, network)
        except GuardRefused:
            sock.close()
            raise
        except OSError as error:
            sock.close()
            raise self._refuse("bind_failed", error.errno or errno.ENETUNREACH) from error
        return sock

    def tcp_socket(self, family: int) -> socket.socket:
        return self.open(family, socket.SOCK_STREAM)

    def udp_socket(self, family: int) -> socket.socket:
        return self.open(family, socket.SOCK_DGRAM)

    def ping_socket(self, family: int) -> socket.socket:
        """An ICMP echo socket without privilege (`net.ipv4.ping_group_range`)."""
        ping = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
        return self.open(family, socket.SOCK_DGRAM, ping)

    def loopback_socket(self, family: int, kind: int) -> socket.socket:
        """A socket that cannot leave this host: for a resolver on loopback the owner named."""
        sock = self._socket(family, kind, 0)
        try:
            sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        except OSError as error:
            sock.close()
            raise self._refuse("bind_failed", error.errno or errno.ENETUNREACH) from error
        return sock

    def _socket(self, family: int, kind: int, protocol: int) -> socket.socket:
        try:
            sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                raise self._refuse("no_descriptor", error.errno) from error
            raise
        return sock

    def _hold(
        self, sock: socket.socket, family: int, kind: int, index: int, network: VpnNetwork
    ) -> None:
        """Tie the socket by what the kernel allows; raise when there is no way."""
        held = self.held
        if held is Strength.DEVICE:
            if self._by_index:
                self._set_option(sock, socket.SOL_SOCKET, SO_BINDTOIFINDEX, index)
            else:
                name = network.interface or ""
                self._set_option(sock, socket.SOL_SOCKET, SO_BINDTODEVICE, name.encode())
                if socket.if_nametoindex(name) != index:
                    raise self._refuse("bind_failed")
        elif kind == socket.SOCK_STREAM:
            if family == socket.AF_INET6:
                raise self._refuse("tcp_ipv6_unguarded")
            address = next(a for a in network.addresses if ":" not in a)
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((address, 0))
        elif held is Strength.UNICAST_IF:
            self._unicast_if(sock, family, index)
        else:
            raise self._refuse("datagram_unguarded")

    def _unicast_if(self, sock: socket.socket, family: int, index: int) -> None:
        packed = _NETWORK_INDEX.pack(index)
        if family == socket.AF_INET6:
            self._set_option(sock, socket.IPPROTO_IPV6, IPV6_UNICAST_IF, packed)
        else:
            self._set_option(sock, socket.IPPROTO_IP, IP_UNICAST_IF, packed)

    def _probe(self) -> Strength:
        """Try each way on a socket that is thrown away, strongest first."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                self._set_option(sock, socket.SOL_SOCKET, SO_BINDTOIFINDEX, LOOPBACK_INDEX)
                if sock.getsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX) == LOOPBACK_INDEX:
                    self._by_index = True
                    return Strength.DEVICE
            except OSError:
                pass
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                self._set_option(sock, socket.SOL_SOCKET, SO_BINDTODEVICE, b"lo")
                return Strength.DEVICE
            except OSError:
                pass
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                self._unicast_if(sock, socket.AF_INET, LOOPBACK_INDEX)
                return Strength.UNICAST_IF
            except OSError:
                return Strength.ADDRESS

    def _refuse(self, reason: str, number: int = errno.ENETUNREACH) -> GuardRefused:
        name = f"guard__refused__{reason}"
        self.counters[name] = self.counters.get(name, 0) + 1
        return GuardRefused(reason, number)
