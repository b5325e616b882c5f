"""Tagged fields: what later versions may add to a frame's body.

A field is tag u8, length u16, value; a tag with the bit 0x80 is optional: who
does not know it skips it. Values are checked here by size and for being text.
"""

from __future__ import annotations

import struct

from vshp.constants import FRAME_OPTIONAL, MAX_FIELDS
from vshp.errors import FrameInvalid, FrameTruncated
from vshp.labels import clean_label

_FIELD = struct.Struct("<BH")


def encode_fields(fields: list[tuple[int, bytes]]) -> bytes:
    return b"".join(_FIELD.pack(tag, len(value)) + value for tag, value in fields)


def decode_fields(body: bytes, known: frozenset[int]) -> dict[int, bytes]:
    """Tag -> value. Unknown optional tags are skipped; others unknown or repeated are refused."""
    fields: dict[int, bytes] = {}
    at, end, count = 0, len(body), 0
    while at < end:
        count += 1
        if count > MAX_FIELDS:
            raise FrameInvalid("field_too_many")
        if at + _FIELD.size > end:
            raise FrameTruncated("field_truncated")
        tag, length = _FIELD.unpack_from(body, at)
        at += _FIELD.size
        if at + length > end:
            raise FrameTruncated("field_truncated")
        value = body[at : at + length]
        at += length
        if tag not in known:
            if tag & FRAME_OPTIONAL:
                continue
            raise FrameInvalid("field_unknown", hex(tag))
        if tag in fields:
            raise FrameInvalid("field_repeated", hex(tag))
        fields[tag] = value
    return fields


def sized(value: bytes, size: int) -> bytes:
    """The value, which must have this size."""
    if len(value) != size:
        raise FrameTruncated("field_size")
    return value


def number(value: bytes, size: int) -> int:
    """An unsigned number of so many bytes."""
    return int.from_bytes(sized(value, size), "little")


def text(value: bytes, limit: int) -> str:
    """A text of at most `limit` bytes, cleaned."""
    if len(value) > limit:
        raise FrameInvalid("text_too_long")
    try:
        return clean_label(value.decode("utf-8"), limit)
    except UnicodeDecodeError:
        raise FrameInvalid("text_not_utf8") from None
