"""The kernel's list of sockets, asked and read: requests to bytes, bytes to records.

Pure: no socket is opened here. A dump is asked for one family and one protocol
at a time; a small program for the kernel's own filter goes with it, so that
only the sockets come back that are bound to given addresses, however many
others there are. The answer is a series of datagrams, each with several
messages; the last says that it is done, or what was wrong.

Source: sock_diag(7), linux/inet_diag.h, linux/netlink.h; for the filter's
program inet_diag_bc_run() in net/ipv4/inet_diag.c; for the figures of a
connection `struct tcp_info` in linux/tcp.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

NETLINK_SOCK_DIAG = 4

SOCK_DIAG_BY_FAMILY = 20
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST_FLAG = 0x1
_REQUEST_DUMP = _REQUEST_FLAG | 0x300
_INET_DIAG_INFO = 2
_ATTR_BYTECODE = 1
_BC_JMP, _BC_S_COND = 1, 7
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI48x")
_ONE = struct.Struct("=IHHIIBBxxI4s16s16sIQ")
"""A header; family, protocol, states; ports and addresses, interface index and cookie."""
_PORTS = struct.Struct("!HH")
_MESSAGE = struct.Struct("=BBxx4s16s16s4xQ12xII")
"""Family, state; ports and addresses, cookie; uid and inode."""
_SIZE = _MESSAGE.size
_ATTR = struct.Struct("=HH")
_TCP_TIMES = struct.Struct("=IIII")
_TCP_U32 = struct.Struct("=I")
_TCP_BYTES = struct.Struct("=QQ")
_TCP_NEEDED = 136
"""Bytes of `tcp_info` up to the byte counters (Linux 4.1)."""
_MAPPED = bytes(10) + b"\xff\xff"

ESTABLISHED, SYN_SENT, SYN_RECV, CLOSE, LISTEN = 1, 2, 3, 7, 10
TIME_WAIT = 6
LIVE_STATES = sum(1 << state for state in range(1, 12) if state not in (TIME_WAIT, CLOSE, LISTEN))
"""TCP connections that something holds. A bit for each state."""
UDP_STATES = 1 << ESTABLISHED | 1 << CLOSE
"""Connected, and bound only."""
_ASKED = LIVE_STATES | UDP_STATES


class DiagError(Exception):
    """The kernel refused, or its answer cannot be read."""


@dataclass(slots=True)
class TcpFigures:
    """What the kernel has measured of a connection."""

    sent: int
    """Bytes that the other end has acknowledged."""
    received: int
    rtt: float
    """Seconds, smoothed."""
    retransmits: int
    idle: float
    """Seconds since data went or came."""


@dataclass(slots=True)
class DiagSocket:
    """A socket as the kernel lists it. Addresses are 4 or 16 bytes; IPv4 is never mapped."""

    protocol: int
    state: int
    source: bytes
    source_port: int
    destination: bytes
    destination_port: int
    cookie: int
    """The kernel's own number of it, never used again."""
    uid: int
    inode: int
    figures: TcpFigures | None = None


def request(
    family: int, protocol: int, states: int, addresses: Sequence[bytes], number: int = 1
) -> bytes:
    """Ask for all sockets that are bound to one of `addresses` (4 or 16 bytes each).

    `states` has a bit for each state wanted, `number` comes back in the answers.
    """
    wanted = 1 << (_INET_DIAG_INFO - 1) if protocol == socket.IPPROTO_TCP else 0
    body = _REQUEST.pack(family, protocol, wanted, states)
    program = _bound_to_any(addresses)
    body += _ATTR.pack(_ATTR.size + len(program), _ATTR_BYTECODE) + program
    return _HEADER.pack(
        _HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, number, 0
    ) + body  # fmt: skip


def request_one(
    protocol: int, source: tuple[bytes, int], destination: tuple[bytes, int], number: int = 1
) -> bytes:
    """Ask for the one socket with these ends, as its holder sees them: address and port each.

    The answer is one datagram with the socket, or with an error that says that there is none.
    A listener may stand for a connection that is not there: look at the ports.
    """
    (near, near_port), (far, far_port) = source, destination
    family = socket.AF_INET if len(near) == 4 else socket.AF_INET6
    # Any interface; no cookie known.
    return _ONE.pack(
        _ONE.size, SOCK_DIAG_BY_FAMILY, _REQUEST_FLAG, number, 0, family, protocol, _ASKED,
        _PORTS.pack(near_port, far_port), near, far, 0, 0xFFFFFFFF_FFFFFFFF,
    )  # fmt: skip


