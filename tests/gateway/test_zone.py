"""The machine's own zone against the zone that it is set to, on the days when clocks are set."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from gateway.zone import LOCAL
from rules.calendar import moment

ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]


@pytest.fixture
def set_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    yield monkeypatch
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("name", ZONES)
def test_it_is_the_zone_that_the_machine_is_set_to(set_zone: pytest.MonkeyPatch, name: str) -> None:
    set_zone.setenv("TZ", name)
    LOCAL.follow()
    zone = ZoneInfo(name)
    start = int(datetime(2026, 1, 1, tzinfo=zone).timestamp())
    for at in range(start, start + 366 * 86400, 1800):
        ours, theirs = datetime.fromtimestamp(at, LOCAL), datetime.fromtimestamp(at, zone)
        assert ours.replace(tzinfo=None) == theirs.replace(tzinfo=None)
        assert ours.fold == theirs.fold
        assert ours.utcoffset() == theirs.utcoffset()
        assert ours.timestamp() == at
    for month, day in ((3, 8), (3, 29), (4, 5), (10, 4), (10, 25), (11, 1)):
        date = datetime(2026, month, day, tzinfo=zone).date()
        for minute in range(0, 1441, 30):
            assert moment(date, minute, LOCAL) == moment(date, minute, zone)


def test_it_follows(set_zone: pytest.MonkeyPatch) -> None:
    for name, hour in (("Asia/Tokyo", 9), ("Asia/Kolkata", 5)):
        set_zone.setenv("TZ", name)
        LOCAL.follow()
        assert datetime.fromtimestamp(0, LOCAL).hour == hour
