"""STUN messages written by hand, so that the tests' bytes are not the code's own."""

from __future__ import annotations

import socket
import struct
import zlib

COOKIE = 0x2112A442


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def message(kind: int, id: bytes, attributes: bytes = b"") -> bytes:
    return struct.pack("!HHI", kind, len(attributes), COOKIE) + id + attributes


def address_value(address: str, port: int, key: bytes = bytes(16)) -> bytes:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    masked = bytes(one ^ other for one, other in zip(packed, key, strict=False))
    number = port ^ int.from_bytes(key[:2], "big")
    return struct.pack("!BBH", 0, 2 if ":" in address else 1, number) + masked


def success(id: bytes, address: str, port: int, fingerprint: bool = False) -> bytes:
    """The answer that has seen a request from there."""
    key = struct.pack("!I", COOKIE) + id
    body = attribute(0x0020, address_value(address, port, key))
    if not fingerprint:
        return message(0x0101, id, body)
    head = message(0x0101, id, body + bytes(8))[:-8]
    return head + attribute(0x8028, struct.pack("!I", zlib.crc32(head) ^ 0x5354554E))
