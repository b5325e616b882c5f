"""Places for opened datagrams: enough of them for any run, and none overlaps another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sealing.slots import HEADROOM, MAX_ROW, Slots

LONGEST_RUN = 65535


@given(st.lists(st.integers(1, LONGEST_RUN), min_size=1, max_size=60))
def test_a_run_of_any_size_has_places(sizes: list[int]) -> None:
    slots = Slots()
    for size in sizes:
        places = slots.of(size)
        assert len(places) >= min(MAX_ROW, LONGEST_RUN // size)
        for number, place in enumerate((places[0], places[-1])):
            place[:] = bytes([number + 1]) * size
        stride = size + HEADROOM
        for number, at in enumerate((HEADROOM, HEADROOM + (len(places) - 1) * stride)):
            if len(places) > 1 or number:
                assert slots.view[at : at + size] == bytes([number + 1]) * size
        assert len(places) <= MAX_ROW and {len(place) for place in places} == {size}


def test_views_of_many_sizes_are_not_kept() -> None:
    slots = Slots()
    for size in range(1, 1000):
        slots.of(size)
    assert len(slots._by_size) <= 16
    kept = slots.of(1400)
    assert slots.of(1400) is kept
