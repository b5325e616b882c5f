"""Every sentence of the threat model names the tests that hold it true, and they exist.

The form, in each of the sections below: one paragraph of introduction, then headings and
items. An item is one sentence and then, in brackets, its tests: paths in `tests/` with `::`
and the test's name, in backticks.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SECTIONS = {"SECURITY.md": "## What holds", "docs/vshp.md": "## 8. Threats"}
ITEM = re.compile(r"(?P<sentence>.+?\.)\s+\((?P<tests>`[^`]+`(?:,\s+`[^`]+`)*)\)", re.DOTALL)
SECOND_SENTENCE = re.compile(r"[.!?]\s+[A-Z]")


def section(document: str) -> str:
    text = (TESTS.parent / document).read_text()
    _, _, rest = text.partition(SECTIONS[document] + "\n")
    assert rest, f"{document} has no {SECTIONS[document]!r}"
    return re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def blocks(text: str) -> list[str]:
    """Headings, paragraphs and items, each as one text."""
    found: list[str] = []
    for line in text.splitlines():
        if not line.strip():
            found.append("")
        elif line.startswith(("#", "- ")) or not found or not found[-1]:
            found.append(line)
        else:
            found[-1] += "\n" + line.strip()
    return [block for block in found if block]


ITEMS = [
    (document, block)
    for document in SECTIONS
    for block in blocks(section(document))[1:]
    if not block.startswith("### ")
]


@cache
def names(path: Path) -> frozenset[str]:
    """The tests of a file; those of a class as `Class::test`."""
    tree = ast.parse(path.read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = {node.name for node in tree.body if isinstance(node, functions)}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{f.name}" for f in node.body if isinstance(f, functions)}
    return frozenset(name for name in found if name.split("::")[-1].startswith("test_"))


def fault(block: str) -> str | None:
    """What is wrong with an item; None for a good one."""
    if not block.startswith("- "):
        return "this is no item"
    item = ITEM.fullmatch(block[2:])
    if item is None:
        return "an item is one sentence and its tests in brackets"
    if SECOND_SENTENCE.search(item["sentence"]):
        return "an item is one sentence"
    for named in re.findall(r"`([^`]+)`", item["tests"]):
        file, _, test = named.partition("::")
        path = TESTS / file
        if not path.is_file() or test not in names(path):
            return f"there is no test {named}"
    return None


@pytest.mark.parametrize(("document", "block"), ITEMS, ids=lambda text: text[:60])
def test_every_sentence_names_tests_that_exist(document: str, block: str) -> None:
    assert fault(block) is None, f"{document}: {block}"


def test_both_sections_are_there_and_long() -> None:
    assert {document for document, _ in ITEMS} == set(SECTIONS)
    assert len(ITEMS) > 40


@pytest.mark.parametrize(
    "block",
    [
        "Nothing can happen.",
        "- Nothing can happen.",
        "- Nothing can happen. (by design)",
        "- Nothing can. Really. (`docs/test_threats.py::test_both_sections_are_there_and_long`)",
        "- Nothing can happen. (`docs/test_threats.py::test_that_nobody_wrote`)",
        "- Nothing can happen. (`docs/test_nowhere.py::test_both_sections_are_there_and_long`)",
        "- Nothing can happen. (`docs/test_threats.py::fault`)",
    ],
)
def test_what_proves_nothing_is_refused(block: str) -> None:
    assert fault(block) is not None
