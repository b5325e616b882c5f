"""TAI64N: order in time is order of bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireguard.constants import TIMESTAMP_GRAIN
from wireguard.timestamps import NEVER, later, seconds_of, tai64n

GRAIN = TIMESTAMP_GRAIN / 1e9
TIMES = st.floats(0, 4e9)


def test_the_epoch() -> None:
    """2^62 at 1970-01-01 TAI, which Unix time is ten seconds behind."""
    assert tai64n(0.0).hex() == "400000000000000a00000000"


@given(TIMES, TIMES)
def test_order(one: float, other: float) -> None:
    if one < other - 2 * GRAIN:
        assert tai64n(one) < tai64n(other)
    assert tai64n(one) > NEVER


@given(TIMES)
def test_rounded_down_to_the_grain(at: float) -> None:
    stamp = tai64n(at)
    assert at - GRAIN - 1e-6 <= seconds_of(stamp) <= at + 1e-6
    assert int.from_bytes(stamp[8:], "big") % TIMESTAMP_GRAIN == 0


@given(TIMES, TIMES)
def test_later_is_later(one: float, other: float) -> None:
    stamp = later(tai64n(one), tai64n(other))
    assert stamp > tai64n(other)
    assert int.from_bytes(stamp[8:], "big") < 10**9
    assert seconds_of(stamp) <= max(one, other) + GRAIN + 1e-6


@given(st.binary(min_size=12, max_size=12))
def test_any_bytes_are_some_time(stamp: bytes) -> None:
    seconds_of(stamp)


def test_a_clock_that_stands_still_gives_ever_later_stamps() -> None:
    stamp = tai64n(1000.0)
    for _ in range(200):
        stamp, before = later(tai64n(1000.0), stamp), stamp
        assert stamp > before
    assert seconds_of(stamp) == pytest.approx(1000.0 + 200 * GRAIN, abs=5)
