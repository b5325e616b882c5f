"""Whether the peer really is where its newest datagram seems to have come from.

A datagram that authenticates says who sealed it, not who sent it on: somebody on the
path can pass it on under any address, and a session that believed him would send its
bulk to a victim. So a new address is asked first, by a random token in a sealed
datagram that goes nowhere else (as RFC 9000 section 8.2 has it); what comes back from
that address moves the session.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

from vshp.constants import CHALLENGE_RETRY, CHALLENGE_SIZE


class PathProof:
    """The one address that is being asked."""

    __slots__ = ("_address", "_asked_at", "_rng", "_token")

    def __init__(self, rng: Callable[[int], bytes]) -> None:
        self._rng = rng
        self._address: Any = None
        self._token = b""
        self._asked_at = 0.0

    def challenge(self, address: Any, now: float) -> bytes | None:
        """A datagram came from `address`: the token to send there now, None if it was just asked.

        It is the same again for the same address, so that an answer that was long on its way
        counts.
        """
        if not self._token or address != self._address:
            self._address, self._token = address, self._rng(CHALLENGE_SIZE)
        elif now - self._asked_at < CHALLENGE_RETRY:
            return None
        self._asked_at = now
        return self._token

    def proven(self, token: bytes, address: Any) -> bool:
        """The peer answers from `address`; whether that settles it. A token is good once."""
        held = self._token
        if not held or address != self._address or not hmac.compare_digest(token, held):
            return False
        self._token = b""
        return True
