"""CONTRIBUTING.md names files that are there."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_every_file_that_it_names_is_there() -> None:
    named = re.findall(r"`([\w./]+/[\w./]*)`", TEXT) + re.findall(r"pytest (tests/\S+)", TEXT)
    assert len(named) > 25
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_module_that_is_to_be_run_is_there() -> None:
    modules = set(re.findall(r"python -m ([\w.]+)", TEXT))
    assert {"docs.api", "packages.completions"} <= modules
    assert [name for name in modules if find_spec(name) is None] == []


def test_there_is_a_list_for_everything_that_is_added_often() -> None:
    lists = re.findall(r"^## To add an? (.+)$", TEXT, re.MULTILINE)
    assert [words.split()[0] for words in lists] == [
        "setting", "method", "screen", "frame", "counter", "check",
    ]  # fmt: skip


SERIES: list[str] = re.findall(r"^\| [^|`]+ \| `([^`]+)` \| [^|]+ \| [^|]+ \|$", TEXT, re.M)
READ = re.compile(r'environ(?:\.get\(|\[)"(VPNSHARE_\w+)"|"(VPNSHARE_\w+)"(?: not)? in os\.environ')


def source(command: str) -> Path:
    """The file that a command of the table runs."""
    if found := re.search(r"pytest -s (\S+\.py)", command):
        return ROOT / found[1]
    found = re.search(r"python -m ([\w.]+)", command)
    assert found is not None, command
    return ROOT / f"{found[1].replace('.', '/')}.py"


def variables(text: str) -> set[str]:
    """Those of a series that this code reads."""
    return {name for pair in READ.findall(text) for name in pair if name}


def test_a_series_stands_in_the_table_and_in_its_file() -> None:
    asked = [(set(re.findall(r"(VPNSHARE_\w+)=", command)), command) for command in SERIES]
    for names, command in asked:
        text = source(command).read_text()
        assert names == {name for name in variables(text) if f"{name}=" in command}, command
        # Its number, its file and its options are those of the file's own first lines.
        if names:
            assert f"\n    {command}\n" in text.split('"""')[1], command
        for option in re.findall(r" (--[\w-]+)", command):
            assert f'"{option}"' in text, command
    read = {
        (file, name)
        for file in sorted((ROOT / "tests").rglob("*.py"))
        for name in variables(file.read_text())
    }
    assert read == {(source(command), name) for names, command in asked for name in names}


def test_of_a_file_a_series_picks_tests_that_are_there() -> None:
    picked = [(command, word) for command in SERIES for word in re.findall(r"-k (\w+)", command)]
    assert len(picked) > 2
    for command, word in picked:
        assert re.search(rf"^def test_\w*{word}", source(command).read_text(), re.M), command
