"""A QR code's modules, as a picture in a file that only its owner may read."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from io import BytesIO
from typing import BinaryIO

from control.paths import is_termux

BORDER = 2
"""Light modules around a code on a screen. The standard's four cost a 45-column phone too much."""
SCALE = 8
"""Pixels a module of the picture."""
PICTURE_BORDER = 4
"""Light modules around it: what the standard asks for, and a picture has room for."""
OPENER = "termux-open"
"""Shows a file with an app of the phone's, or with `--send` hands it to one."""


def matrix(text: str, border: int = BORDER) -> list[list[bool]]:
    """The modules of the smallest code for `text`, `border` included; True is dark.

    Error correction is the lowest: a screen has no scratches, and a smaller code has larger
    modules.
    """
    from qrcode.constants import ERROR_CORRECT_L
    from qrcode.main import QRCode

    code: QRCode[object] = QRCode(border=border, error_correction=ERROR_CORRECT_L)
    code.add_data(text)
    return [list(map(bool, row)) for row in code.get_matrix()]


def picture(text: str) -> bytes:
    """The QR code as a PNG, black on white; needs what `missing_for_pictures` looks for."""
    import png

    rows = [
        [0 if dark else 1 for dark in row for _ in range(SCALE)]
        for row in matrix(text, PICTURE_BORDER)
        for _ in range(SCALE)
    ]
    out = BytesIO()
    png.Writer(len(rows[0]), len(rows), greyscale=True, bitdepth=1).write(out, rows)
    return out.getvalue()


def missing_for_pictures() -> str:
    """The name of a package without which no picture can be made; empty when all are there."""
    packages = (("qrcode", "qrcode"), ("png", "pypng"))
    return next((name for module, name in packages if find_spec(module) is None), "")


class Fresh:
    """A new file that only its owner may read; gone again unless it is kept."""

    def __init__(self, name: str | None) -> None:
        self.name = name
        self._kept = False
        self._file: BinaryIO | None = None

    def __enter__(self) -> Fresh:
        """Raises `OSError`; what is there already stays as it is."""
        if self.name is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.fdopen(os.open(self.name, flags, 0o600), "wb")
        return self

    def keep(self, data: bytes) -> None:
        if self._file is not None:
            self._file.write(data)
            self._file.flush()
            self._kept = True

    def __exit__(self, *error: object) -> None:
        if self._file is not None and self.name is not None:
            self._file.close()
            if not self._kept:
                os.unlink(self.name)


def refusal(error: OSError) -> tuple[str, str]:
    """Why a file was not written, and what to do."""
    name = error.filename or "the file"
    if isinstance(error, FileExistsError):
        return f"{name} is there already.", "Choose another name, or move it away."
    return f"{name} cannot be written: {error.strerror or error}.", "Choose another place."


def opener() -> str | None:
    """The program that shows a file on this phone; None elsewhere, or where it is missing."""
    return shutil.which(OPENER) if is_termux() else None
