"""What can go wrong in a session, told apart by whose fault it is.

`LocalMisuse` is a mistake of the code that drives the session: nothing has
changed, nothing is closed. `PeerViolation` and `AuthFailed` are the other
side's: the session is closed when they are raised, and whatever had to be said
about it is already queued in the writer. `Refused` is the gateway turning a
stranger away before any key is agreed on. Every error carries a stable
`reason`, the name that statistics, logs and tests use.
"""

from __future__ import annotations


class VshpError(Exception):
    """Base of all errors of this room."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        """Stable snake_case name, for example `frame_truncated`."""
        self.detail = detail
        """For people; never made of a stranger's bytes."""


class LocalMisuse(VshpError):
    """The caller did what the session's state does not allow; nothing has changed."""


class PeerViolation(VshpError):
    """The peer broke the protocol; the session is closed."""


class AuthFailed(VshpError):
    """Something did not authenticate: a forged or damaged message; the session is closed."""


class Refused(VshpError):
    """The gateway turned a handshake away; its reason is a `CloseReason` value."""


class FrameUnknown(PeerViolation):
    """A frame type that this version does not know and that is not marked optional."""


class FrameMisplaced(PeerViolation):
    """A known frame where the state does not allow it."""


class FrameTruncated(PeerViolation):
    """A frame or field that ends before its own length says, or goes on after it."""


class FrameInvalid(PeerViolation):
    """A frame of the right shape that holds a value outside its bounds."""
