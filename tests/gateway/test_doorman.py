"""Strangers are counted: in all, per address, per second."""

from __future__ import annotations

from functools import partial

from gateway.listeners import (
    ALL_CODE_BURST,
    ALL_CODES_PER_SECOND,
    ALL_HANDSHAKE_BURST,
    ALL_HANDSHAKES_PER_SECOND,
    CODE_BURST,
    CODES_PER_SECOND,
    HANDSHAKE_BURST,
    HANDSHAKES_PER_SECOND,
    MAX_STRANGERS,
    MAX_STRANGERS_PER_ADDRESS,
    MAX_VISITORS,
    NEWCOMER_BURST,
    NEWCOMER_CODE_BURST,
    NEWCOMER_CODES_PER_SECOND,
    NEWCOMERS_PER_SECOND,
    Doorman,
)
from gateway.nat.counters import Counters
from sealing.buckets import MAX_BUCKETS


def make() -> tuple[Doorman, Counters]:
    counters = Counters()
    return Doorman(counters, 0.0), counters


def test_an_address_may_begin_a_burst_and_then_a_steady_rate() -> None:
    doorman, counters = make()
    admitted = sum(doorman.admit("10.0.0.1", 0.0) for _ in range(200))
    assert admitted == HANDSHAKE_BURST
    assert counters.counts["listener__address_rate__refused"] == 200 - HANDSHAKE_BURST
    assert sum(doorman.admit("10.0.0.1", 2.0) for _ in range(200)) == 2 * HANDSHAKES_PER_SECOND


def test_many_addresses_share_one_budget() -> None:
    doorman, counters = make()
    admitted = sum(doorman.admit(f"10.0.{n >> 8}.{n & 255}", 0.0) for n in range(1000))
    assert admitted == ALL_HANDSHAKE_BURST + NEWCOMER_BURST
    assert counters.counts["listener__rate__refused"] == 1000 - admitted
    later = sum(doorman.admit(f"10.1.{n >> 8}.{n & 255}", 1.0) for n in range(1000))
    assert later == ALL_HANDSHAKES_PER_SECOND + NEWCOMERS_PER_SECOND


def test_a_newcomer_is_admitted_and_shown_a_code_beside_a_crowd() -> None:
    doorman, _ = make()
    crowd = [f"10.0.0.{n}" for n in range(8)]
    for second in range(600):
        for address in crowd * 40:
            doorman.admit(address, second)
        for address in crowd:
            doorman.admit_code(address, second)
        if second % 60 == 59:
            newcomer = f"10.0.1.{second // 60}"
            assert doorman.admit(newcomer, second) and doorman.admit_code(newcomer, second)
            assert not doorman.admit_code(crowd[0], second)


def test_ipv6_is_counted_by_network() -> None:
    doorman, _ = make()
    admitted = sum(doorman.admit(f"2001:db8::{n:x}", 0.0) for n in range(1000))
    assert admitted == HANDSHAKE_BURST
    codes = sum(doorman.admit_code(f"2001:db8::{n:x}", 0.0) for n in range(1000))
    assert codes == CODE_BURST
    assert doorman.admit("10.0.0.1", 0.0) and doorman.admit("::ffff:10.0.0.2", 0.0)


def test_codes_are_guesses_and_few() -> None:
    doorman, counters = make()
    assert sum(doorman.admit_code("10.0.0.1", 0.0) for _ in range(100)) == CODE_BURST
    assert counters.counts["listener__codes__refused"] == 100 - CODE_BURST
    waited, _ = make()
    assert sum(waited.admit_code("10.0.0.1", 0.0) for _ in range(100)) == CODE_BURST
    assert waited.admit_code("10.0.0.1", 60.0), "as who is turned away is told: wait a minute"
    assert doorman.admit_code("10.0.0.2", 0.0), "one address does not use up what all may have"
    everybody = [f"10.1.0.{n}" for n in range(250)]
    rest = sum(doorman.admit_code(address, 0.0) for address in everybody)
    assert rest == ALL_CODE_BURST - CODE_BURST - 1 + NEWCOMER_CODE_BURST
    hour = sum(
        doorman.admit_code(address, 60.0 * minute)
        for minute in range(1, 61)
        for address in everybody
    )
    assert hour == 3600 * (ALL_CODES_PER_SECOND + NEWCOMER_CODES_PER_SECOND)
    alone = sum(doorman.admit_code("10.0.0.1", 7200.0 + n) for n in range(3600))
    assert CODE_BURST <= alone <= CODE_BURST + 3600 * CODES_PER_SECOND


def test_what_is_remembered_of_addresses_is_bounded() -> None:
    doorman, _ = make()
    for n in range(3 * MAX_BUCKETS):
        doorman.admit(f"fd00:0:0:{n:x}::1", float(n))
        doorman.admit_code(f"fd00:0:0:{n:x}::1", float(n))
    assert len(doorman._buckets) == len(doorman._codes) == MAX_BUCKETS
    assert max(len(doorman._lately._known), len(doorman._coded._known)) <= MAX_VISITORS


def test_one_address_holds_few_places() -> None:
    doorman, counters = make()
    for n in range(MAX_STRANGERS_PER_ADDRESS):
        assert doorman.admit("10.0.0.1", n * 1.0)
        doorman.enter(n, "10.0.0.1", lambda: None)
    assert not doorman.admit("10.0.0.1", 1000.0)
    assert counters.counts["listener__address_full__refused"] == 1
    doorman.leave(0)
    doorman.leave(0)
    assert doorman.admit("10.0.0.1", 1000.0)


def test_when_all_places_are_taken_the_crowd_makes_room_for_the_newcomer() -> None:
    doorman, counters = make()
    closed: list[int] = []

    def evict(n: int) -> None:
        closed.append(n)

    crowds = MAX_STRANGERS // MAX_STRANGERS_PER_ADDRESS
    for n in range(MAX_STRANGERS):
        doorman.enter(n, f"10.0.0.{n % crowds}", partial(evict, n))
    doorman.leave(0)
    doorman.enter(9000, "10.9.9.9", lambda: evict(9000))
    assert len(doorman) == MAX_STRANGERS
    doorman.enter(9001, "10.9.9.8", lambda: evict(9001))
    assert len(doorman) == MAX_STRANGERS
    assert closed == [1]
    assert counters.counts["listener__full__oldest_closed"] == 1


def test_half_used_up_is_busy_until_it_has_recovered() -> None:
    doorman, _ = make()
    assert not doorman.busy(0.0)
    for n in range(int(ALL_HANDSHAKE_BURST / 2) + 1):
        doorman.admit(f"10.2.0.{n}", 0.0)
    assert doorman.busy(0.0)
    assert not doorman.busy(1.0)
