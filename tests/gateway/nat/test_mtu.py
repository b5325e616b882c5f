"""The path MTU search, against paths that carry what they carry."""

from __future__ import annotations

import pytest

from gateway.nat.mtu import (
    BASE_PLPMTU,
    MIN_PLPMTU,
    PROBE_TIMER,
    RAISE_TIMER,
    SEARCH_STEP,
    PathMtu,
    Search,
)


def drive(search: PathMtu, path: int, now: float, until: float) -> tuple[int, float]:
    """Answer the probes that a path of `path` bytes carries; (probes sent, the time)."""
    probes = 0
    while now < until:
        size = search.next_probe(now)
        if size is None:
            if search.state is Search.SEARCH_COMPLETE:
                return probes, now
            now = max(now + 0.01, search.get_timer())
            continue
        probes += 1
        if size <= path:
            search.acknowledged(size, now + 0.05)
        now += 0.05
    return probes, now


@pytest.mark.parametrize("path", [1200, 1201, 1280, 1399, 1420, 1472])
def test_the_search_ends_near_the_path_and_never_above(path: int) -> None:
    search = PathMtu(1472, 0.0)
    drive(search, path, 0.0, 200.0)
    assert search.state is Search.SEARCH_COMPLETE
    assert path - SEARCH_STEP <= search.size <= path


def test_a_path_that_carries_everything_takes_two_probes() -> None:
    search = PathMtu(1472, 0.0)
    probes, _ = drive(search, 1472, 0.0, 200.0)
    assert (probes, search.size) == (2, 1472)


def test_a_path_below_the_base_is_an_error_until_the_base_gets_through() -> None:
    search = PathMtu(1472, 0.0)
    _, now = drive(search, 1000, 0.0, 100.0)
    assert (search.state, search.size) == (Search.ERROR, MIN_PLPMTU)
    drive(search, 1472, now, now + 200.0)
    assert (search.state, search.size) == (Search.SEARCH_COMPLETE, 1472)


def test_an_interface_below_the_base_limits_the_base() -> None:
    search = PathMtu(900, 0.0)
    drive(search, 1472, 0.0, 100.0)
    assert (search.state, search.size) == (Search.SEARCH_COMPLETE, 900)


def test_a_wider_path_is_found_when_the_search_is_made_again() -> None:
    search = PathMtu(1472, 0.0)
    _, now = drive(search, 1280, 0.0, 200.0)
    assert search.size <= 1280
    assert search.next_probe(now + RAISE_TIMER - 30) is None
    drive(search, 1472, now + RAISE_TIMER, now + RAISE_TIMER + 200)
    # One step narrower than the limit is not worth a probe.
    assert search.size > 1472 - SEARCH_STEP


def test_packet_too_big_is_taken_within_bounds() -> None:
    search = PathMtu(1472, 0.0)
    size = search.next_probe(0.0)
    assert size == BASE_PLPMTU
    search.acknowledged(size, 0.1)
    assert search.next_probe(0.1) == 1472
    search.too_big(100, 0.2)
    search.too_big(5000, 0.2)
    assert search.next_probe(0.2) is None
    search.too_big(1300, 0.2)
    assert search.size == BASE_PLPMTU
    drive(search, 1300, 0.2, 100.0)
    assert 1300 - SEARCH_STEP <= search.size <= 1300


def test_packet_too_big_below_the_size_in_use_lowers_it_at_once() -> None:
    search = PathMtu(1472, 0.0)
    drive(search, 1472, 0.0, 100.0)
    search.too_big(1100, 101.0)
    assert search.size == 1100
    assert search.next_probe(101.0) == 1100


def test_a_black_hole_starts_over_from_the_base() -> None:
    search = PathMtu(1472, 0.0)
    drive(search, 1472, 0.0, 100.0)
    search.black_hole(100.0)
    assert (search.state, search.size) == (Search.BASE, BASE_PLPMTU)
    drive(search, 1300, 100.0, 300.0)
    assert search.size <= 1300


def test_a_confirmation_that_fails_is_a_black_hole() -> None:
    search = PathMtu(1472, 0.0)
    _, now = drive(search, 1472, 0.0, 100.0)
    search.confirm(now)
    for _ in range(3):
        assert search.next_probe(now) == 1472
        now += PROBE_TIMER
    assert search.next_probe(now) == BASE_PLPMTU
    assert search.state is Search.BASE


def test_a_confirmation_that_succeeds_changes_nothing() -> None:
    search = PathMtu(1472, 0.0)
    _, now = drive(search, 1472, 0.0, 100.0)
    search.confirm(now)
    assert search.next_probe(now) == 1472
    search.acknowledged(1472, now)
    assert (search.state, search.size) == (Search.SEARCH_COMPLETE, 1472)
    assert search.next_probe(now + 1) is None
