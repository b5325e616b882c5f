"""A change that can be taken back for a while."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

UNDO_SECONDS = 20.0
"""How long a change can be taken back."""


@dataclass(frozen=True, slots=True)
class Undo:
    """A change that can be taken back until a time (monotonic seconds), by a call."""

    done: str
    method: str
    undone: str
    params: Mapping[str, Any]
    until: float
