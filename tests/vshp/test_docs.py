"""docs/vshp.md names every frame, close code and error that the code has."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from sealing.replay import REPLAY_WINDOW
from vshp.constants import MAX_HANDSHAKE_MESSAGE
from vshp.frames import CLOSE_CODES, FrameType

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "vshp.md").read_text()
ERRORS = {
    "PeerViolation", "AuthFailed", "FrameUnknown", "FrameMisplaced", "FrameTruncated",
    "FrameInvalid",
}  # fmt: skip


def error_reasons() -> set[str]:
    """Every reason that the room raises at a peer."""
    found = set()
    for path in (ROOT / "vshp").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ERRORS
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                found.add(str(node.args[0].value))
    return found


@pytest.mark.parametrize("reason", sorted(error_reasons()))
def test_every_error_is_documented(reason: str) -> None:
    assert f"`{reason}`" in TEXT


@pytest.mark.parametrize("kind", list(FrameType), ids=lambda kind: kind.name)
def test_every_frame_is_documented(kind: FrameType) -> None:
    assert f"| 0x{kind:02X} | {kind.name} |" in TEXT


def test_every_close_code_is_documented() -> None:
    for reason, code in CLOSE_CODES.items():
        assert f"| {code} | {reason}" in TEXT


def test_a_few_numbers() -> None:
    assert f"at most {MAX_HANDSHAKE_MESSAGE} bytes" in TEXT
    assert f"more than {REPLAY_WINDOW} behind" in TEXT
