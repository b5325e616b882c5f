"""Fewer bytes on the line: how a screen's updates become terminal sequences.

Textual 8.2.8 writes an update from the left edge of the widget that changed,
and states every segment's style in full with a reset after it. On a slow SSH
link that is most of the traffic: one age that moved costs its whole row.
`SlimCompositor` makes the same updates, but writes only the cells inside the
dirty spans, and of a style only what differs from the one before. It keeps
nothing between updates, so a terminal that lost bytes recovers as it would
with Textual's own.

This builds on two of Textual's private classes; the package pins the version
it was written for, and a test compares both encodings cell by cell.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, Compositor, LayoutUpdate

_NULL = Style.null()


@lru_cache(maxsize=2048)
def _codes(style: Style, system: ColorSystem) -> tuple[str, str, str]:
    """SGR parameters of a style: attributes, foreground, background."""
    attributes = Style(
        bold=style.bold,
        dim=style.dim,
        italic=style.italic,
        underline=style.underline,
        blink=style.blink,
        reverse=style.reverse,
        strike=style.strike,
        underline2=style.underline2,
        overline=style.overline,
    )
    ground = style.bgcolor
    ink = style.color
    return (
        attributes._make_ansi_codes(system),
        "39" if ink is None else ";".join(ink.downgrade(system).get_ansi_codes()),
        "49" if ground is None else ";".join(ground.downgrade(system).get_ansi_codes(False)),
    )


class Pen:
    """Writes text in styles, remembering which one the terminal is in."""

    def __init__(self, system: ColorSystem) -> None:
        self._system = system
        self._now = ("", "39", "49")
        self.parts: list[str] = []

    def move(self, x: int, y: int) -> None:
        self.parts.append(f"\x1b[{y + 1};{x + 1}H")

    def write(self, segments: Iterable[Segment]) -> None:
        for text, style, control in segments:
            if control or not text:
                continue
            self._become(_codes(style or _NULL, self._system))
            self.parts.append(text)

    def finish(self) -> str:
        """Everything, with the terminal left in its plain style."""
        self._become(("", "39", "49"))
        return "".join(self.parts)

    def _become(self, wanted: tuple[str, str, str]) -> None:
        if wanted == self._now:
            return
        attributes, ink, ground = wanted
        change: list[str] = []
        if attributes != self._now[0]:
            # Attributes are switched off by a reset only; the colours go with them.
            change.append("0")
            if attributes:
                change.append(attributes)
            self._now = (attributes, "39", "49")
        if ink != self._now[1]:
            change.append(ink)
        if ground != self._now[2]:
            change.append(ground)
        self._now = wanted
        self.parts.append(f"\x1b[{';'.join(change)}m")


class SlimChopsUpdate(ChopsUpdate):
    """Some spans of the screen."""

    def render_segments(self, console: Console) -> str:
        pen = Pen(console._color_system or ColorSystem.TRUECOLOR)
        for y, first, last in self.spans:
            for end, (start, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                left, right = max(start, first), min(end, last)
                if strip is None or right <= left:
                    continue
                pen.move(left, y)
                pen.write(strip.crop(left - start, right - start))
        return pen.finish()


class SlimLayoutUpdate(LayoutUpdate):
    """The whole screen."""

    def render_segments(self, console: Console) -> str:
        pen = Pen(console._color_system or ColorSystem.TRUECOLOR)
        for y, line in enumerate(self.strips, self.region.y):
            pen.move(self.region.x, y)
            for strip in line:
                pen.write(strip)
        return pen.finish()


class SlimCompositor(Compositor):
    """Textual's compositor with updates that cost less to send."""

    def render_full_update(self, simplify: bool = False) -> LayoutUpdate:
        update = super().render_full_update(simplify)
        return SlimLayoutUpdate(update.strips, update.region)

    def render_partial_update(self) -> ChopsUpdate | None:
        update = super().render_partial_update()
        if update is None:
            return None
        return SlimChopsUpdate(update.chops, update.spans, update.chop_ends)
