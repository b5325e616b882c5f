"""What became of a connection that was asked for through the tunnel."""

from __future__ import annotations

from enum import Enum


class Outcome(Enum):
    """As the far side, the gateway or this device said it."""

    OPENED = "opened"
    REFUSED = "refused"
    """The host answered with RST."""
    HOST_UNREACHABLE = "host_unreachable"
    NET_UNREACHABLE = "net_unreachable"
    """No way there, or the lease has no address of that family."""
    PROHIBITED = "prohibited"
    """The gateway does not let this device go there."""
    TIMED_OUT = "timed_out"
    NO_SUCH_NAME = "no_such_name"
    """The name does not exist, or has no addresses."""
    NAMES_FAILED = "names_failed"
    """The resolver failed, or did not answer."""
    AWAY = "away"
    """There is no tunnel, or the lease that it began with is gone."""
    BUSY = "busy"
    """A bound of ours is reached."""

    @property
    def label(self) -> str:
        """For counters and logs."""
        # `value` looks for it in the class each time.
        return self._value_
