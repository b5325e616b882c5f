"""The gateway's domain: the product's nouns, as values.

These are what the store keeps, what the control API shows and what the
gateway's parts pass to each other; none of them does anything by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from gateway.books import BookRow, BookSpan, BookStore
from netstack.addresses import Addresses
from rules.value import NO_RULES, Rules


class Via(StrEnum):
    """How a pairing request came to us."""

    QR = "qr"
    LAN = "lan"
    USB = "usb"
    WIREGUARD = "wireguard"
    """By a config that the owner made and handed to the device, as he would a QR code."""


class Kind(StrEnum):
    """What a device speaks."""

    VSHP = "vshp"
    WIREGUARD = "wireguard"


class VpnState(StrEnum):
    ACTIVE = "active"
    ABSENT = "absent"
    EXCLUDED = "excluded"


@dataclass(frozen=True, slots=True)
class VpnNetwork:
    """What the detector found: the one interface that forwarded sockets may use."""

    state: VpnState
    interface: str | None = None
    kind: str | None = None
    addresses: tuple[str, ...] = ()
    ipv4: bool = False
    """Whether Internet traffic of the family may go there (an address and a route)."""
    ipv6: bool = False
    reason: str | None = None
    """A sentence for the owner, naming the fix, when the state is not active."""
    unnamed: bool = False
    """Whether no interface was found to be it: to name one that is there may be the fix."""

    @property
    def usable(self) -> bool:
        return self.state is VpnState.ACTIVE and self.interface is not None


@dataclass(frozen=True, slots=True)
class TransportEndpoint:
    """Where a client's session arrives: USB accessory, LAN UDP/TCP, or hotspot."""

    transport: str
    """`tcp`, `udp` or `usb`."""
    address: str
    port: int


@dataclass(slots=True)
class PeerDevice:
    """A device the owner has approved: trusted until revoked."""

    public_key: bytes
    label: str
    platform: str
    first_seen: float
    last_seen: float
    revoked: bool = False
    kind: Kind = Kind.VSHP

    @property
    def id(self) -> str:
        return peer_id(self.public_key)


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where a WireGuard device is told to find us, and where it was itself."""

    told: str
    """The endpoint that its config names, `host:port`."""
    host: str = ""
    """Its own address when it was heard last; empty before."""
    port: int = 0
    interface: str = ""
    """Ours that it came in by, by name: numbers change when devices come and go."""
    local: str = ""
    """Our address that it sent to."""
    heard: float = 0.0
    """Unix time."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A config that was handed out for a WireGuard device, as far as it is kept."""

    public_key: bytes
    label: str
    host: str
    """Where the config says the gateway is; likewise `port`."""
    port: int
    expires: float
    """Unix time by which it has to be used for the first time."""
    renews: bytes | None = None
    """The public key of the device whose new key this is."""
    invites: bool = False
    """For whatever key asks next; the public key is no key then."""
    approved: bool = False
    """A renewal that the owner let in, and that was not heard yet."""


@dataclass(frozen=True, slots=True)
class TunnelLease:
    """What a peer may use: addresses, resolver, MTU, until when."""

    id: str
    peer_id: str
    addresses: Addresses
    mtu: int
    offload: bool
    expires: float
    """Monotonic seconds; infinite where the device has its addresses in a config."""


@dataclass(slots=True)
class PairingRequest:
    """A short-lived, untrusted request that waits for the owner."""

    id: str
    public_key: bytes
    label: str
    platform: str
    via: Via
    address: str
    created: float
    expires: float
    code: str | None = None
    """What the owner compares with what the device shows: six digits, or (`Via.WIREGUARD`,
    invited) its key, shortened. None where it holds what the owner gave it."""


