"""Why a WireGuard device is not there, as far as this end can see it.

Theory of operation. WireGuard answers nothing that is wrong, and its apps look connected
whatever happens; so its users see nothing at all. Whoever should answer sees more: a
handshake for another key, a timestamp of the past, an answer to which nothing comes. `Log`
keeps the last such sights, by device and by address, and `diagnose` makes at most one
`Trouble` of each device and each stranger: what was seen before a device was heard says
nothing (but that it is two), and of several causes the one it met last on its way in counts.

Addresses of what is not authenticated are hearsay: anybody can make us remember a few.
"""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from wireguard.constants import REJECT_AFTER_TIME
from wireguard.profile import ProfileError, parse_endpoint

MAX_SIGHTS = 64
"""Strangers' addresses, unknown keys, and devices that are remembered, of each."""
FRESH_SECONDS = 300.0
"""A sight that is older says nothing of now: an app that is on knocks every few seconds."""
LEAST_WRONG = 2
"""Wrong handshakes before they count: one may be any garbage, or a late copy."""
LEAST_UNCONFIRMED = 3
"""Answers in a row that nobody confirmed: an app repeats its question every five seconds."""
SHARED_SECONDS = 120.0
SHARED_RETURNS = 2
"""Returns to a place that was left, within that time, which make it two devices. Each of two
takes the session over as soon as it has waited fifteen seconds for an answer."""
QUIET_OFFER_SECONDS = 60.0
"""A config that is on the screen is being scanned for so long."""


K = TypeVar("K")


NEVER = float("-inf")


class Cause(StrEnum):
    SHARED = "shared"
    """One config is used in two places."""
    CLOCK = "clock"
    """The device's clock went back."""
    UNCONFIRMED = "unconfirmed"
    """It was answered, and the answers do not arrive."""
    ENDPOINT = "endpoint"
    """Its config names an address that this machine does not have."""
    GATEWAY_KEY = "gateway_key"
    """Somebody knocks who was told another gateway's key."""
    UNKNOWN_KEY = "unknown_key"
    REVOKED = "revoked"
    """A key that was known, and is not any more."""
    SILENCE = "silence"
    """A config was made, and nothing has come of it."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong, and what is known of it."""

    cause: Cause
    key: bytes | None = None
    """Whose; None for an address of which no more is known."""
    label: str = ""
    """The device's; empty for strangers."""
    host: str = ""
    """Whence it came."""
    other: str = ""
    """SHARED: the second place. ENDPOINT: what the config should name."""
    told: str = ""
    """ENDPOINT: what it names."""
    count: int = 0
    seconds: float = 0.0
    """CLOCK: how far it went back. SILENCE: the age of the config."""
    reached: bool = False
    """SILENCE: whether anybody else has come in."""
    let_in: bool = False
    """ENDPOINT: whether its owner has let it in, so that its config can be renewed."""


@dataclass(frozen=True, slots=True)
class Known:
    """A device as it stands now; what `diagnose` is told of each."""

    key: bytes
    label: str
    told: str
    """The endpoint in its config."""
    keys: bool = False
    """There is a session to send in."""
    heard_at: float = NEVER
    """When it was heard last, authenticated."""
    unconfirmed: int = 0
    answered_host: str = ""
    answered_at: float = NEVER
    offered_at: float | None = None
    """When its config was made, while nobody has come with it."""

    def live(self, now: float) -> bool:
        return self.keys and now - self.heard_at < REJECT_AFTER_TIME


@dataclass(slots=True)
class _Sight:
    host: str
    last: float
    count: int = 0
    behind: float = 0.0


@dataclass(slots=True)
class _Places:
    """Where a device was, and when it came back to a place that it had left."""

    seen: deque[tuple[str, int]] = field(default_factory=lambda: deque(maxlen=3))
    returns: deque[float] = field(default_factory=lambda: deque(maxlen=SHARED_RETURNS))


