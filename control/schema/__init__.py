"""The control API's vocabulary: what every method answers, as plain records.

A record is a frozen dataclass whose fields are JSON values, lists of them, or
other records, so that the codec can be one generic function. The services
fill these in, the command prints them, the console draws them; none of the
three knows the other's objects. Times are seconds; `*_in` counts down from
now, `*_at` is Unix time. Byte counters name their direction.

A file holds what is asked for together; all of them are named here, where they are read from.
"""

from control.schema.client import (
    ClientLease,
    ClientStatus,
    Endpoint,
    KillSwitch,
    KnownGateway,
    LinkRecord,
    Nearby,
    NearbyGateway,
    Phone,
)
from control.schema.devices import (
    DeviceCounters,
    Lease,
    OfferState,
    PairOffer,
    Peer,
    Refusal,
    Request,
)
from control.schema.dns import Dns, DnsQuestion
from control.schema.findings import (
    Check,
    CheckAsker,
    CheckExit,
    CheckNote,
    Finding,
    Unwritten,
)
from control.schema.gateway import Egress, GatewayStatus, Vpn
from control.schema.happenings import Event, EventPage, LogLine, LogPage
from control.schema.rules import DeviceRules, RuleTemplate
from control.schema.settings import Setting, Suggestion
from control.schema.traffic import Flow, Flows, Traffic, Usage, UsageRow
from control.schema.wireguard import (
    Wireguard,
    WireguardConfig,
    WireguardDevice,
    WireguardTrouble,
)

__all__ = [
    "API_VERSION",
    "Check",
    "CheckAsker",
    "CheckExit",
    "CheckNote",
    "ClientLease",
    "ClientStatus",
    "DeviceCounters",
    "DeviceRules",
    "Dns",
    "DnsQuestion",
    "Egress",
    "Endpoint",
    "Event",
    "EventPage",
    "Finding",
    "Flow",
    "Flows",
    "GatewayStatus",
    "KillSwitch",
    "KnownGateway",
    "Lease",
    "LinkRecord",
    "LogLine",
    "LogPage",
    "Nearby",
    "NearbyGateway",
    "OfferState",
    "PairOffer",
    "Peer",
    "Phone",
    "Refusal",
    "Request",
    "RuleTemplate",
    "Setting",
    "Suggestion",
    "Traffic",
    "Unwritten",
    "Usage",
    "UsageRow",
    "Vpn",
    "Wireguard",
    "WireguardConfig",
    "WireguardDevice",
    "WireguardTrouble",
]

API_VERSION = 1
"""Raised when a field changes its meaning; added fields do not raise it."""