def _bound_to_any(addresses: Sequence[bytes]) -> bytes:
    """The filter's program: one test for each address, joined by "or".

    An operation has two distances in bytes, for yes and for no. Whoever comes
    to the very end has passed; four bytes beyond it, failed.
    """
    tests = []
    for address in addresses:
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        condition = struct.pack("=BBxxi", family, len(address) * 8, -1) + address
        tests.append(condition)
    program = b""
    for condition in reversed(tests):
        size = 4 + len(condition)
        if not program:
            program = struct.pack("=BBH", _BC_S_COND, size, size + 4) + condition
            continue
        over = struct.pack("=BBH", _BC_JMP, 4, 4 + len(program))
        program = (
            struct.pack("=BBH", _BC_S_COND, size, size + len(over)) + condition + over + program
        )
    return program


def parse(datagram: bytes, protocol: int, measured: bool = True) -> tuple[list[DiagSocket], bool]:
    """The sockets of one datagram, and whether it was the last. Raises DiagError.

    What the kernel has measured of them is looked for if it is wanted.
    """
    found: list[DiagSocket] = []
    at, end = 0, len(datagram)
    while at < end:
        if end - at < _HEADER.size:
            raise DiagError("a message is cut off")
        size, kind, _, _, _ = _HEADER.unpack_from(datagram, at)
        if size < _HEADER.size or size > end - at:
            raise DiagError("a message is longer than its datagram")
        if kind == _NLMSG_DONE:
            return found, True
        if kind == _NLMSG_ERROR:
            if size < _HEADER.size + 4:
                raise DiagError("an error without its number")
            (number,) = struct.unpack_from("=i", datagram, at + _HEADER.size)
            raise DiagError(f"the kernel does not list sockets (error {-number})")
        if kind == SOCK_DIAG_BY_FAMILY:
            found.append(_socket(datagram, at + _HEADER.size, at + size, protocol, measured))
        at += (size + 3) & ~3
    return found, False


def _socket(data: bytes, at: int, end: int, protocol: int, measured: bool) -> DiagSocket:
    if end - at < _SIZE:
        raise DiagError("a socket is cut off")
    family, state, ports, source, destination, cookie, uid, inode = _MESSAGE.unpack_from(data, at)
    source_port, destination_port = _PORTS.unpack(ports)
    if family == socket.AF_INET:
        source, destination = source[:4], destination[:4]
    elif family == socket.AF_INET6:
        source, destination = _unmapped(source), _unmapped(destination)
    else:
        raise DiagError(f"a socket of the family {family}")
    figures = _figures(data, at + _SIZE, end) if measured else None
    return DiagSocket(
        protocol, state, source, source_port, destination, destination_port, cookie, uid, inode,
        figures,
    )  # fmt: skip


def _unmapped(address: bytes) -> bytes:
    return address[12:] if address.startswith(_MAPPED) else address


def _figures(data: bytes, at: int, end: int) -> TcpFigures | None:
    """What stands in the attribute INET_DIAG_INFO, if it is there."""
    while end - at >= _ATTR.size:
        size, kind = _ATTR.unpack_from(data, at)
        if size < _ATTR.size or size > end - at:
            raise DiagError("an attribute is longer than its message")
        if kind == _INET_DIAG_INFO and size - _ATTR.size >= _TCP_NEEDED:
            return _tcp(data, at + _ATTR.size)
        at += (size + 3) & ~3
    return None


def _tcp(data: bytes, at: int) -> TcpFigures:
    last_sent, _, last_received, _ = _TCP_TIMES.unpack_from(data, at + 44)
    (rtt,) = _TCP_U32.unpack_from(data, at + 68)
    (retransmits,) = _TCP_U32.unpack_from(data, at + 100)
    sent, received = _TCP_BYTES.unpack_from(data, at + 120)
    idle = min(last_sent, last_received) / 1000
    # The kernel counts the acknowledged SYN as a byte.
    return TcpFigures(max(0, sent - 1), received, rtt / 1_000_000, retransmits, idle)
