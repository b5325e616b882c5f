"""Model-based congestion control after BBR (draft-ietf-ccwg-bbr), driven by ACKs alone.

Loss-based control takes every loss for congestion. On a radio link losses have
other causes, and at 1 % of them CUBIC cannot use more than a few segments per
round trip. BBR measures instead what the path delivers:

    cwnd = 2 x (second highest delivery rate of 10 round trips) x (lowest RTT of 10 s)

A sample of the rate lasts from the sending of data until they are acknowledged
(draft-cheng-iccrg-delivery-rate-estimation), so that ACKs which come bundled do not show a higher
rate than the path has.

On a short path it is not the RTT of an idle path that counts, but how long both ends take to come
round to it while they are busy. So the window is also at least

    (that rate) x (lowest RTT of a round trip that had about it, and STANDING)

and in each `_CYCLE` of round trips it is once below, where a queue would go away and the rate
stay, and once above, where the rate would grow if it can.

Phases: *startup* doubles the window each round trip until the rate has not
grown by a quarter for three, or much is lost; then the window follows the model, and every 10 s
it is halved below the product for a moment, so that the queue drains and the
true RTT shows (*probing*). Rounds in which the user, not the window, limited
the sender say nothing against a higher rate.

Two departures from the draft. There is no pacing: segments leave as ACKs come
in, and the queue that this may build is bounded by one product. And the
reaction to loss is the coarse one that this needs. When more than a tenth of
what is sent is lost, round after round, the path's buffer is shorter than that
queue, and a ceiling holds the window down until losses fade. When as much of one
window is lost, a buffer has overflown that is usually emptied in time (an app's
socket, while the app did not get to run): the ceiling then stays for `_HOLD`,
since the next time would be no different.
"""

from __future__ import annotations

import math
from collections import deque

from netstack.tcp.constants import INITIAL_WINDOW_SEGMENTS

_GAIN = 2.0
"""Window over the bandwidth-delay product: covers delayed and aggregated ACKs."""
_RATE_ROUNDS = 10
"""Round trips over which the highest rate counts."""
_GROWTH = 1.25
_PATIENCE = 3
"""Startup ends after this many rounds in which the rate grew less than _GROWTH times."""
_RTT_LIFETIME = 10.0
"""Seconds for which the lowest RTT counts."""
_PROBE_TIME = 0.2
"""Seconds for which the window is lowered to see the RTT again."""
_PROBE_GAIN = 0.25
"""Half a product, where the window is two."""
_STANDING = 0.001
"""Seconds of the path's rate that may be in flight beyond what is needed: what another flow's
packet may find waiting before it."""
_CYCLE = 8
"""Round trips from one look for a lower RTT to the next."""
_DRAIN = 0.75
_ABOUT = 0.75
"""Share of the highest rate from which on a round trip shows what RTT that rate needs."""
_MIN_SEGMENTS = 4
_SHORTEST_ROUND = 0.0001
"""Seconds; a rate is never computed from less."""
_LOSS_LIMIT = 0.1
"""Share of lost bytes, smoothed over rounds, above which the window gets a ceiling."""
_BETA = 0.7
_BURST_SEGMENTS = 8
"""So many lost of one window, and more than _LOSS_LIMIT of it, are no coincidence."""
_HOLD = 1.0
"""Seconds after a burst of losses before the window tries to grow beyond its ceiling."""


