"""What a running gateway consists of, by name.

`Gateway.start` makes it once, when all of it is there. Who acts on the gateway as a whole
(`owner`) or shows it (`snapshots`) is given this; all else is given what it needs and no more.
"""

from __future__ import annotations

from dataclasses import dataclass

from eventloop.clock import Clock
from gateway.admission import Admission
from gateway.dns.forwarder import DnsForwarder
from gateway.endpoints import Endpoints
from gateway.entrance import Entrance
from gateway.journal import Journal
from gateway.nat.counters import Counters
from gateway.nat.router import Nat
from gateway.offers import OfferBook
from gateway.peers import PeerRegistry
from gateway.pulse import Pulse
from gateway.sharing import Sharing
from gateway.tunnels import Tunnels
from gateway.vpn.detector import VpnDetector
from gateway.vpn.guard import EgressGuard
from gateway.wireguard_access import WireguardAccess
from vshp.pairing import OneTimeSecrets


@dataclass(frozen=True, slots=True)
class Parts:
    """A running gateway."""

    clock: Clock
    """Requests, tunnels and flows are timed by its `now`."""
    pulse: Pulse
    counters: Counters
    journal: Journal
    registry: PeerRegistry
    detector: VpnDetector
    guard: EgressGuard
    nat: Nat
    dns: DnsForwarder
    sharing: Sharing
    secrets: OneTimeSecrets
    offers: OfferBook
    admission: Admission
    entrance: Entrance
    endpoints: Endpoints
    tunnels: Tunnels
    wireguard: WireguardAccess
