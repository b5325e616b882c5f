"""What every kind of flow is to its link: an owner of one socket, with a timer and a turn.

Life of a flow, whatever its kind:

    created     for a packet from the tunnel, or for who asks to reach a host
                through it; it may fail to open and is then never in a table
    open        in its peer's table, with a socket unless
                it still waits for one or needs none any more; may be in the
                peer's fair queue (`Member`) and in the timer heap (`timer`)
    closed      no socket, in no table, in no queue; a stale
                entry in the timer heap is skipped when its time comes

Only the flow's own class moves it; others call `ready`,
`pull_some`, `handle_timer`, `settle`, `shut`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from splice.scheduler import Member
from splice.timers import NEVER

if TYPE_CHECKING:
    from netstack.out import PacketOut
    from splice.peer import LinkPeer


@dataclass(frozen=True, slots=True)
class FlowInfo:
    """A snapshot of a flow. Addresses are 4 or 16 bytes; times are of the flows' clock."""

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


class Flow(Member):
    """Common fields of flows."""

    __slots__ = (
        "created",
        "from_tunnel_bytes",
        "id",
        "last_used",
        "peer",
        "timer",
        "to_tunnel_bytes",
        "version",
    )

    peer: LinkPeer
    """Whom it shares the link with the flows of."""

    def __init__(self, peer: LinkPeer, version: int, now: float) -> None:
        Member.__init__(self)
        self.peer = peer
        self.version = version
        self.id = peer.next_flow_id()
        self.created = now
        self.last_used = now
        self.timer = NEVER
        """The earliest entry in the timer heap; NEVER when there is none."""
        self.from_tunnel_bytes = 0
        self.to_tunnel_bytes = 0

    sock: object | None
    """The one socket; None before and after."""

    @property
    def answered(self) -> bool:
        """Whether the far side has ever been heard."""
        raise NotImplementedError

    def ready(self, mask: int, now: float) -> None:
        """The socket has news; see ports.py."""
        raise NotImplementedError

    def pull_some(self, out: PacketOut, now: float) -> int:
        """Read the socket once and emit what came; returns the bytes.

        When nothing more can be read or emitted for now, it takes itself out
        of the queue (`FairQueue.idle`).
        """
        raise NotImplementedError

    def end_batch(self, now: float) -> None:
        """A batch of packets from the tunnel, some of them this flow's, has been taken in."""
        raise NotImplementedError

    def due(self) -> float:
        """When `handle_timer` is to be called, or NEVER."""
        raise NotImplementedError

    def handle_timer(self, now: float) -> None:
        raise NotImplementedError

    def shut(self, now: float) -> None:
        """Close it by our own decision, truthfully toward both sides as far as they are there."""
        raise NotImplementedError

    def give_way(self, now: float) -> None:
        """Close it because its socket is wanted for another flow."""
        self.shut(now)

    def info(self) -> FlowInfo:
        raise NotImplementedError
