"""The NAT's ports over the kernel's sockets: `Outward` for real.

Every socket is opened by the egress guard, which ties it to the VPN before it
can send anything; nothing here opens a socket by itself. The wrappers add as
little as can be: the stream's `recv_into` and `send` are the socket's own
bound methods.

Errors are carried by error queues: with IP_RECVERR set the kernel keeps each
ICMP error with the beginning of the datagram that it is about and the address
of who sent it, and for EMSGSIZE the path MTU it knows. UDP segmentation
(UDP_SEGMENT) and joining (UDP_GRO) are used where the kernel has them.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from typing import Any, Protocol

from eventloop.poller import EVERYTHING, Poller
from eventloop.streams import PolledStream
from gateway.model import VpnNetwork
from gateway.nat.ports import Address, DatagramSocket, EchoSocket, NetworkError
from splice.ports import URGENT, ReadyHandler, StreamSocket

# Numbers of the Linux ABI that Python's socket module lacks.
SO_RCVBUFFORCE = 33
IP_TTL = 2
IP_MTU_DISCOVER = 10
IP_RECVERR = 11
IP_RECVTTL = 12
IPV6_MTU_DISCOVER = 23
IPV6_RECVERR = 25
IPV6_RECVHOPLIMIT = 51
IPV6_HOPLIMIT = 52
IPV6_UNICAST_HOPS = 16
UDP_SEGMENT = 103
UDP_GRO = 104
PMTUDISC_WANT = 1
PMTUDISC_DO = 2
TCP_INFO = 11
_TCP_INFO_SIZE = 136
_TCP_INFO = struct.Struct("=16xI4xI92xQQ")
"""tcp_info (linux/tcp.h): segment size, segments in flight, bytes acknowledged and received."""
MSG_ERRQUEUE = 0x2000
MSG_DONTWAIT = socket.MSG_DONTWAIT

_EXTENDED_ERROR = struct.Struct("=IBBBBII")
"""sock_extended_err: errno, origin, type, code, pad, info, data; the offender's sockaddr after."""
_BYTE_ORDER = sys.byteorder
_ERROR_PAYLOAD = 512
_ERROR_CONTROL = 512
_CONTROL = socket.CMSG_SPACE(4) * 2

RECEIVE_BUFFER = 1024 * 1024
"""Asked of the kernel for UDP sockets, where datagrams wait for room on the link. Without
privilege it gives no more than `net.core.rmem_max`; it takes memory only for what waits."""


class Tally:
    """What went through all sockets by the kernel's count: those open, and those closed."""

    def __init__(self) -> None:
        self._streams: set[KernelStream] = set()
        self._others: set[_Errors] = set()
        self._sent = 0
        self._received = 0

    def totals(self) -> tuple[int, int, int]:
        """Bytes of TCP acknowledged; bytes received by all; bytes of TCP in flight at most.

        Kernels before 4.2 do not count TCP's bytes: there it is left out.
        """
        sent, received, in_flight = self._sent, self._received, 0
        for stream in self._streams:
            acked, got, flying = stream.traffic()
            sent, received, in_flight = sent + acked, received + got, in_flight + flying
        return sent, received + sum(other.received for other in self._others), in_flight

    def opened(self, stream: KernelStream) -> None:
        self._streams.add(stream)

    def opened_other(self, other: _Errors) -> None:
        self._others.add(other)

    def closing(self, stream: KernelStream) -> None:
        self._streams.discard(stream)
        acked, got, _ = stream.traffic()
        self._sent += acked
        self._received += got

    def closing_other(self, other: _Errors) -> None:
        if other in self._others:
            self._others.discard(other)
            self._received += other.received


