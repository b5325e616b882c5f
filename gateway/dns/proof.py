"""What a datagram or a message over TCP proves about the question that was sent: pure.

An attacker off the path must guess the ID, the port, and the spelling of the name. Only an
answer that repeats the question to the letter is proof of all three. Honest servers exist
that lower the letters' case, and that leave the question out of an error: what they say is
told apart here, for the relay to see about.
"""

from __future__ import annotations

from enum import Enum

from netstack.dns import (
    FLAG_QR,
    FLAG_TC,
    HEADER_SIZE,
    Answer,
    MalformedMessage,
    Query,
    parse_answer,
    truncated_reply,
)


class Proof(Enum):
    """How much an arrival shows that its sender saw the question."""

    WRONG_ID = "wrong_id"
    MALFORMED = "malformed"
    WRONG_QUESTION = "wrong_question"
    BARE = "bare"
    """An error with the ID alone."""
    RESPELLED = "wrong_case"
    """The question in other letters' case."""
    CUT = "truncated"
    """The question, and that the answer is longer than a datagram."""
    WHOLE = "whole"
    """The question to the letter, and what was asked for."""


def examine(message: bytes, query: Query, wire: bytes) -> tuple[Proof, Answer | None]:
    """Judge what came in answer to `message`; parsed where it says anything."""
    if wire[0:2] != message[0:2]:
        return Proof.WRONG_ID, None
    name_end, end = query.name_end, query.question_end
    same = wire[HEADER_SIZE:end] == message[HEADER_SIZE:end]
    respelled = (
        not same
        and wire[name_end:end] == message[name_end:end]
        and wire[HEADER_SIZE:name_end].lower() == message[HEADER_SIZE:name_end].lower()
    )
    flags = int.from_bytes(wire[2:4], "big")
    try:
        if (same or respelled) and flags & FLAG_QR and flags & FLAG_TC:
            # Some cut in the middle of a record: no more than the question is looked at.
            return Proof.CUT, parse_answer(truncated_reply(wire, end, False))
        answer = parse_answer(wire)
    except MalformedMessage:
        return Proof.MALFORMED, None
    if answer.bare:
        return Proof.BARE, answer
    if same:
        return Proof.WHOLE, answer
    return (Proof.RESPELLED if respelled else Proof.WRONG_QUESTION), answer


def spelled(name: bytes, bits: int) -> bytes:
    """The name with each letter's case by one of `bits` (draft-vixie-dnsext-dns0x20)."""
    mixed = bytearray(name)
    offset = 0
    while mixed[offset]:
        after = offset + 1 + mixed[offset]
        for at in range(offset + 1, after):
            if 0x41 <= mixed[at] & 0xDF <= 0x5A:
                mixed[at] ^= (bits & 1) << 5
                bits >>= 1
        offset = after
    return bytes(mixed)
