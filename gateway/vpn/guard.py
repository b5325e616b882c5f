"""EgressGuard: every socket toward the network is tied to the VPN, or is not opened.

Theory of operation. A socket follows the system's routes, and these change the
moment a VPN drops; so each one is tied to the VPN's device before its first
packet. The kernel then fails it closed: a socket tied to a device that is gone
sends nowhere, and stays dead when another device takes the old name. The
device's index is used where possible: a name may pass to another interface
between our look and our call, an index does not.

`ties` lists the ways. What the kernel allows is found once, by trying on
sockets that are never used, and shown as `strength`:

- *device*: every socket is tied by SO_BINDTOIFINDEX or SO_BINDTODEVICE.
- *unicast-if*: the kernel (before 5.7) or a policy refuses that. UDP and ping
  sockets are tied by IP_UNICAST_IF, TCP by its scope. Where scope does not
  work either, TCP over IPv4 is bound to the VPN's address and TCP over IPv6 is
  refused, since an address does not hold it.
- *address*: no datagrams at all; TCP as above.
- *none*: bypass, an explicit setting of the owner's: sockets go where the
  system sends them. Shown as long as it is on.

A refusal is `GuardRefused` with a stable reason, counted by that name.
"""

from __future__ import annotations

import errno
import socket
from enum import StrEnum

from gateway.model import VpnNetwork, VpnState
from gateway.vpn.detector import VpnDetector
from gateway.vpn.ties import MappedSocket, Ties


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
    "tie_failed": "the VPN's device or address is just gone",
    "no_descriptor": "the system has no socket left",
}
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class GuardRefused(OSError):
    """No socket: it could not be held inside the VPN. `reason` is one of `REASONS`."""

    def __init__(self, reason: str, number: int = errno.ENETUNREACH) -> None:
        super().__init__(number, REASONS[reason])
        self.reason = reason


class EgressGuard:
    """Opens sockets inside the VPN that `detector` sees."""

    def __init__(
        self, detector: VpnDetector, bypass: bool = False, ties: Ties | None = None
    ) -> None:
        self.detector = detector
        self.bypass = bypass
        self.counters: dict[str, int] = {}
        """`guard__refused__<reason>`."""
        self._ties = ties or Ties()
        self._by_index = self._ties.probe_index()
        self._by_name = not self._by_index and self._ties.probe_name()
        self.held = Strength.DEVICE
        """The strength that the kernel allows, whether or not bypass is on."""
        self._by_scope = False
        if not self._by_index and not self._by_name:
            unicast = self._ties.probe_unicast()
            self.held = Strength.UNICAST_IF if unicast else Strength.ADDRESS
            self._by_scope = self._ties.probe_scope()

    @property
    def strength(self) -> Strength:
        return Strength.NONE if self.bypass else self.held

    @property
    def streams(self) -> str:
        """What ties TCP, for the doctor: `device`, `scope`, `address` or `none`."""
        if self.bypass:
            return "none"
        if self.held is Strength.DEVICE:
            return "device"
        return "scope" if self._by_scope else "address"

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
        IPPROTO_ICMPV6 makes a ping socket. An IPv4 stream may be a
        `MappedSocket`, whose `family` is AF_INET6 but whose addresses are IPv4's.
        Other errors than a refusal (no permission for ping sockets, for one) are
        the system's own OSError.
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
        if self._by_index or self._by_name or kind != socket.SOCK_STREAM:
            sock = self._socket(family, kind, protocol)
        elif self._by_scope:
            stream = socket.SOCK_STREAM
            mapped = family == socket.AF_INET
            sock = self._socket(socket.AF_INET6, stream, 0, MappedSocket if mapped else None)
        elif family == socket.AF_INET6:
            raise self._refuse("tcp_ipv6_unguarded")
        else:
            sock = self._socket(family, kind, protocol)
        try:
            self._hold(sock, kind, index, network)
        except GuardRefused:
            sock.close()
            raise
        except OSError as error:
            sock.close()
            raise self._refuse("tie_failed", error.errno or errno.ENETUNREACH) from error
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
            raise self._refuse("tie_failed", error.errno or errno.ENETUNREACH) from error
        return sock

    def _socket(
        self, family: int, kind: int, protocol: int, mapped: type[MappedSocket] | None = None
    ) -> socket.socket:
        try:
            return (mapped or socket.socket)(family, kind | socket.SOCK_NONBLOCK, protocol)
        except OSError as error:
            if error.errno in _EXHAUSTED:
                raise self._refuse("no_descriptor", error.errno) from error
            raise

    def _hold(self, sock: socket.socket, kind: int, index: int, network: VpnNetwork) -> None:
        """Tie the socket by what the kernel allows; raise when there is no way."""
        if self._by_index:
            self._ties.by_index(sock, index)
        elif self._by_name:
            self._ties.by_name(sock, index, network.interface or "")
        elif kind == socket.SOCK_STREAM:
            if self._by_scope:
                name, link_local = network.interface or "", self.detector.link_local
                self._ties.by_scope(sock, index, name, link_local)
            else:
                self._ties.by_address(sock, next(a for a in network.addresses if ":" not in a))
        elif self.held is Strength.UNICAST_IF:
            self._ties.by_unicast(sock, index)
        else:
            raise self._refuse("datagram_unguarded")

    def _refuse(self, reason: str, number: int = errno.ENETUNREACH) -> GuardRefused:
        name = f"guard__refused__{reason}"
        self.counters[name] = self.counters.get(name, 0) + 1
        return GuardRefused(reason, number)