class Bbr:
    """The congestion window of one connection."""

    __slots__ = (
        "_burst",
        "_burst_end",
        "_burst_limit",
        "_ceiling",
        "_ceiling_until",
        "_cycle",
        "_full_rate",
        "_full_rounds",
        "_last_peak",
        "_limited",
        "_loss_share",
        "_lost",
        "_min_rtt",
        "_min_rtt_at",
        "_now",
        "_nxt",
        "_peak",
        "_probe_until",
        "_probed_rtt",
        "_rate",
        "_rate_round",
        "_rates",
        "_round_end",
        "_round_start",
        "_round_trip",
        "_round_trips",
        "_sent",
        "_una",
        "cwnd",
        "mss",
    )

    def __init__(self, mss: int) -> None:
        self.mss = mss
        self.cwnd = float(INITIAL_WINDOW_SEGMENTS * mss)
        self._rates: list[float] = []
        """Bytes per second of the last rounds."""
        self._round_trips: list[float] = []
        """Seconds that each took."""
        self._round_trip = 0.0
        """Seconds that the sample of the highest rate took."""
        self._cycle = 2
        """Place in the cycle: 0 drains, 1 probes."""
        self._full_rate = 0.0
        self._full_rounds = 0
        self._min_rtt = 0.0
        """0 until the first sample."""
        self._min_rtt_at = 0.0
        self._probe_until = 0.0
        """While probing: when it ends; else 0."""
        self._probed_rtt = 0.0
        self._round_end: int | None = None
        """The round lasts until this is acknowledged."""
        self._round_start = 0
        """Bytes delivered when it began, as a sequence number."""
        self._limited = False
        """In this round the window was what limited the sender."""
        self._sent: deque[tuple[int, int, float]] = deque()
        """What is in flight, as it was sent: its end, bytes delivered then (as a sequence number),
        when. As many at most as segments are in flight."""
        self._rate = 0.0
        """Highest of this round trip."""
        self._rate_round = 0
        """The round trip is over when data that were sent later than this was delivered arrive."""
        self._peak = self._last_peak = 0
        """Most bytes in flight in this round trip, and in the one before."""
        self._lost = 0
        """Bytes found lost in this round."""
        self._loss_share = 0.0
        self._ceiling = 0.0
        """Bytes; 0: none."""
        self._ceiling_until = 0.0
        """When the window may try to grow beyond it."""
        self._una = self._nxt = 0
        self._now = 0.0
        """Of the last ACK."""
        self._burst = 0
        """Bytes found lost of one window."""
        self._burst_end = 0
        """The window's end: what is sent again before this is acknowledged is of the same burst."""
        self._burst_limit = math.inf
        """More than so many set a ceiling, once."""

    @property
    def _filled(self) -> bool:
        """Startup is over: the path gives no more."""
        return self._full_rounds >= _PATIENCE

    @property
    def _window(self) -> float:
        """What the model lets be in flight."""
        # A single lucky round does not count.
        rate = sorted(self._rates)[-2 if len(self._rates) > 2 else -1] if self._rates else 0.0
        busy = min(
            (t for r, t in zip(self._rates, self._round_trips, strict=True) if r >= _ABOUT * rate),
            default=0.0,
        )
        if self._cycle == 0:
            busy *= _DRAIN
        else:
            busy += 2 * _STANDING if self._cycle == 1 else _STANDING
        return rate * max(_GAIN * self._min_rtt, busy)

    def on_sent(self, end: int, delivered: int, now: float) -> None:
        """When these data are acknowledged, they give a sample of the rate."""
        self._sent.append((end, delivered, now))

    def on_ack(
        self, acked: int, una: int, nxt: int, sacked: int, flight: int, now: float, rtt: float
    ) -> None:
        """Feed the model, then let the window follow it."""
        if not self._nxt:
            # What is sent again before the first ACK or with it (a link that is back) need not
            # have been lost, nor what is in flight beside it.
            self._burst_end = nxt
        self._una, self._nxt, self._now = una, nxt, now
        if flight + self.mss >= self.cwnd:
            self._limited = True
        if flight > self._peak:
            self._peak = flight
        if rtt:
            self._take_rtt(rtt, now)
        sent = self._sent
        if sent and una >= sent[0][0]:
            self._take_rate(una, una + sacked, now)
        if self._round_end is None or una >= self._round_end:
            self._end_round(una, una + sacked, nxt)
        if self._probe_until:
            self.cwnd = max(_PROBE_GAIN * self._window, float(_MIN_SEGMENTS * self.mss))
        elif not self._filled or not self._rates:
            # A window that something else keeps from being used would grow for ever.
            if 2 * max(self._peak, self._last_peak) >= self.cwnd:
                self.cwnd += acked
        else:
            target = max(self._window, float(INITIAL_WINDOW_SEGMENTS * self.mss))
            if self._ceiling:
                target = min(target, self._ceiling)
            self.cwnd = min(self.cwnd + acked, target)

    def _take_rtt(self, rtt: float, now: float) -> None:
        if self._probe_until:
            self._probed_rtt = min(self._probed_rtt or rtt, rtt)
            if now >= self._probe_until:
                self._min_rtt, self._min_rtt_at = self._probed_rtt, now
                self._probe_until = 0.0
        elif not self._min_rtt or rtt <= self._min_rtt:
            self._min_rtt, self._min_rtt_at = rtt, now
        elif now - self._min_rtt_at > _RTT_LIFETIME:
            self._probe_until = now + max(_PROBE_TIME, rtt)
            self._probed_rtt = 0.0

    def _take_rate(self, una: int, delivered: int, now: float) -> None:
        """A sample by the newest data that have arrived; the highest of a round trip counts."""
        sent = self._sent
        while sent and sent[0][0] <= una:
            _, start, at = sent.popleft()
        elapsed = max(now - at, self._min_rtt, _SHORTEST_ROUND)
        rate = (delivered - start) / elapsed
        if rate > self._rate:
            self._rate, self._round_trip = rate, elapsed
        if start < self._rate_round:
            return
        rate, self._rate = self._rate, 0.0
        self._rate_round = delivered
        # Unless a good part of the window was used, a rate that did not grow says nothing.
        used = 4 * max(self._peak, self._last_peak) >= self.cwnd
        self._last_peak, self._peak = self._peak, 0
        if (used and not self._probe_until) or rate > max(self._rates, default=0.0):
            self._rates.append(rate)
            self._round_trips.append(self._round_trip)
            del self._rates[:-_RATE_ROUNDS], self._round_trips[:-_RATE_ROUNDS]
            self._cycle = (self._cycle + 1) % _CYCLE
        if used:
            self._judge_growth(rate)

    def _end_round(self, una: int, delivered: int, nxt: int) -> None:
        """What was in flight when the round began has arrived: how much of it was lost?

        If nothing is in flight any more, the next round begins with the next ACK.
        """
        size = delivered - self._round_start
        if self._round_end is not None and size > 0:
            self._judge_losses(size)
            self._lost = 0
            self._limited = False
        self._round_end = nxt if una < nxt else None
        self._round_start = delivered

    def _judge_growth(self, rate: float) -> None:
        if self._filled:
            return
        if rate >= _GROWTH * self._full_rate:
            self._full_rate = rate
            self._full_rounds = 0
        else:
            self._full_rounds += 1

    def _judge_losses(self, size: int) -> None:
        share = min(1.0, self._lost / (size + self._lost))
        self._loss_share += (share - self._loss_share) / 4
        if share > _LOSS_LIMIT:
            self._full_rounds = _PATIENCE
        if self._loss_share > _LOSS_LIMIT:
            # No single burst: the window grows again as soon as losses fade.
            self._ceiling_until = 0.0
            self._ceiling = max(_BETA * self.cwnd, float(_MIN_SEGMENTS * self.mss))
        elif self._ceiling and self._limited and self._now >= self._ceiling_until:
            self._ceiling += max(float(self.mss), self._ceiling / 16)

    def on_loss(self, flight: int, nxt: int) -> None:
        """A single loss is no reason to slow down."""

    def on_timeout(self, flight: int, nxt: int, repeated: bool) -> None:
        """All is in doubt: begin with one segment, and grow back to the model by ACKs."""
        self.cwnd = float(self.mss)
        # What is sent again now is not known to be lost.
        self._burst_end, self._burst_limit = nxt, math.inf
        self._round_end = None
        self._sent.clear()

    def on_resent(self, size: int) -> None:
        """Count towards the share of losses."""
        self._lost += size
        if self._una >= self._burst_end and self._nxt:
            self._burst, self._burst_end = 0, self._nxt
            window = max(self._peak, self._last_peak)
            self._burst_limit = max(_LOSS_LIMIT * window, _BURST_SEGMENTS * self.mss)
        self._burst += size
        if self._burst > self._burst_limit:
            self._burst_limit = math.inf
            least = float(INITIAL_WINDOW_SEGMENTS * self.mss)
            used = min(self.cwnd, max(self._peak, self._last_peak))
            self._ceiling = max(_BETA * used, least)
            self._ceiling_until = self._now + _HOLD

    def on_idle(self) -> None:
        """The model holds; the round in which nothing was sent says nothing."""
        self._round_end = None
