"""What happened: events, and lines of the log."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a device, to sharing, or to the tunnel."""

    seq: int
    """Counts up, over restarts of the service: the order of events."""
    at: float
    """Unix time, for people."""
    monotonic: float
    """Seconds of a clock that is never set: the time between two events of one run."""
    kind: str
    """A stable name; see `control/events.py`."""
    level: str
    """`info`, `warning` or `error`."""
    text: str
    """A line for people, as it is in the log."""
    device: str = ""
    """The id of the device or of its request; empty: it is about none, or from a client."""
    label: str = ""
    """What the device is called; from a client: the gateway."""


@dataclass(frozen=True, slots=True)
class EventPage:
    """The newest events of those that are asked for."""

    events: list[Event]
    """Oldest first."""
    newest: int
    """`seq` of the newest event there is; 0: there is none."""
    began: int
    """`seq` of the newest event that is from before this run of the service."""


@dataclass(frozen=True, slots=True)
class LogLine:
    at: float
    level: str
    logger: str
    message: str
    seq: int = 0
    """Counts from 1 since the service began, whatever the level. Lines of events from before
    that are counted with it."""
    device: str = ""
    """The id of the device that the line is about; likewise its name."""
    label: str = ""


@dataclass(frozen=True, slots=True)
class LogPage:
    """The newest lines of a kind, and what is missing before them."""

    lines: list[LogLine]
    """Oldest first."""
    left_out: int
    """Lines of the kind that are kept but did not fit: `after` the first that was asked for."""
    oldest: int
    """`seq` of the oldest line that is kept, of any level; those before it are gone."""
    newest: int
    """`seq` of the newest line there is, of any level; 0: there is none."""
