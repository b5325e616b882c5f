"""What can go wrong between two ends, told apart by whose fault it is.

`LocalMisuse` is a mistake of the code that drives a protocol: nothing has
changed. `PeerViolation` and `AuthFailed` are the other side's. Every error
carries a stable `reason`, the name that statistics, logs and tests use.
"""

from __future__ import annotations


class ProtocolError(Exception):
    """Base of all errors of the protocol rooms."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        """Stable snake_case name, for example `frame_truncated`."""
        self.detail = detail
        """For people; never made of a stranger's bytes."""


class LocalMisuse(ProtocolError):
    """The caller did what the present state does not allow; nothing has changed."""


class PeerViolation(ProtocolError):
    """The peer broke the protocol."""


class AuthFailed(ProtocolError):
    """Something did not authenticate: a forged or damaged message."""
