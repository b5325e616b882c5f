"""The fair queue, simulated: shares of bulk flows, and how long newcomers wait."""

from __future__ import annotations

from collections import Counter

import pytest

from splice.scheduler import QUANTUM, FairQueue, Member


def members(queue: FairQueue, count: int) -> list[Member]:
    found = [Member() for _ in range(count)]
    for member in found:
        queue.add(member)
    return found


def test_bulk_flows_get_equal_shares_whatever_their_pieces() -> None:
    queue = FairQueue()
    flows = members(queue, 4)
    sizes = dict(zip(map(id, flows), (65536, 16384, 1500, 40000), strict=True))
    got: Counter[int] = Counter()
    for _ in range(20_000):
        member = queue.next()
        assert member is not None
        queue.charge(member, sizes[id(member)])
        got[id(member)] += sizes[id(member)]
    shares = [got[id(flow)] / sum(got.values()) for flow in flows]
    assert all(0.24 < share < 0.26 for share in shares)


def test_a_newcomer_is_served_before_bulk_flows() -> None:
    queue = FairQueue()
    bulk = members(queue, 8)
    for _ in range(100):
        member = queue.next()
        assert member is not None
        queue.charge(member, 65536)
    newcomer = Member()
    queue.add(newcomer)
    served = 0
    while (member := queue.next()) is not newcomer:
        assert member in bulk
        queue.charge(member, 65536)
        served += 1
    assert served == 0


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize("size", [65536, 16384])
def test_coming_and_going_gains_nothing_over_waiting(size: int, prompt: bool) -> None:
    queue = FairQueue()
    queue.prompt = prompt
    (steady,) = members(queue, 1)
    flapping = Member()
    queue.add(flapping)
    got: Counter[int] = Counter()
    for _ in range(2_000):
        member = queue.next()
        assert member is not None
        queue.charge(member, size)
        got[id(member)] += size
        if member is flapping:
            # It runs dry after each read, and has more at once.
            queue.idle(flapping)
            queue.add(flapping)
    assert abs(got[id(flapping)] - got[id(steady)]) <= 4 * QUANTUM


@pytest.mark.parametrize(("prompt", "waits"), [(False, True), (True, False)])
def test_who_has_not_used_up_its_round_comes_first_again_where_wanted(
    prompt: bool, waits: bool
) -> None:
    queue = FairQueue()
    queue.prompt = prompt
    bulk = members(queue, 8)

    def serve(size: int) -> Member:
        member = queue.next()
        assert member is not None
        queue.charge(member, size)
        return member

    for _ in range(100):
        serve(QUANTUM)
    small = Member()
    queue.add(small)
    assert serve(100) is small
    queue.idle(small)
    assert serve(QUANTUM) in bulk
    queue.add(small)
    served = 0
    while serve(QUANTUM) is not small:
        served += 1
    assert served >= 6 if waits else not served


def test_idle_flows_are_passed_over_and_an_empty_queue_says_so() -> None:
    queue = FairQueue()
    one, two = members(queue, 2)
    queue.idle(one)
    assert queue.waiting == 1
    assert queue.next() is two
    queue.idle(two)
    assert queue.next() is None
    assert queue.waiting == 0
    queue.add(one)
    assert queue.next() is one


def test_a_removed_flow_is_gone_from_either_list() -> None:
    queue = FairQueue()
    one, two, three = members(queue, 3)
    queue.charge(one, 10 * QUANTUM)
    assert queue.next() is two
    # `one` has moved to the old list, `two` is still new.
    queue.remove(one)
    queue.remove(two)
    assert queue.next() is three
    queue.remove(three)
    assert queue.next() is None
    queue.remove(three)
    assert queue.waiting == 0


def test_adding_twice_is_adding_once() -> None:
    queue = FairQueue()
    (one,) = members(queue, 1)
    queue.add(one)
    assert queue.waiting == 1
    queue.idle(one)
    queue.idle(one)
    assert queue.waiting == 0
