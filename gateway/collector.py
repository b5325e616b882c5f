"""What is done at intervals while there is traffic: the way out is proved, the books are written.

Nobody connected and nothing to write: then nothing is due, and the gateway sleeps.
"""

from __future__ import annotations

from collections.abc import Callable

from eventloop.clock import Clock
from gateway.books import Books
from gateway.sharing import Sharing
from gateway.tunnels import Tunnels

USAGE_SECONDS = 30.0
"""How often usage is written while there is traffic."""


class Collector:
    """Proves, collects and saves (gateway.timing.Timed)."""

    def __init__(self, tunnels: Tunnels, books: Books, sharing: Sharing, clock: Clock) -> None:
        self.on_collected: Callable[[], None] = lambda: None
        """Called when what was used has been written."""
        self._tunnels = tunnels
        self._books = books
        self._sharing = sharing
        self._clock = clock
        self.at: float | None = None
        """When it is time; None while no interval has begun."""

    def get_timer(self) -> float | None:
        """When it is time. An interval begins when this is asked while there is a reason."""
        if self.at is None and (self._tunnels.connected() or self._books.unsaved):
            self.at = self._clock.now() + USAGE_SECONDS
        return self.at

    def handle_timer(self, now: float) -> bool:
        """Do what is due; nothing that is shown changes in kind."""
        if self.at is not None and self.at <= now:
            hurry = self._sharing.prove(now)
            self.at = None if hurry is None else now + hurry
            self._books.collect(self._clock.wall())
            self._books.save()
            self.on_collected()
        return False
