"""A screenshot as pixels, for readers of QR codes and for documents."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest


def to_png(svg: str, path: Path, scale: float = 2.0) -> None:
    """Draw an exported screenshot with a font of this machine; skips where nothing can."""
    # The picture names a web font; any monospaced one that fills its cell does.
    svg = re.sub(r"@font-face\s*{[^}]*}", "", svg)
    svg = svg.replace("Fira Code, monospace", "'DejaVu Sans Mono'")
    cairosvg = pytest.importorskip("cairosvg", reason="cairosvg draws the screenshot")
    cairosvg.svg2png(bytestring=svg.encode(), write_to=str(path), scale=scale)


def read_qr(path: Path) -> str:
    """What zbarimg reads in a picture; empty when it sees no code."""
    if shutil.which("zbarimg") is None:
        pytest.skip("zbarimg (Debian: zbar-tools) reads the QR code")
    done = subprocess.run(
        ["zbarimg", "-q", "--raw", str(path)], capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip()
