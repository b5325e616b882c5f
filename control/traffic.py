"""The traffic of the last minutes, in memory: in all, and of each device.

Theory of operation. Time is cut into intervals of INTERVAL seconds of a monotonic clock,
the same for every ring: interval k is from k * INTERVAL to (k + 1) * INTERVAL. A ring takes
readings of a pair of growing counters, at whatever moments they are made, and keeps the
bytes of the last SAMPLES whole intervals; the one under way is filled and not shown. What
came between two readings that are further apart is spread evenly over the time between
them, so nothing is lost and nothing is counted twice. An interval in which nothing came is
a zero, whether somebody looked or not.

Pure: who reads the counters (`services.sampling`) hands in the time. Nothing is stored: a
service that starts anew begins with an empty history.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

INTERVAL = 2.0
"""Seconds of one sample."""
SAMPLES = 300
"""Samples of each ring: ten minutes."""
MAX_DEVICES = 64
"""Devices with a ring of their own; beyond that the one that was quiet longest is forgotten."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Counters at one moment, bytes since they began."""

    from_tunnel: int
    to_tunnel: int


class TrafficRing:
    """The bytes of the last intervals from one pair of counters."""

    __slots__ = ("_at", "_counts", "_from", "_interval", "_samples", "_to", "moved_at")

    def __init__(self, counts: Counts, now: float) -> None:
        """What the counters have so far came before the ring and is not in it."""
        self._counts = counts
        self._at = now
        self._interval = int(now // INTERVAL)
        self._from = self._to = 0
        """Bytes of the interval under way."""
        self._samples: deque[tuple[int, int]] = deque(maxlen=SAMPLES)
        self.moved_at = now
        """When a byte was last seen."""

    def note(self, counts: Counts, now: float) -> bool:
        """Take a reading; whether anything came since the one before.

        A counter that is less than it was began anew: all of it is fresh.
        """
        before, self._counts = self._counts, counts
        fresh_from = counts.from_tunnel - before.from_tunnel
        fresh_to = counts.to_tunnel - before.to_tunnel
        if fresh_from < 0 or fresh_to < 0:
            fresh_from, fresh_to = counts.from_tunnel, counts.to_tunnel
        self._spread(fresh_from, fresh_to, now)
        moved = fresh_from > 0 or fresh_to > 0
        if moved:
            self.moved_at = now
        return moved

    def read(self, limit: int, now: float) -> list[tuple[int, int]]:
        """Bytes from and to the tunnel in each of the last whole intervals, the oldest first;
        at most `limit`, and none from before the ring began."""
        self._spread(0, 0, now)
        return list(self._samples)[-limit:] if limit else []

    def _spread(self, fresh_from: int, fresh_to: int, now: float) -> None:
        """Put bytes into the intervals from the last reading to `now`, and end those that are
        over. At most SAMPLES are touched, however long it was."""
        last, began, elapsed = int(now // INTERVAL), self._at, now - self._at
        if elapsed <= 0:
            self._from += fresh_from
            self._to += fresh_to
            return
        given_from = given_to = 0
        first = self._interval
        if last - first > SAMPLES:
            first = last - SAMPLES
            part = (first * INTERVAL - began) / elapsed
            given_from, given_to = round(fresh_from * part), round(fresh_to * part)
            self._from = self._to = 0
        for interval in range(first, last):
            part = ((interval + 1) * INTERVAL - began) / elapsed
            until_from, until_to = round(fresh_from * part), round(fresh_to * part)
            self._samples.append(
                (self._from + until_from - given_from, self._to + until_to - given_to)
            )
            given_from, given_to = until_from, until_to
            self._from = self._to = 0
        self._from += fresh_from - given_from
        self._to += fresh_to - given_to
        self._interval, self._at = last, now


@dataclass(frozen=True, slots=True)
class Reading:
    """All counters at one moment."""

    total: Counts
    devices: Iterable[tuple[str, Counts]] = ()
    """By the device's id."""
    linked: bool = True
    """Whether anything can move: a device is connected, or the tunnel stands."""


class TrafficBook:
    """The rings of a service."""

    def __init__(self, reading: Reading, now: float) -> None:
        self._total = TrafficRing(reading.total, now)
        self._devices: dict[str, TrafficRing] = {}
        self.note(reading, now)

    def note(self, reading: Reading, now: float) -> bool:
        """Take a reading; whether anything came since the one before."""
        moved = self._total.note(reading.total, now)
        for device, counts in reading.devices:
            ring = self._devices.get(device)
            if ring is None:
                if len(self._devices) >= MAX_DEVICES:
                    quietest = min(self._devices, key=lambda each: self._devices[each].moved_at)
                    del self._devices[quietest]
                self._devices[device] = TrafficRing(counts, now)
            elif ring.note(counts, now):
                moved = True
        return moved

    def read(self, device: str | None, limit: int, now: float) -> list[tuple[int, int]]:
        """As `TrafficRing.read`: in all, or of a device. None of one that is not known."""
        ring = self._total if device is None else self._devices.get(device)
        return [] if ring is None else ring.read(limit, now)
