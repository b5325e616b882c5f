"""The methods of the two services: names, parameters, results, permission.

One table serves both ends: the service checks calls against it, the clients
build calls and read answers by it. A method that only reads and whose
parameters all have defaults may also be subscribed to; its name is then the
topic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from control import schema
from control.traffic import SAMPLES

DEFAULT_INTERVAL = 1.0
MIN_INTERVAL = 0.1
MAX_INTERVAL = 60.0
"""Seconds between two snapshots of a topic."""
MAX_TOPICS = 16
"""Topics of one subscription."""
MAX_FLOWS = 2000
MAX_LOG_LINES = 2000
MAX_EVENTS = 1000
MAX_TEXT = 4096
"""Characters of a text parameter: a URI, a label, a filter."""

FLOW_SORTS = (
    "age", "idle", "label", "protocol", "state", "source", "destination",
    "from_tunnel_bytes", "to_tunnel_bytes", "from_tunnel_rate", "to_tunnel_rate", "rate", "bytes",
)  # fmt: skip
USAGE_SPANS = ("device", "hour", "day", "month")
MAX_USAGE_ROWS = 5000
MAX_TIME = 4_102_444_800
"""Unix time of the end of the century."""
LEVELS = ("debug", "info", "warning", "error", "critical")
TRANSPORTS = ("auto", "tcp", "udp", "usb")


class Permission(StrEnum):
    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class NoParams:
    """For methods that take nothing."""


@dataclass(frozen=True, slots=True)
class HelloParams:
    """What a client says first, if it says anything: the API versions it can speak."""

    api: int = schema.API_VERSION
    api_min: int = 1
    client: str = ""
    """The client's name, for the log."""
    read_only: bool = False
    """Give up the permission to change anything, on this connection."""


@dataclass(frozen=True, slots=True)
class IdParams:
    """An id, or its beginning as long as that fits one thing only."""

    id: str

    def __post_init__(self) -> None:
        _check_text("id", self.id)


@dataclass(frozen=True, slots=True)
class ApproveParams:
    """A request, as in `deny`, and what its device may do from its first packet."""

    id: str
    template: str | None = None
    """As in `set_rules`; likewise the other. Neither: as before, where it was approved before."""
    change: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_text("id", self.id)
        if self.template is not None:
            _check_text("template", self.template)


@dataclass(frozen=True, slots=True)
class SetRulesParams:
    """Other rules for a device. Where one of them is refused, all stay as they were."""

    id: str
    """As in `rename`."""
    change: dict[str, Any] = field(default_factory=dict)
    """By field, what is to be set: `quota`, `limit_up`, `limit_down`, `until` or `for`, `hours`,
    `paused`, `destinations`, `max_flows`, as people write it or as `rules` answers it; null takes
    a rule away. What is not named stays."""
    template: str | None = None
    """Rules by name, in place of those that are there; `change` goes before them."""
    clear: bool = False
    """Take away what is there first."""

    def __post_init__(self) -> None:
        _check_text("id", self.id)
        if self.template is not None:
            _check_text("template", self.template)


@dataclass(frozen=True, slots=True)
class SetTemplateParams:
    """A template as it is to be; null: as it is shipped, or none."""

    name: str
    rules: dict[str, Any] | None = None
    """As `change` in `set_rules`, without `until`."""

    def __post_init__(self) -> None:
        _check_text("name", self.name)


@dataclass(frozen=True, slots=True)
class UndenyParams:
    """The request whose denial is taken back; null: the latest."""

    id: str | None = None

    def __post_init__(self) -> None:
        if self.id is not None:
            _check_text("id", self.id)


@dataclass(frozen=True, slots=True)
class RenameParams:
    id: str
    label: str

    def __post_init__(self) -> None:
        _check_text("id", self.id)
        _check_text("label", self.label)


@dataclass(frozen=True, slots=True)
class PairParams:
    """How long the code is good; the protocol allows two minutes at most."""

    seconds: float = 120.0

    def __post_init__(self) -> None:
        if not 1 <= self.seconds <= 120:
            raise ValueError("seconds must be from 1 to 120")


@dataclass(frozen=True, slots=True)
class WireguardAddParams:
    """A device for a WireGuard app."""

    label: str
    key: str | None = None
    """Its public key, as the apps show it, where it has made one; else a pair is made."""
    endpoint: str | None = None
    """`HOST` or `HOST:PORT` by which it shall reach the gateway; else the likeliest address."""

    def __post_init__(self) -> None:
        _check_text("label", self.label)
        for name, value in (("key", self.key), ("endpoint", self.endpoint)):
            if value is not None:
                _check_text(name, value)


