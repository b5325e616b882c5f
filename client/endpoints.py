"""What became of each endpoint of the gateway: who won the race, and why the others did not.

The book knows the endpoints of the present run, in the order in which they are
tried, and the last outcome of each. Races and rounds tell it; nothing here
connects to anything. It stays readable after the run, until the next begins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from client.model import TransportEndpoint

MAX_ENDPOINTS = 32
"""Endpoints in the book: what the store keeps of a gateway, and some phones on USB."""


class Outcome(StrEnum):
    """How the last attempt at an endpoint ended."""

    UNTRIED = "untried"
    """Not needed so far: something better carried the link first."""
    WON = "won"
    """The gateway answered there and proved its key; the link was made over it."""
    SLOWER = "slower"
    """Another had won before this one's turn came, or before it answered."""
    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    """No way there: no route, no such phone on the cable..."""


class Tell(Protocol):
    """Where a race says how an attempt ended. Must not raise."""

    def __call__(
        self, endpoint: TransportEndpoint, outcome: Outcome, why: str, seconds: float | None
    ) -> None:
        """`why` is a few words, or empty; `seconds` from the attempt's beginning to its outcome,
        None when it was given up before there was one."""


def tell_nobody(
    endpoint: TransportEndpoint, outcome: Outcome, why: str, seconds: float | None
) -> None:
    """For races that nobody asks about."""


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    """An endpoint and its last outcome."""

    endpoint: TransportEndpoint
    outcome: Outcome = Outcome.UNTRIED
    why: str = ""
    took: float | None = None
    """Seconds from the attempt's beginning to its outcome; None when there was no attempt."""
    at: float | None = None
    """Unix time of the outcome."""


class EndpointBook:
    """The endpoints of one gateway. Two that print the same are the same."""

    def __init__(self) -> None:
        self._records: dict[str, EndpointRecord] = {}

    def clear(self) -> None:
        """Another run begins, perhaps toward another gateway."""
        self._records.clear()

    def know(self, endpoints: Iterable[TransportEndpoint]) -> None:
        """These are the endpoints now, the best first; what was learnt of them stays."""
        known = self._records
        self._records = {}
        for endpoint in endpoints:
            name = str(endpoint)
            if name in self._records:
                continue
            if len(self._records) >= MAX_ENDPOINTS:
                break
            old = known.get(name)
            self._records[name] = (
                EndpointRecord(endpoint)
                if old is None
                else EndpointRecord(endpoint, old.outcome, old.why, old.took, old.at)
            )

    def note(
        self,
        endpoint: TransportEndpoint,
        outcome: Outcome,
        why: str,
        seconds: float | None,
        now: float,
    ) -> None:
        """An attempt has ended at Unix time `now`."""
        name = str(endpoint)
        if name in self._records or len(self._records) < MAX_ENDPOINTS:
            self._records[name] = EndpointRecord(endpoint, outcome, why, seconds, now)

    def read(self) -> tuple[EndpointRecord, ...]:
        """All of them, in the order in which they are tried."""
        return tuple(self._records.values())
