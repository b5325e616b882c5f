"""What holds of every gateway that is built here, whatever its test is about."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from eventloop.poller import NEVER
from gateway.agenda import Agenda, Key
from gateway.timing import Timed, Timing


@pytest.fixture(autouse=True)
def no_deadline_is_missed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After each batch everybody who is called by the agenda is asked, too: whose moment comes
    before his entry has forgotten to say so."""
    missed: list[str] = []
    deadline = Timing.deadline

    def entry(agenda: Agenda, key: Key) -> float:
        found = agenda._entries.get(key)
        return NEVER if found is None else found[0]

    def asking_all(self: Timing) -> float:
        at = deadline(self)
        everybody: list[tuple[Key, Timed]] = [*self._entered.items(), *self.links.items()]
        for key, who in everybody:
            due = who.get_timer()
            if due is not None and due < entry(self._agenda, key):
                missed.append(f"{type(who).__name__} at {due}")
        return at

    monkeypatch.setattr(Timing, "deadline", asking_all)
    yield
    assert not missed
