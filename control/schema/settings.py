"""Settings: what they are, what they may be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from control.schema.findings import Unwritten


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Something that a setting may be, where it may be other things, too."""

    value: str
    """As `set` takes it; empty for the default."""
    note: str = ""
    """A word about it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting: what it is now, what it may be."""

    key: str
    """`section.key`, as in the file."""
    value: Any
    """Of a secret always the default: what it is, is told to nobody."""
    default: Any
    kind: str
    """`text`, `bool`, `int`, `float`, `list` or `table`."""
    help: str
    source: str
    """Where the value is from: `file`, `default` or `option` (of the command line)."""
    live: bool
    """Whether the service takes a change while it runs."""
    pending: bool = False
    """Changed, but in force only after a restart."""
    danger: bool = False
    """Weakens a promise: ask twice."""
    secret: bool = False
    """A password or the like: it can be set, and its value is not shown."""
    kept: bool = False
    """Of a secret: there is one."""
    choices: list[str] = field(default_factory=list)
    """What a `text` may be; empty: anything."""
    suggestions: list[Suggestion] = field(default_factory=list)
    """What is there to be named now (interfaces); any other value may be given as well."""
    note: str = ""
    """What has to be known of the present value, such as that no interface has this name now."""
    low: float | None = None
    """Bounds of a number, both allowed."""
    high: float | None = None
    unwritten: list[Unwritten] = field(default_factory=list)
    """After a change: what of it could not be stored."""
