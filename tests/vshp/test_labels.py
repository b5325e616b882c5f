"""Words of strangers come out harmless."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vshp.labels import clean_label, clip_utf8


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("Anna's laptop", "Anna's laptop"),
        ("a\x1b[2Jb", "a(2Jb"),
        ("\u202eevil\u202c", "evil"),
        ("[bold red]x[/]", "(bold red)x(/)"),
        ("<b>x</b>", "(b)x(/b)"),
        ("  two\n\tlines\u2028 ", "two lines"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("e" + "\u0301" * 40, "é" + "\u0301" * 2),
        ("\ue000private", "private"),
        ("家の電話", "家の電話"),
        ("\x9b31m", "31m"),
    ],
)
def test_examples(dirty: str, clean: str) -> None:
    assert clean_label(dirty) == clean


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=200), st.integers(1, 64))
def test_always_one_short_visible_line(text: str, limit: int) -> None:
    label = clean_label(text, limit)
    assert len(label) <= limit
    assert label == label.strip()
    assert not set(label) & set("[]<>\\`")
    assert all(unicodedata.category(char)[0] != "C" for char in label)
    assert clean_label(label, limit) == label


def test_clip_never_splits_a_character() -> None:
    assert clip_utf8("aé", 2) == b"a"
    assert clip_utf8("\ud800x", 8) == b"x"
