"""The sharing side in one record, and the VPN that it shares."""

from __future__ import annotations

from dataclasses import dataclass, field

from control.schema.findings import Unwritten


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
