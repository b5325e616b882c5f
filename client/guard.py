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
    beside: tuple[str, ...] = ()
    """What goes beside the tunnel all the same: networks on the link, each with its interface."""


@dataclass(frozen=True, slots=True)
class GuardSnapshot:
    """The kill switch at one moment."""

    state: GuardState = GuardState.OFF
    since: float | None = None
    """Unix time when this state began; None before the first change."""
    guards: Guards = Guards()
    open_on_failure: bool = False
    """Whether the user asked for the weaker promise: a lasting failure opens the network."""


class GuardWatch:
    """Remembers since when the state is what it is."""

    def __init__(self) -> None:
        self._snapshot = GuardSnapshot()

    def look(
        self, guards: Guards, linked: bool, wall: float, open_on_failure: bool = False
    ) -> GuardSnapshot:
        """The state at Unix time `wall`; `linked` when a link carries packets."""
        if not guards.rules:
            state = GuardState.OFF
        else:
            state = GuardState.ARMED if linked else GuardState.HOLDING
        before = self._snapshot
        since = before.since if state is before.state else wall
        now = GuardSnapshot(state, since, guards, open_on_failure)
        if now != before:
            self._snapshot = now
        return self._snapshot
