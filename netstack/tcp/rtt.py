"""The retransmission time-out from measured round trips (RFC 6298)."""

from __future__ import annotations

from netstack.tcp.constants import INITIAL_RTO

_GRANULARITY = 0.001
"""Seconds: the timestamp clock's tick (G in RFC 6298)."""

_SHORTEST = 0.0001
"""Seconds: a sample is never taken for less, so that no window is computed from nothing."""


class RttEstimator:
    """Smoothed round-trip time, its variation, and the time-out that follows from them; in s."""

    __slots__ = ("_max", "_min", "latest", "rto", "srtt", "variation")

    def __init__(self, min_rto: float, max_rto: float) -> None:
        self._min = min_rto
        self._max = max_rto
        self.latest = 0.0
        """The newest sample."""
        self.srtt = 0.0
        """0 until the first sample."""
        self.variation = 0.0
        self.rto = INITIAL_RTO
        """Without back-off."""

    def sample(self, rtt: float) -> None:
        """Take one round trip of a segment that was sent once (Karn), or timed by its timestamp."""
        self.latest = rtt = max(rtt, _SHORTEST)
        if self.srtt == 0.0:
            self.srtt = rtt
            self.variation = rtt / 2
        else:
            self.variation += (abs(self.srtt - rtt) - self.variation) / 4
            self.srtt += (rtt - self.srtt) / 8
        rto = self.srtt + max(_GRANULARITY, 4 * self.variation)
        self.rto = min(max(rto, self._min), self._max)

    def backed_off(self, times: int) -> float:
        """The time-out after `times` expiries in a row (RFC 6298, 5.5)."""
        return min(self.rto * (1 << min(times, 16)), self._max)
