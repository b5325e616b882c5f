"""Stateless cookies: under load, who asks by datagram first shows that it hears the answer.

A cookie is a keyed hash of the sender's address under a key that changes every
`COOKIE_LIFETIME`; the previous key still counts. Nothing is stored per sender.
Somebody on the path can read a cookie and use it with a forged address; that is
accepted, for he could as well stop all packets.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable

from vshp.constants import COOKIE_LIFETIME, COOKIE_SIZE

NO_COOKIE = bytes(COOKIE_SIZE)


class CookieJar:
    """Makes and checks cookies."""

    def __init__(self, now: float, rng: Callable[[int], bytes] = os.urandom) -> None:
        self._rng = rng
        self._keys = [rng(32), rng(32)]
        """Present and previous key."""
        self._changed = now

    def make(self, address: bytes, now: float) -> bytes:
        """The cookie of an address (any byte string that names it)."""
        self._rotate(now)
        return _cookie(self._keys[0], address)

    def check(self, cookie: bytes, address: bytes, now: float) -> bool:
        self._rotate(now)
        return any(hmac.compare_digest(cookie, _cookie(key, address)) for key in self._keys)

    def _rotate(self, now: float) -> None:
        age = now - self._changed
        if age >= COOKIE_LIFETIME:
            previous = self._keys[0] if age < 2 * COOKIE_LIFETIME else self._rng(32)
            self._keys = [self._rng(32), previous]
            self._changed = now


def _cookie(key: bytes, address: bytes) -> bytes:
    return hashlib.blake2s(address, key=key, digest_size=COOKIE_SIZE, person=b"VSHPcky1").digest()
