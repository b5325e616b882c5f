"""What waits for sockets that take nothing."""

from __future__ import annotations

from splice.peer import LinkPeer


def backlog(peer: LinkPeer) -> int:
    """Bytes from the tunnel that no socket of the peer's has taken yet."""
    return sum(len(flow.backlog) for flow in [*peer.tcp.values(), *peer.draining])
