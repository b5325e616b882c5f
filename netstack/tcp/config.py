"""What a connection is told when it is made, and what it tells its user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Literal, Protocol

from netstack.ip import IPV4_HEADER, IPV6_HEADER

TCP_HEADER = 20


class CloseReason(Enum):
    """Why a connection ended; the value is its name in counters and at the console."""

    FINISHED = "finished"
    """Both sides closed in good order and TIME-WAIT, where due, is over."""
    RESET = "reset"
    """The peer sent RST."""
    ABORTED = "aborted"
    """The user called abort()."""
    REFUSED = "refused"
    """The user called refuse()."""
    TIMED_OUT = "timed_out"
    """The peer did not answer within the state's time-out."""


class TcpUser(Protocol):
    """Who uses a connection. Called from within the connection's methods; may call them in turn.

    Inside `deliver` and `deliver_urgent` the user may call `consumed`, `abort` and `send`, not
    `segment_arrived`.
    """

    def deliver(self, data: memoryview) -> None:
        """In-order bytes from the peer.

        `data` is valid during the call only. All of it must be taken: it fits the window that
        was advertised. `consumed` reopens the window when the bytes have been passed on.
        """

    def deliver_urgent(self, data: memoryview, end: int) -> None:
        """As `deliver`, where `data[end - 1]` is the peer's urgent byte (RFC 9293, 3.8.5)."""

    def deliver_fin(self) -> None:
        """The peer sends no more (its FIN, after all data were delivered). Called once."""

    def kept_alive(self, silence: float) -> None:
        """The peer has probed us after so many seconds of silence (RFC 9293, 3.8.4)."""

    def window_opened(self) -> None:
        """`sendable` is positive again after it had returned 0."""

    def closed(self, reason: CloseReason) -> None:
        """The connection has ended and holds nothing any more. Called once, always the last call.

        It is called from within `abort` and `refuse`, too.
        """


def mss_for(mtu: int, version: int) -> int:
    """The MSS to advertise on a link of this MTU (RFC 9293 3.7.1, RFC 6691)."""
    return mtu - TCP_HEADER - (IPV4_HEADER if version == 4 else IPV6_HEADER)


def _ignore(_name: str) -> None:
    """The counter of those who do not count."""


@dataclass(frozen=True, slots=True)
class TcpConfig:
    """How connections behave. One object is shared by all connections of a client; times in s."""

    mss: int = 1460
    """Largest payload that the peer may send us in one segment (RFC 9293, 3.7.1), from the MTU."""
    receive_window: int = 256 * 1024
    """Bound of the advertised window at the start; `set_receive_limit` moves it."""
    max_receive_window: int = 4 * 1024 * 1024
    """Highest bound that `set_receive_limit` will be given; fixes the window scale."""
    max_in_flight: int = 1024 * 1024
    """Most unacknowledged bytes kept, whatever the peer's window is."""
    reliable: bool = True
    """The link neither loses nor reorders: no congestion control, and nothing is sent again
    until `link_resumed`, except what the peer itself is seen to have dropped."""
    stall_timeout: float = 10.0
    """On a reliable link: silence in answer to sent data after which the peer itself is taken
    to have dropped them (a kernel short of memory does)."""
    congestion: Literal["bbr", "cubic"] = "bbr"
    """Congestion control on a lossy link: `cubic` (RFC 9438) slows down at every loss, `bbr` by
    what the path is measured to deliver, which suits radio."""
    timestamps: bool = True
    """Offer or accept RFC 7323 timestamps."""
    sack: bool = True
    """Offer or accept RFC 2018 selective acknowledgements."""
    window_scaling: bool = True
    """Offer or accept RFC 7323 window scaling."""
    min_rto: float = 0.2
    """Floor of the retransmission time-out: RFC 6298 says 1 s; 0.2 s is what kernels use."""
    max_rto: float = 60.0
    """Ceiling of the retransmission and persist time-outs (RFC 6298, 2.5)."""
    handshake_timeout: float = 30.0
    """From our SYN or SYN-ACK until the handshake is complete."""
    open_lazily: bool = False
    """The ACK of a SYN-ACK is pending as any other, so that the first data may take it along
    (RFC 9293, 3.8.6.3); else it goes out at once."""
    hold_timeout: float = 150.0
    """Longest time a SYN is held unanswered; beyond every system's connect time-out."""
    user_timeout: float = 300.0
    """Silence of a peer that owes us an acknowledgement (RFC 9293, 3.8.3, R2)."""
    fin_wait_2_timeout: float = 600.0
    """Silence of a peer that we have closed towards and that has not closed towards us."""
    time_wait: float = 2.0
    """2 MSL. Short, as the one link between the two ends keeps no old segments."""
    keepalive_idle: float = 7200.0
    """Silence after which an open connection is probed (RFC 9293, 3.8.4); 0 is never."""
    half_closed_idle: float = 240.0
    """The same where the peer has closed its direction and the user has not: a peer that is not
    there any more leaves us in that state (RFC 5382 REQ-5 allows a NAT to forget it then)."""
    keepalive_interval: float = 75.0
    """Between keep-alive probes."""
    keepalive_probes: int = 9
    """Unanswered keep-alive probes after which the peer is taken for dead."""
    ttl: int = 64
    """TTL or hop limit of what is emitted."""
    count: Callable[[str], None] = _ignore
    """Called with a counter's name for everything dropped or out of the ordinary."""
