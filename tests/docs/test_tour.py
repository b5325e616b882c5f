"""The recorded tour in the documents: it can be played, and shows what it says."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from docs.cast import Cast, Emulator, Frame, frames
from docs.moving_picture import MovingPicture
from docs.tour import COLUMNS, ROWS, TITLE

PICTURES = Path(__file__).resolve().parents[2] / "docs/pictures"
MAX_BYTES = 1_000_000
LONGEST = 100.0
"""Seconds."""


@pytest.fixture(scope="module")
def cast() -> Cast:
    return Cast.load(PICTURES / "tour.cast")


@pytest.fixture(scope="module")
def shown(cast: Cast) -> list[Frame]:
    return frames(cast)


def words(frame: Frame) -> str:
    return "\n".join("".join(run.text for run in row) for row in frame.rows)


def test_it_is_of_its_size_and_length(cast: Cast) -> None:
    assert (cast.width, cast.height, cast.title) == (COLUMNS, ROWS, TITLE)
    assert 45 < cast.events[-1].at < LONGEST


def test_it_shows_what_its_captions_say(shown: list[Frame]) -> None:
    story = (
        ("The phone that has the VPN", "Living-room TV"),
        ("Pair a device", "VSHP:"),
        ("Another way in", "wants to join"),
        ("a lets it in", "Work laptop is approved"),
        ("Devices", "Work laptop"),
        ("Every connection", "flows"),
        ("/ filters", "/laptop tcp"),
        ("The VPN drops", "no VPN"),
        ("examines itself", "There is no interface"),
        ("The VPN is back", "● sharing"),
        ("Themes", "High contrast"),
        ("own console", "Kill switch"),
    )
    captions = list(dict.fromkeys(frame.caption for frame in shown if frame.caption))
    assert len(captions) == len(story)
    for caption, (begins, seen) in zip(captions, story, strict=True):
        assert begins in caption
        assert any(seen in words(frame) for frame in shown if frame.caption == caption), caption


def test_a_player_ends_on_the_same_screen(cast: Cast, shown: list[Frame]) -> None:
    emulator = Emulator(cast.width, cast.height)
    for event in cast.events:
        if event.kind == "o":
            emulator.feed(event.data)
    assert emulator.text == words(shown[-1])
    assert "● connected" in emulator.text and "3 Links" in emulator.text


def test_the_picture_is_made_from_it(cast: Cast, shown: list[Frame]) -> None:
    picture = (PICTURES / "tour.svg").read_text("utf-8")
    assert picture == MovingPicture(cast.width, cast.height).of(shown, cast.title)
    assert len(picture.encode()) < MAX_BYTES
    root = ElementTree.fromstring(picture)
    assert not [part for part in root.iter() if part.tag.endswith("}script")]
    assert not re.search(r"(?:href|src)=\"(?!#)|url\((?!#)|@import", picture), "loads something"


def test_nothing_of_the_machine_is_in_it(cast: Cast) -> None:
    output = "".join(event.data for event in cast.events)
    assert not re.search(r"/(?:tmp|home|root|work|usr|var)/", output)