class SocketFactory(Protocol):
    """What opens sockets: the egress guard."""

    def open(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A non-blocking socket that cannot leave outside the VPN; OSError when there is none."""

    @property
    def network(self) -> VpnNetwork:
        """Where sockets are tied to now."""


class Sockets:
    """Implements `Outward`."""

    def __init__(self, factory: SocketFactory, poller: Poller) -> None:
        self._factory = factory
        self._poller = poller
        self.tally = Tally()
        self.segmentation = _kernel_has(UDP_SEGMENT)
        """Whether UDP GSO is there; likewise GRO."""
        self.joining = _kernel_has(UDP_GRO)

    def connect(self, version: int, host: bytes, port: int, handler: ReadyHandler) -> StreamSocket:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        sock = self._factory.open(family, socket.SOCK_STREAM)
        try:
            # The client's own TCP has decided when to send: no second Nagle.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # An urgent byte keeps its place among the others (RFC 6093 3.1).
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
            number = sock.connect_ex((socket.inet_ntop(family, host), port))
            if number and number != errno.EINPROGRESS:
                raise OSError(number, os.strerror(number))
            stream = KernelStream(sock, self._poller, self._factory.network.interface, self.tally)
            self._poller.watch(sock.fileno(), handler, EVERYTHING | URGENT)
        except BaseException:
            sock.close()
            raise
        self.tally.opened(stream)
        return stream

    def open_datagram(self, version: int, handler: ReadyHandler) -> DatagramSocket:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        sock = self._factory.open(family, socket.SOCK_DGRAM)
        try:
            _queue_errors(sock, version)
            _enlarge_receive_buffer(sock)
            if self.joining:
                sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
            datagrams = KernelDatagrams(
                sock, version, self._poller, self._factory.network.interface, self.tally,
                self.segmentation,
            )  # fmt: skip
            self._poller.watch(sock.fileno(), handler)
        except BaseException:
            sock.close()
            raise
        self.tally.opened_other(datagrams)
        return datagrams

    def open_echo(self, version: int, handler: ReadyHandler) -> EchoSocket:
        if version == 4:
            family, protocol = socket.AF_INET, socket.IPPROTO_ICMP
        else:
            family, protocol = socket.AF_INET6, socket.IPPROTO_ICMPV6
        sock = self._factory.open(family, socket.SOCK_DGRAM, protocol)
        try:
            _queue_errors(sock, version)
            if version == 4:
                sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1)
            echo = KernelEcho(
                sock, version, self._poller, self._factory.network.interface, self.tally
            )
            self._poller.watch(sock.fileno(), handler)
        except BaseException:
            sock.close()
            raise
        self.tally.opened_other(echo)
        return echo


def _kernel_has(option: int) -> bool:
    """Whether UDP sockets know an option (a socket that is never used is opened to see)."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.getsockopt(socket.IPPROTO_UDP, option)
    except OSError:
        return False
    return True


def _enlarge_receive_buffer(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


def _queue_errors(sock: socket.socket, version: int) -> None:
    if version == 4:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)


class KernelStream(PolledStream):
    """Implements `StreamSocket`."""

    __slots__ = ("_tally",)

    def __init__(
        self, sock: socket.socket, poller: Poller, device: str | None, tally: Tally
    ) -> None:
        super().__init__(sock, poller, device)
        self._tally = tally

    def traffic(self) -> tuple[int, int, int]:
        """Bytes acknowledged, received, and in flight at most, by the kernel's TCP."""
        try:
            info = self._sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, _TCP_INFO_SIZE)
        except OSError:
            return 0, 0, 0
        if len(info) < _TCP_INFO_SIZE:
            return 0, 0, 0
        segment, segments, acked, received = _TCP_INFO.unpack(info)
        # SYN and FIN are counted as bytes.
        return max(0, acked - 2), max(0, received - 1), segment * segments

    def close(self) -> None:
        self._tally.closing(self)
        super().close()


class _Errors:
    """What UDP and ping sockets share: addresses and the error queue."""

    __slots__ = ("_family", "_poller", "_sock", "_tally", "_version", "device", "received")

    def __init__(
        self, sock: socket.socket, version: int, poller: Poller, device: str | None, tally: Tally
    ) -> None:
        self._sock = sock
        self._tally = tally
        self.received = 0
        """Bytes, for the tally."""
        self._version = version
        self._family = socket.AF_INET if version == 4 else socket.AF_INET6
        self._poller = poller
        self.device = device

    def set_fragmentation(self, allowed: bool) -> None:
        mode = PMTUDISC_WANT if allowed else PMTUDISC_DO
        if self._version == 4:
            self._sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, mode)
        else:
            self._sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, mode)

    def recv_error(self) -> NetworkError | None:
        while True:
            try:
                payload, control, _, address = self._sock.recvmsg(
                    _ERROR_PAYLOAD, _ERROR_CONTROL, MSG_ERRQUEUE | MSG_DONTWAIT
                )
            except OSError:
                return None
            error = _parse_error(control, payload, address)
            if error is not None:
                return error

    def close(self) -> None:
        self._tally.closing_other(self)
        self._poller.forget(self._sock.fileno())
        self._sock.close()

    def local(self) -> tuple[bytes, int] | None:
        return _local(self._sock)


