"""Bounds on what the flows of one link may hold in memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """Bytes, each for all flows of a link together but for the windows' own two bounds."""

    receive_window_per_peer: int = 2 * 1024 * 1024
    """Sum of the receive windows of a peer's uploading flows: the queue of an upload."""
    receive_window_min: int = 64 * 1024
    receive_window_max: int = 1024 * 1024
    backlog_per_peer: int = 8 * 1024 * 1024
    """Bytes from the tunnel that sockets have not taken, beyond which windows shrink."""
    unacknowledged_per_peer: int = 32 * 1024 * 1024
    """Bytes sent into the tunnel and not acknowledged, beyond which no socket is read."""
