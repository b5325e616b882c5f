"""The clear first bytes of a session: which protocol, pattern and suite are meant.

They are the prologue of the Noise handshake, so whoever changes them on the
way makes the handshake fail; nothing can be talked down.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from sealing.errors import PeerViolation
from vshp.config import CloseReason, Pattern, Suite
from vshp.constants import (
    FLAG_DATAGRAM,
    KNOWN_FLAGS,
    MAGIC,
    PREAMBLE_SIZE,
    SECRET_ID_SIZE,
    VERSION,
)
from vshp.errors import Refused

_PREAMBLE = struct.Struct("<4sBBBB")


@dataclass(frozen=True, slots=True)
class Preamble:
    """What the client says before anything is encrypted."""

    pattern: Pattern
    suite: Suite
    datagram: bool = False
    secret_id: bytes = b""
    """8 bytes with IKpsk1, else empty."""

    def encode(self) -> bytes:
        flags = FLAG_DATAGRAM if self.datagram else 0
        head = _PREAMBLE.pack(MAGIC, VERSION, self.pattern, self.suite, flags)
        return head + self.secret_id


def decode_preamble(data: bytes | bytearray | memoryview) -> tuple[Preamble, int] | None:
    """The preamble at the start of `data` and its size; None while more bytes are needed.

    Raises PeerViolation (`bad_magic`, at the first byte that is wrong) for what is no VSHP,
    Refused for what is VSHP but nothing we speak.
    """
    head = bytes(data[:PREAMBLE_SIZE])
    if not MAGIC.startswith(head[:4]):
        raise PeerViolation("bad_magic")
    if len(head) < PREAMBLE_SIZE:
        return None
    _, version, pattern_value, suite_value, flags = _PREAMBLE.unpack(head)
    if version != VERSION or flags & ~KNOWN_FLAGS:
        raise Refused(CloseReason.VERSION_UNSUPPORTED)
    try:
        pattern = Pattern(pattern_value)
    except ValueError:
        raise Refused(CloseReason.PATTERN_UNSUPPORTED) from None
    try:
        suite = Suite(suite_value)
    except ValueError:
        raise Refused(CloseReason.SUITE_UNSUPPORTED) from None
    size = PREAMBLE_SIZE
    secret_id = b""
    if pattern is Pattern.IK_PSK1:
        size += SECRET_ID_SIZE
        if len(data) < size:
            return None
        secret_id = bytes(data[PREAMBLE_SIZE:size])
    return Preamble(pattern, suite, bool(flags & FLAG_DATAGRAM), secret_id), size
