"""The kernel's routing messages (rtnetlink, RFC 3549), written and read: pure.

Only what the detector asks: links, addresses, rules' effect through route
look-ups, and byte counters. Every reader checks lengths before it touches
bytes; attributes that are not known are passed over, since the kernel adds
some with every version.

    message    0 length u32 | 4 type u16 | 6 flags u16 | 8 seq u32 | 12 port u32 | payload
    attribute  0 length u16 (with this header) | 2 type u16 | value, padded to 4
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLMSG_OVERRUN = 4
RTM_NEWLINK = 16
RTM_GETLINK = 18
RTM_NEWADDR = 20
RTM_GETADDR = 22
RTM_NEWROUTE = 24
RTM_GETROUTE = 26

NLM_F_REQUEST = 0x1
NLM_F_MULTI = 0x2
NLM_F_DUMP = 0x300

AF_UNSPEC = 0
AF_INET = 2
AF_INET6 = 10

GROUP_LINK = 0x1
GROUP_IPV4_IFADDR = 0x10
GROUP_IPV4_ROUTE = 0x40
GROUP_IPV4_RULE = 0x80
GROUP_IPV6_IFADDR = 0x100
GROUP_IPV6_ROUTE = 0x400
GROUP_IPV6_RULE = 0x40000
GROUPS = (
    GROUP_LINK
    | GROUP_IPV4_IFADDR
    | GROUP_IPV6_IFADDR
    | GROUP_IPV4_ROUTE
    | GROUP_IPV6_ROUTE
    | GROUP_IPV4_RULE
    | GROUP_IPV6_RULE
)

IFLA_IFNAME = 3
IFLA_MASTER = 10
IFLA_LINKINFO = 18
IFLA_STATS64 = 23
IFLA_EXT_MASK = 29
IFLA_INFO_KIND = 1
IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_FLAGS = 8
RTA_DST = 1
RTA_OIF = 4
RTA_MULTIPATH = 9

SKIP_STATS = 8
"""RTEXT_FILTER_SKIP_STATS: a third of a link's message that only `counters` wants."""

IFA_F_DADFAILED = 0x08
IFA_F_TENTATIVE = 0x40
IFA_F_OPTIMISTIC = 0x04
RTN_UNICAST = 1

MAX_ATTRIBUTES = 128
"""Of one message: the kernel's longest (links) has some sixty."""

_HEADER = Struct("=IHHII")
_ATTRIBUTE = Struct("=HH")
_LINK = Struct("=BxHiII")
_ADDRESS = Struct("=BBBBi")
_ROUTE = Struct("=BBBBBBBBI")
_U32 = Struct("=I")
_I32 = Struct("=i")
_STATS64 = Struct("=8Q")


class NetlinkError(OSError):
    """The kernel answered with an error, or not as the format says (`EBADMSG`)."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a datagram from the kernel."""

    type: int
    flags: int
    seq: int
    payload: memoryview


@dataclass(frozen=True, slots=True)
class Link:
    """RTM_NEWLINK: an interface. `stats` is (bytes sent, received, packets dropped at send)."""

    index: int
    flags: int
    name: str
    kind: str
    stats: tuple[int, int, int] | None
    port: bool = False
    """Whether it belongs to a bridge, a bond or the like."""


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """RTM_NEWADDR: an address of an interface."""

    index: int
    packed: bytes
    prefix: int
    usable: bool


@dataclass(frozen=True, slots=True)
class Route:
    """RTM_NEWROUTE: a route, or the answer to a look-up."""

    family: int
    type: int
    length: int
    """Bits of the destination prefix."""
    index: int
    """The interface it leaves by; 0 if none is named."""


def _broken(what: str) -> NetlinkError:
    return NetlinkError(74, f"netlink: {what}")  # EBADMSG


def request(type_: int, flags: int, seq: int, payload: bytes) -> bytes:
    """A request message around a payload."""
    return _HEADER.pack(_HEADER.size + len(payload), type_, flags | NLM_F_REQUEST, seq, 0) + payload


