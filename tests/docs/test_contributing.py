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
