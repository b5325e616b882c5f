"""One thing that happened to a tunnel, as either of its sides tells it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    kind: StrEnum
    """What: each side has a list of its own."""
    text: str
    """The line in the log: clean, and of bounded length."""
    device: str = ""
    """The device's id, or the id of its request; empty where it is about none, and at a client,
    which has one gateway at a time."""
    label: str = ""
    """What the device or the gateway is called, cleaned."""
