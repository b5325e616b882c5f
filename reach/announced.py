"""A gateway's announcement as it comes over the network (RFC 6762, RFC 6763), without a library.

For a client that waits for one gateway: the kernel is told to let nothing else through
(`FILTER`), so that the rest of a network's mDNS wakes nobody, and what comes is read here.
Nothing of it is proven: it says where to try, and the gateway's key decides.

Pure. Bounds: MAX_RECORDS records and MAX_JUMPS pointers of a name, and MAX_PLACES places in all.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

GROUP = "224.0.0.251"
PORT = 5353
MAX_RECORDS = 64
MAX_JUMPS = 16
MAX_PLACES = 8

_SERVICE = (b"_vshp", b"_udp", b"local")
_HEADER = struct.Struct(">HHHHHH")
_FIXED = struct.Struct(">HHIH")
_RESPONSE = 0x8000
_A, _AAAA, _SRV, _PTR = 1, 28, 33, 12
_IN = 1
_NAME = b"".join(bytes((len(label),)) + label for label in _SERVICE) + b"\0"

QUERY = _HEADER.pack(0, 0, 1, 0, 0, 0) + _NAME + struct.pack(">HH", _PTR, _IN)
"""Who is here? The answers go to everybody, as announcements do."""

_LOAD_HALF, _LOAD_WORD, _IF_SET, _IF_EQUAL, _RETURN = 0x28, 0x20, 0x45, 0x15, 0x06
_UDP_HEADER = 8
FILTER: tuple[tuple[int, int, int, int], ...] = (
    (_LOAD_HALF, 0, 0, _UDP_HEADER + 2),
    (_IF_SET, 0, 5, _RESPONSE),
    (_LOAD_WORD, 0, 0, _UDP_HEADER + _HEADER.size),
    (_IF_EQUAL, 0, 3, int.from_bytes(_NAME[:4], "big")),
    (_LOAD_WORD, 0, 0, _UDP_HEADER + _HEADER.size + 4),
    (_IF_EQUAL, 0, 1, int.from_bytes(_NAME[4:8], "big")),
    (_RETURN, 0, 0, 0xFFFF),
    (_RETURN, 0, 0, 0),
)
"""Classic BPF for a UDP socket, each as code, jump if true, jump if false, operand: answers whose
first name is the service's, as the pointer that a gateway announces first."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gateway says that it is."""

    fingerprint: str
    """16 hexadecimal digits, as the instance is called."""
    host: str
    port: int


def read(data: bytes, sender: str) -> tuple[Place, ...]:
    """The places that a datagram announces; none for what is no announcement of a gateway.

    `sender` is the address it came from: where no address is in it, that one is meant.
    """
    try:
        return _read(data, sender)
    except (struct.error, IndexError, ValueError):
        return ()


def _read(data: bytes, sender: str) -> tuple[Place, ...]:
    _, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if not flags & _RESPONSE or questions:
        return ()
    at = _HEADER.size
    servers: list[tuple[str, tuple[bytes, ...], int]] = []
    hosts: dict[tuple[bytes, ...], list[str]] = {}
    for _ in range(min(answers + authorities + additional, MAX_RECORDS)):
        name, at = _name(data, at)
        kind, _, lifetime, size = _FIXED.unpack_from(data, at)
        at += _FIXED.size
        body = data[at : at + size]
        if len(body) < size:
            break
        if kind == _SRV and lifetime and name[1:] == _SERVICE and _is_fingerprint(name[0]):
            target, _ = _name(data, at + 6)
            servers.append((name[0].decode(), target, int.from_bytes(body[4:6], "big")))
        elif (kind, size) in ((_A, 4), (_AAAA, 16)) and lifetime:
            hosts.setdefault(name, []).append(str(ipaddress.ip_address(body)))
        at += size
    return tuple(
        Place(fingerprint, host, port)
        for fingerprint, target, port in servers
        if port
        for host in hosts.get(target, [sender])
    )[:MAX_PLACES]


def _is_fingerprint(label: bytes) -> bool:
    return len(label) == 16 and all(c in b"0123456789abcdef" for c in label)


def _name(data: bytes, at: int) -> tuple[tuple[bytes, ...], int]:
    """A name's labels in lower case, and where it ends. Raises IndexError and ValueError."""
    labels: list[bytes] = []
    end, jumps = 0, 0
    while size := data[at]:
        if size >= 0xC0:
            end = end or at + 2
            at = (size & 0x3F) << 8 | data[at + 1]
            jumps += 1
        elif size < 0x40:
            labels.append(data[at + 1 : at + 1 + size].lower())
            at += 1 + size
        else:
            raise ValueError("no label")
        if jumps > MAX_JUMPS or len(labels) > MAX_JUMPS:
            raise ValueError("no name")
    return tuple(labels), end or at + 1
