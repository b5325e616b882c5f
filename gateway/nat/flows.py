"""Flow records as the control API sees them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FlowInfo:
    """A snapshot of a flow. Addresses are 4 or 16 bytes; times are of the NAT's clock."""

    id: int
    peer_id: str
    protocol: str
    """`tcp`, `udp`, `icmp`."""
    state: str
    source: tuple[bytes, int]
    destination: tuple[bytes, int] | None
    """None for a UDP mapping with several remotes."""
    created: float
    last_used: float
    from_tunnel_bytes: int
    """Payload; likewise the other way."""
    to_tunnel_bytes: int
    device: str | None
    local: tuple[bytes, int] | None
