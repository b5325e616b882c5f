"""STUN's Binding (RFC 8489): from which address does a packet of ours arrive?

Theory of operation. A Binding request is a header and a FINGERPRINT, so that whoever shares a
port with STUN can tell it. The answer carries the address that the server saw, XORed with the
magic cookie so that no translator on the way rewrites it. `Binding` is one transaction: it says
when the request is due to be sent (again), and takes what comes. Only an answer with its random
96-bit transaction id counts: who does not see the request cannot forge one. Whoever is on the way
can, so what one server says is to be held against what others say.

Pure: `now` is monotonic seconds, the id is given, nothing is sent here.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from struct import Struct

PORT = 3478
COOKIE = 0x2112A442
ID_SIZE = 12
"""Bytes of a transaction's id; they must be random (RFC 8489 section 5)."""
MAX_MESSAGE = 1_280
"""Bytes of an answer that are looked at: none that is meant has more (section 6.1)."""
MAX_REASON = 128
"""Characters of a refusal's reason (section 14.8)."""

REQUEST, SUCCESS, ERROR = 0x0001, 0x0101, 0x0111
MAPPED_ADDRESS, ERROR_CODE, XOR_MAPPED_ADDRESS, FINGERPRINT = 0x0001, 0x0009, 0x0020, 0x8028
COMPREHENSION_REQUIRED = range(0x8000)
"""Attributes that an answer must not be used without understanding (section 14)."""
UNDERSTOOD = frozenset({
    MAPPED_ADDRESS, ERROR_CODE, XOR_MAPPED_ADDRESS,
    0x0006, 0x0008, 0x000A, 0x0014, 0x0015, 0x001C, 0x001E,
})  # fmt: skip
"""Those that may be in an answer, though credentials (USERNAME, MESSAGE-INTEGRITY and so on)
and UNKNOWN-ATTRIBUTES say nothing to one who has sent none."""

FIRST_WAIT = 0.5
"""Seconds until the request is sent again, doubled each time (RTO, section 6.2.1)."""
SENDINGS = 3
"""Of the seven that the RFC allows: a person waits for the answer."""
LAST_WAIT = 2.0
"""Seconds after the last of them."""

_HEADER = Struct("!HHI12s")
_ATTRIBUTE = Struct("!HH")
_U32 = Struct("!I")
_XOR = 0x5354554E
"""What a FINGERPRINT's CRC-32 is XORed with (section 14.7)."""

Address = tuple[IPv4Address | IPv6Address, int]
"""An address and a port."""


class StunError(ValueError):
    """What came is no usable answer."""


class NotStun(StunError):
    """Not a STUN message, or a broken one."""


class OtherTransaction(StunError):
    """An answer to something else, or a message that is none."""


class NotUnderstood(StunError):
    """It has an attribute that must be understood and is not."""


