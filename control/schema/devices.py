"""How devices get in, those that were let in, and the leases that they use."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PairOffer:
    """A pairing URI with its one-time secret."""

    uri: str
    expires_in: float
    name: str
    endpoints: list[str]
    fingerprint: str
    id: str = ""
    """Names it in `offers`; says nothing about the secret."""
    note: str = ""
    """What stands in the way of using it, and what to do; empty: nothing."""
    address: str = ""
    """The first endpoint as one types it after `join`: its port only where that is another."""


@dataclass(frozen=True, slots=True)
class OfferState:
    """A pairing code that was handed out, and what became of it."""

    id: str
    state: str
    """`open`, `used` (by whoever came first) or `expired`."""
    expires_at: float
    """Unix time, also of those that were used before."""
    used_by: str | None = None
    """The label of the device that has used it."""


@dataclass(frozen=True, slots=True)
class Request:
    """A device that waits for the owner's approval."""

    id: str
    label: str
    platform: str
    code: str | None
    """What to compare where the device holds nothing that it was given here: six digits, or the
    short form of an invited WireGuard device's key; else None."""
    via: str
    """`qr`, `lan`, `usb`, or `wireguard` (by a config that was made here)."""
    address: str
    fingerprint: str
    age: float
    expires_in: float


@dataclass(frozen=True, slots=True)
class Peer:
    """A device that was approved once."""

    id: str
    label: str
    platform: str
    fingerprint: str
    first_seen_at: float
    last_seen_at: float
    revoked: bool
    connected: bool
    from_tunnel_bytes: int = 0
    """Usage since it was paired; likewise the other, and today's two."""
    to_tunnel_bytes: int = 0
    from_tunnel_today: int = 0
    to_tunnel_today: int = 0
    kind: str = "vshp"
    """What it speaks: `vshp` (VPN Share) or `wireguard`."""
    rules: str = ""
    """What the owner allows it, in a line; empty: everything."""
    gate: str = "open"
    """As in `Lease`, also while it is away; likewise the other two."""
    shut_out: str = ""
    quota_left: int | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A counter of what a device was refused, or what of its was dropped, with its meaning."""

    name: str
    count: int
    help: str
    """What it counts: a sentence."""
    what: str = ""
    """The reason or outcome that the name holds, where the sentence says "by why" or the like."""


@dataclass(frozen=True, slots=True)
class DeviceCounters:
    """What was counted of one device since its session began, with what it was refused and what
    it did against the protocols."""

    id: str
    label: str
    counters: dict[str, int] = field(default_factory=dict)
    """As in `GatewayStatus`, in whose numbers these are contained. Empty without a session."""
    refused: list[Refusal] = field(default_factory=list)
    """Those of them that count what was refused or dropped, the largest first."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What an approved device was given, and how it is using it."""

    id: str
    peer_id: str
    label: str
    ipv4: str
    ipv6: str
    dns: list[str]
    mtu: int
    offload: bool
    expires_in: float | None
    """None where it has no end: a WireGuard device's stands in its config."""
    connected: bool
    transport: str | None = None
    """`tcp`, `udp`, `usb` or `wireguard`, while connected."""
    endpoint: str | None = None
    """The client's address on that transport."""
    rtt_ms: float | None = None
    from_tunnel_bytes: int = 0
    to_tunnel_bytes: int = 0
    from_tunnel_rate: float = 0.0
    to_tunnel_rate: float = 0.0
    flows: int = 0
    gate: str = "open"
    """Whether it may use the tunnel now: `open`, or why not: `paused`, `ended`, `outside_hours`,
    `quota_spent`."""
    shut_out: str = ""
    """What is said of it while it may not: `is paused by the owner`."""
    opens_at: float | None = None
    """Unix time at which the gate opens by itself; None: it is open, or does not."""
    quota_left: int | None = None
    """Bytes that are left of its quota; None without one."""
