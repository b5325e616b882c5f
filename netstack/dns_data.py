"""What the records of a DNS answer say: addresses and texts (RFC 1035 sections 3.4.1 and 3.3.14,
RFC 3596 section 2.2), for those few questions that are our own. Pure."""

from __future__ import annotations

from struct import Struct

from netstack.dns import (
    ADDRESS_SIZES,
    CLASS_IN,
    HEADER_SIZE,
    MalformedMessage,
    parse_answer,
    skip_name,
)

TYPE_TXT = 16

_RECORD = Struct("!HHIH")


def answer_data(wire: bytes, kind: int) -> list[bytes]:
    """The data of each record of that type in the answer section, in order.

    Raises MalformedMessage.
    """
    answer = parse_answer(wire)
    found = []
    offset = answer.question_end
    for _ in range(answer.records):
        offset = skip_name(wire, offset)
        type_, class_, _, length = _RECORD.unpack_from(wire, offset)
        offset += _RECORD.size
        if type_ == kind and class_ == CLASS_IN:
            found.append(wire[offset : offset + length])
        offset += length
    return found


def packed_addresses(wire: bytes, kind: int) -> list[bytes]:
    """The addresses of type A or AAAA records, packed. Raises MalformedMessage."""
    found = answer_data(wire, kind)
    if any(len(data) != ADDRESS_SIZES[kind] for data in found):
        raise MalformedMessage("an address of another size")
    return found


def texts(wire: bytes) -> list[bytes]:
    """The strings of TXT records, each by itself. Raises MalformedMessage."""
    found = []
    for data in answer_data(wire, TYPE_TXT):
        offset = 0
        while offset < len(data):
            end = offset + 1 + data[offset]
            if end > len(data):
                raise MalformedMessage("a text that is cut off")
            found.append(data[offset + 1 : end])
            offset = end
    return found


def answers_question(wire: bytes, question: bytes) -> bool:
    """Whether it is an answer to the question of ours, by ID, flag, name, type and class; the
    name's case may differ. Not whether it is well-formed beyond."""
    return (
        len(wire) >= len(question) > HEADER_SIZE
        and wire[:2] == question[:2]
        and bool(wire[2] & 0x80)
        and wire[HEADER_SIZE : len(question)].lower() == question[HEADER_SIZE:].lower()
    )
