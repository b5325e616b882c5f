"""The connections that use the tunnel, as any kind of outlet tells of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class TunnelFlow:
    """One connection that uses the tunnel. `from_tunnel` is what it received."""

    id: int
    protocol: str
    state: str
    """`connecting`, `established`, `closing`; with UDP `active`."""
    source: str
    destination: str
    """`host:port`, IPv6 in brackets; `*` for a UDP socket that sends to anybody."""
    program: str
    pid: int | None
    seen: float
    """Monotonic seconds of the first sample that had it."""
    idle: float
    from_tunnel_bytes: int = 0
    to_tunnel_bytes: int = 0
    from_tunnel_rate: float = 0.0
    to_tunnel_rate: float = 0.0
    rtt: float | None = None
    retransmits: int | None = None
    counted: bool = False
    """Whether its bytes are counted."""


@dataclass(frozen=True, slots=True)
class FlowSample:
    """The flows at one moment."""

    at: float = float("-inf")
    """Monotonic seconds."""
    flows: Sequence[TunnelFlow] = ()
    total: int = 0
    """How many there were; more than `flows` when those did not fit."""


class Flows(Protocol):
    """Looks when asked."""

    @property
    def problem(self) -> str | None:
        """Why the last sample could not be taken."""

    async def look(self) -> FlowSample:
        """A sample of this moment, or one that is hardly older."""

    async def count(self) -> int | None:
        """How many connections there are; None where nobody knows."""

    async def stop(self) -> None:
        """No more samples."""
