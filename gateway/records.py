"""What the gateway is told and what it tells: its configuration and its snapshots."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.dns.forwarder import DnsConfig
from gateway.leases import LEASE_SECONDS
from gateway.model import VpnNetwork
from gateway.proof import EgressReport
from vshp.constants import DEFAULT_PORT

WIREGUARD_PORT = 51820
DEFAULT_MTU = 1500
GRACE_SECONDS = 300.0
"""How long a broken link's flows wait for the client to come back."""


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """How the gateway is set up; every field has a default that suits a phone."""

    listen: tuple[tuple[str, int], ...] = (("0.0.0.0", DEFAULT_PORT), ("::", DEFAULT_PORT))
    vpn_interface: str | None = None
    """The owner's choice; None: find the VPN."""
    name: str = "gateway"
    share: bool = False
    """Share from the start; else when told to."""
    pool_ipv4: str | None = None
    pool_ipv6: str | None = None
    mtu: int = DEFAULT_MTU
    grace: float = GRACE_SECONDS
    lease: float = LEASE_SECONDS
    """Seconds that a lease is good; renewed while its device is connected."""
    auto_approve_qr: bool = False
    """Approve devices that scanned the QR code without asking."""
    bypass: bool = False
    """Forward even outside the VPN. Shown wherever the state is shown."""
    max_descriptors: int | None = None
    """Bounds the NAT; None: RLIMIT_NOFILE."""
    address_dependent_filtering: bool = True
    """UDP: take datagrams only from hosts that the client has sent to (RFC 4787 5)."""
    wireguard: int = WIREGUARD_PORT
    """UDP port for WireGuard apps, once a device was made; 0: never."""
    dns: DnsConfig = field(default_factory=DnsConfig)
    """The leases' resolver: whom it asks, what it keeps."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A pairing URI and how long its secret is good, in seconds."""

    uri: str
    expires_in: float
    endpoints: tuple[str, ...]
    id: str
    """Names it in the list of offers (`OfferBook`)."""


@dataclass(frozen=True, slots=True)
class Knocks:
    """How often somebody came in by a local address, and when last (monotonic seconds)."""

    transport: str
    local: str
    count: int
    last: float


@dataclass(frozen=True, slots=True)
class GatewaySnapshot:
    """The gateway as a whole, for the control API. Rates are bytes a second."""

    sharing: str
    """`on`, `off`, or `unavailable` (wanted, but there is no VPN)."""
    vpn: VpnNetwork
    guard: str
    bypass: bool
    listen: list[str]
    uptime: float
    peers: int
    connected: int
    requests: int
    flows: int
    from_tunnel_bytes: int
    to_tunnel_bytes: int
    from_tunnel_rate: float
    to_tunnel_rate: float
    counters: dict[str, int]
    alarms: list[str]
    egress: EgressReport
