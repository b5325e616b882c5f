"""A recording of a terminal: made of a program in a pty, kept as asciicast v2, replayed.

The format is https://docs.asciinema.org/manual/asciicast/v2/: a header line,
then one line for each piece of output with its time, and markers, which hold
the captions. A recording says nothing of the machine it was made on.
"""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pyte

IDLE = 2.0
"""Seconds without output that a recording shows at most."""
BURST = 0.06
"""Output closer together than this, in seconds, is one frame."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something at a time, in seconds from the beginning."""

    at: float
    kind: str
    """`o`: output. `m`: a marker; its text is the caption from here on."""
    data: str


@dataclass(slots=True)
class Cast:
    """A recording."""

    width: int
    height: int
    title: str
    events: list[Event] = field(default_factory=list)

    def save(self, path: Path) -> None:
        header = {
            "version": 2, "width": self.width, "height": self.height, "title": self.title,
            "env": {"TERM": "xterm-256color"},
        }  # fmt: skip
        lines = [json.dumps(header)]
        lines += [
            json.dumps([round(event.at, 3), event.kind, event.data], ensure_ascii=False)
            for event in self.events
        ]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Cast:
        """Raises ValueError for what is no asciicast v2."""
        first, *rest = path.read_text(encoding="utf-8").splitlines()
        header = json.loads(first)
        if header.get("version") != 2:
            raise ValueError(f"{path.name} is not asciicast version 2")
        events = [
            Event(float(at), str(kind), str(data)) for at, kind, data in map(json.loads, rest)
        ]
        if any(later.at < event.at for event, later in pairwise(events)):
            raise ValueError(f"{path.name}: time goes backward")
        return cls(int(header["width"]), int(header["height"]), str(header["title"]), events)

    def without_idle(self, idle: float = IDLE) -> Cast:
        """The same with every longer silence cut to `idle` seconds."""
        made: list[Event] = []
        last = cut = 0.0
        for event in self.events:
            cut += max(0.0, event.at - last - idle)
            last = event.at
            made.append(Event(event.at - cut, event.kind, event.data))
        return Cast(self.width, self.height, self.title, made)


class Emulator:
    """What a terminal shows; pyte, without the sequences that it takes for text."""

    # Private queries and settings (the keyboard protocol), titles, device strings.
    _ODD = re.compile(
        r"\x1b\[[<=>][0-9;]*[a-zA-Z]|\x1b\[\?[0-9;]*\$p|\x1b[\]P][^\x07\x1b]*(?:\x07|\x1b\\)"
    )
    _UNFINISHED = re.compile(r"\x1b(?:\[[^a-zA-Z@~]*|[\]P][^\x07\x1b]*\x1b?)?$")

    def __init__(self, width: int, height: int) -> None:
        self.screen = pyte.Screen(width, height)
        self._stream = pyte.Stream(self.screen)
        self._rest = ""

    def feed(self, text: str) -> None:
        text = self._rest + text
        cut = self._UNFINISHED.search(text)
        self._rest = text[cut.start() :] if cut else ""
        self._stream.feed(self._ODD.sub("", text[: cut.start()] if cut else text))

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring cells of one style; colours are six hexadecimal digits, or `default`."""

    text: str
    front: str
    back: str
    bold: bool


Row = tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """The screen from a time on."""

    at: float
    rows: tuple[Row, ...]
    caption: str


def frames(cast: Cast) -> list[Frame]:
    """Every screen that differs from the one before."""
    emulator = Emulator(cast.width, cast.height)
    found: list[Frame] = []
    caption = ""
    for event, later in zip(cast.events, [*cast.events[1:], None], strict=True):
        if event.kind == "m":
            caption = event.data
        elif event.kind == "o":
            emulator.feed(event.data)
        if later is not None and later.at - event.at < BURST:
            continue
        rows = tuple(_row(emulator.screen, y) for y in range(cast.height))
        if not found or (rows, caption) != (found[-1].rows, found[-1].caption):
            found.append(Frame(event.at, rows, caption))
    return found


def _row(screen: pyte.Screen, y: int) -> Row:
    runs: list[Run] = []
    for x in range(screen.columns):
        cell = screen.buffer[y][x]
        front, back = (cell.bg, cell.fg) if cell.reverse else (cell.fg, cell.bg)
        style = front, back, bool(cell.bold)
        if runs and (runs[-1].front, runs[-1].back, runs[-1].bold) == style:
            runs[-1] = Run(runs[-1].text + cell.data, *style)
        else:
            runs.append(Run(cell.data, *style))
    return tuple(runs)


class Recorder:
    """Runs a program in a terminal of its own, presses keys, and writes down what it shows."""

    def __init__(self, cast: Cast) -> None:
        self.cast = cast
        self._emulator = Emulator(cast.width, cast.height)
        self._lock = threading.Lock()
        self._offset = time.monotonic()
        self._frozen: float | None = None
        self._fd = -1

    @contextmanager
    def running(self, argv: Sequence[str], env: Mapping[str, str]) -> Iterator[None]:
        """Run a program; leaving the context ends it, if it has not ended by itself."""
        pid, self._fd = pty.fork()
        if pid == 0:
            os.execve(argv[0], list(argv), {"TERM": "xterm-256color", "COLORTERM": "truecolor",
                                            "LANG": "C.UTF-8", **env})  # fmt: skip
        size = struct.pack("HHHH", self.cast.height, self.cast.width, 0, 0)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, size)
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        try:
            yield
        finally:
            try:
                os.kill(pid, signal.SIGTERM)
                reader.join(5)
                os.waitpid(pid, 0)
            finally:
                os.close(self._fd)

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while True:
            select.select([self._fd], [], [])
            try:
                data = os.read(self._fd, 1 << 16)
            except OSError:
                return  # the program has ended
            if not data:
                return
            text = decoder.decode(data)
            with self._lock:
                self.cast.events.append(Event(self._now(), "o", text))
                self._emulator.feed(text)

    def _now(self) -> float:
        return self._frozen if self._frozen is not None else time.monotonic() - self._offset

    # What the story does

    def caption(self, text: str) -> None:
        """Tell what is seen from here on."""
        with self._lock:
            self.cast.events.append(Event(self._now(), "m", text))

    def press(self, *keys: str, pause: float = 0.25) -> None:
        """Type keys as a person does, so many seconds apart."""
        for key in keys:
            os.write(self._fd, key.encode())
            time.sleep(pause)

    def hold(self, seconds: float) -> None:
        """Let the viewer look."""
        time.sleep(seconds)

    def wait_for(self, text: str, seconds: float = 20.0) -> None:
        """Go on when a text is on the screen. TimeoutError with the screen if it does not come."""
        until = time.monotonic() + seconds
        while True:
            with self._lock:
                shown = self._emulator.text
            if text in shown:
                return
            if time.monotonic() > until:
                raise TimeoutError(f"{text!r} did not come:\n{shown}")
            time.sleep(0.05)

    @contextmanager
    def cut(self) -> Iterator[None]:
        """What happens meanwhile takes no time in the recording."""
        with self._lock:
            self._frozen = self._now()
        try:
            yield
        finally:
            with self._lock:
                assert self._frozen is not None
                self._offset = time.monotonic() - self._frozen
                self._frozen = None
