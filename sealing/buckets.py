"""Token buckets: how often something may happen, in all or for each address."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

MAX_BUCKETS = 1024
"""Addresses whose rate is remembered; the one seen longest ago is forgotten."""


class TokenBucket:
    """At most `rate` a second, in bursts of up to `burst`."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def level(self, now: float) -> float:
        """How many are allowed now, at once."""
        tokens = self._tokens + (now - self._at) * self._rate
        self._at = now
        self._tokens = tokens = min(tokens, self._burst)
        return tokens

    def take(self, now: float) -> bool:
        """Whether one more is allowed now."""
        tokens = self.level(now)
        if tokens < 1:
            return False
        self._tokens = tokens - 1
        return True


class Buckets:
    """A token bucket for each of the `MAX_BUCKETS` addresses seen last."""

    __slots__ = ("_burst", "_known", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._known: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def take(self, address: Hashable, now: float) -> bool:
        """Whether one more of `address` is allowed now."""
        bucket = self._known.pop(address, None)
        if bucket is None:
            bucket = TokenBucket(self._rate, self._burst, now)
        self._known[address] = bucket
        if len(self._known) > MAX_BUCKETS:
            self._known.popitem(last=False)
        return bucket.take(now)

    def __len__(self) -> int:
        return len(self._known)
