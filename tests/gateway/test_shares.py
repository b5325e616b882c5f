"""What several hold of one stock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.shares import Shares


def take(shares: Shares, party: str) -> bool:
    """As a user of it does: room, or one given back by the richest."""
    if shares.full:
        richest = shares.gives_way_to(party)
        if richest is None:
            return False
        shares.remove(richest)
    shares.add(party)
    return True


def test_one_alone_may_have_it_all() -> None:
    shares = Shares(10)
    assert [take(shares, "a") for _ in range(12)] == [True] * 10 + [False] * 2
    assert shares.held("a") == 10


def test_the_richest_gives_way_until_all_have_the_same() -> None:
    shares = Shares(10)
    for _ in range(10):
        take(shares, "a")
    assert [take(shares, "b") for _ in range(7)] == [True] * 5 + [False] * 2
    assert take(shares, "c")
    assert (shares.held("a"), shares.held("b"), shares.held("c")) in ((4, 5, 1), (5, 4, 1))


def test_nobody_gives_back_what_he_does_not_hold() -> None:
    shares = Shares(10)
    shares.add("a", 3)
    with pytest.raises(ValueError, match="does not hold"):
        shares.remove("a", 4)
    assert (shares.held("a"), shares.taken) == (3, 3)


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.booleans()), max_size=200))
def test_whoever_wants_more_gets_an_equal_share(moves: list[tuple[str, bool]]) -> None:
    shares = Shares(12)
    for party, gives in moves:
        if gives and shares.held(party):
            shares.remove(party)
        else:
            take(shares, party)
        assert shares.taken == sum(shares.held(p) for p in "abcde") <= 12
    while take(shares, "z"):
        pass
    assert shares.full
    assert shares.held("z") >= max(shares.held(p) for p in "abcde") - 1
