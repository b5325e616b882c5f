"""How key pairs follow each other: the table of `wireguard/keypairs.py`, state by event."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, cast

import pytest

from sealing.errors import LocalMisuse
from wireguard.constants import REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME
from wireguard.keypairs import KeyPair, KeyPairs
from wireguard.noise import TransportKeys

State = tuple[KeyPair | None, KeyPair | None, KeyPair | None]
KEYS = TransportKeys(bytes(32), bytes(range(32)))


def pair(index: int = 0) -> KeyPair:
    return KeyPair(cast(Any, None), index, index + 1, KEYS, False, 100.0)


EVENTS: dict[str, tuple[Callable[[KeyPairs, KeyPair], None], Callable[[State, KeyPair], State]]] = {
    "respond": (KeyPairs.respond, lambda s, new: (new, s[1], None)),
    "complete": (KeyPairs.complete, lambda s, new: (None, new, s[0] or s[1])),
    "clear": (lambda pairs, new: pairs.clear(), lambda s, new: (None, None, None)),
    "confirm": (lambda pairs, new: pairs.confirm(cast(KeyPair, pairs.next)),
                lambda s, new: (None, s[0], s[1])),
}  # fmt: skip


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("there", list(product([False, True], repeat=3)))
def test_the_table(event: str, there: tuple[bool, bool, bool]) -> None:
    dropped: list[KeyPair] = []
    pairs = KeyPairs(dropped.append)
    before: State = cast(State, tuple(pair(n) if is_there else None
                                      for n, is_there in enumerate(there)))  # fmt: skip
    pairs.next, pairs.current, pairs.previous = before
    act, expected = EVENTS[event]
    if event == "confirm" and before[0] is None:
        return
    new = pair(9)
    act(pairs, new)
    after = expected(before, new)
    assert (pairs.next, pairs.current, pairs.previous) == after
    assert dropped == [p for p in (before[2], before[1], before[0]) if p and p not in after]


@pytest.mark.parametrize("there", list(product([False, True], repeat=3)))
def test_what_is_not_next_cannot_be_confirmed(there: tuple[bool, bool, bool]) -> None:
    dropped: list[KeyPair] = []
    pairs = KeyPairs(dropped.append)
    before = [pair(n) if is_there else None for n, is_there in enumerate(there)]
    pairs.next, pairs.current, pairs.previous = before
    for wrong in (pair(7), pairs.current, pairs.previous):
        if wrong is not None:
            with pytest.raises(LocalMisuse):
                pairs.confirm(wrong)
    assert [pairs.next, pairs.current, pairs.previous] == before
    assert dropped == []


def test_a_pair_ages_by_time_and_by_use() -> None:
    one = pair()
    assert one.usable(100.0)
    assert one.usable(99.9 + REJECT_AFTER_TIME)
    assert not one.usable(100.0 + REJECT_AFTER_TIME)
    one.sealing.counter = REJECT_AFTER_MESSAGES - 1
    assert one.usable(100.0)
    one.sealing.counter += 1
    assert not one.usable(100.0)
