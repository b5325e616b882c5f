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


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.integers(0, 2 * REPLAY_WINDOW), max_size=10),
    st.lists(
        st.lists(st.sampled_from([1, 1, 1, 2, REPLAY_WINDOW - 1, REPLAY_WINDOW]), min_size=1),
        max_size=10,
    ),
)
def test_a_row_is_committed_as_one_by_one(first: list[int], rows: list[list[int]]) -> None:
    by_row, singly = ReplayWindow(), ReplayWindow()
    for counter in first:
        for window in (by_row, singly):
            window.commit(counter)
    for steps in rows:
        counters = [by_row.newest + sum(steps[: at + 1]) for at in range(len(steps))]
        by_row.commit_row(counters)
        for counter in counters:
            assert singly.commit(counter)
        assert (by_row.newest, by_row._ring) == (singly.newest, singly._ring)


def test_a_row_over_the_end_of_the_ring() -> None:
    by_row, singly = ReplayWindow(), ReplayWindow()
    counters = list(range(REPLAY_WINDOW - 5, REPLAY_WINDOW + 40))
    by_row.commit_row(counters)
    for counter in counters:
        singly.commit(counter)
    assert by_row._ring == singly._ring
