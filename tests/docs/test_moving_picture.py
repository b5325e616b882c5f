"""A recording becomes a picture that moves: exactly its screens, each at its time."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from docs.cast import Cast, Emulator, Event, frames
from docs.moving_picture import LAST, MovingPicture

NS = "{http://www.w3.org/2000/svg}"
WIDTH, HEIGHT = 12, 3

EVENTS = [
    Event(0.0, "m", "First"),
    Event(0.0, "o", "\x1b[?1049h\x1b[>1u\x1b[38;2;255;0;0mred\x1b[0m <&>"),
    Event(0.5, "o", "\x1b[2;1H\x1b[1;48;2;0;0;64mbold  words"),
    Event(0.52, "o", "\x1b[0m\x1b[3;1H▀▀█▄ ─╭│"),
    Event(1.5, "m", "Then"),
    Event(4.0, "o", "\x1b[1;1H\x1b[34mred"),
    Event(4.5, "o", "\x1b[1;1H\x1b[34mred"),
]


@pytest.fixture
def cast() -> Cast:
    return Cast(WIDTH, HEIGHT, "A & B", list(EVENTS))


def texts(element: ElementTree.Element) -> list[str]:
    return [part.text or "" for part in element.iter(f"{NS}text")]


class Shown:
    """A picture, taken apart again."""

    def __init__(self, svg: str) -> None:
        self.root = ElementTree.fromstring(svg)
        self.rows = {part.get("id"): part for part in self.root.iterfind(f"{NS}defs/*")}
        (self.strip,) = [g for g in self.root.iter(f"{NS}g") if g.get("class") == "s"]
        (self.style,) = [part.text or "" for part in self.root.iter(f"{NS}style")]
        steps = re.search(r"@keyframes p\{(.*?)\}@keyframes b", self.style)
        assert steps is not None
        self.steps = [
            (float(at), -float(left))
            for at, left in re.findall(r"([\d.]+)%\{transform:translateX\((-?[\d.]+)px\)", steps[1])
        ]

    @property
    def frames(self) -> list[tuple[list[list[str]], str]]:
        """The words of each row, and the caption, frame by frame."""
        screens = [g for g in self.strip if g.tag == f"{NS}g"]
        captions = [part.text or "" for part in self.strip if part.tag == f"{NS}text"]
        return [
            ([texts(self.rows[(use.get("href") or "")[1:]]) for use in screen], caption)
            for screen, caption in zip(screens, captions, strict=True)
        ]


def test_each_screen_once_with_its_words_and_its_caption(cast: Cast) -> None:
    picture = MovingPicture(WIDTH, HEIGHT)
    shown = Shown(picture.of(frames(cast), cast.title))
    first, second = [["red", "<&>"], [], []], [["red", "<&>"], ["bold", "words"], []]
    assert shown.frames == [
        (first, "First"), (second, "First"), (second, "Then"), (second, "Then"),
    ]  # fmt: skip
    # A row that comes again is not drawn again; the blue "red" is another one.
    assert len(shown.rows) == 5


def test_each_at_its_time(cast: Cast) -> None:
    shown = Shown(MovingPicture(WIDTH, HEIGHT).of(frames(cast), cast.title))
    length = 4.0 + LAST
    width = float(shown.root.get("width") or 0)
    assert [at for at, _ in shown.steps] == pytest.approx(
        [0, 52 / length, 150 / length, 400 / length, 100], abs=0.01
    )
    assert [left / width for left in (left for _, left in shown.steps)] == [0, 1, 2, 3, 3]


def test_colours_and_shapes(cast: Cast) -> None:
    shown = Shown(MovingPicture(WIDTH, HEIGHT).of(frames(cast), cast.title))
    colours = dict(re.findall(r"\.(c\d+)\{fill:#(\w+)\}", shown.style))
    red = shown.rows["r0"].find(f"{NS}text")
    assert red is not None and colours[red.get("class") or ""] == "ff0000"
    bold = next(part for row in shown.rows.values() for part in row if part.text == "bold")
    name, weight = (bold.get("class") or "").split()
    assert weight == "B" and name in colours
    paths = [part.get("d") or "" for part in shown.root.iter(f"{NS}path")]
    assert [path.count("z") for path in paths] == [3, 1 + 2 + 1]  # ▀▀ █ ▄; ─, ╭, │


def test_a_still_holds_one_frame(cast: Cast) -> None:
    root = ElementTree.fromstring(MovingPicture(WIDTH, HEIGHT).still(frames(cast)[1], "still"))
    assert "keyframes" not in ElementTree.tostring(root, "unicode")
    assert texts(root) == ["red", "<&>", "bold", "words", "First"]


def test_silence_is_cut(cast: Cast) -> None:
    assert [event.at for event in cast.without_idle(1.0).events] == pytest.approx(
        [0, 0, 0.5, 0.52, 1.5, 2.5, 3.0]
    )


def test_a_recording_is_kept_and_read_again(cast: Cast, tmp_path: Path) -> None:
    path = tmp_path / "x.cast"
    cast.save(path)
    assert Cast.load(path) == cast
    path.write_text(path.read_text().replace('"version": 2', '"version": 1'))
    with pytest.raises(ValueError, match="version 2"):
        Cast.load(path)
    cast.events.append(Event(1.0, "o", "late"))
    cast.save(path)
    with pytest.raises(ValueError, match="backward"):
        Cast.load(path)


def test_sequences_that_come_in_pieces() -> None:
    whole = "".join(event.data for event in EVENTS if event.kind == "o") + "\x1b]0;title\x07end"
    at_once, by_character = Emulator(WIDTH, HEIGHT), Emulator(WIDTH, HEIGHT)
    at_once.feed(whole)
    for character in whole:
        by_character.feed(character)
    assert by_character.text == at_once.text
    assert "title" not in at_once.text
