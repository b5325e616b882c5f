"""The replay window against a plain set."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sealing.replay import REPLAY_WINDOW, ReplayWindow


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 3 * REPLAY_WINDOW), max_size=60))
def test_replay_window_against_a_plain_set(counters: list[int]) -> None:
    window, seen, newest = ReplayWindow(), set[int](), -1
    for counter in counters:
        verdict = window.check(counter)
        if counter in seen and counter + REPLAY_WINDOW > newest:
            assert verdict == "replayed"
        elif counter + REPLAY_WINDOW <= newest:
            assert verdict == "too_old"
        else:
            assert verdict is None
            assert window.commit(counter) == (counter > newest)
            seen.add(counter)
            newest = max(newest, counter)
    assert window.newest == newest
    assert window.check(2**64 - 1) == "too_old"
