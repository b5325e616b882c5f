"""What one client may ask of the resolver: a rate, and questions unanswered at a time: pure.

Answers from the cache are not limited: they cost less than the packet that
asks for them. Limited is what goes out to the VPN's resolvers on a client's
behalf.
"""

from __future__ import annotations

from collections import OrderedDict

RATE = 1000.0
"""Questions a second that go upstream for one client, in the long run."""
BURST = 2000.0
MAX_OUTSTANDING = 256
"""Of one client; each may hold a socket."""
MAX_TOTAL = 512
"""Exchanges under way for all clients."""
MAX_CLIENTS = 1024
"""Clients remembered; the one that has been silent longest goes first."""


class _Client:
    __slots__ = ("outstanding", "since", "tokens")

    def __init__(self, now: float) -> None:
        self.tokens = BURST
        self.since = now
        self.outstanding = 0


class Limits:
    """A token bucket and a count for each client."""

    def __init__(self, rate: float = RATE, burst: float = BURST) -> None:
        self._rate = rate
        self._burst = burst
        self._clients: OrderedDict[str, _Client] = OrderedDict()

    def take(self, client: str, now: float) -> str | None:
        """Count a question of the client's; or the name of the limit that forbids it."""
        entry = self._clients.get(client)
        if entry is None:
            entry = self._clients[client] = _Client(now)
            entry.tokens = self._burst
            if len(self._clients) > MAX_CLIENTS:
                self._clients.popitem(last=False)
        else:
            self._clients.move_to_end(client)
        if entry.outstanding >= MAX_OUTSTANDING:
            return "outstanding"
        entry.tokens = min(self._burst, entry.tokens + (now - entry.since) * self._rate)
        entry.since = now
        if entry.tokens < 1.0:
            return "rate"
        entry.tokens -= 1.0
        entry.outstanding += 1
        return None

    def give_back(self, client: str) -> None:
        """A question of the client's has been answered."""
        entry = self._clients.get(client)
        if entry is not None and entry.outstanding > 0:
            entry.outstanding -= 1
