"""The five deadlines, one by one; how they work together is in test_device."""

from __future__ import annotations

import pytest

from wireguard.constants import (
    KEEPALIVE_TIMEOUT,
    KEYS_FORGOTTEN_AFTER,
    REJECT_AFTER_TIME,
    REKEY_TIMEOUT,
)
from wireguard.timers import NEVER, Due, Timers


def test_nothing_is_due_at_first() -> None:
    timers = Timers()
    assert timers.earliest == NEVER
    assert timers.due(1e9) == []


def test_a_keepalive_is_owed_for_data_and_not_for_a_keepalive() -> None:
    timers = Timers()
    timers.heard(False, 0.0)
    assert timers.earliest == NEVER
    timers.heard(True, 1.0)
    assert timers.earliest == 1.0 + KEEPALIVE_TIMEOUT
    timers.sent(True, 2.0, 0.0)
    assert timers.keepalive == NEVER


def test_data_behind_data_moves_the_keepalive_not_but_asks_for_another() -> None:
    timers = Timers()
    timers.heard(True, 0.0)
    timers.heard(True, 9.0)
    assert timers.due(KEEPALIVE_TIMEOUT - 0.1) == []
    assert timers.due(KEEPALIVE_TIMEOUT) == [Due.KEEPALIVE]
    timers.sent(False, KEEPALIVE_TIMEOUT, 0.0)
    assert timers.due(2 * KEEPALIVE_TIMEOUT) == [Due.KEEPALIVE]
    timers.sent(False, 2 * KEEPALIVE_TIMEOUT, 0.0)
    assert timers.earliest == NEVER


def test_silence_counts_from_the_first_unanswered_data() -> None:
    timers = Timers()
    timers.sent(False, 0.0, 0.0)
    assert timers.earliest == NEVER
    timers.sent(True, 1.0, 0.2)
    timers.sent(True, 9.0, 0.0)
    assert timers.silence == 1.0 + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + 0.2
    timers.heard(False, 15.0)
    assert timers.silence == NEVER
    timers.sent(True, 20.0, 0.0)
    assert timers.due(35.0) == [Due.SILENCE]
    assert timers.silence == NEVER


def test_a_confirmed_session_ends_the_repeating_and_has_its_own_ends() -> None:
    timers = Timers()
    timers.initiated(0.0, 0.1)
    assert timers.earliest == REKEY_TIMEOUT + 0.1
    timers.derived(1.0)
    assert timers.retry < NEVER
    timers.confirmed(1.0)
    assert timers.retry == NEVER
    assert timers.due(1.0 + REJECT_AFTER_TIME) == [Due.EXPIRE]
    assert timers.due(1.0 + KEYS_FORGOTTEN_AFTER) == [Due.FORGET]
    assert timers.earliest == NEVER


def test_giving_up_forgets_in_the_end() -> None:
    timers = Timers()
    timers.initiated(0.0, 0.0)
    timers.heard(True, 1.0)
    timers.gave_up(90.0)
    assert timers.earliest == 90.0 + KEYS_FORGOTTEN_AFTER
    timers.clear()
    assert timers.earliest == NEVER


@pytest.mark.parametrize("field", ["keepalive", "silence", "retry", "expire", "forget"])
def test_the_earliest_is_the_earliest(field: str) -> None:
    timers = Timers()
    for name in ("keepalive", "silence", "retry", "expire", "forget"):
        setattr(timers, name, 50.0)
    setattr(timers, field, 7.0)
    assert timers.earliest == 7.0
    assert [due.name.lower() for due in timers.due(7.0)] == [field]
