"""The queue's bound against simulated links."""

from __future__ import annotations

import pytest

from splice.pace import LEAST, TARGET, QueuePace

CAPACITY = 128 * 1024


def simulate(
    pace: QueuePace, rate: float, seconds: float, start: float = 0.0, tick: float = 0.001
) -> tuple[float, int]:
    """Always fill what is allowed; (bytes carried a second, greatest queue in the last half)."""
    queued = 0.0
    carried = 0.0
    worst = 0
    steps = int(seconds / tick)
    for step in range(steps):
        now = start + step * tick
        taken = min(queued, rate * tick)
        queued -= taken
        carried += taken
        allowed = pace.allowance(CAPACITY - int(queued), now)
        if allowed > 0:
            queued += allowed
        pace.filled(CAPACITY - int(queued))
        if step > steps / 2:
            worst = max(worst, int(queued))
    return carried / seconds, worst


@pytest.mark.parametrize("megabits", [2, 10, 50])
def test_a_slow_link_gets_a_short_queue_and_stays_busy(megabits: int) -> None:
    rate = megabits * 125_000.0
    carried, worst = simulate(QueuePace(), rate, 5.0)
    assert carried > 0.97 * rate
    assert worst <= max(LEAST, rate * TARGET * 1.5) + 2000


def test_a_fast_link_is_not_bounded() -> None:
    pace = QueuePace()
    carried, worst = simulate(pace, 100e6, 1.0)
    # What the capacity and the simulation's step allow.
    assert carried > 0.95 * 100e6
    assert worst > 0.9 * 100e6 * 0.001


def test_a_link_that_changes_is_followed() -> None:
    pace = QueuePace()
    simulate(pace, 100e6, 1.0)
    _, worst = simulate(pace, 1e6, 3.0, start=1.0)
    assert worst <= LEAST + 2000
    carried, _ = simulate(pace, 100e6, 3.0, start=4.0)
    assert carried > 0.9 * 100e6


def test_calls_in_quick_succession_are_no_sample() -> None:
    pace = QueuePace()
    simulate(pace, 10e6, 1.0)
    before = pace.allowance(CAPACITY, 2.0)
    pace.filled(CAPACITY // 2)
    for step in range(100):
        pace.allowance(CAPACITY // 2, 2.0 + step * 1e-5)
        pace.filled(CAPACITY // 2)
    assert pace.allowance(CAPACITY, 2.002) >= before


def test_what_others_queue_on_a_stuck_link_never_turns_the_rate_round() -> None:
    pace = QueuePace()
    now, room = 0.0, CAPACITY
    pace.allowance(room, now)
    for _ in range(2000):
        # The link takes nothing while frames of the session's own pile up behind the packets.
        now, room = now + 0.01, max(0, room - 64)
        pace.allowance(room, now)
        pace.filled(room)
        room = max(0, room - 64)
    for _ in range(2000):
        now += 0.01
        assert pace.allowance(CAPACITY, now) > 0
        pace.filled(CAPACITY - 1000)
    assert pace.allowance(CAPACITY, now) == CAPACITY
