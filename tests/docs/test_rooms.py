"""docs/architecture.md names every file of the rooms that it describes file by file, once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent.parent
TEXT = (PROJECT / "docs" / "architecture.md").read_text()
ROOMS = {
    "gateway": "The gateway, file by file",
    "client": "The client, file by file",
    "services": "The services, file by file",
    "control": "The control room, file by file",
    "cli": "The command, file by file",
    "tui": "The console, file by file",
    "vshp": "VSHP, file by file",
}


def named(heading: str) -> list[str]:
    """What stands in the first column of the section's first table: files, and folders by `/`."""
    section = TEXT.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    table = re.search(r"\|---\|---\|\n((?:\|.*\n)+)", section)
    assert table is not None
    rows = [line.split("|")[1] for line in table[1].splitlines()]
    return re.findall(r"`([\w/.]+)`", " ".join(rows))


@pytest.mark.parametrize("room", ROOMS)
def test_every_file_of_a_room_has_its_place(room: str) -> None:
    names = named(ROOMS[room])
    assert len(names) == len(set(names)), "one place each"
    left = set(names)
    for path in sorted((PROJECT / room).rglob("*.py")):
        name = str(path.relative_to(PROJECT / room))
        if path.name in ("__init__.py", "__main__.py"):
            continue
        found = [n for n in names if n == name or (n.endswith("/") and name.startswith(n))]
        assert found, f"{room}/{name} is in no row of docs/architecture.md, {ROOMS[room]}"
        left.difference_update(found)
    assert not left, f"of files that are not there: {left}"
