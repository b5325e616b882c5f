"""docs/check.md says what a check does."""

from __future__ import annotations

import re
from pathlib import Path

from control.exits import Exit
from control.words import CHECK
from services.check.verdict import ROWS
from services.config import MAX_ASKED, find

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "check.md").read_text()


def test_the_verdicts_are_the_codes_in_their_order() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([a-z ]+) \| ", TEXT, re.M)
    assert rows == [(name, CHECK[state.value][0]) for name, state, _ in ROWS]


def test_the_servers_are_those_of_the_settings() -> None:
    for name in ("check.stun", "check.whoami"):
        row = re.search(rf"^\| `{re.escape(name)}` \|.*\| (.*) \|$", TEXT, re.M)
        assert row is not None
        assert re.findall(r"`([^`]+)`", row[1]) == find(name).default
    assert MAX_ASKED == 4 and TEXT.count("four at most") == 2


def test_the_exit_codes() -> None:
    said = re.search(r"^Exit codes: (\d+) good, (\d+) broken, (\d+) cannot tell\.$", TEXT, re.M)
    assert said is not None
    assert tuple(map(int, said.groups())) == (Exit.OK, Exit.FAILED, Exit.UNTOLD)