class Log:
    """What was seen of devices and strangers. Every table is bounded; the stalest goes."""

    def __init__(self) -> None:
        self.arrived = NEVER
        """When anything came in last."""
        self._wrong: dict[str, _Sight] = {}
        self._unknown: dict[bytes, _Sight] = {}
        self._clocks: dict[bytes, _Sight] = {}
        self._places: dict[bytes, _Places] = {}

    def wrong_gateway(self, host: str, now: float) -> None:
        """A handshake came from there that was meant for another key."""
        _note(self._wrong, host, host, now)

    def unknown_key(self, key: bytes, host: str, now: float) -> None:
        """Somebody proved to have a key that nobody let in."""
        _note(self._unknown, key, host, now)

    def went_back(self, key: bytes, seconds: float, host: str, now: float) -> None:
        """A device's handshake was refused for its timestamp, so much too early."""
        _note(self._clocks, key, host, now).behind = seconds

    def heard(self, key: bytes, host: str, port: int, now: float) -> None:
        """A device was heard from a place in a new session, or from a new place."""
        self._clocks.pop(key, None)
        self._wrong.pop(host, None)
        places = self._places.setdefault(key, _Places())
        if len(self._places) > MAX_SIGHTS:
            del self._places[next(each for each in self._places if each != key)]
        place = (host, port)
        if not places.seen or places.seen[-1] != place:
            if place in places.seen:
                places.returns.append(now)
            places.seen.append(place)

    def forget(self, key: bytes) -> None:
        """The key is let in anew, or is nobody's."""
        for table in (self._unknown, self._clocks, self._places):
            table.pop(key, None)

    # --- judging -----------------------------------------------------------------------------

    def diagnose(
        self,
        devices: Iterable[Known],
        own: Collection[str],
        named: str,
        label_of: Callable[[bytes], str],
        now: float,
    ) -> list[Trouble]:
        """One trouble a device or stranger, the likeliest; devices first.

        `own` has this machine's addresses (empty: not known), `named` is the endpoint that a
        config would name today, `label_of` gives the name of a revoked device.
        """
        devices = list(devices)
        found = [self._trouble(device, own, named, now) for device in devices]
        found += self._strangers(label_of, now)
        if not any(found):
            found = [self._silence(device, now) for device in devices]
        return [trouble for trouble in found if trouble is not None]

    def _trouble(
        self, device: Known, own: Collection[str], named: str, now: float
    ) -> Trouble | None:
        places = self._places.get(device.key)
        if places is not None and len(places.returns) == SHARED_RETURNS:
            first = places.returns[0]
            if now - first < SHARED_SECONDS:
                (here, port), (other, other_port) = places.seen[-1], places.seen[-2]
                if here == other:
                    here, other = f"{here} port {port}", f"port {other_port}"
                return Trouble(Cause.SHARED, device.key, device.label, here, other)
        clock = self._clocks.get(device.key)
        told = max(device.heard_at, device.answered_at)
        if clock is not None and clock.count >= LEAST_WRONG and clock.last > told:
            return Trouble(
                Cause.CLOCK, device.key, device.label, clock.host, count=clock.count,
                seconds=clock.behind,
            )  # fmt: skip
        if device.unconfirmed >= LEAST_UNCONFIRMED and device.answered_at > device.heard_at:
            return Trouble(
                Cause.UNCONFIRMED, device.key, device.label, device.answered_host,
                count=device.unconfirmed,
            )  # fmt: skip
        if own and not device.live(now) and not _ours(device.told, own):
            return Trouble(
                Cause.ENDPOINT, device.key, device.label, told=device.told, other=named,
                let_in=device.offered_at is None,
            )  # fmt: skip
        return None

    def _strangers(self, label_of: Callable[[bytes], str], now: float) -> list[Trouble | None]:
        found: list[Trouble | None] = []
        for key, sight in self._unknown.items():
            if _fresh(sight.last, now):
                label = label_of(key)
                cause = Cause.REVOKED if label else Cause.UNKNOWN_KEY
                found.append(Trouble(cause, key, label, sight.host, count=sight.count))
        for host, sight in self._wrong.items():
            if sight.count >= LEAST_WRONG and _fresh(sight.last, now):
                found.append(Trouble(Cause.GATEWAY_KEY, host=host, count=sight.count))
        return found

    def _silence(self, device: Known, now: float) -> Trouble | None:
        at = device.offered_at
        if at is None or now - at < QUIET_OFFER_SECONDS:
            return None
        return Trouble(
            Cause.SILENCE, device.key, device.label, seconds=now - at, reached=self.arrived >= at,
        )  # fmt: skip


def _note(table: dict[K, _Sight], key: K, host: str, now: float) -> _Sight:
    sight = table.pop(key, None) or _Sight(host, now)
    if len(table) >= MAX_SIGHTS:
        del table[next(iter(table))]
    table[key] = sight
    sight.host, sight.last = host, now
    sight.count += 1
    return sight


def _fresh(at: float, now: float) -> bool:
    return now - at < FRESH_SECONDS


def _ours(told: str, own: Collection[str]) -> bool:
    """Whether a config's endpoint leads here still, as far as can be told.

    Names, and public addresses (of a router that forwards to us), are not for us to judge.
    """
    try:
        host = ipaddress.ip_address(parse_endpoint(told)[0])
    except (ValueError, ProfileError):
        return True
    return not host.is_private or host.is_loopback or str(host) in own
