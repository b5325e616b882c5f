"""The control API's vocabulary: what every method answers, as plain records.

A record is a frozen dataclass whose fields are JSON values, lists of them, or
other records, so that the codec can be one generic function. The services
fill these in, the command prints them, the console draws them; none of the
three knows the other's objects. Times are seconds; `*_in` counts down from
now, `*_at` is Unix time. Byte counters name their direction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

API_VERSION = 1
"""Raised when a field changes its meaning; added fields do not raise it."""


@dataclass(frozen=True, slots=True)
class Vpn:
    """The VPN as the detector sees it."""

    state: str
    """`active`, `absent`, or `excluded` (there is one, but not for this app)."""
    interface: str | None = None
    kind: str | None = None
    """`tun`, `wireguard`, `ppp`, `ipsec`, `named` (by the owner), or `bypass`."""
    addresses: list[str] = field(default_factory=list)
    ipv4: bool = False
    ipv6: bool = False
    guard: str = "device"
    """What ties sockets to it: `device`, `unicast-if`, `address`, or `none` (bypass)."""
    reason: str | None = None
    """A sentence for people, when the state is not `active`."""


@dataclass(frozen=True, slots=True)
class Egress:
    """The egress proof: the VPN interface's counters against ours, since the VPN came up."""

    looks: int = 0
    """How often they were compared."""
    age: float | None = None
    """Seconds since the last look; None before the first, or where counters cannot be read."""
    interface_sent: int = 0
    """Bytes; the interface counts headers and others' traffic too."""
    interface_received: int = 0
    sent: int = 0
    """Bytes of TCP that hosts have acknowledged to us."""
    received: int = 0
    alarms: list[str] = field(default_factory=list)
    """Names of the alarms that stand: `egress__sent_outside_vpn`..."""


@dataclass(frozen=True, slots=True)
class Unwritten:
    """Something is in force that is not stored, so that a restart would forget it."""

    found: str
    """Which place cannot be written, why, and what waits: a sentence."""
    advice: str


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """All that fits on one screen about the sharing side."""

    pid: int
    version: str
    api: int
    role: str
    name: str
    fingerprint: str
    sharing: str
    """`on`, `off`, or `unavailable` (wanted, but there is no VPN)."""
    vpn: Vpn
    listen: list[str]
    uptime: float
    peers: int
    connected: int
    requests: int
    flows: int
    from_tunnel_bytes: int
    to_tunnel_bytes: int
    from_tunnel_rate: float
    """Bytes a second, over about the last two seconds; likewise the other."""
    to_tunnel_rate: float
    counters: dict[str, int] = field(default_factory=dict)
    alarms: list[str] = field(default_factory=list)
    bypass: bool = False
    egress: Egress = field(default_factory=Egress)
    wake_lock: str = "none"
    """On a phone: `held`, `free`, or why it cannot be held. Elsewhere `none`."""
    unwritten: list[Unwritten] = field(default_factory=list)


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


@dataclass(frozen=True, slots=True)
class DeviceRules:
    """What the owner allows a device."""

    id: str
    label: str
    rules: dict[str, Any]
    """Only what is there, as `set_rules` takes it: `quota`, `limit_up`, `limit_down` (bits per
    second), `until` (Unix time), `hours`, `paused`, `destinations`, `max_flows`. Empty:
    everything is allowed."""
    line: str
    """The same in a line for people; empty: everything."""
    texts: dict[str, str]
    """Each of them as people write it, in the gateway's local time; destinations are counted."""
    unwritten: list[Unwritten] = field(default_factory=list)
    """As in `Done`."""


@dataclass(frozen=True, slots=True)
class RuleTemplate:
    """Rules that go by a name."""

    name: str
    rules: dict[str, Any]
    """As `set_rules` takes them as a change; `for` is a length from when it is used."""
    line: str
    """The same in a line for people."""
    shipped: bool
    """Whether it is as it came with the program."""
    reason: str = ""
    """Why it cannot be used; empty: it can."""


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


