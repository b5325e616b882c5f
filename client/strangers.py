"""Who answered at a guessed endpoint and was not the gateway: what they did, and their peace.

A stranger is not knocked at again and again: each time he is left alone for longer, for as long as
this device is on the same networks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from client.judgement import Address, HostFacts, Router
from client.model import TransportEndpoint
from client.reconnect import Ending

KNOCK_AGAIN = 60.0
"""Seconds until a stranger is tried again; doubled each time, while the networks are the same."""
KNOCK_MOST = 3600.0
_SILENT = frozenset({"handshake_timeout", "link_dead"})
_HUNG_UP = frozenset({"link_lost", "handshake_failed"})
_NOT_NOW = frozenset({"busy", "shutdown", "sharing_off", "listener_closed"})
MAX_STRANGERS = 16
"""Of whom is remembered that they are none of ours; the one met longest ago goes first."""


@dataclass(frozen=True, slots=True)
class Stranger:
    """What somebody did who was taken for the gateway; `name` is stable."""

    name: str
    """`silent`, `other`, `garbage`; `later` for one that may be ours and has no time now."""
    words: str


def who_was_it(ending: Ending) -> Stranger:
    """What the ending of an attempt at a guess says of who is there."""
    if ending.reason in _SILENT:
        return Stranger("silent", "took the connection and said nothing")
    if ending.reason in _HUNG_UP:
        return Stranger("other", "hung up: another gateway, or another service")
    if ending.reason in _NOT_NOW:
        return Stranger("later", ending.reason.replace("_", " "))
    return Stranger("garbage", f"speaks no VSHP: {ending.reason.replace('_', ' ')}")


@dataclass(slots=True)
class _Known:
    times: int
    until: float


class Strangers:
    """Hosts that were taken for the gateway and are none of ours; times are monotonic seconds."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._networks: tuple[frozenset[Address], tuple[Router, ...]] | None = None

    def look(self, facts: HostFacts) -> bool:
        """The host is like this now; whether it is on other networks than it was.

        There the same addresses are other hosts.
        """
        if not self.elsewhere(facts):
            return False
        self._networks = facts.own, facts.defaults
        self._known.clear()
        return True

    def elsewhere(self, facts: HostFacts) -> bool:
        """Whether these are other networks than at the last look."""
        return (facts.own, facts.defaults) != self._networks

    def met(self, host: str, now: float) -> None:
        """Somebody there took a connection, and did not prove the gateway's key."""
        before = self._known.pop(host, None)
        times = 1 if before is None else before.times + 1
        pause = min(KNOCK_AGAIN * 2 ** min(times - 1, 16), KNOCK_MOST)
        self._known[host] = _Known(times, now + pause)
        while len(self._known) > MAX_STRANGERS:
            del self._known[next(iter(self._known))]

    def without(
        self, guesses: Iterable[TransportEndpoint], now: float
    ) -> tuple[TransportEndpoint, ...]:
        """The guesses that may be tried at this time."""
        return tuple(e for e in guesses if e.host not in self._known or self._due(e.host, now))

    def _due(self, host: str, now: float) -> bool:
        return now >= self._known[host].until