class KernelDatagrams(_Errors):
    """Implements `DatagramSocket`."""

    __slots__ = ("_segmentation", "_sendto")

    def __init__(
        self,
        sock: socket.socket,
        version: int,
        poller: Poller,
        device: str | None,
        tally: Tally,
        segmentation: bool,
    ) -> None:
        super().__init__(sock, version, poller, device, tally)
        self._segmentation = segmentation
        self._sendto = sock.sendto

    def address(self, host: bytes, port: int) -> Address:
        if self._version == 4:
            return (socket.inet_ntop(socket.AF_INET, host), port)
        return (socket.inet_ntop(socket.AF_INET6, host), port, 0, 0)

    def host(self, address: Address) -> tuple[bytes, int]:
        return socket.inet_pton(self._family, address[0]), address[1]

    def send(self, data: Any, address: Address) -> None:
        self._sendto(data, address)

    def send_segments(self, data: Any, size: int, address: Address) -> None:
        if not self._segmentation:
            raise OSError(errno.EOPNOTSUPP, "no UDP segmentation offload")
        control = (socket.IPPROTO_UDP, UDP_SEGMENT, size.to_bytes(2, _BYTE_ORDER))
        self._sock.sendmsg((data,), (control,), 0, address)

    def send_with_ttl(self, data: Any, address: Address, ttl: int) -> None:
        self._sock.sendmsg((data,), (_ttl_control(self._version, ttl),), 0, address)

    def recv_into(self, buffer: Any) -> tuple[int, int, Address]:
        n, control, _, address = self._sock.recvmsg_into((buffer,), _CONTROL)
        self.received += n
        for level, kind, data in control:
            if level == socket.IPPROTO_UDP and kind == UDP_GRO:
                return n, int.from_bytes(data[:4], _BYTE_ORDER), address
        return n, 0, address


class KernelEcho(_Errors):
    """Implements `EchoSocket`."""

    __slots__ = ()

    def address(self, host: bytes) -> Address:
        if self._version == 4:
            return (socket.inet_ntop(socket.AF_INET, host), 0)
        return (socket.inet_ntop(socket.AF_INET6, host), 0, 0, 0)

    def send(self, message: Any, address: Address, ttl: int) -> None:
        self._sock.sendmsg((message,), (_ttl_control(self._version, ttl),), 0, address)

    def recv_into(self, buffer: Any) -> tuple[int, bytes, int]:
        n, control, _, address = self._sock.recvmsg_into((buffer,), _CONTROL)
        self.received += n
        ttl = 64
        for level, kind, data in control:
            if (level, kind) in ((socket.IPPROTO_IP, IP_TTL), (socket.IPPROTO_IPV6, IPV6_HOPLIMIT)):
                ttl = int.from_bytes(data[:4], _BYTE_ORDER)
        return n, socket.inet_pton(self._family, address[0].partition("%")[0]), ttl


def _ttl_control(version: int, ttl: int) -> tuple[int, int, bytes]:
    value = struct.pack("=i", max(1, ttl))
    if version == 4:
        return (socket.IPPROTO_IP, IP_TTL, value)
    return (socket.IPPROTO_IPV6, IPV6_HOPLIMIT, value)


def _parse_error(
    control: list[tuple[int, int, bytes]], payload: bytes, address: Any
) -> NetworkError | None:
    """An error queue entry, of which `address` is where the datagram was sent to."""
    for level, kind, data in control:
        if level == socket.IPPROTO_IP and kind == IP_RECVERR:
            family = socket.AF_INET
        elif level == socket.IPPROTO_IPV6 and kind == IPV6_RECVERR:
            family = socket.AF_INET6
        else:
            continue
        if len(data) < _EXTENDED_ERROR.size or not address:
            return None
        number, origin, icmp_type, code, _, info, _ = _EXTENDED_ERROR.unpack_from(data)
        host = socket.inet_pton(family, address[0].partition("%")[0])
        offender = _offender(data[_EXTENDED_ERROR.size :])
        return NetworkError(
            number, origin, icmp_type, code, info, offender, host, address[1], payload
        )
    return None


def _offender(sockaddr: bytes) -> bytes | None:
    """The address in the sockaddr behind an extended error."""
    if len(sockaddr) < 8:
        return None
    family = int.from_bytes(sockaddr[:2], _BYTE_ORDER)
    if family == socket.AF_INET:
        return sockaddr[4:8]
    if family == socket.AF_INET6 and len(sockaddr) >= 24:
        return sockaddr[8:24]
    return None


def _local(sock: socket.socket) -> tuple[bytes, int] | None:
    try:
        address = sock.getsockname()
        host = socket.inet_pton(sock.family, address[0].partition("%")[0])
    except OSError:
        return None
    return host, address[1]