@dataclass(frozen=True, slots=True)
class Flow:
    """One TCP connection, UDP mapping or ping session of a client.

    From the client service: one of its host's sockets that use the tunnel.
    There `peer_id` and `label` are the program's name (`?` when it is not
    known), `age` counts from when it was first seen, and `from_tunnel` is what
    the program received.
    """

    id: int
    peer_id: str
    label: str
    protocol: str
    """`tcp`, `udp`, `icmp`."""
    state: str
    source: str
    destination: str
    """`host:port`, of pings the address alone; IPv6 in brackets; `*` for a UDP mapping with many
    remotes."""
    age: float
    idle: float
    from_tunnel_bytes: int
    to_tunnel_bytes: int
    from_tunnel_rate: float = 0.0
    to_tunnel_rate: float = 0.0
    device: str | None = None
    """The interface its socket is bound to."""
    local: str | None = None
    """The local address it left by."""
    pid: int | None = None
    """From the client: the process that holds it."""
    rtt_ms: float | None = None
    """From the client, with TCP; likewise the retransmissions."""
    retransmits: int | None = None
    counted: bool = True
    """Whether its bytes are known; the client's kernel does not count those of UDP."""
    name: str = ""
    """From the gateway: the name that the device had asked for and been told the destination's
    address before it opened this; empty where it is not known, as while `privacy.names` is off."""


@dataclass(frozen=True, slots=True)
class Flows:
    """A page of flows, and how many there were before the limit."""

    total: int
    flows: list[Flow]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a device, to sharing, or to the tunnel."""

    seq: int
    """Counts up, over restarts of the service: the order of events."""
    at: float
    """Unix time, for people."""
    monotonic: float
    """Seconds of a clock that is never set: the time between two events of one run."""
    kind: str
    """A stable name; see `services/control/events.py`."""
    level: str
    """`info`, `warning` or `error`."""
    text: str
    """A line for people, as it is in the log."""
    device: str = ""
    """The id of the device or of its request; empty: it is about none, or from a client."""
    label: str = ""
    """What the device is called; from a client: the gateway."""


@dataclass(frozen=True, slots=True)
class EventPage:
    """The newest events of those that are asked for."""

    events: list[Event]
    """Oldest first."""
    newest: int
    """`seq` of the newest event there is; 0: there is none."""
    began: int
    """`seq` of the newest event that is from before this run of the service."""


@dataclass(frozen=True, slots=True)
class LogLine:
    at: float
    level: str
    logger: str
    message: str
    seq: int = 0
    """Counts from 1 since the service began, whatever the level. Lines of events from before
    that are counted with it."""
    device: str = ""
    """The id of the device that the line is about; likewise its name."""
    label: str = ""


@dataclass(frozen=True, slots=True)
class LogPage:
    """The newest lines of a kind, and what is missing before them."""

    lines: list[LogLine]
    """Oldest first."""
    left_out: int
    """Lines of the kind that are kept but did not fit: `after` the first that was asked for."""
    oldest: int
    """`seq` of the oldest line that is kept, of any level; those before it are gone."""
    newest: int
    """`seq` of the newest line there is, of any level; 0: there is none."""


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


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went through in the last minutes, as the service remembers it: since its start."""

    interval: float
    """Seconds of one sample."""
    newest: int
    """The number of the newest sample; it grows by one each interval, so that who draws several
    as one column can always begin with the same."""
    from_tunnel: list[int]
    """Bytes in each interval, the oldest first; the newest is the last whole one."""
    to_tunnel: list[int]
    peer: str | None = None
    """Whose it is, by id; None: everybody's."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one device used in one stretch of time, in bytes of IP packets with their headers."""

    peer_id: str
    label: str
    period: str
    """`2026-11-27T14:00+01:00` (an hour), `2026-11-27`, `2026-11`, by the gateway's calendar; empty
    in a row for all of the time."""
    begins_at: float
    """Unix time; 0 in a row for all that there ever was."""
    from_tunnel_bytes: int
    """What the device sent, whatever became of it."""
    to_tunnel_bytes: int
    """What was sent to it, also what it did not get and was sent again."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What devices have used, up to now."""

    by: str
    """`device`, `hour`, `day` or `month`."""
    since: float
    """When the first hour or day begins that counts, Unix time; 0: all that there ever was."""
    rows: list[UsageRow]
    """The latest last; by device, who used most first."""
    from_tunnel_bytes: int
    """The sum of all rows, also of those that are left out; likewise the next."""
    to_tunnel_bytes: int
    left_out: int = 0
    """Earlier rows that the limit left no room for."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Something that a setting may be, where it may be other things, too."""

    value: str
    """As `set` takes it; empty for the default."""
    note: str = ""
    """A word about it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting: what it is now, what it may be."""

    key: str
    """`section.key`, as in the file."""
    value: Any
    default: Any
    kind: str
    """`text`, `bool`, `int`, `float`, `list` or `table`."""
    help: str
    source: str
    """Where the value is from: `file`, `default` or `option` (of the command line)."""
    live: bool
    """Whether the service takes a change while it runs."""
    pending: bool = False
    """Changed, but in force only after a restart."""
    danger: bool = False
    """Weakens a promise: ask twice."""
    choices: list[str] = field(default_factory=list)
    """What a `text` may be; empty: anything."""
    suggestions: list[Suggestion] = field(default_factory=list)
    """What is there to be named now (interfaces); any other value may be given as well."""
    note: str = ""
    """What has to be known of the present value, such as that no interface has this name now."""
    low: float | None = None
    """Bounds of a number, both allowed."""
    high: float | None = None
    unwritten: list[Unwritten] = field(default_factory=list)
    """After a change: what of it could not be stored."""


