"""The kill switch as a person sees it: off, armed, or holding, and what it holds with.

The host says which of its routes and rules keep traffic from leaving outside
the tunnel (`Host.guards`); whether they are needed at this moment follows from
the state of the link. So rules that an undo could not remove are shown as
holding, which is what they do.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class GuardState(StrEnum):
    """What the kill switch does."""

    OFF = "off"
    """Nothing is in force: without a tunnel, traffic leaves as it always did."""
    ARMED = "armed"
    """In force beside a working link, which carries everything."""
    HOLDING = "holding"
    """In force without a link: what would leave outside is kept or refused."""


@dataclass(frozen=True, slots=True)
class Guards:
    """What the host has in force."""

    rules: tuple[str, ...] = ()
    """As the tools `ip` and `nft` name them."""
    strict: bool = False
    """Whether the firewall drops what the routes cannot hold (see `system/killswitch.py`)."""


@dataclass(frozen=True, slots=True)
class GuardSnapshot:
    """The kill switch at one moment."""

    state: GuardState = GuardState.OFF
    since: float | None = None
    """Unix time when this state began; None before the first change."""
    guards: Guards = Guards()


class GuardWatch:
    """Remembers since when the state is what it is."""

    def __init__(self) -> None:
        self._snapshot = GuardSnapshot()

    def look(self, guards: Guards, linked: bool, wall: float) -> GuardSnapshot:
        """The state at Unix time `wall`; `linked` when a link carries packets."""
        if not guards.rules:
            state = GuardState.OFF
        else:
            state = GuardState.ARMED if linked else GuardState.HOLDING
        before = self._snapshot
        since = before.since if state is before.state else wall
        if (state, guards) != (before.state, before.guards):
            self._snapshot = GuardSnapshot(state, since, guards)
        return self._snapshot
