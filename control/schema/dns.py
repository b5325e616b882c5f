"""The leases' resolver, and who asked it what."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DnsQuestion:
    """One of the last questions of a client."""

    age: float
    client: str
    """The peer's id."""
    label: str
    name: str
    type: str
    """`A`, `AAAA`, `HTTPS`... or `TYPE65535`."""
    outcome: str
    """`hit`, `asked`, `joined`, or why it was not answered."""


@dataclass(frozen=True, slots=True)
class Dns:
    """The leases' resolver."""

    resolvers: list[str]
    """Whom it asks, best first; empty: nobody, so questions fail."""
    entries: int
    """Answers in the cache."""
    bytes: int
    """What they take."""
    in_flight: int
    """Questions being asked now."""
    queries: int
    hits: int
    counters: dict[str, int]
    recent_limit: int
    """How many of the last questions are kept (`dns.recent`); 0: none, for privacy."""
    recent: list[DnsQuestion] = field(default_factory=list)
    """Newest first."""
    names: bool = True
    """Whether names that devices ask for are remembered at all (`privacy.names`): without it
    neither questions are kept nor are flows shown by name."""
