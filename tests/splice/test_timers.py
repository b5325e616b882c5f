"""The heap of deadlines: who is called when, and what becomes of entries that are out of date."""

from __future__ import annotations

from splice.timers import HEAP_SLACK, NEVER, RETRY, Timers


class Owner:
    """Has a deadline; each call moves it by `step`, or ends it."""

    def __init__(self, due: float, step: float = NEVER) -> None:
        self.timer = NEVER
        self.when = due
        self.step = step
        self.called: list[float] = []

    def due(self) -> float:
        return self.when

    def handle_timer(self, now: float) -> None:
        if now >= self.when:
            self.called.append(now)
            self.when += self.step


def test_each_is_called_once_for_its_deadline_in_order() -> None:
    timers = Timers()
    owners = [Owner(3.0), Owner(1.0), Owner(2.0)]
    for owner in owners:
        timers.arm(owner, owner.when)
    assert timers.get_timer() == 1.0
    timers.handle_timer(2.0)
    assert [owner.called for owner in owners] == [[], [2.0], [2.0]]
    assert timers.get_timer() == 3.0
    timers.handle_timer(10.0)
    assert [owner.called for owner in owners] == [[10.0], [2.0], [2.0]]
    assert timers.get_timer() is None
    assert timers.now == 10.0


def test_a_deadline_that_moved_later_is_asked_for_when_the_old_one_comes() -> None:
    timers = Timers()
    owner = Owner(1.0)
    timers.arm(owner, 1.0)
    owner.when = 5.0
    assert timers.get_timer() == 1.0
    timers.handle_timer(1.0)
    assert (owner.called, timers.get_timer(), owner.timer) == ([], 5.0, 5.0)


def test_a_deadline_that_moved_earlier_is_armed_again_and_counts_once() -> None:
    timers = Timers()
    owner = Owner(5.0)
    timers.arm(owner, 5.0)
    owner.when = 1.0
    timers.arm(owner, 1.0)
    timers.handle_timer(1.0)
    timers.handle_timer(5.0)
    assert owner.called == [1.0]
    assert timers.get_timer() is None


def test_one_that_wants_no_more_calls_gets_none() -> None:
    timers = Timers()
    owner = Owner(1.0)
    timers.arm(owner, 1.0)
    owner.timer = NEVER
    assert timers.get_timer() is None
    timers.handle_timer(2.0)
    assert owner.called == []


def test_a_deadline_that_stays_in_the_past_does_not_hold_the_loop() -> None:
    timers = Timers()
    owner = Owner(1.0, step=0.0)
    timers.arm(owner, 1.0)
    timers.handle_timer(2.0)
    assert owner.called == [2.0]
    assert timers.get_timer() == 2.0 + RETRY


def test_never_is_no_entry() -> None:
    timers = Timers()
    owner = Owner(NEVER)
    timers.arm(owner, NEVER)
    assert (timers.get_timer(), owner.timer) == (None, NEVER)


def test_what_is_stale_is_thrown_out_and_nothing_else() -> None:
    timers = Timers()
    lasting = [Owner(1000.0 + i) for i in range(50)]
    for owner in lasting:
        timers.arm(owner, owner.when)
    for i in range(20 * HEAP_SLACK):
        gone = Owner(500.0)
        timers.arm(gone, 500.0 + i)
        gone.timer = NEVER
    assert len(timers._heap) <= 2 * (HEAP_SLACK + len(lasting)) + 1
    timers.handle_timer(2000.0)
    assert all(owner.called == [2000.0] for owner in lasting)
