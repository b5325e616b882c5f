"""What the owner is shown: the gateway as it is when somebody looks. Nothing here changes it.

Nothing is kept for whoever might look, but for two meters of rates. What a look may bring
about is a measurement: a device's round trip, when it is looked at, and at no other time.
"""

from __future__ import annotations

from gateway.dns.flights import Reply
from gateway.dns.forwarder import RecentQuestion
from gateway.listeners import spell_address
from gateway.model import PairingRequest, PeerDevice
from gateway.parts import Parts
from gateway.rates import RateMeter
from gateway.records import GatewaySnapshot, Knocks
from gateway.tunnels import Tunnel
from gateway.wireguard_access import WireguardAccess
from gateway.wireguard_diagnosis import Trouble
from splice.flow import Flow

ROUND_TRIP_AGE = 10.0
"""Seconds after which a device's round trip is measured anew, if somebody looks."""


class Snapshots:
    """Of a running gateway."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        now = parts.clock.now()
        self._started = now
        self._up, self._down = RateMeter(now), RateMeter(now)

    def now(self) -> float:
        """The clock that requests, tunnels and flows are timed by (monotonic seconds)."""
        return self._parts.clock.now()

    def status(self) -> GatewaySnapshot:
        """The gateway as a whole."""
        parts, now = self._parts, self._parts.clock.now()
        up, down = parts.tunnels.totals()
        return GatewaySnapshot(
            sharing=parts.sharing.state,
            vpn=parts.guard.network,
            guard=str(parts.guard.strength),
            bypass=parts.guard.bypass,
            listen=parts.entrance.listening(),
            uptime=now - self._started,
            peers=sum(not peer.revoked for peer in parts.registry.all()),
            connected=parts.tunnels.connected(),
            requests=len(parts.admission.desk),
            flows=sum(tunnel.nat_peer.flow_count for tunnel in parts.tunnels.all()),
            from_tunnel_bytes=up,
            to_tunnel_bytes=down,
            from_tunnel_rate=self._up.read(up, now),
            to_tunnel_rate=self._down.read(down, now),
            counters=self._counters(),
            alarms=parts.sharing.alarms(),
            egress=parts.sharing.egress,
        )

    def _counters(self) -> dict[str, int]:
        parts = self._parts
        counts = parts.counters.snapshot() | parts.guard.counters | parts.dns.counters
        counts |= parts.entrance.datagram_counters
        counts |= {f"wireguard__{k}": n for k, n in parts.wireguard.device.counters.items()}
        for link in parts.entrance.links.all():
            for name, n in link.counters.items():
                counts[name] = counts.get(name, 0) + n
        return counts

    # --- devices -----------------------------------------------------------------------------

    def counted_of(self, public_key: bytes) -> dict[str, int]:
        """What was counted of a device since its session began; nothing while it has none."""
        tunnel = self._parts.tunnels.of_key(public_key)
        if tunnel is None:
            return {}
        counts = tunnel.nat_peer.counters.snapshot()
        if tunnel.link is not None:
            for name, n in tunnel.link.counters.items():
                counts[name] = counts.get(name, 0) + n
        return dict(sorted(counts.items()))

    def requests(self) -> list[PairingRequest]:
        """Devices that wait, oldest first."""
        return self._parts.admission.desk.waiting()

    def request(self, request_id: str) -> PairingRequest:
        """The device that waits. Raises NoSuchRequest."""
        return self._parts.admission.desk.find(request_id)

    def peers(self) -> list[PeerDevice]:
        return self._parts.registry.all()

    def tunnels(self) -> list[Tunnel]:
        """Leases in use, with what carries them."""
        return self._parts.tunnels.all()

    def missing(self) -> bool:
        """Whether a device that runs our client has lost its link, and its session waits."""
        return any(t.config is not None and t.link is None for t in self.tunnels())

    def ask_round_trips(self) -> None:
        """Somebody looks at the tunnels: have round trips measured that are long known.

        Nobody looks, nobody is asked: a PING wakes a phone.
        """
        now = self._parts.clock.now()
        for tunnel in self.tunnels():
            if tunnel.link is not None and now - tunnel.asked_at >= ROUND_TRIP_AGE:
                tunnel.asked_at = now
                tunnel.link.ask_round_trip(now)
                self._parts.pulse.mark(tunnel.link)

    @property
    def wireguard(self) -> WireguardAccess:
        """WireGuard's devices, to be read only."""
        return self._parts.wireguard

    def wireguard_troubles(self) -> list[Trouble]:
        """Why WireGuard devices are not there, as far as can be told from here."""
        parts = self._parts
        own = [spell_address(address) for address in parts.detector.attached().own]
        return parts.wireguard.troubles(own, parts.endpoints.host(), parts.clock.now())

    # --- traffic -----------------------------------------------------------------------------

    def totals(self) -> tuple[int, int]:
        """Bytes from and to all tunnels since the start, ended ones included."""
        return self._parts.tunnels.totals()

    def flows(self, peer_id: str | None = None) -> list[Flow]:
        """The open flows of all devices or of one, to be read only. Raises NoSuchPeer."""
        if peer_id is None:
            return self._parts.nat.open_flows()
        tunnel = self._parts.tunnels.of_key(self._parts.registry.find(peer_id).public_key)
        return [] if tunnel is None else self._parts.nat.open_flows(tunnel.nat_peer)

    # --- where clients come in ---------------------------------------------------------------

    def knocks(self) -> list[Knocks]:
        """By which local addresses somebody has come in so far."""
        return self._parts.entrance.links.knocks()

    def lan_addresses(self) -> tuple[int, tuple[str, ...]]:
        """The port, and the addresses outside the VPN, that clients can reach; IPv4 first."""
        return self._parts.endpoints.on_networks()

    # --- names -------------------------------------------------------------------------------

    def resolve(self, wire: bytes, reply: Reply) -> None:
        """Ask the leases' resolver a question of our own (the doctor's), shared or not."""
        self._parts.dns.query(wire, False, "doctor", reply)

    def dns_state(self) -> tuple[dict[str, int], dict[str, int]]:
        """The resolver's counters, and the sizes of its cache and of what it is asking."""
        return dict(self._parts.dns.counters), self._parts.dns.sizes()

    def resolvers(self) -> tuple[str, ...]:
        """Whom the leases' resolver asks now, for people; empty when the VPN names nobody."""
        return self._parts.dns.resolvers()

    def name_of(self, peer_id: str, address: bytes, began: float) -> str:
        """The name by which a device found an address of 4 or 16 bytes to which it opened a
        connection then (the loop's clock); empty where it is not known.
        """
        return self._parts.dns.name_of(peer_id, address, began)

    def recent_questions(self) -> list[RecentQuestion]:
        """The last DNS questions, newest last; always empty unless the owner set `dns.recent`."""
        return self._parts.dns.recent()
