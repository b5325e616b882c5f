"""Stateless cookies: under load, who asks by datagram first shows that it hears the answer.

A cookie is a keyed hash of the sender's address under a key that changes every
`lifetime`; the previous key still counts. Nothing is stored per sender.
Somebody on the path can read a cookie and use it with a forged address; that is
accepted, for he could as well stop all packets.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable

COOKIE_SIZE = 16
NO_COOKIE = bytes(COOKIE_SIZE)


class CookieJar:
    """Makes and checks cookies."""

    def __init__(
        self,
        now: float,
        lifetime: float,
        person: bytes,
        rng: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`person` (8 bytes) keeps the cookies of two protocols apart."""
        self._lifetime = lifetime
        self._person = person
        self._rng = rng
        self._keys = [rng(32), rng(32)]
        """Present and previous key."""
        self._changed = now

    def make(self, address: bytes, now: float) -> bytes:
        """The cookie of an address (any byte string that names it)."""
        return self.good(address, now)[0]

    def good(self, address: bytes, now: float) -> list[bytes]:
        """The cookies that count for an address now, the present one first."""
        self._rotate(now)
        return [
            hashlib.blake2s(address, key=key, digest_size=COOKIE_SIZE, person=self._person).digest()
            for key in self._keys
        ]

    def check(self, cookie: bytes, address: bytes, now: float) -> bool:
        return any(hmac.compare_digest(cookie, good) for good in self.good(address, now))

    def _rotate(self, now: float) -> None:
        age = now - self._changed
        if age >= self._lifetime:
            previous = self._keys[0] if age < 2 * self._lifetime else self._rng(32)
            self._keys = [self._rng(32), previous]
            self._changed = now
