"""What the kernel is told about a NIC: addresses, routes, up or down.

Pure but for one function: requests to bytes, and `ask`, which sends one on a socket that it is
given and reads the answer. The socket may be of another network namespace than the process: a
netlink socket belongs to the one that it was opened in.

Source: rtnetlink(7), linux/rtnetlink.h, linux/if_addr.h, linux/if_link.h.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from enum import IntEnum

_HEADER = struct.Struct("=IHHII")
_ATTR = struct.Struct("=HH")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=8BI")
_ERROR = struct.Struct("=i")
_NEWLINK, _NEWADDR, _DELADDR, _NEWROUTE, _DELROUTE = 16, 20, 21, 24, 25
_NLMSG_ERROR = 2
_REQUEST, _ACK, _REPLACE, _CREATE = 0x1, 0x4, 0x100, 0x400
_IFF_UP = 0x1
_IFLA_TXQLEN = 13
_IFLA_AF_SPEC, _IFLA_INET6_ADDR_GEN_MODE, _GEN_MODE_NONE = 26, 8, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFA_F_NODAD = 0x02
_RTA_OIF, _RTA_PRIORITY = 4, 6
_TABLE_MAIN, _PROTOCOL_STATIC = 254, 4
_SCOPE_GLOBAL, _SCOPE_LINK = 0, 253
_LAST_METRIC = 0xFFFFFFF0
_PIECE = 65536


class RouteKind(IntEnum):
    """What a default route does with a packet."""

    UNICAST = 1
    UNREACHABLE = 7


def link_up(index: int) -> bytes:
    """Bring an interface up that makes itself no IPv6 address."""
    mode = _attr(_IFLA_INET6_ADDR_GEN_MODE, bytes([_GEN_MODE_NONE]))
    spec = _attr(_IFLA_AF_SPEC, _attr(socket.AF_INET6, mode))
    body = _LINK.pack(socket.AF_UNSPEC, 0, index, _IFF_UP, _IFF_UP)
    return _request(_NEWLINK, 0, body + spec)


def queue_length(index: int, packets: int) -> bytes:
    """How many packets may wait in an interface."""
    body = _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0)
    return _request(_NEWLINK, 0, body + _attr(_IFLA_TXQLEN, struct.pack("=I", packets)))


def address(index: int, text: str, add: bool) -> bytes:
    """Give an interface an address of its own, or take it back."""
    own = ipaddress.ip_address(text)
    family = socket.AF_INET if own.version == 4 else socket.AF_INET6
    body = _ADDRESS.pack(family, own.max_prefixlen, 0, _SCOPE_GLOBAL, index)
    body += _attr(_IFA_LOCAL, own.packed) + _attr(_IFA_ADDRESS, own.packed)
    if own.version == 6:
        # Nobody else is on a link of one.
        body += _attr(_IFA_FLAGS, struct.pack("=I", _IFA_F_NODAD))
    return _request(_NEWADDR if add else _DELADDR, _REPLACE | _CREATE if add else 0, body)


def default_route(family: int, kind: RouteKind, index: int, add: bool) -> bytes:
    """The default route of a family: into the interface, or, after all others, to nowhere."""
    into = kind is RouteKind.UNICAST
    scope = _SCOPE_LINK if into and family == socket.AF_INET else _SCOPE_GLOBAL
    body = _ROUTE.pack(family, 0, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, scope, kind, 0)
    if into:
        body += _attr(_RTA_OIF, struct.pack("=I", index))
    else:
        body += _attr(_RTA_PRIORITY, struct.pack("=I", _LAST_METRIC))
    return _request(_NEWROUTE if add else _DELROUTE, _REPLACE | _CREATE if add else 0, body)


def ask(sock: socket.socket, request: bytes) -> None:
    """Have the kernel do it. Raises `OSError` with the kernel's own reason."""
    sock.send(request)
    answer = sock.recv(_PIECE)
    _, kind, _, _, _ = _HEADER.unpack_from(answer)
    number = -_ERROR.unpack_from(answer, _HEADER.size)[0] if kind == _NLMSG_ERROR else 0
    if number:
        raise OSError(number, os.strerror(number))


def _request(kind: int, flags: int, body: bytes) -> bytes:
    length = _HEADER.size + len(body)
    return _HEADER.pack(length, kind, _REQUEST | _ACK | flags, 1, 0) + body


def _attr(kind: int, value: bytes) -> bytes:
    length = _ATTR.size + len(value)
    return _ATTR.pack(length, kind) + value + bytes(-length % 4)
