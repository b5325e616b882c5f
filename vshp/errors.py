"""What can go wrong in a session, beside the faults that all protocols share (`sealing.errors`).

When a PeerViolation or AuthFailed is raised the session is closed, and whatever
had to be said about it is already queued in the writer. `Refused` is the gateway
turning a stranger away before any key is agreed on.
"""

from __future__ import annotations

from sealing.errors import PeerViolation, ProtocolError


class Refused(ProtocolError):
    """The gateway turned a handshake away; its reason is a `CloseReason` value."""


class FrameUnknown(PeerViolation):
    """A frame type that this version does not know and that is not marked optional."""


class FrameMisplaced(PeerViolation):
    """A known frame where the state does not allow it."""


class FrameTruncated(PeerViolation):
    """A frame or field that ends before its own length says, or goes on after it."""


class FrameInvalid(PeerViolation):
    """A frame of the right shape that holds a value outside its bounds."""
