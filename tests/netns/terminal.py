"""A terminal with a program in it, driven by tmux and photographed by Pillow."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyte
from PIL import Image, ImageDraw, ImageFont

from tests.netns.processes import Failed, wait_for

CELL_WIDTH, CELL_HEIGHT = 8, 16
NAMED = {
    "default": None, "black": (0, 0, 0), "red": (205, 49, 49), "green": (13, 188, 121),
    "brown": (229, 229, 16), "blue": (36, 114, 200), "magenta": (188, 63, 188),
    "cyan": (17, 168, 205), "white": (229, 229, 229),
}  # fmt: skip
Colour = tuple[int, int, int]


class Terminal:
    """A tmux session of a fixed size that runs one program."""

    def __init__(self, socket: Path, columns: int, rows: int) -> None:
        self._socket = socket
        self.columns, self.rows = columns, rows

    @classmethod
    @contextlib.contextmanager
    def running(
        cls, directory: Path, argv: Sequence[str], env: Mapping[str, str], columns: int, rows: int
    ) -> Iterator[Terminal]:
        """Run `argv` in a terminal until the context is left."""
        settings = directory / "tmux.conf"
        settings.write_text(
            'set -g default-terminal "tmux-256color"\nset -g status off\n'
            "set -s set-clipboard on\nset -s escape-time 0\n"
        )
        terminal = cls(directory / f"tmux-{columns}x{rows}", columns, rows)
        environment = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "COLORTERM": "truecolor", **env}
        command = shlex.join(["env", f"COLORTERM={environment['COLORTERM']}", *argv])
        terminal._tmux(
            "-f", str(settings), "new-session", "-d", "-x", str(columns), "-y", str(rows), command,
            env=environment,
        )  # fmt: skip
        try:
            yield terminal
        finally:
            terminal._tmux("kill-server", check=False)

    def _tmux(self, *words: str, check: bool = True, env: Mapping[str, str] | None = None) -> str:
        done = subprocess.run(
            ["tmux", "-u", "-S", str(self._socket), *words],
            capture_output=True,
            text=True,
            env=None if env is None else dict(env),
        )
        if check and done.returncode:
            raise Failed(f"tmux {words[0]}: {done.stderr.strip()}")
        return done.stdout

    def press(self, *keys: str) -> None:
        """Type keys, in tmux's names."""
        self._tmux("send-keys", *keys)

    def resize(self, columns: int, rows: int) -> None:
        """Make the letters smaller or larger, as a pinch does."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))
        self.columns, self.rows = columns, rows

    def text(self) -> str:
        """What is on the screen."""
        return self._tmux("capture-pane", "-p")

    def wait_for_text(self, text: str, seconds: float = 10.0) -> None:
        """Wait until `text` is on the screen; Failed with the screen if it does not come."""
        try:
            wait_for(lambda: text in self.text(), f"{text!r} on the screen", seconds)
        except Failed as problem:
            raise Failed(f"{problem}; it shows:\n{self.text()}") from None

    def clipboard(self) -> str:
        """What the program has copied last (OSC 52)."""
        return self._tmux("show-buffer", check=False)

    def picture(self) -> Image.Image:
        """The screen as a terminal emulator would draw it."""
        screen = pyte.Screen(self.columns, self.rows)
        lines = self._tmux("capture-pane", "-p", "-e", "-N").split("\n")[: self.rows]
        pyte.Stream(screen).feed("\r\n".join(lines))
        image = Image.new("RGB", (self.columns * CELL_WIDTH, self.rows * CELL_HEIGHT))
        draw = ImageDraw.Draw(image)
        font = ImageFont.load_default()
        for row in range(self.rows):
            for column in range(self.columns):
                cell = screen.buffer[row][column]
                front, back = colour(cell.fg, (229, 229, 229)), colour(cell.bg, (0, 0, 0))
                if cell.reverse:
                    front, back = back, front
                draw_cell(
                    draw, font, column * CELL_WIDTH, row * CELL_HEIGHT, cell.data, front, back
                )
        return image


def colour(name: str, default: Colour) -> Colour:
    """The colour that pyte names, by word or by hexadecimal digits."""
    if name in NAMED:
        return NAMED[name] or default
    bright = name.removeprefix("bright")
    if bright in NAMED:
        return NAMED[bright] or default
    return int(name[0:2], 16), int(name[2:4], 16), int(name[4:6], 16)


def draw_cell(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    x: int,
    y: int,
    text: str,
    front: Colour,
    back: Colour,
) -> None:
    right, bottom, middle = x + CELL_WIDTH - 1, y + CELL_HEIGHT - 1, y + CELL_HEIGHT // 2
    draw.rectangle((x, y, right, bottom), fill=back)
    if text == "█":
        draw.rectangle((x, y, right, bottom), fill=front)
    elif text == "▀":
        draw.rectangle((x, y, right, middle - 1), fill=front)
    elif text == "▄":
        draw.rectangle((x, middle, right, bottom), fill=front)
    elif text.strip() and text.isascii():
        draw.text((x, y), text, fill=front, font=font)


def read_qr(image: Image.Image, path: Path) -> str:
    """What zbarimg, an independent reader, finds in a picture. Failed if it finds nothing."""
    image.save(path)
    done = subprocess.run(
        ["zbarimg", "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", str(path)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise Failed(f"no QR code was read from {path.name}")
    return done.stdout.strip()
