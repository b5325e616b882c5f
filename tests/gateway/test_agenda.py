"""The agenda against a dictionary that is searched."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from eventloop.poller import NEVER
from gateway.agenda import SLACK, Agenda, Key

KEYS = st.sampled_from(("desk", "usage", 1, 2, 3))
TIMES = st.integers(0, 40).map(float)


class Moments(RuleBasedStateMachine):
    """What any order of changes leaves, and who is called."""

    def __init__(self) -> None:
        super().__init__()
        self.agenda = Agenda()
        self.naive: dict[Key, float] = {}

    @rule(key=KEYS, when=TIMES | st.none() | st.just(NEVER))
    def set(self, key: Key, when: float | None) -> None:
        self.agenda.set(key, when)
        self.naive.pop(key, None)
        if when is not None and when != NEVER:
            self.naive[key] = when

    @rule(key=KEYS, when=TIMES | st.none() | st.just(NEVER))
    def by(self, key: Key, when: float | None) -> None:
        self.agenda.by(key, when)
        if when is not None and when < self.naive.get(key, NEVER):
            self.naive[key] = when

    @rule(now=TIMES)
    def time_passes(self, now: float) -> None:
        due = self.agenda.due(now)
        assert sorted(map(str, due)) == sorted(str(k) for k, at in self.naive.items() if at <= now)
        assert [self.naive[key] for key in due] == sorted(self.naive.pop(key) for key in due)

    @invariant()
    def the_earliest_is_known(self) -> None:
        assert self.agenda.deadline() == min(self.naive.values(), default=NEVER)


TestMoments = Moments.TestCase
TestMoments.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_of_two_at_the_same_moment_the_older_comes_first() -> None:
    agenda = Agenda()
    for key in ("b", 7, "a"):
        agenda.set(key, 1.0)
    assert agenda.due(1.0) == ["b", 7, "a"]


def test_a_moment_that_moves_often_takes_no_more_room() -> None:
    agenda = Agenda()
    agenda.set("usage", 0.5)
    for step in range(10 * SLACK):
        agenda.set(step % 4, float(step + 1))
        agenda.set("desk", None)
        agenda.set("desk", 0.7)
        assert len(agenda._heap) <= SLACK + 3 * 6
    assert agenda.deadline() == 0.5
    assert agenda.due(float(20 * SLACK)) == ["usage", "desk", 0, 1, 2, 3]
    assert agenda.deadline() == NEVER and not agenda._heap
