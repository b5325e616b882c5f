"""The four messages on the wire (whitepaper 5.4): sizes checked first, then cut into fields.

Integers are little-endian. The type is one byte and three zero bytes, compared as
a whole, so that what is not WireGuard is dropped unread.

    initiation  148  type, sender, ephemeral 32, AEAD(static) 48, AEAD(timestamp) 28, macs
    response     92  type, sender, receiver, ephemeral 32, AEAD() 16, macs
    cookie reply 64  type, receiver, nonce 24, XAEAD(cookie) 32
    data      >= 32  type, receiver, counter u64, AEAD(padded packet)
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from sealing.errors import PeerViolation
from wireguard.constants import (
    COOKIE_REPLY,
    COOKIE_REPLY_SIZE,
    DATA,
    DATA_OVERHEAD,
    INITIATION,
    INITIATION_SIZE,
    MACS_SIZE,
    RESPONSE,
    RESPONSE_SIZE,
)

_INITIATION = struct.Struct("<II32s48s28s")
_RESPONSE = struct.Struct("<III32s16s")
_COOKIE_REPLY = struct.Struct("<II24s32s")
_DATA = struct.Struct("<IIQ")
pack_data_header = _DATA.pack_into
unpack_data_header = _DATA.unpack_from
data_words = struct.Struct("<QQ").unpack_from
"""The same as two numbers: type and receiver, and the counter."""

assert _INITIATION.size + MACS_SIZE == INITIATION_SIZE
assert _RESPONSE.size + MACS_SIZE == RESPONSE_SIZE
assert _COOKIE_REPLY.size == COOKIE_REPLY_SIZE


class Initiation(NamedTuple):
    """The first message, without its macs."""

    sender: int
    ephemeral: bytes
    static: bytes
    """The initiator's public key, sealed."""
    timestamp: bytes
    """TAI64N, sealed."""

    def encode(self) -> bytes:
        return _INITIATION.pack(INITIATION, *self)


class Response(NamedTuple):
    """The second message, without its macs."""

    sender: int
    receiver: int
    ephemeral: bytes
    empty: bytes
    """Nothing, sealed: the proof."""

    def encode(self) -> bytes:
        return _RESPONSE.pack(RESPONSE, *self)


class CookieReply(NamedTuple):
    """The answer of somebody under load, instead of a handshake."""

    receiver: int
    """The sender index of the message that it answers."""
    nonce: bytes
    cookie: bytes
    """Sealed."""

    def encode(self) -> bytes:
        return _COOKIE_REPLY.pack(COOKIE_REPLY, *self)


def kind_of(datagram: bytes | memoryview) -> int:
    """The type of a datagram whose size that type may have. Raises PeerViolation."""
    size = len(datagram)
    kind = int.from_bytes(datagram[:4], "little")
    if kind == DATA and size >= DATA_OVERHEAD:
        return kind
    if _SIZES.get(kind) != size:
        raise PeerViolation("datagram_malformed", f"type {kind}, {size} bytes")
    return kind


_SIZES = {
    INITIATION: INITIATION_SIZE,
    RESPONSE: RESPONSE_SIZE,
    COOKIE_REPLY: COOKIE_REPLY_SIZE,
}


def parse_initiation(message: bytes) -> Initiation:
    """The fields of a datagram that `kind_of` calls INITIATION."""
    return Initiation._make(_INITIATION.unpack_from(message)[1:])


def parse_response(message: bytes) -> Response:
    """The fields of a datagram that `kind_of` calls RESPONSE."""
    return Response._make(_RESPONSE.unpack_from(message)[1:])


def parse_cookie_reply(message: bytes) -> CookieReply:
    """The fields of a datagram that `kind_of` calls COOKIE_REPLY."""
    return CookieReply._make(_COOKIE_REPLY.unpack_from(message)[1:])
