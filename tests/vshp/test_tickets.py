"""Tickets: bound, single use, bounded."""

from __future__ import annotations

import pytest

from sealing.errors import LocalMisuse
from vshp.config import CloseReason
from vshp.constants import MAX_TICKET, MAX_TICKET_SESSIONS, TICKET_LIFETIME
from vshp.errors import Refused
from vshp.tickets import TICKET_SIZE, TicketBook

SESSION, PEER, WALL = bytes(range(16)), bytes(range(32)), 1_700_000_000.0


def refusal(
    book: TicketBook, ticket: bytes, session: bytes = SESSION, peer: bytes = PEER,
    at: float = WALL,
) -> str:  # fmt: skip
    with pytest.raises(Refused) as caught:
        book.open(ticket, session, peer, at)
    return caught.value.reason


def test_resume_rotates_and_each_ticket_is_good_once() -> None:
    book = TicketBook(bytes(32))
    ticket = book.issue(SESSION, PEER, WALL)
    for generation in range(1, 5):
        opened = book.open(ticket, SESSION, PEER, WALL + 60)
        assert opened.generation == generation
        following = book.issue(SESSION, PEER, WALL, after=opened.generation)
        # The answer may get lost: until the client confirms, the old one opens again.
        assert book.open(ticket, SESSION, PEER, WALL + 61) == opened
        book.confirm(SESSION, opened.generation + 1)
        assert refusal(book, ticket) == CloseReason.TICKET_USED
        ticket = following


def test_useless_to_others_and_for_others() -> None:
    book = TicketBook(bytes(32))
    ticket = book.issue(SESSION, PEER, WALL)
    assert refusal(book, ticket, peer=bytes(32)) == CloseReason.TICKET_INVALID
    assert refusal(book, ticket, session=bytes(16)) == CloseReason.TICKET_INVALID
    other = TicketBook(b"\x01" * 32)
    assert refusal(other, ticket) == CloseReason.TICKET_INVALID
    assert TICKET_SIZE <= MAX_TICKET


def test_every_flipped_bit_and_truncation_is_refused() -> None:
    book = TicketBook(bytes(32))
    ticket = book.issue(SESSION, PEER, WALL)
    for offset in range(len(ticket)):
        assert refusal(book, ticket[:offset]) == CloseReason.TICKET_INVALID
        changed = bytearray(ticket)
        changed[offset] ^= 1
        assert refusal(book, bytes(changed)) == CloseReason.TICKET_INVALID
    assert refusal(book, ticket + b"\0") == CloseReason.TICKET_INVALID


def test_age() -> None:
    book = TicketBook(bytes(32))
    ticket = book.issue(SESSION, PEER, WALL)
    assert refusal(book, ticket, at=WALL + TICKET_LIFETIME + 1) == CloseReason.TICKET_EXPIRED
    assert refusal(book, ticket, at=WALL - 3600) == CloseReason.TICKET_INVALID


def test_survives_a_restart_with_its_key() -> None:
    ticket = TicketBook(bytes(32)).issue(SESSION, PEER, WALL, after=7)
    again = TicketBook(bytes(32))
    assert again.open(ticket, SESSION, PEER, WALL).generation == 8
    again.confirm(SESSION, 9)
    assert refusal(again, ticket) == CloseReason.TICKET_USED
    again.forget(SESSION)
    assert again.open(ticket, SESSION, PEER, WALL).generation == 8


def test_memory_is_bounded() -> None:
    book = TicketBook(bytes(32))
    for n in range(MAX_TICKET_SESSIONS + 10):
        book.confirm(n.to_bytes(16, "big"), 5)
    assert len(book._newest) == MAX_TICKET_SESSIONS
    with pytest.raises(LocalMisuse):
        TicketBook(b"short")
    with pytest.raises(LocalMisuse):
        book.issue(b"short", PEER, WALL)
