"""What an owner allows a device: one frozen value.

`Rules` is the same for a device of any kind, and everything that carries one of its fields out
reads it from here: `NO_RULES`, the default, takes nothing away. The value says what is meant
and knows no clock and no zone; times of day and days of the week are those of the gateway's
own zone, which whoever carries them out hands in.

What people write is read in `rules/spelling.py`, how rules are kept and sent in
`rules/encoding.py`, and whether rules make sense together is judged in `rules/judging.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

MAX_DESTINATIONS = 1000
"""Entries of one device's destinations: what a new flow is compared with, at worst."""
MAX_SPANS = 64
"""Spans of one device's hours: nine for each day of the week."""
MAX_PORT_RANGES = 16
"""Of one destination."""
MAX_QUOTA = 1 << 60
"""Bytes, an exbibyte: sums of usage stay within the store's 63 bits."""
MIN_LIMIT, MAX_LIMIT = 8_000, 1_000_000_000_000
"""Bits per second. At less than a thousand bytes a second no connection is set up in time."""
MAX_FLOWS = 65_535
"""The largest bound on a device's flows that says anything."""
MINUTES_A_DAY = 24 * 60


class Direction(StrEnum):
    """Which way bytes go, as the device sees it."""

    UP = "up"
    DOWN = "down"
    BOTH = "both"
    """The sum of the two."""


class Period(StrEnum):
    """After which time a quota begins again."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"
    """Never: it is counted since the rule was given or `reset`."""


class Verdict(StrEnum):
    ALLOW = "allow"
    DENY = "deny"


class Protocol(StrEnum):
    ANY = "any"
    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"
    """Pings, of either family."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Bytes of IP packets that a device may move in a period."""

    bytes: int
    direction: Direction = Direction.BOTH
    period: Period = Period.DAY
    begins: int = 0
    """Minutes after midnight, local time, at which a period begins; 0 for `TOTAL`."""
    weekday: int = 0
    """The day on which a week begins, 0 for Monday to 6; 0 for other periods."""
    day: int = 1
    """The day on which a month begins, 1 to 31; the last one where a month is shorter. 1 for
    other periods."""


@dataclass(frozen=True, slots=True)
class Span:
    """A part of each of some days in which a device may use the tunnel."""

    days: tuple[int, ...]
    """Ascending, 0 for Monday to 6: the days on which it begins."""
    begins: int
    """Minutes after midnight, local time: 0 to 1,439."""
    ends: int
    """Exclusive, 1 to 1,440. One that is no later than `begins` is the next day's."""


ALL_NAMES = "."
"""The name that all others are below."""


@dataclass(frozen=True, slots=True)
class Target:
    """What an entry fits: all that is named has to hold."""

    network: IPv4Network | IPv6Network | None = None
    """Addresses; None: all of both families."""
    name: str = ""
    """A host's name in lower case, without the last dot: it and all names below it, as they are
    asked for at the resolver; `ALL_NAMES` for all. Never beside a network, a protocol or
    ports."""
    protocol: Protocol = Protocol.ANY
    ports: tuple[tuple[int, int], ...] = ()
    """Ranges of the destination's ports, both ends inclusive, ascending and apart; empty: all.
    Only with TCP, UDP, or `ANY`, which then is either of these two."""


EVERYTHING = Target()


@dataclass(frozen=True, slots=True)
class Destination:
    """An entry of a device's destinations: the first that fits decides; where none does, the
    destination is allowed."""

    verdict: Verdict
    target: Target = EVERYTHING
    shipped: str = ""
    """The name of a set that is shipped (`rules/sets.py`), whose targets count instead of
    `target`; empty: none."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a device may do. Every default takes nothing away."""

    quota: Quota | None = None
    limit_up: int | None = None
    """Bits per second of IP packets from the device; likewise to it."""
    limit_down: int | None = None
    until: float | None = None
    """Unix time after which the device is shut out; None: it may stay."""
    hours: tuple[Span, ...] = ()
    """When it may use the tunnel; empty: always."""
    paused: bool = False
    """The owner has stopped it for now."""
    destinations: tuple[Destination, ...] = ()
    """In the order in which they are tried."""
    max_flows: int | None = None
    """Connections, UDP mappings and pings at a time, in all; None: the gateway's own bounds."""


NO_RULES = Rules()
