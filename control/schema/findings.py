"""What is found by looking: by the doctor, by servers outside, and what could not be stored."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Unwritten:
    """Something is in force that is not stored, so that a restart would forget it."""

    found: str
    """Which place cannot be written, why, and what waits: a sentence."""
    advice: str


@dataclass(frozen=True, slots=True)
class CheckNote:
    """What there is to say besides the verdict."""

    sentence: str


@dataclass(frozen=True, slots=True)
class CheckExit:
    """What a STUN server of `check.stun` says: from which address a packet of ours came to it."""

    server: str
    family: str
    """`ipv4` or `ipv6`."""
    address: str | None
    """None where it has told none."""
    problem: str
    """Why not, in a few words."""


@dataclass(frozen=True, slots=True)
class CheckAsker:
    """What a name's own server says: from which addresses it was asked."""

    name: str
    server: str
    """Whom the question was sent to, where that was the name's own server; empty: it went the way
    of all names."""
    addresses: list[str]
    problem: str
    """Why there is none, in a few words."""


@dataclass(frozen=True, slots=True)
class Check:
    """Whether traffic leaves by the VPN, as servers outside see it."""

    side: str
    """`gateway` or `client`: who has looked."""
    state: str
    """`good`, `broken`, or `unknown` (it cannot be told)."""
    name: str
    """Of the verdict, stable: `inside`, `exit_outside`, `servers_disagree`..."""
    sentence: str
    """The verdict in words."""
    advice: str = ""
    """What to do; empty where all is well."""
    notes: list[CheckNote] = field(default_factory=list)
    exits: list[CheckExit] = field(default_factory=list)
    askers: list[CheckAsker] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check of the doctor found."""

    id: str
    """Stable: `vpn`, `guard`, `dns`..."""
    title: str
    side: str
    """Whom it concerns: `gateway`, `client` or `both`."""
    status: str
    """`ok`, `warn` (something smaller works), `broken`, or `skipped`."""
    found: str
    """A sentence."""
    advice: str | None = None
    """The one thing to do."""
