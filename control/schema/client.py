"""The receiving side: its status, and the gateways that it knows, may find, and was linked to."""

from __future__ import annotations

from dataclasses import dataclass, field

from control.schema.findings import Unwritten


@dataclass(frozen=True, slots=True)
class ClientLease:
    """The lease as the receiving side holds it."""

    ipv4: str
    ipv6: str
    gateway_ipv4: str
    gateway_ipv6: str
    dns: list[str]
    mtu: int
    offload: bool
    expires_in: float


@dataclass(frozen=True, slots=True)
class KillSwitch:
    """What keeps traffic from leaving outside the tunnel."""

    state: str = "off"
    """`off`, `armed` (beside a working link), or `holding` (there is no link)."""
    since_at: float | None = None
    """When this state began; None before the first change."""
    strict: bool = False
    """Whether the firewall also drops what routes cannot hold (`client.kill_switch`)."""
    rules: list[str] = field(default_factory=list)
    """What is in force, as `ip` and `nft` name it."""
    beside: list[str] = field(default_factory=list)
    """What goes beside the tunnel all the same: networks on the link, each with its interface."""
    open_on_failure: bool = False
    """The weaker promise: a lasting failure opens the network (`client.open_on_failure`)."""
    opened_by: str | None = None
    """The command that opens the network, while a final refusal keeps it closed."""


@dataclass(frozen=True, slots=True)
class ClientStatus:
    """All that fits on one screen about the receiving side."""

    pid: int
    version: str
    api: int
    role: str
    label: str
    fingerprint: str
    state: str
    """`idle`, `connecting`, `asked` (for this device's own yes to the digits), `waiting` (for
    approval), `connected`, `reconnecting`, `failed`."""
    reason: str | None = None
    """Why it is `asked`, `failed` or `reconnecting`: a sentence that names the fix."""
    error: str | None = None
    """The reason's stable name, for scripts: `secret_expired`, `denied`..."""
    code: str | None = None
    """The pairing code to compare, while `asked`, and `waiting` without a QR secret."""
    gateway: str | None = None
    gateway_fingerprint: str | None = None
    endpoint: str | None = None
    transport: str | None = None
    outlet: str = "nic"
    """Where packets leave the tunnel on this device: `nic` (the whole machine uses it),
    `namespace` (the programs in it do), `proxy` (programs that connect to it do)."""
    interface: str | None = None
    """The virtual NIC; None with a proxy."""
    proxy: str | None = None
    """Where programs connect to the proxy, where that is the outlet: `127.0.0.1:1080`."""
    lease: ClientLease | None = None
    sharing: str | None = None
    """As the gateway's STATUS said last: `on`, `off`, `unavailable`."""
    shut_out: str = ""
    """Why the gateway's owner does not let this device use the tunnel now, a sentence; empty when
    it may."""
    quota_left: int | None = None
    """Bytes that are left of this device's quota; None without one."""
    connected_for: float | None = None
    reconnects: int = 0
    rtt_ms: float | None = None
    from_tunnel_bytes: int = 0
    to_tunnel_bytes: int = 0
    from_tunnel_rate: float = 0.0
    to_tunnel_rate: float = 0.0
    counters: dict[str, int] = field(default_factory=dict)
    kill_switch: KillSwitch = field(default_factory=KillSwitch)
    unwritten: list[Unwritten] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class KnownGateway:
    """A gateway that this client has been paired with."""

    name: str
    fingerprint: str
    endpoints: list[str]
    last_seen_at: float


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone on the receiving device's USB."""

    serial: str
    """`usb:SERIAL` is what to connect to."""
    model: str
    state: str
    """`ready`, `not_allowed`, `offline`, `held`, `no_right`, `unsupported`, `debugging_off`."""
    advice: str = ""
    """What to do so that it can be used; empty when it can."""


@dataclass(frozen=True, slots=True)
class NearbyGateway:
    """A gateway that is near, or what may be one. Nothing of it is proven."""

    way: str
    """`cable`: a phone on USB; `router`: this network's router; `announced`: heard by mDNS."""
    target: str
    """As `connect` takes it for `gateway`."""
    name: str
    """As it calls itself; empty where that was not heard."""
    fingerprint: str
    """As it has shown or announced it; empty where it has not."""
    kind: str
    """`usb`, `lan`, `hotspot` or `routed`."""
    known: bool
    """Whether this client has been paired with the gateway of that fingerprint."""
    advice: str
    """What keeps it from being used, and what to do; empty for nothing."""


@dataclass(frozen=True, slots=True)
class Nearby:
    """What was found near this device, in the order in which it should be tried."""

    gateways: list[NearbyGateway]
    advice: str
    """Why announcements were not heard, and what to do; empty when they were listened for."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A place where the gateway of the present run (or the last) may be reached."""

    endpoint: str
    """`transport:address:port`."""
    transport: str
    kind: str
    """`usb`, `lan`, `hotspot`, or `routed`: on none of this device's networks."""
    outcome: str
    """Of the last attempt: `won`, `slower`, `refused`, `timed_out`, `unreachable`; or `untried`."""
    reason: str | None = None
    """A few words, where there are some."""
    took: float | None = None
    """Seconds from the attempt's beginning to its outcome."""
    at: float | None = None
    """Unix time of the outcome."""
    in_use: bool = False
    """Whether the link runs over it now."""


@dataclass(frozen=True, slots=True)
class LinkRecord:
    """A link of the past, or the one that runs."""

    id: int
    """Counts from 1 since the service began."""
    began_at: float
    gateway: str
    endpoint: str
    transport: str
    kind: str
    resumed: bool
    """Whether it went on with the session before it."""
    seconds: float
    """How long it carried packets; so far, while it runs."""
    away: float | None = None
    """Seconds without a link before it; None when there was nothing to miss."""
    attempts: int = 0
    """Attempts since the link before that led to none."""
    ended: str | None = None
    """Why it ended: a stable name; None while it runs."""
    sentence: str | None = None
    """The same for people."""
    from_tunnel_bytes: int = 0
    to_tunnel_bytes: int = 0
    flows: int | None = None
    """With a resumed session: TCP connections of this host that came over to it."""
