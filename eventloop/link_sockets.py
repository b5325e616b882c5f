"""Sockets that carry a session, either side's: their options, and the kernel's runs of datagrams.

Over TCP: no Nagle, and a short queue in the kernel, so that sparse flows do not
wait behind bulk. The send buffer itself is left to the kernel's tuning: a fixed
one would cap the rate of a long path; `TCP_NOTSENT_LOWAT` caps the queue,
whatever the path (tcp(7)).

Over UDP: never fragmented, with sizes found by the session's own probes; joined
on arrival (`UDP_GRO`) and cut on leaving (`UDP_SEGMENT`) where the kernel can
(udp(7)).
"""

from __future__ import annotations

import select
import socket
import struct

READ = select.EPOLLIN | select.EPOLLRDHUP
READ_WRITE = READ | select.EPOLLOUT
TROUBLE = select.EPOLLERR | select.EPOLLHUP

NOTSENT_BYTES = 128 * 1024
"""Bytes the kernel may hold that it has not sent: a longer queue only delays sparse flows."""
SOCKET_BUFFER = 1024 * 1024
"""Asked for on UDP, each way; the system's own limit may be lower."""
RECEIVE_SIZE = 65535
"""The longest run of datagrams that arrives at once."""

# Numbers of the Linux ABI that the socket module of some Pythons lacks.
TCP_NOTSENT_LOWAT = 25
IP_MTU_DISCOVER = 10
IPV6_MTU_DISCOVER = 23
PMTUDISC_PROBE = 3
UDP_SEGMENT = 103
UDP_GRO = 104

_SEGMENT = struct.Struct("=H")
_INT = struct.Struct("=i")
_LINGER_NONE = struct.pack("ii", 1, 0)


def is_local(address: str) -> bool:
    """Whether a socket could use `address` now: it is (still) this host's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if "%" in address or address.startswith("fe80:"):
        return True
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def reset_on_close(sock: socket.socket) -> None:
    """Have `close` reset the stream and drop what was not sent (SO_LINGER of 0, socket(7))."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)


def tune_stream(sock: socket.socket) -> None:
    """Make a connected stream fit to carry a session; not only TCP's may come here."""
    sock.setblocking(False)
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, NOTSENT_BYTES)
    except OSError:
        # Kernels before 3.12 queue more than they need to; nothing breaks.
        pass


def tune_datagrams(sock: socket.socket) -> None:
    """Make a UDP socket fit to carry sessions."""
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
    try:
        sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    except OSError:
        # Kernels before 5.0 deliver datagrams one by one.
        pass


def joined_size(level: int, kind: int, data: bytes) -> int:
    """The size of each datagram of a joined run, by a piece of ancillary data; 0 if it is another.

    A kernel that says a size below 1 has said nothing.
    """
    if level == socket.IPPROTO_UDP and kind == UDP_GRO:
        size: int = _INT.unpack_from(data)[0]
        return max(size, 0)
    return 0


def cut_into(segment: int) -> tuple[int, int, bytes]:
    """Ancillary data that has the kernel cut what is sent into datagrams of `segment` bytes."""
    return socket.IPPROTO_UDP, UDP_SEGMENT, _SEGMENT.pack(segment)
