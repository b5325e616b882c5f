"""CUBIC congestion control (RFC 9438), on windows in bytes.

Slow start doubles the window each round trip until `ssthresh`. A loss
multiplies it by 0.7; then it follows a cubic curve, flat around the size at
which the loss happened, or the line that Reno would follow where that is
faster, which on short paths it is. The window grows only while it is what
limits the sender.
"""

from __future__ import annotations

from netstack.tcp.constants import INITIAL_WINDOW_SEGMENTS

_C = 0.4
"""Segments per second cubed (RFC 9438, 5.1)."""
_BETA = 0.7
"""What a loss leaves of the window (4.6)."""
_ALPHA = 3 * (1 - _BETA) / (1 + _BETA)
"""Reno's increase per round trip that matches beta (4.3)."""
_UNLIMITED = float(1 << 62)


class Cubic:
    """The congestion window of one connection."""

    __slots__ = (
        "_epoch",
        "_k",
        "_prior",
        "_recover",
        "_reno",
        "_slow",
        "_w_max",
        "cwnd",
        "mss",
        "ssthresh",
    )

    def __init__(self, mss: int) -> None:
        self.mss = mss
        self.cwnd = float(INITIAL_WINDOW_SEGMENTS * mss)
        """Bytes that may be in the network."""
        self.ssthresh = _UNLIMITED
        """Bytes below which the window grows by slow start."""
        self._w_max = 0.0
        self._prior = 0.0
        self._epoch = -1.0
        self._k = 0.0
        self._reno = 0.0
        self._recover = 0
        """Recovery lasts until this is acknowledged."""
        self._slow = False
        """It was begun by a time-out: the window grows during it."""

    def on_ack(
        self, acked: int, una: int, nxt: int, sacked: int, flight: int, now: float, rtt: float
    ) -> None:
        """Grow, outside of recovery and if the window was fully used."""
        if una < self._recover:
            if not self._slow:
                return
        elif flight + self.mss < self.cwnd:
            return
        if self.cwnd < self.ssthresh:
            self.cwnd = min(self.cwnd + acked, self.ssthresh)
            return
        if self._epoch < 0:
            self._begin_epoch(now)
        mss = self.mss
        elapsed = now - self._epoch
        alpha = 1.0 if self._reno >= self._prior else _ALPHA
        self._reno += alpha * acked * mss / self.cwnd
        here = _C * (elapsed - self._k) ** 3 * mss + self._w_max
        if here < self._reno:
            self.cwnd = max(self.cwnd, self._reno)
            return
        ahead = _C * (elapsed + rtt - self._k) ** 3 * mss + self._w_max
        target = min(max(ahead, self.cwnd), 1.5 * self.cwnd)
        self.cwnd += (target - self.cwnd) * acked / self.cwnd

    def on_sent(self, end: int, delivered: int, now: float) -> None:
        """Nothing is measured."""

    def on_loss(self, flight: int, nxt: int) -> None:
        """A loss was found by duplicate ACKs (4.6)."""
        self._remember()
        self._recover = nxt
        self._slow = False
        self.ssthresh = max(flight * _BETA, 2.0 * self.mss)
        self.cwnd = self.ssthresh

    def on_timeout(self, flight: int, nxt: int, repeated: bool) -> None:
        """The retransmission timer expired (4.8): one segment, and slow start from there."""
        if not repeated:
            self._remember()
            self.ssthresh = max(flight * _BETA, 2.0 * self.mss)
        self._recover = nxt
        self._slow = True
        self.cwnd = float(self.mss)

    def on_resent(self, size: int) -> None:
        """Of no concern: the loss itself was reported."""

    def on_idle(self) -> None:
        """Nothing was sent for longer than a time-out: start slowly again (RFC 5681, 4.1)."""
        self.cwnd = min(self.cwnd, float(INITIAL_WINDOW_SEGMENTS * self.mss))
        self._epoch = -1.0

    def _remember(self) -> None:
        """Note the window at which loss happened, lower if it is shrinking (4.7)."""
        self._prior = self.cwnd
        shrinking = self.cwnd < self._w_max
        self._w_max = self.cwnd * (1 + _BETA) / 2 if shrinking else self.cwnd
        self._epoch = -1.0

    def _begin_epoch(self, now: float) -> None:
        self._epoch = now
        self._reno = self.cwnd
        if self._w_max <= self.cwnd:
            self._w_max = self.cwnd
            self._k = 0.0
        else:
            self._k = ((self._w_max - self.cwnd) / (_C * self.mss)) ** (1 / 3)
