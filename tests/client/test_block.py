"""The block: the table of docs/architecture.md, and random lives of a device."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from client.block import IN_FORCE, TRANSITIONS, Block, Event, IllegalEvent, Phase

ROOT = Path(__file__).parents[2]


def documented() -> dict[Phase, dict[str, str]]:
    """The table of the document: a row for each phase, a cell for each column."""
    text = (ROOT / "docs/architecture.md").read_text()
    lines = re.search(r"^\| phase \|.*?\n\n", text, re.M | re.S)
    assert lines is not None
    rows = [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in lines[0].strip().splitlines()
    ]
    return {Phase(row[0]): dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows[2:]}


def test_every_phase_is_documented() -> None:
    assert set(documented()) == set(Phase) == set(TRANSITIONS) == set(IN_FORCE)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("weaker", [False, True], ids=["", "open-on-failure"])
def test_the_documented_table_is_walked(phase: Phase, weaker: bool) -> None:
    row = documented()[phase]
    for event in Event:
        block = Block()
        block.open_on_failure = weaker
        block.phase = phase
        assert block.force == row["--open-on-failure" if weaker else "in force"]
        if not row[event.value]:
            with pytest.raises(IllegalEvent):
                block.step(event)
            assert block.phase is phase
            continue
        block.step(event)
        assert block.phase == (phase if row[event.value] == "no change" else row[event.value])
        assert block.force == documented()[block.phase][
            "--open-on-failure" if weaker else "in force"
        ]  # fmt: skip


def test_only_the_user_opens_what_was_promised() -> None:
    for phase in Phase:
        for event, then in TRANSITIONS[phase].items():
            if phase not in (Phase.OPEN, Phase.ASKING) and then in (Phase.OPEN, Phase.ASKING):
                assert event is Event.DISCONNECT, (phase, event)