@dataclass(frozen=True, slots=True)
class WireguardInviteParams:
    """A config for a WireGuard device that makes its own key pair."""

    label: str
    endpoint: str | None = None
    """As in `wireguard_add`."""

    def __post_init__(self) -> None:
        _check_text("label", self.label)
        if self.endpoint is not None:
            _check_text("endpoint", self.endpoint)


@dataclass(frozen=True, slots=True)
class WireguardRenewParams:
    """Another key for a WireGuard device."""

    id: str
    """As in `rename`."""
    key: str | None = None
    """As in `wireguard_add`; likewise the other."""
    endpoint: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("id", self.id), ("key", self.key), ("endpoint", self.endpoint)):
            if value is not None:
                _check_text(name, value)


@dataclass(frozen=True, slots=True)
class RelistenParams:
    """Open the listening sockets anew."""

    drop: bool = False
    """Close all links, too; devices come back by themselves."""


@dataclass(frozen=True, slots=True)
class FlowsParams:
    """Which page of the flows."""

    sort: str = "age"
    descending: bool = False
    filter: str = ""
    """Words that must all occur in label (device or program), protocol, state, source or
    destination."""
    limit: int = 200
    peer: str | None = None
    """Only the flows of this peer (id or its beginning); from the client: of this program."""

    def __post_init__(self) -> None:
        _check_choice("sort", self.sort, FLOW_SORTS)
        _check_range("limit", self.limit, 0, MAX_FLOWS)
        if len(self.filter) > MAX_TEXT:
            raise ValueError(f"filter must be at most {MAX_TEXT} characters long")


@dataclass(frozen=True, slots=True)
class FlowParams:
    id: int


@dataclass(frozen=True, slots=True)
class LogsParams:
    limit: int = 100
    level: str = "debug"
    """The least level to show."""
    filter: str = ""
    """Words that must all occur in level, logger or message."""
    after: int = 0
    """Only lines with a greater `seq`."""
    device: str = ""
    """Only what happened to devices whose id begins like this, or whose name contains it."""

    def __post_init__(self) -> None:
        _check_range("limit", self.limit, 0, MAX_LOG_LINES)
        _check_choice("level", self.level, LEVELS)
        for name, value in (("filter", self.filter), ("device", self.device)):
            if len(value) > MAX_TEXT:
                raise ValueError(f"{name} must be at most {MAX_TEXT} characters long")


@dataclass(frozen=True, slots=True)
class EventsParams:
    limit: int = 100
    device: str = ""
    """As in `logs`."""
    after: int = 0
    """Only events with a greater `seq`."""

    def __post_init__(self) -> None:
        _check_range("limit", self.limit, 0, MAX_EVENTS)
        if len(self.device) > MAX_TEXT:
            raise ValueError(f"device must be at most {MAX_TEXT} characters long")


@dataclass(frozen=True, slots=True)
class CheckParams:
    """Which families to look at."""

    ipv4: bool = True
    ipv6: bool = True

    def __post_init__(self) -> None:
        if not self.families():
            raise ValueError("one of ipv4 and ipv6 must be true")

    def families(self) -> tuple[int, ...]:
        """4, 6 or both."""
        return tuple(family for family, wanted in ((4, self.ipv4), (6, self.ipv6)) if wanted)


@dataclass(frozen=True, slots=True)
class TrafficParams:
    """How much of the traffic's history."""

    limit: int = SAMPLES
    """The newest samples, at most."""

    def __post_init__(self) -> None:
        _check_range("limit", self.limit, 0, SAMPLES)


@dataclass(frozen=True, slots=True)
class PeerTrafficParams:
    """The same of a gateway: in all, or of one device."""

    limit: int = SAMPLES
    peer: str | None = None
    """Its id or the beginning of one; null: all devices together."""

    def __post_init__(self) -> None:
        _check_range("limit", self.limit, 0, SAMPLES)
        if self.peer is not None:
            _check_text("peer", self.peer)


@dataclass(frozen=True, slots=True)
class UsageParams:
    """Whose usage, since when, and cut how."""

    peer: str | None = None
    """Its name, its id or the beginning of one; null: all devices, each by itself."""
    by: str = "device"
    """`device`: one row each. `hour`, `day`, `month`: a row for each in which it used something."""
    since: float | None = None
    """Unix time; the hour or day in which it lies is the first. Null: as far back as there is."""
    limit: int = MAX_USAGE_ROWS
    """Rows at most: the latest."""

    def __post_init__(self) -> None:
        _check_choice("by", self.by, USAGE_SPANS)
        _check_range("limit", self.limit, 0, MAX_USAGE_ROWS)
        if self.peer is not None:
            _check_text("peer", self.peer)
        if self.since is not None and not 0 <= self.since <= MAX_TIME:
            raise ValueError(f"since must be 0 to {MAX_TIME}")