class GatewayStore(BookStore, Protocol):
    """What the gateway needs kept. The services' store is one; `MemoryStore` another.

    What is saved counts at once for all that is asked afterwards. No method raises because
    something cannot be written, and none waits for long: keeping it until it can be, telling
    the owner, and seeing to it that no restart forgets a revocation is the store's.
    """

    def identity(self) -> bytes | None:
        """The gateway's static private key (32 bytes), or None on first start."""

    def save_identity(self, private_key: bytes) -> None: ...

    def peers(self) -> list[PeerDevice]: ...

    def save_peer(self, peer: PeerDevice) -> None:
        """Insert or replace, keyed by public key."""

    def lease_number(self, public_key: bytes) -> int:
        """The stable host number (2 and up) of a peer, given out once and kept."""

    def secret(self, name: str) -> bytes | None:
        """A named key of the gateway's own (the tickets' key, for one)."""

    def save_secret(self, name: str, value: bytes) -> None: ...

    def move_lease_number(self, old: bytes, new: bytes | None) -> None:
        """The number is another key's from now on, or (None) nobody's."""

    def sightings(self) -> dict[bytes, Sighting]:
        """Where the WireGuard devices were last, by public key."""

    def save_sighting(self, public_key: bytes, sighting: Sighting) -> None: ...

    def offers(self) -> list[Offer]:
        """Configs that were handed out and are not used yet."""

    def save_offer(self, offer: Offer) -> None:
        """Insert or replace, keyed by public key."""

    def forget_offer(self, public_key: bytes) -> None:
        """It is used, or good for nothing any more. Nothing happens if it is not there."""

    def rules(self) -> dict[bytes, Rules]:
        """What the owner allows devices that may not do everything, by public key."""

    def save_rules(self, public_key: bytes, rules: Rules) -> None:
        """Insert or replace; `NO_RULES` takes away what is there."""


@dataclass(slots=True)
class MemoryStore:
    """A store that forgets at exit: for tests."""

    _identity: bytes | None = None
    _peers: dict[bytes, PeerDevice] = field(default_factory=dict)
    _numbers: dict[bytes, int] = field(default_factory=dict)
    _books: dict[tuple[bytes, BookSpan, int], BookRow] = field(default_factory=dict)
    _secrets: dict[str, bytes] = field(default_factory=dict)
    _sightings: dict[bytes, Sighting] = field(default_factory=dict)
    _offers: dict[bytes, Offer] = field(default_factory=dict)
    _rules: dict[bytes, Rules] = field(default_factory=dict)

    def identity(self) -> bytes | None:
        return self._identity

    def save_identity(self, private_key: bytes) -> None:
        self._identity = private_key

    def peers(self) -> list[PeerDevice]:
        return list(self._peers.values())

    def save_peer(self, peer: PeerDevice) -> None:
        self._peers[peer.public_key] = peer

    def lease_number(self, public_key: bytes) -> int:
        if public_key not in self._numbers:
            self._numbers[public_key] = max(self._numbers.values(), default=1) + 1
        return self._numbers[public_key]

    def move_lease_number(self, old: bytes, new: bytes | None) -> None:
        number = self._numbers.pop(old, None)
        if number is not None and new is not None:
            self._numbers[new] = number

    def sightings(self) -> dict[bytes, Sighting]:
        return dict(self._sightings)

    def save_sighting(self, public_key: bytes, sighting: Sighting) -> None:
        self._sightings[public_key] = sighting

    def offers(self) -> list[Offer]:
        return list(self._offers.values())

    def save_offer(self, offer: Offer) -> None:
        self._offers[offer.public_key] = offer

    def forget_offer(self, public_key: bytes) -> None:
        self._offers.pop(public_key, None)

    def rules(self) -> dict[bytes, Rules]:
        return dict(self._rules)

    def save_rules(self, public_key: bytes, rules: Rules) -> None:
        self._rules[public_key] = rules
        if rules == NO_RULES:
            del self._rules[public_key]

    def books(self, everything: Callable[[], Iterable[BookRow]]) -> list[BookRow]:
        return list(self._books.values())

    def write_books(self, rows: list[BookRow]) -> None:
        for row in rows:
            key = row.public_key, row.span, row.at
            self._books.pop(key, None)
            if row.used is not None:
                self._books[key] = row

    def secret(self, name: str) -> bytes | None:
        return self._secrets.get(name)

    def save_secret(self, name: str, value: bytes) -> None:
        self._secrets[name] = value


def peer_id(public_key: bytes) -> str:
    """A peer's short name in the control API: the first 8 hex digits of its fingerprint."""
    return fingerprint(public_key).replace(":", "")[:8]


def fingerprint(public_key: bytes) -> str:
    """A public key as people compare it: 8 bytes of BLAKE2s, in hex pairs."""
    return hashlib.blake2s(public_key, digest_size=8).digest().hex(":")
