"""Reassembly: order, duplicates, overlaps, bounds, time."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netstack.fragments import (
    MAX_DATAGRAMS,
    MAX_PIECES,
    PIECE_CHARGE,
    TIMEOUT,
    OverlapError,
    Piece,
    Reassembler,
    Whole,
    cut,
)

DATA = bytes(range(256)) * 20
Place = tuple[int, int, bool]


def piece(place: Place, ecn: int = 0) -> Piece:
    offset, length, more = place
    data = DATA[offset : offset + length]
    if offset:
        return Piece(offset, more, data, ecn)
    return Piece(offset, more, data, ecn, b"head", b"quote")


def add(held: Reassembler, place: Place, key: object = "k", now: float = 0.0) -> bytes | None:
    """The payload, if it is whole."""
    whole = held.add(key, piece(place), now)
    return None if whole is None else whole.payload


@given(st.randoms(use_true_random=False), st.integers(8, 1500), st.integers(1, len(DATA)))
@settings(deadline=None, max_examples=100)
def test_any_order_gives_the_datagram(rng: random.Random, room: int, length: int) -> None:
    held = Reassembler(1 << 20)
    pieces = cut(length, room)
    rng.shuffle(pieces)
    results = [add(held, piece) for piece in pieces]
    assert results[:-1] == [None] * (len(pieces) - 1)
    assert results[-1] == DATA[:length]
    assert (held.held, len(held)) == (0, 0)


def test_cuts_are_in_units_of_eight_and_fit() -> None:
    assert cut(100, 50) == [(0, 48, True), (48, 48, True), (96, 4, False)]
    assert cut(48, 50) == [(0, 48, False)]
    assert cut(0, 50) == [(0, 0, False)]
    with pytest.raises(ValueError, match="room"):
        cut(100, 7)


def test_a_duplicate_is_ignored() -> None:
    held = Reassembler(1 << 20)
    pieces = cut(300, 104)
    assert add(held, pieces[0]) is None
    before = held.held
    assert add(held, pieces[0]) is None
    assert held.held == before
    assert add(held, pieces[2]) is None
    assert add(held, pieces[2]) is None
    assert add(held, pieces[1]) == DATA[:300]


@pytest.mark.parametrize(
    "evil",
    [
        (8, 104, True),
        (0, 96, True),
        (0, 112, True),
        (96, 104, True),
        (200, 16, True),
        (208, 8, False),
        (216, 104, False),
        (120, 8, False),
        (400, 8, True),
    ],
)
def test_an_overlap_discards_the_datagram_and_the_rest_of_it(evil: Place) -> None:
    held = Reassembler(1 << 20)
    # Bytes 0-103 and 208-311, of which the latter are the last.
    assert add(held, (0, 104, True)) is None
    assert add(held, (208, 104, False)) is None
    with pytest.raises(OverlapError):
        add(held, evil)
    assert held.held == 0
    with pytest.raises(OverlapError):
        add(held, (104, 104, True))
    # Another datagram is not concerned, and the time-out ends it.
    assert add(held, (0, 104, True), "other") is None
    assert held.expire(TIMEOUT) == [b"quote"]
    assert add(held, (0, 104, True), now=TIMEOUT) is None


def test_the_same_place_with_other_bytes_is_an_overlap() -> None:
    held = Reassembler(1 << 20)
    add(held, (0, 104, True))
    with pytest.raises(OverlapError):
        held.add("k", Piece(0, True, bytes(104), 0), 0.0)


def test_two_ends_are_an_overlap() -> None:
    held = Reassembler(1 << 20)
    add(held, (104, 8, False))
    with pytest.raises(OverlapError):
        add(held, (208, 8, False))


def test_time_runs_from_the_first_piece() -> None:
    held = Reassembler(1 << 20)
    assert held.get_timer() is None
    add(held, (0, 104, True), "a", 1.0)
    add(held, (104, 104, True), "b", 2.0)
    add(held, (104, 104, True), "a", 20.0)
    assert held.get_timer() == 1.0 + TIMEOUT
    assert held.expire(0.9 + TIMEOUT) == []
    # Only a datagram whose first piece has come can be reported.
    assert held.expire(1.0 + TIMEOUT) == [b"quote"]
    assert held.expire(2.0 + TIMEOUT) == []
    assert (held.held, held.get_timer()) == (0, None)


def test_bytes_are_bounded_and_the_oldest_gives_way() -> None:
    held = Reassembler(10_000)
    for key in range(100):
        add(held, (0, 1000, True), key)
        assert held.held <= 10_000
    assert held.evicted > 80
    assert add(held, (1000, 8, False), 99) == DATA[:1008]


def test_datagrams_are_bounded() -> None:
    held = Reassembler(1 << 20)
    for key in range(MAX_DATAGRAMS + 10):
        add(held, (0, 8, True), key)
    assert len(held) == MAX_DATAGRAMS
    assert held.evicted == 10


def test_pieces_of_a_datagram_are_bounded() -> None:
    held = Reassembler(1 << 30)
    for number in range(MAX_PIECES):
        held.add("k", Piece(number * 16, True, bytes(8), 0), 0.0)
    with pytest.raises(OverlapError):
        held.add("k", Piece(MAX_PIECES * 16, True, bytes(8), 0), 0.0)
    assert held.held == 0


def test_the_head_is_the_first_ones_and_the_codepoints_are_of_all() -> None:
    held = Reassembler(1 << 20)
    first, second, third = cut(300, 104)
    assert held.add("k", piece(third, ecn=3), 0.0) is None
    assert held.add("k", piece(first, ecn=2), 0.0) is None
    # What is ignored as a duplicate says nothing, either.
    again = piece(first, ecn=1)._replace(head=b"other", quote=b"other")
    before = held.held
    assert held.add("k", again, 0.0) is None
    assert held.held == before
    assert held.add("k", piece(second, ecn=2), 0.0) == Whole(b"head", DATA[:300], 0b1100)
    assert held.held == 0


def test_what_a_first_piece_brings_along_is_charged() -> None:
    held = Reassembler(1 << 20)
    add(held, (0, 104, True), 1)
    add(held, (104, 104, True), 2)
    assert held.held == 2 * (104 + PIECE_CHARGE) + len(b"head" + b"quote")


def test_clearing() -> None:
    held = Reassembler(1 << 20)
    add(held, (0, 104, True))
    held.clear()
    assert (held.held, len(held), held.get_timer()) == (0, 0, None)