@dataclass(frozen=True, slots=True)
class WireguardConfig:
    """A device for a WireGuard app that was made just now; not to be had again."""

    id: str
    """Of the device, once it is let in; empty for an invitation."""
    label: str
    text: str
    """What the app's file or QR code holds. It has the private key, unless the device has it."""
    tunnel: str
    """A name that every app takes for the tunnel: for the file's name."""
    endpoint: str
    """Where the app will look for the gateway."""
    expires_in: float
    """Seconds within which it has to be used for the first time."""


@dataclass(frozen=True, slots=True)
class WireguardDevice:
    """A device that comes by a WireGuard app."""

    id: str
    label: str
    key: str
    """Public, as the apps show it; empty where a device is invited to bring its own."""
    state: str
    """`offered` (made, not used yet), `invited` (for the next key), `asking`, `connected`, `quiet`
    (let in; no session now)."""
    ipv4: str
    ipv6: str
    told: str
    """Where its config says the gateway is."""
    endpoint: str | None = None
    """Where it was heard last."""
    handshake_age: float | None = None
    """Seconds since the latest handshake; None before the first since the gateway's start."""
    received_bytes: int = 0
    """Datagrams of the device, as `wg show` counts them; likewise the other."""
    sent_bytes: int = 0
    expires_in: float | None = None
    """Seconds in which an unused config is forgotten."""
    renews: str | None = None
    """The id of the device that this will be, once its new key is used."""
    asking: list[str] = field(default_factory=list)
    """The keys that ask to be the invited device."""


@dataclass(frozen=True, slots=True)
class WireguardTrouble:
    """Why a device that comes by a WireGuard app is not there."""

    cause: str
    """`shared`, `clock`, `unconfirmed`, `endpoint`, `gateway_key`, `unknown_key`, `revoked` or
    `silence`."""
    device: str | None
    """Its id; None where no more than an address is known."""
    found: str
    advice: str


@dataclass(frozen=True, slots=True)
class Wireguard:
    """The gateway's WireGuard side."""

    key: str
    """The gateway's public key."""
    port: int
    """0 where it is off."""
    listen: list[str]
    """Empty until there is a device."""
    devices: list[WireguardDevice]
    troubles: list[WireguardTrouble] = field(default_factory=list)
    """At most one a device or stranger, the likeliest first."""


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
