"""What a sender asks of a congestion control, and which there are."""

from __future__ import annotations

from typing import Protocol

from netstack.tcp.bbr import Bbr
from netstack.tcp.cubic import Cubic


class CongestionControl(Protocol):
    """How many bytes may be in the network. One object per connection, on lossy links only."""

    mss: int
    cwnd: float
    """Bytes that may be in the network."""

    def on_ack(
        self, acked: int, una: int, nxt: int, sacked: int, flight: int, now: float, rtt: float
    ) -> None:
        """`una` advanced by `acked`, `sacked` bytes are known to have arrived beyond it.

        `flight` is what was unacknowledged before, `rtt` the newest round trip in s (0: none).
        """

    def on_sent(self, end: int, delivered: int, now: float) -> None:
        """New data up to `end` leave, while `delivered` has arrived (a sequence number)."""

    def on_loss(self, flight: int, nxt: int) -> None:
        """A loss was found; recovery lasts until `nxt` is acknowledged."""

    def on_timeout(self, flight: int, nxt: int, repeated: bool) -> None:
        """The retransmission timer expired; `repeated`: again, without progress."""

    def on_resent(self, size: int) -> None:
        """`size` bytes were found lost and are sent again."""

    def on_idle(self) -> None:
        """Nothing was sent for longer than a time-out."""


def congestion_control(name: str, mss: int) -> CongestionControl:
    """The one that TcpConfig.congestion names."""
    return Bbr(mss) if name == "bbr" else Cubic(mss)
