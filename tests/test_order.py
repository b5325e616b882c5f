"""The order of files is of the long first, and of all."""

from __future__ import annotations

from pathlib import PurePath

from tests.order import may_weigh, spread

ROOMS = [PurePath("tests", *words) for words in (
    ("client", "test_a.py"), ("netns", "test_b.py"), ("netns", "test_c.py"),
    ("netns", "test_d.py"), ("test_e.py",), ("tui", "test_f.py"), ("tui", "test_g.py"),
)]  # fmt: skip


def test_the_long_files_take_turns_and_the_short_come_last() -> None:
    assert [file.stem[-1] for file in spread(ROOMS)] == list("bfcgdae")


def test_none_is_left_out() -> None:
    for count in range(len(ROOMS)):
        assert sorted(spread(ROOMS[count:])) == sorted(ROOMS[count:])


def test_a_file_says_itself_that_its_tests_weigh_the_machine() -> None:
    assert may_weigh("@pytest.mark.alone\ndef test_flood() -> None: ...")
    assert may_weigh("pytestmark = [pytest.mark.alone, pytest.mark.slow]")
    assert not may_weigh("def test_a_client_alone() -> None: ...")
