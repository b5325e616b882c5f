"""What cannot be written is in force, told, kept, and written when there is room."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from eventloop.clock import Clock
from services import ledger as module
from services.ledger import FIRST_PAUSE, LAST_PAUSE, MAX_WAITING, Ledger, Unwritable
from services.store_keeper import Retries

HERE, THERE = Path("/here"), Path("/there")


class Disk:
    """Places that may be full, and the ledger over them."""

    def __init__(self) -> None:
        self.now, self.wall = 100.0, 1e9
        self.full: set[Path] = set()
        self.tries: list[Path] = []
        self.content: dict[str, str] = {}
        self.ledger = Ledger(Clock(lambda: self.now, lambda: self.wall))
        self.news = 0
        self.ledger.on_change = self._told

    def _told(self) -> None:
        self.news += 1

    def put(self, key: str, word: str, place: Path = HERE, lesser: bool = False) -> bool:
        def write() -> None:
            self.tries.append(place)
            if place in self.full:
                raise Unwritable("no space is left", "Make room.")
            self.content[key] = word

        return self.ledger.put((key,), f"{key}={word}", place, write, lesser)


@pytest.fixture
def disk() -> Disk:
    return Disk()


def test_with_room_it_is_written_at_once_and_nothing_is_told(disk: Disk) -> None:
    assert disk.put("a", "1")
    assert disk.content == {"a": "1"} and disk.ledger.unwritten == []
    assert disk.ledger.due() is None and disk.news == 0


def test_the_newest_word_waits_and_is_written_when_it_can_be(disk: Disk) -> None:
    disk.full = {HERE}
    assert not disk.put("a", "1")
    assert not disk.put("b", "1")
    assert not disk.put("a", "2")
    (told,) = disk.ledger.unwritten
    assert told.waiting == ("a=2", "b=1") and told.place == HERE
    assert "a=2, b=1" in told.sentence and "no space is left" in told.sentence
    assert disk.ledger.waits(("a",)) and disk.news == 2
    disk.full = set()
    disk.now += FIRST_PAUSE
    disk.ledger.retry()
    assert disk.content == {"a": "2", "b": "1"}
    assert disk.ledger.unwritten == [] and disk.ledger.due() is None and disk.news == 3


def test_a_place_that_fails_is_asked_seldom_and_more_and_more_so(disk: Disk) -> None:
    disk.full = {HERE}
    for number in range(50):
        disk.put(f"k{number}", "1")
    assert len(disk.tries) == 1, "fifty writes, one refusal"
    pauses = []
    for _ in range(9):
        due = disk.ledger.due()
        assert due is not None
        pauses.append(due - disk.now)
        disk.now = due
        disk.ledger.retry()
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, LAST_PAUSE]
    assert len(disk.tries) == 10, "one refusal a round"
    disk.now += FIRST_PAUSE
    disk.full = set()
    assert disk.put("late", "1"), "somebody who writes finds out that there is room"
    assert len(disk.content) == 51


def test_places_do_not_wait_for_each_other(disk: Disk) -> None:
    disk.full = {HERE}
    disk.put("a", "1", HERE)
    assert disk.put("b", "1", THERE)
    assert [told.place for told in disk.ledger.unwritten] == [HERE]


def test_it_is_told_since_when_by_the_clock_that_people_see(disk: Disk) -> None:
    disk.full = {HERE}
    disk.put("a", "1")
    disk.now, disk.wall = disk.now + LAST_PAUSE, disk.wall - 3600
    disk.put("a", "2")
    assert [told.since for told in disk.ledger.unwritten] == [1e9], "of the first failure"


def test_one_write_that_is_always_refused_keeps_no_other_from_being_written(disk: Disk) -> None:
    def refused() -> None:
        raise Unwritable("too long for its column", "Shorten it.")

    disk.ledger.put(("odd",), "odd", HERE, refused)
    disk.put("a", "1")
    for _ in range(3):
        disk.now += LAST_PAUSE
        disk.ledger.retry()
    assert disk.content == {"a": "1"}
    assert [told.waiting for told in disk.ledger.unwritten] == [("odd",)]


def test_what_matters_and_is_new_is_named_first_and_the_rest_is_counted(disk: Disk) -> None:
    disk.full = {HERE}
    for number in range(4):
        disk.put(f"k{number}", "1")
    disk.put("usage", "1", lesser=True)
    disk.put("revoked", "1")
    (told,) = disk.ledger.unwritten
    assert "revoked=1, k3=1, k2=1, k1=1 and 2 more." in told.sentence


def test_a_mistake_of_ours_is_logged_and_given_up(
    disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    def mistaken() -> None:
        raise KeyError("a row")

    disk.ledger.put(("odd",), "odd", HERE, mistaken)
    assert "odd was not written" in caplog.text
    assert disk.put("a", "1") and disk.ledger.unwritten == []


def test_what_waits_is_bounded_and_the_lesser_goes_first(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_WAITING == 4096
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    disk.full = {HERE}
    disk.put("revoked", "1")
    disk.put("usage", "1", lesser=True)
    disk.put("approved", "1")
    disk.put("named", "1")
    assert disk.ledger.unwritten[0].waiting == ("named=1", "approved=1", "revoked=1")
    assert disk.ledger.missed == 1


def test_the_log_tells_once_that_it_began_and_once_that_it_is_over(
    disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    disk.full = {HERE}
    for number in range(5):
        disk.put("a", str(number))
        disk.now += FIRST_PAUSE
    disk.full = set()
    assert disk.ledger.flush()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "Make room." in caplog.text


async def test_it_is_tried_again_by_itself_and_no_timer_stays() -> None:
    full = True

    def write() -> None:
        if full:
            raise Unwritable("no space is left", "Make room.")

    ledger = Ledger()
    retries = Retries(ledger)
    ledger.on_change = retries.look
    ledger.put(("a",), "a", HERE, write)
    assert retries._timer is not None
    full = False
    async with asyncio.timeout(FIRST_PAUSE * 5):
        while ledger.unwritten:
            await asyncio.sleep(0.05)
    assert retries._timer is None
