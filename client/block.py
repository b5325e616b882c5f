"""The block: when this device's network is closed to everything but the tunnel.

Theory of operation. The block belongs to the user's wish to be connected, not
to a run of the client. It is promised by the first lease that a gateway
grants, or by asking for a gateway that is known already, and from then on it
stands until the user takes the wish back. A link that breaks, a refusal, an
error, the end of the process: none of these opens the network.

This module is the whole of the decision, as two tables: `TRANSITIONS` says how
the phase moves, `IN_FORCE` what the host has to have in force in each. Drivers
(`client/outlet/nic/outlet.py`, `client/system/`) only carry it out. `docs/architecture.md`
shows both tables, and a test compares.

Who asks for `open_on_failure` gets a weaker promise: the second column of
`IN_FORCE`. Then traffic is kept in the tunnel while there is a link, and for
the pause after one broke; what lasts longer opens the network.
"""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """How far the wish has come."""

    OPEN = "open"
    """There is no wish."""
    ASKING = "asking"
    """A first contact: nothing has been promised, and a refusal changes nothing."""
    CLOSED = "closed"
    """Promised, and there is no lease in force: remembered, being dialled, being set up."""
    CARRYING = "carrying"
    """A lease is in force, and a link carries packets."""
    PAUSED = "paused"
    """The link has just broken: packets wait in the NIC."""
    HOLDING = "holding"
    """The link has been broken for long: applications are told at once."""
    REFUSED = "refused"
    """Ended by something final; only the user opens the network now."""


class Event(StrEnum):
    """What moves the phase."""

    ASK = "ask"
    """The user asked for a gateway that has never granted anything."""
    PURSUE = "pursue"
    """The user asked for a known gateway, or a wish of an earlier run is taken up."""
    GRANTED = "granted"
    """A gateway granted a lease; the host is not set up for it yet."""
    APPLIED = "applied"
    """The host is set up for the lease."""
    BROKEN = "broken"
    """The attempt or the link ended by something that will pass."""
    LONG = "long"
    """... and has been for long."""
    REFUSED = "refused"
    """... ended by something final, or by an error."""
    DISCONNECT = "disconnect"
    """The user took the wish back, or stopped the service."""


class Force(StrEnum):
    """What the host has to have in force."""

    NOTHING = "nothing"
    """The host's own routes, rules and resolver."""
    BLOCK = "block"
    """Nothing leaves but to networks on the link, and the link's own packets."""
    TUNNEL = "tunnel"
    """The block, and everything else goes into the NIC."""


_P, _E = Phase, Event
TRANSITIONS: dict[Phase, dict[Event, Phase]] = {
    _P.OPEN: {
        _E.ASK: _P.ASKING,
        _E.PURSUE: _P.CLOSED,
        _E.DISCONNECT: _P.OPEN,
    },
    _P.ASKING: {
        _E.ASK: _P.ASKING,
        _E.PURSUE: _P.CLOSED,
        _E.GRANTED: _P.CLOSED,
        _E.BROKEN: _P.ASKING,
        _E.REFUSED: _P.OPEN,
        _E.DISCONNECT: _P.OPEN,
    },
    _P.CLOSED: {
        _E.ASK: _P.CLOSED,
        _E.PURSUE: _P.CLOSED,
        _E.GRANTED: _P.CLOSED,
        _E.APPLIED: _P.CARRYING,
        _E.BROKEN: _P.CLOSED,
        _E.LONG: _P.CLOSED,
        _E.REFUSED: _P.REFUSED,
        _E.DISCONNECT: _P.OPEN,
    },
    _P.CARRYING: {
        _E.ASK: _P.CLOSED,
        _E.PURSUE: _P.CLOSED,
        _E.GRANTED: _P.CARRYING,
        _E.APPLIED: _P.CARRYING,
        _E.BROKEN: _P.PAUSED,
        _E.LONG: _P.CARRYING,
        _E.REFUSED: _P.REFUSED,
        _E.DISCONNECT: _P.OPEN,
    },
    _P.PAUSED: {
        _E.ASK: _P.CLOSED,
        _E.PURSUE: _P.CLOSED,
        _E.GRANTED: _P.PAUSED,
        _E.APPLIED: _P.CARRYING,
        _E.BROKEN: _P.PAUSED,
        _E.LONG: _P.HOLDING,
        _E.REFUSED: _P.REFUSED,
        _E.DISCONNECT: _P.OPEN,
    },
    _P.HOLDING: {
        _E.ASK: _P.CLOSED,
        _E.PURSUE: _P.CLOSED,
        _E.GRANTED: _P.HOLDING,
        _E.APPLIED: _P.CARRYING,
        _E.BROKEN: _P.HOLDING,
        _E.LONG: _P.HOLDING,
        _E.REFUSED: _P.REFUSED,
        _E.DISCONNECT: _P.OPEN,
    },
    _P.REFUSED: {
        _E.ASK: _P.CLOSED,
        _E.PURSUE: _P.CLOSED,
        _E.REFUSED: _P.REFUSED,
        _E.DISCONNECT: _P.OPEN,
    },
}

IN_FORCE: dict[Phase, tuple[Force, Force]] = {
    _P.OPEN: (Force.NOTHING, Force.NOTHING),
    _P.ASKING: (Force.NOTHING, Force.NOTHING),
    _P.CLOSED: (Force.BLOCK, Force.NOTHING),
    _P.CARRYING: (Force.TUNNEL, Force.TUNNEL),
    _P.PAUSED: (Force.TUNNEL, Force.TUNNEL),
    _P.HOLDING: (Force.BLOCK, Force.NOTHING),
    _P.REFUSED: (Force.BLOCK, Force.NOTHING),
}
"""What each phase needs: by default, and with `open_on_failure`."""


class IllegalEvent(Exception):
    """An event that the phase does not know: a mistake of ours; nothing has changed."""


class Block:
    """The phase of the one wish that a device has."""

    __slots__ = ("open_on_failure", "phase")

    def __init__(self) -> None:
        self.phase = Phase.OPEN
        self.open_on_failure = False
        """The weaker promise; the user's, with each wish."""

    def step(self, event: Event) -> None:
        """Move on. Raises IllegalEvent."""
        try:
            self.phase = TRANSITIONS[self.phase][event]
        except KeyError:
            raise IllegalEvent(f"{event} while {self.phase}") from None

    @property
    def force(self) -> Force:
        """What the host has to have in force now."""
        return IN_FORCE[self.phase][self.open_on_failure]

    @property
    def promised(self) -> bool:
        """Whether there is a wish that outlives this process."""
        return self.phase not in (Phase.OPEN, Phase.ASKING)
