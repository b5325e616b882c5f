"""The pairing URI: all that a stranger's device needs to pair, small enough for a QR code.

`VSHP:` and base32 (RFC 4648, upper case, no padding) of

    version u8 = 1 | gateway's public key 32 | one-time secret 16
    name length u8, name (UTF-8) | endpoint count u8, endpoints
    checksum: first 3 bytes of BLAKE2s of all before

with an endpoint being kind u8 (1 TCP, 2 UDP, 3 both; 0x80 set for IPv6), port
u16 little-endian, address 4 or 16 bytes. Every character is in QR's
alphanumeric alphabet: with the longest name and three IPv4 endpoints it is
version 6 at level L, 41 modules, 45 columns with a border of two. Decoding is
strict about what the text says, and lenient about how it came: lower case, line
ends and blanks, quotes, characters without width and percent-encoding, as mail
programs, messengers and shells add them, change nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from dataclasses import dataclass

from sealing.records import KEY_SIZE
from vshp.constants import MAX_ENDPOINTS, SECRET_SIZE
from vshp.endpoints import Endpoint, encode_endpoint, endpoint_size, take_endpoint
from vshp.errors import FrameInvalid, FrameTruncated
from vshp.labels import clean_label, clip_utf8

SCHEME = "VSHP:"
MAX_URI_NAME = 24
"""Bytes of UTF-8; longer names are cut."""
MAX_URI = 600
"""Characters; nothing longer can be one."""
MAX_TEXT = 4 * MAX_URI
"""Characters with all that may have come along."""

_VERSION = 1
_CHECKSUM_SIZE = 3
_DIGITS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
_QUOTES = frozenset("'\"`<>()“”„‘’‚«»‹›*_=\\.,;")


def is_uri(text: str) -> bool:
    """Whether somebody who gives this means a pairing URI, good or not."""
    return bare(text).startswith(SCHEME)


def bare(text: str) -> str:
    """`text` in capitals, without what stands in and around a URI that was copied."""
    text = re.sub(r"%([0-7][0-9A-Fa-f])", lambda found: chr(int(found[1], 16)), text[:MAX_TEXT])
    return "".join(
        c for c in text if c not in _QUOTES and unicodedata.category(c)[0] not in "ZC"
    ).upper()


class UriError(ValueError):
    """Not a pairing URI that can be used; the message is a sentence for people."""


@dataclass(frozen=True, slots=True)
class PairingUri:
    """A gateway's invitation."""

    public_key: bytes
    """The gateway's static public key, 32 bytes."""
    secret: bytes
    """The one-time secret, 16 bytes."""
    name: str
    """The gateway's name for people; cleaned when decoded."""
    endpoints: tuple[Endpoint, ...]

    def encode(self) -> str:
        """The URI. Raises ValueError for what has no place in one."""
        if len(self.public_key) != KEY_SIZE or len(self.secret) != SECRET_SIZE:
            raise ValueError("key or secret of the wrong size")
        if not 0 < len(self.endpoints) <= MAX_ENDPOINTS:
            raise ValueError(f"1 to {MAX_ENDPOINTS} endpoints, not {len(self.endpoints)}")
        name = clip_utf8(self.name, MAX_URI_NAME)
        body = bytearray((_VERSION,)) + self.public_key + self.secret
        body += bytes((len(name),)) + name + bytes((len(self.endpoints),))
        for endpoint in self.endpoints:
            body += encode_endpoint(endpoint)
        return SCHEME + base64.b32encode(body + _checksum(body)).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> PairingUri:
        """The invitation in `text`. Raises UriError."""
        if len(text) > MAX_TEXT:
            raise UriError("The pairing code is too long to be one.")
        text = bare(text)
        if not text.startswith(SCHEME):
            raise UriError("This is not a VPN Share pairing code: it does not begin with VSHP:")
        if len(text) > MAX_URI:
            raise UriError("The pairing code is too long to be one.")
        digits = text[len(SCHEME) :]
        if odd := next((c for c in digits if c not in _DIGITS), None):
            raise UriError(
                f"The pairing code contains {odd!r}, which does not belong there; copy it again."
            )
        data = _decode(digits)
        missing = _size(data) - len(data)
        if missing > 0:
            raise UriError("The pairing code is cut off: its end is missing. Copy all of it.")
        # Of several spellings of the same bytes only the canonical one is taken.
        if base64.b32encode(data).decode().rstrip("=") != digits:
            raise UriError(_DAMAGED)
        return _parse(data)


_DAMAGED = "The pairing code is damaged: a character is wrong or missing. Scan or copy it again."


def _decode(digits: str) -> bytes:
    """The whole bytes of base32 that may have been cut off anywhere."""
    # One, three or six digits over end inside a byte.
    whole = len(digits) - (len(digits) % 8 in (1, 3, 6))
    return base64.b32decode(digits[:whole] + "=" * (-whole % 8))


def _size(data: bytes) -> int:
    """Bytes that a URI which begins like this has; more than there are, if it was cut off."""
    name = 1 + KEY_SIZE + SECRET_SIZE
    if len(data) <= name:
        return name + 1
    count = at = name + 1 + data[name]
    if len(data) <= count:
        return count + 1
    at += 1
    for _ in range(data[count]):
        if at >= len(data):
            return at + 1
        at += endpoint_size(data[at])
    return at + _CHECKSUM_SIZE


def _checksum(body: bytes | bytearray) -> bytes:
    return hashlib.blake2s(body, digest_size=_CHECKSUM_SIZE, person=b"VSHPuri1").digest()


class _Reader:
    """Takes fields off the front; running out of bytes is one error."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        value = self._data[self._at : self._at + size]
        if len(value) != size:
            raise UriError("The pairing code ends too early; scan or copy all of it.")
        self._at += size
        return value

    def byte(self) -> int:
        return self.take(1)[0]

    def rest(self) -> bytes:
        return self._data[self._at :]

    @property
    def done(self) -> bool:
        return self._at == len(self._data)


def _parse(data: bytes) -> PairingUri:
    if not data or data[0] != _VERSION:
        raise UriError(
            "The pairing code is of a version that this program does not know; update it."
        )
    body = data[:-_CHECKSUM_SIZE]
    if data[-_CHECKSUM_SIZE:] != _checksum(body):
        raise UriError(_DAMAGED)
    reader = _Reader(body[1:])
    key, secret = reader.take(KEY_SIZE), reader.take(SECRET_SIZE)
    size = reader.byte()
    if size > MAX_URI_NAME:
        raise UriError("The name in the pairing code is too long.")
    try:
        name = clean_label(reader.take(size).decode("utf-8"), MAX_URI_NAME)
    except UnicodeDecodeError:
        raise UriError("The name in the pairing code is not readable text.") from None
    count = reader.byte()
    if not 0 < count <= MAX_ENDPOINTS:
        raise UriError("The pairing code names no usable number of addresses.")
    endpoints = tuple(_parse_endpoint(reader) for _ in range(count))
    if not reader.done:
        raise UriError("The pairing code goes on after its end.")
    return PairingUri(key, secret, name, endpoints)


def _parse_endpoint(reader: _Reader) -> Endpoint:
    try:
        endpoint, size = take_endpoint(reader.rest())
    except FrameTruncated:
        raise UriError("The pairing code ends too early; scan or copy all of it.") from None
    except FrameInvalid:
        raise UriError("The pairing code names an impossible port.") from None
    if endpoint is None:
        raise UriError("The pairing code names a way of connecting that is not known here.")
    reader.take(size)
    return endpoint