@dataclass(frozen=True, slots=True)
class ConnectParams:
    """Whom to connect to: a pairing URI, a known gateway, or (neither) the last one."""

    uri: str | None = None
    gateway: str | None = None
    """Name, fingerprint, or the beginning of one."""
    transport: str = "auto"
    code: str | None = None
    """The digits that the gateway at the address shows: agrees to the attempt that waits."""
    unseen: bool = False
    """Believe whoever answers at the address, without a look at the digits."""
    open_on_failure: bool | None = None
    """The weaker promise: a lasting failure opens the network. None: as set."""

    def __post_init__(self) -> None:
        if self.code is not None:
            _check_text("code", self.code)
        if self.uri is not None and self.gateway is not None:
            raise ValueError("give either uri or gateway, not both")
        for name, value in (("uri", self.uri), ("gateway", self.gateway)):
            if value is not None:
                _check_text(name, value)
        _check_choice("transport", self.transport, TRANSPORTS)


@dataclass(frozen=True, slots=True)
class ConfirmParams:
    """The digits that the gateway shows, as its user reads them; blanks do not matter."""

    code: str

    def __post_init__(self) -> None:
        _check_text("code", self.code)


@dataclass(frozen=True, slots=True)
class SetParams:
    """A setting and its new value; null is the default. A text is read as a person types it."""

    key: str
    value: Any = None

    def __post_init__(self) -> None:
        _check_text("key", self.key)


@dataclass(frozen=True, slots=True)
class SubscribeParams:
    topics: list[str]
    interval: float = DEFAULT_INTERVAL
    params: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Parameters of a topic's method, by topic."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.topics) <= MAX_TOPICS:
            raise ValueError(f"topics must be 1 to {MAX_TOPICS} names")
        if not MIN_INTERVAL <= self.interval <= MAX_INTERVAL:
            raise ValueError(f"interval must be {MIN_INTERVAL:g} to {MAX_INTERVAL:g} seconds")
        for topic in self.params:
            if topic not in self.topics:
                raise ValueError(f"params.{topic} belongs to no topic of this subscription")


@dataclass(frozen=True, slots=True)
class UnsubscribeParams:
    subscription: int


@dataclass(frozen=True, slots=True)
class Hello:
    """What the service answers: the version agreed on, and who it is."""

    api: int
    version: str
    role: str
    pid: int
    permission: str


