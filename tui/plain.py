"""ASCII only: what the console draws with, whoever drew it, becomes a character of ASCII.

It works on finished lines, so that borders, scroll bars, messages and sentences
are reached as well as the symbols of states (`formats.ASCII`, which says more of
what it means, comes first). Names of devices and places stay in their own script:
they are told, not drawn. Every sign is replaced by one of the same width.
"""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_SIGNS = {
    "●": "*", "○": "o", "◆": "i", "▲": "!", "▼": "v", "✗": "x", "↓": "v", "↑": "^",
    "▸": "+", "▾": "-", "·": "-", "…": "~", "“": '"', "”": '"', "‘": "'", "’": "'",
    "🔎": "/ ",  # two cells
    "–": "-", "—": "-", "•": "*", "→": ">", "←": "<", "✓": "*",
}  # fmt: skip
_LINES = dict.fromkeys("─━═╌╍┄┅┈┉╴╶╸╺", "-") | dict.fromkeys("│┃║╎╏┆┇┊┋╵╷╹╻", "|")
_CORNERS = {chr(code): "+" for code in range(0x2500, 0x2580)}
_BLOCKS = {chr(code): " " for code in range(0x2580, 0x25A0)} | {
    "▌": ">", "▊": "|", "▎": "|", "▏": "|", "▕": "|", "▐": "|", "▁": "_", "▔": "-", "█": "#",
}  # fmt: skip

TABLE = str.maketrans(_CORNERS | _LINES | _BLOCKS | _SIGNS)


class AsciiFilter(LineFilter):
    """Replaces what is drawn by ASCII."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            segment
            if segment.text.isascii()
            else Segment(segment.text.translate(TABLE), segment.style, segment.control)
            for segment in segments
        ]
