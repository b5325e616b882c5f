"""What the owner allows devices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from control.schema.findings import Unwritten


@dataclass(frozen=True, slots=True)
class DeviceRules:
    """What the owner allows a device."""

    id: str
    label: str
    rules: dict[str, Any]
    """Only what is there, as `set_rules` takes it: `quota`, `limit_up`, `limit_down` (bits per
    second), `until` (Unix time), `hours`, `paused`, `destinations`, `max_flows`. Empty:
    everything is allowed."""
    line: str
    """The same in a line for people; empty: everything."""
    texts: dict[str, str]
    """Each of them as people write it, in the gateway's local time; destinations are counted."""
    unwritten: list[Unwritten] = field(default_factory=list)
    """As in `Done`."""


@dataclass(frozen=True, slots=True)
class RuleTemplate:
    """Rules that go by a name."""

    name: str
    rules: dict[str, Any]
    """As `set_rules` takes them as a change; `for` is a length from when it is used."""
    line: str
    """The same in a line for people."""
    shipped: bool
    """Whether it is as it came with the program."""
    reason: str = ""
    """Why it cannot be used; empty: it can."""