def attribute(type_: int, value: bytes) -> bytes:
    """One attribute, padded."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, type_) + value + bytes(-length % 4)


def dump_links(seq: int) -> bytes:
    payload = _LINK.pack(AF_UNSPEC, 0, 0, 0, 0) + attribute(IFLA_EXT_MASK, _U32.pack(SKIP_STATS))
    return request(RTM_GETLINK, NLM_F_DUMP, seq, payload)


def get_link(seq: int, index: int) -> bytes:
    return request(RTM_GETLINK, 0, seq, _LINK.pack(AF_UNSPEC, 0, index, 0, 0))


def dump_addresses(seq: int) -> bytes:
    return request(RTM_GETADDR, NLM_F_DUMP, seq, _ADDRESS.pack(AF_UNSPEC, 0, 0, 0, 0))


def get_route(seq: int, destination: bytes, index: int = 0) -> bytes:
    """Ask which way a packet of ours would go; `index` as if its socket were tied to that."""
    family = AF_INET if len(destination) == 4 else AF_INET6
    payload = _ROUTE.pack(family, len(destination) * 8, 0, 0, 0, 0, 0, 0, 0)
    payload += attribute(RTA_DST, destination)
    if index:
        payload += attribute(RTA_OIF, _U32.pack(index))
    return request(RTM_GETROUTE, 0, seq, payload)


def dump_routes(seq: int, family: int, index: int) -> bytes:
    """All routes by an interface, of every table (newer kernels filter by it, older send all)."""
    payload = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + attribute(RTA_OIF, _U32.pack(index))
    return request(RTM_GETROUTE, NLM_F_DUMP, seq, payload)


def messages(datagram: memoryview) -> Iterator[Message]:
    """The messages of a datagram. Raises NetlinkError on a length that does not fit."""
    offset, end = 0, len(datagram)
    while end - offset >= _HEADER.size:
        length, type_, flags, seq, _port = _HEADER.unpack_from(datagram, offset)
        if not _HEADER.size <= length <= end - offset:
            raise _broken(f"message of {length} bytes in {end - offset}")
        yield Message(type_, flags, seq, datagram[offset + _HEADER.size : offset + length])
        offset += (length + 3) & ~3


def error_of(message: Message) -> int:
    """The errno of an NLMSG_ERROR or NLMSG_DONE (0: acknowledged)."""
    if len(message.payload) < _I32.size:
        return 0
    return -int(_I32.unpack_from(message.payload)[0])


def attributes(payload: memoryview, start: int) -> dict[int, memoryview]:
    """Type to value; of two of a type the last. Raises NetlinkError."""
    found: dict[int, memoryview] = {}
    offset, end = start, len(payload)
    for _ in range(MAX_ATTRIBUTES):
        if end - offset < _ATTRIBUTE.size:
            return found
        length, type_ = _ATTRIBUTE.unpack_from(payload, offset)
        if not _ATTRIBUTE.size <= length <= end - offset:
            raise _broken(f"attribute of {length} bytes in {end - offset}")
        found[type_ & 0x3FFF] = payload[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    raise _broken("too many attributes")


def parse_link(message: Message) -> Link:
    payload = message.payload
    if len(payload) < _LINK.size:
        raise _broken("short link")
    _family, _type, index, flags, _change = _LINK.unpack_from(payload)
    found = attributes(payload, _LINK.size)
    info = attributes(found[IFLA_LINKINFO], 0) if IFLA_LINKINFO in found else {}
    stats: tuple[int, int, int] | None = None
    raw = found.get(IFLA_STATS64)
    if raw is not None and len(raw) >= _STATS64.size:
        _rxp, _txp, received, sent, _rxe, _txe, _rxd, dropped = _STATS64.unpack_from(raw)
        stats = (sent, received, dropped)
    return Link(
        index,
        flags,
        _text(found.get(IFLA_IFNAME)),
        _text(info.get(IFLA_INFO_KIND)),
        stats,
        IFLA_MASTER in found,
    )


def parse_address(message: Message) -> LinkAddress | None:
    """The address; None for families other than IPv4 and IPv6."""
    payload = message.payload
    if len(payload) < _ADDRESS.size:
        raise _broken("short address")
    family, prefix, flags, _scope, index = _ADDRESS.unpack_from(payload)
    size = {AF_INET: 4, AF_INET6: 16}.get(family)
    if size is None:
        return None
    found = attributes(payload, _ADDRESS.size)
    # On a point-to-point link IFA_ADDRESS is the far end and IFA_LOCAL ours.
    value = found.get(IFA_LOCAL, found.get(IFA_ADDRESS))
    if value is None or len(value) != size or prefix > size * 8:
        raise _broken("address without a value that fits")
    if IFA_FLAGS in found and len(found[IFA_FLAGS]) >= _U32.size:
        flags = _U32.unpack_from(found[IFA_FLAGS])[0]
    tentative = flags & IFA_F_TENTATIVE and not flags & IFA_F_OPTIMISTIC
    usable = not tentative and not flags & IFA_F_DADFAILED
    return LinkAddress(index, bytes(value), prefix, usable)


def parse_route(message: Message) -> Route:
    payload = message.payload
    if len(payload) < _ROUTE.size:
        raise _broken("short route")
    family, length, _src, _tos, _table, _proto, _scope, type_, _flags = _ROUTE.unpack_from(payload)
    found = attributes(payload, _ROUTE.size)
    index = 0
    if RTA_OIF in found and len(found[RTA_OIF]) >= _U32.size:
        index = _U32.unpack_from(found[RTA_OIF])[0]
    return Route(family, type_, length, index)


def _text(value: memoryview | None) -> str:
    if value is None:
        return ""
    return bytes(value).split(b"\0", 1)[0].decode("utf-8", "replace")