@dataclass(frozen=True, slots=True)
class Done:
    """A change was made; to what, where it was made to something."""

    id: str | None = None
    label: str | None = None
    unwritten: list[schema.Unwritten] = field(default_factory=list)
    """The change is in force; what could not be stored, this or something else."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    subscription: int


@dataclass(frozen=True, slots=True)
class Method:
    """A method as both ends know it."""

    name: str
    help: str
    """What it does or answers, in a few words."""
    params: type
    result: Any
    """A record, or `list[record]`."""
    permission: Permission = Permission.READ
    topic: bool = False


def _table(*methods: Method) -> dict[str, Method]:
    return {method.name: method for method in methods}


_WRITE = Permission.WRITE

COMMON = _table(
    Method("hello", "agree on a version of this API, and tell who is there", HelloParams, Hello),
    Method("subscribe", "be sent snapshots of topics, as they change", SubscribeParams, Subscribed),
    Method("unsubscribe", "end a subscription", UnsubscribeParams, Done),
    Method("logs", "the newest log lines", LogsParams, list[schema.LogLine], topic=True),
    Method("log", "the newest log lines, and what is missing before them",
           LogsParams, schema.LogPage, topic=True),
    Method("events", "the newest events, also of earlier runs",
           EventsParams, schema.EventPage, topic=True),
    Method("settings", "all settings of this service", NoParams, list[schema.Setting], topic=True),
    Method("set", "change a setting", SetParams, schema.Setting, _WRITE),
    Method("doctor", "examine everything that this service needs", NoParams, list[schema.Finding]),
    Method("check", "ask servers outside whether traffic leaves by the VPN; takes some seconds",
           CheckParams, schema.Check),
    Method("shutdown", "end the service", NoParams, Done, _WRITE),
)  # fmt: skip

GATEWAY = COMMON | _table(
    Method("status", "how sharing is", NoParams, schema.GatewayStatus, topic=True),
    Method("share", "turn sharing on", NoParams, schema.GatewayStatus, _WRITE),
    Method("unshare", "turn sharing off", NoParams, schema.GatewayStatus, _WRITE),
    Method("relisten", "open the listening sockets anew",
           RelistenParams, schema.GatewayStatus, _WRITE),
    Method("pair", "make a pairing code", PairParams, schema.PairOffer, _WRITE),
    Method("offers", "the last pairing codes, the newest first, and what became of them",
           NoParams, list[schema.OfferState], topic=True),
    Method("requests", "devices that wait for approval",
           NoParams, list[schema.Request], topic=True),
    Method("approve", "let a waiting device in", ApproveParams, Done, _WRITE),
    Method("deny", "turn a waiting device away", IdParams, Done, _WRITE),
    Method("undeny", "take a denial back", UndenyParams, Done, _WRITE),
    Method("peers", "devices that were approved", NoParams, list[schema.Peer], topic=True),
    Method("revoke", "end a device's pairing", IdParams, Done, _WRITE),
    Method("rename", "give a device another name", RenameParams, Done, _WRITE),
    Method("rules", "what a device may do", IdParams, schema.DeviceRules),
    Method("set_rules", "change what a device may do", SetRulesParams, schema.DeviceRules, _WRITE),
    Method("templates", "rules that go by a name", NoParams, list[schema.RuleTemplate], topic=True),
    Method("set_template", "make, change or remove rules that go by a name",
           SetTemplateParams, list[schema.RuleTemplate], _WRITE),
    Method("leases", "what approved devices were given, and how they use it",
           NoParams, list[schema.Lease], topic=True),
    Method("flows", "connections through the tunnel", FlowsParams, schema.Flows, topic=True),
    Method("close_flow", "end a connection", FlowParams, Done, _WRITE),
    Method("dns", "the leases' resolver", NoParams, schema.Dns, topic=True),
    Method("traffic", "what went through in the last minutes",
           PeerTrafficParams, schema.Traffic, topic=True),
    Method("counters", "what was counted of a device since its session began",
           IdParams, schema.DeviceCounters),
    Method("usage", "what devices have used, by hour, day or month",
           UsageParams, schema.Usage, topic=True),
    Method("wireguard", "the WireGuard side, its devices and what is wrong with them",
           NoParams, schema.Wireguard, topic=True),
    Method("wireguard_add", "make a device for a WireGuard app",
           WireguardAddParams, schema.WireguardConfig, _WRITE),
    Method("wireguard_invite", "make a config for a WireGuard device that makes its own key",
           WireguardInviteParams, schema.WireguardConfig, _WRITE),
    Method("wireguard_renew", "make another key for a WireGuard device",
           WireguardRenewParams, schema.WireguardConfig, _WRITE),
)  # fmt: skip

CLIENT = COMMON | _table(
    Method("status", "how the connection is", NoParams, schema.ClientStatus, topic=True),
    Method("connect", "connect to a gateway", ConnectParams, schema.ClientStatus, _WRITE),
    Method("confirm", "agree to the digits that the gateway shows",
           ConfirmParams, schema.ClientStatus, _WRITE),
    Method("refuse", "say that the digits are not the same, and give up",
           NoParams, schema.ClientStatus, _WRITE),
    Method("disconnect", "disconnect, and undo all changes to the system",
           NoParams, schema.ClientStatus, _WRITE),
    Method("flows", "connections through the tunnel", FlowsParams, schema.Flows, topic=True),
    Method("endpoints", "where the gateway may be reached, the best first",
           NoParams, list[schema.Endpoint], topic=True),
    Method("history", "past links, the newest first",
           NoParams, list[schema.LinkRecord], topic=True),
    Method("gateways", "gateways that this device was approved by",
           NoParams, list[schema.KnownGateway], topic=True),
    Method("nearby", "look for gateways near this device; takes some seconds",
           NoParams, schema.Nearby),
    Method("traffic", "what went through in the last minutes",
           TrafficParams, schema.Traffic, topic=True),
    Method("forget", "forget a gateway", IdParams, Done, _WRITE),
    Method("phones", "phones on this device's USB, and why one cannot be used",
           NoParams, list[schema.Phone]),
    Method("forget_usb_key", "remove the key that phones know this device by",
           NoParams, Done, _WRITE),
)  # fmt: skip


def _check_text(name: str, value: str) -> None:
    if not 1 <= len(value) <= MAX_TEXT:
        raise ValueError(f"{name} must be 1 to {MAX_TEXT} characters long")


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be {low} to {high}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}")