class Refused(StunError):
    """The server answers with an error (section 14.8)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"error {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


def request(id: bytes) -> bytes:
    """A Binding request with that transaction id of ID_SIZE random bytes."""
    if len(id) != ID_SIZE:
        raise ValueError(f"a transaction id has {ID_SIZE} bytes")
    head = _HEADER.pack(REQUEST, 8, COOKIE, id)
    return head + _ATTRIBUTE.pack(FINGERPRINT, 4) + _U32.pack(zlib.crc32(head) ^ _XOR)


def answered(message: bytes, id: bytes) -> Address:
    """The address and port that the server saw.

    Raises:
        NotStun, OtherTransaction, NotUnderstood, Refused.
    """
    if not _HEADER.size <= len(message) <= MAX_MESSAGE:
        raise NotStun(f"{len(message)} bytes")
    kind, length, cookie, its_id = _HEADER.unpack_from(message)
    if cookie != COOKIE or kind & 0xC000 or length % 4 or length != len(message) - _HEADER.size:
        raise NotStun("no STUN header")
    attributes = _attributes(message)
    if its_id != id or kind not in (SUCCESS, ERROR):
        raise OtherTransaction("not an answer to this request")
    for attribute in attributes:
        if attribute in COMPREHENSION_REQUIRED and attribute not in UNDERSTOOD:
            raise NotUnderstood(f"attribute 0x{attribute:04x}")
    if kind == ERROR:
        raise _refusal(attributes.get(ERROR_CODE, b""))
    if (value := attributes.get(XOR_MAPPED_ADDRESS)) is not None:
        return _address(value, message[4 : _HEADER.size])
    if (value := attributes.get(MAPPED_ADDRESS)) is not None:
        return _address(value, bytes(_HEADER.size - 4))
    raise NotStun("no address")


def _attributes(message: bytes) -> dict[int, bytes]:
    """By its type each attribute's first value: others of the type are ignored (section 14)."""
    found: dict[int, bytes] = {}
    at = _HEADER.size
    while at < len(message):
        if FINGERPRINT in found:
            raise NotStun("something follows the fingerprint")
        kind, length = _ATTRIBUTE.unpack_from(message, at)
        value = message[at + _ATTRIBUTE.size : at + _ATTRIBUTE.size + length]
        if len(value) != length:
            raise NotStun("an attribute is cut off")
        if kind == FINGERPRINT and (
            length != 4 or _U32.unpack(value)[0] != zlib.crc32(message[:at]) ^ _XOR
        ):
            raise NotStun("the fingerprint is wrong")
        found.setdefault(kind, value)
        at += _ATTRIBUTE.size + (length + 3 & ~3)
    return found


def _address(value: bytes, key: bytes) -> Address:
    """MAPPED-ADDRESS (section 14.1) or, with the cookie and the id as key, its XORed form."""
    if len(value) < 4 or (value[1], len(value)) not in ((1, 8), (2, 20)):
        raise NotStun("an address of no known family")
    plain = bytes(one ^ other for one, other in zip(value[4:], key, strict=False))
    port = int.from_bytes(value[2:4], "big") ^ int.from_bytes(key[:2], "big")
    return (IPv4Address(plain) if len(plain) == 4 else IPv6Address(plain)), port


def _refusal(value: bytes) -> Refused:
    if len(value) < 4 or not 3 <= value[2] & 7 <= 6 or value[3] > 99:
        raise NotStun("an error without a code")
    reason = value[4:].decode("utf-8", "replace")[:MAX_REASON]
    return Refused((value[2] & 7) * 100 + value[3], reason)


@dataclass(slots=True)
class Binding:
    """One transaction, with an id of ID_SIZE random bytes."""

    id: bytes
    mapped: Address | None = None
    refused: Refused | None = None
    strange: int = 0
    """Messages that did not answer it."""
    _sent: int = 0
    _due: float = float("-inf")

    @property
    def over(self) -> bool:
        """Whether the server has said something."""
        return self.mapped is not None or self.refused is not None

    @property
    def due(self) -> float:
        """When to call `send` or, if it has nothing more to send, to look whether it is `lost`."""
        return self._due

    def send(self, now: float) -> bytes | None:
        """The request if it is time to send it; None if not, or if it was sent often enough."""
        if self.over or now < self._due or self._sent == SENDINGS:
            return None
        last = self._sent == SENDINGS - 1
        self._due = now + (LAST_WAIT if last else FIRST_WAIT * 2**self._sent)
        self._sent += 1
        return request(self.id)

    def lost(self, now: float) -> bool:
        """Whether no answer is waited for any more."""
        return not self.over and self._sent == SENDINGS and now >= self._due

    def take(self, message: bytes) -> None:
        """What came from the server's address. What is no answer is counted, and waited past."""
        if self.over:
            return
        try:
            self.mapped = answered(message, self.id)
        except Refused as refused:
            self.refused = refused
        except StunError:
            self.strange += 1
