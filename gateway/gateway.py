"""The gateway: composes listeners, sessions, pairing, leases, NAT and the VPN's guard.

Theory of operation. Everything happens on one asyncio loop: the poller's
batches (links and forwarded sockets), one timer, and calls of the control API;
`pulse` ties them together. A session's life goes through `listeners` (may this
stranger knock?), `link` (bytes), `admission` (may this device in?) and
`tunnels` (its lease, its flows, its return). What is forwarded, and when nothing
may be, is `sharing`'s to decide.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import time
from collections.abc import Callable
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from eventloop.poller import NEVER, running_poller
from gateway.admission import Admission
from gateway.books import Books
from gateway.destinations import Destinations
from gateway.dns.forwarder import DnsConfig, DnsForwarder, RecentQuestion, Reply
from gateway.dns.shared import SharedResolver
from gateway.entrance import Entrance
from gateway.gates import Gates
from gateway.journal import Journal
from gateway.leases import choose_pool
from gateway.link import Link, SessionLink
from gateway.listeners import ListenError, spell
from gateway.model import GatewayStore, PairingRequest, PeerDevice, Via, fingerprint
from gateway.nat.counters import Counters
from gateway.nat.limits import limits_for
from gateway.nat.policy import EgressPolicy
from gateway.nat.router import Nat, NatConfig
from gateway.nat.side import ClientSide
from gateway.offers import OfferBook
from gateway.peers import PeerRegistry
from gateway.proof import EgressProof
from gateway.pulse import Pulse
from gateway.rates import RateMeter
from gateway.records import GatewayConfig, GatewaySnapshot, Knocks, Offer
from gateway.sharing import Sharing
from gateway.sockets import Sockets
from gateway.tunnels import Tunnel, Tunnels
from gateway.vpn.detector import VpnDetector
from gateway.vpn.guard import EgressGuard
from gateway.vpn.snapshot import Attached
from gateway.wireguard_access import WireguardAccess
from gateway.wireguard_diagnosis import Trouble
from gateway.wireguard_offers import WireguardOffer
from rules.value import Rules
from sealing.happenings import Event
from splice.flow import Flow
from vshp import events as ev
from vshp.config import CloseReason
from vshp.constants import MAX_ENDPOINTS, SECRET_LIFETIME
from vshp.endpoints import Endpoint
from vshp.pairing import OneTimeSecrets, secret_id
from vshp.tickets import TicketBook
from vshp.uri import PairingUri

USAGE_SECONDS = 30.0
"""How often usage is written while there is traffic."""
ROUND_TRIP_AGE = 10.0
"""Seconds after which a device's round trip is measured anew, if somebody looks."""
MAX_URI_ENDPOINTS = 3
"""Endpoints in a pairing URI: more would make its QR code too large for a phone."""

_log = logging.getLogger(__name__)


class Gateway:
    """The sharing side of VPN Share."""

    on_change: Callable[[], None]
    """Called when something that the control API shows has changed in kind, not in bytes."""

    def __init__(
        self,
        config: GatewayConfig,
        store: GatewayStore,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        """`on_event` is told what happens to devices and sharing; without it the log is."""
        self.config = config
        self.on_change = lambda: None
        self.on_alarm: Callable[[str], None] = lambda text: None
        """Called with a sentence when the egress proof failed and sharing was stopped."""
        self.on_usage: Callable[[], None] = lambda: None
        """Called when usage was written: every USAGE_SECONDS while a device is connected."""
        identity = store.identity()
        if identity is None:
            identity = X25519PrivateKey.generate().private_bytes_raw()
            store.save_identity(identity)
        self._identity = identity
        private_key = X25519PrivateKey.from_private_bytes(identity)
        self.public_key = private_key.public_key().public_bytes_raw()
        self._store = store
        self.registry = PeerRegistry(store)
        self.counters = Counters()
        self.detector = VpnDetector(config.vpn_interface)
        self.guard = EgressGuard(self.detector, bypass=config.bypass)
        self.policy = EgressPolicy()
        self._tickets = TicketBook(_ticket_key(store))
        self._secrets = OneTimeSecrets(self.public_key)
        self.offers = OfferBook()
        self._journal = Journal(on_event)
        self._admission = Admission(
            self.registry,
            self._secrets,
            self.offers,
            self.counters,
            self._grant,
            config.auto_approve_qr,
            self._journal,
        )
        self._usage_at: float | None = None
        self._invites_until = 0.0

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.public_key)

    # --- life --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Look for the VPN, choose the address pool, listen.

        Raises ListenError and PoolError; nothing is left open then.
        """
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._started = now
        self._up, self._down = RateMeter(now), RateMeter(now)
        self.poller = running_poller()
        self._entrance = Entrance(
            self, self.poller, self.counters, self._identity, self._secret, self._loop.time
        )
        self._entrance.doorman.on_refused = self._journal.strangers
        self._pulse = Pulse(self._loop, self.poller, self._deadline, self._due)
        self._dns = DnsForwarder(self.guard, self.config.dns)
        resolver = SharedResolver(self._dns)
        descriptors = self.config.max_descriptors or resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        sockets = Sockets(self.guard, self.poller)
        self._nat = Nat(
            NatConfig(
                limits=limits_for(descriptors),
                address_dependent_filtering=self.config.address_dependent_filtering,
            ),
            sockets,
            resolver,
            self.policy,
            self.counters,
        )
        self._nat.on_output = self._output
        self._sharing = Sharing(
            self.config.share,
            self.detector,
            self.guard,
            EgressProof(self.detector, sockets.tally),
            self._nat,
            self._dns,
            resolver,
            self.counters,
            self._journal,
            self._loop.time,
        )
        self._sharing.on_change = self._sharing_changed
        self._sharing.on_alarm = lambda text: self.on_alarm(text)
        try:
            await self.detector.start()
            attached = self.detector.attached()
            self.gates = Gates(self._nat, self.registry, self._journal)
            self.gates.on_change = self._gate_changed
            self.registry.on_rules.append(self._rules_changed)
            self._tunnels = Tunnels(
                self._nat,
                choose_pool(
                    self.public_key, attached.networks, self.config.pool_ipv4, self.config.pool_ipv6
                ),
                self.registry,
                self._tickets,
                self.counters,
                self._journal,
                self.gates,
                self.config.name,
                self.config.mtu,
                self.config.grace,
                self.config.lease,
            )
            self.registry.on_rules.append(self._limits_changed)
            Destinations(self._nat, self._dns, self.registry, self._tunnels, self._loop.time)
            self._wireguard = WireguardAccess(
                self._store,
                self.registry,
                self._admission.desk,
                self._tunnels,
                self.counters,
                self.poller,
                self.config.wireguard,
                self._pulse.mark,
                self.link_broken,
                now,
            )
            self._wireguard.auto_approve = self.config.auto_approve_qr
            self._wireguard.on_change = self._changed
            self._wireguard.on_asked = self._journal.asked
            self._wireguard.on_admitted = self._journal.approved
            self.detector.on_attached = self._attached_changed
            self._attached_changed(attached)
            self._entrance.places.on_change = self._tell_endpoints
            self._entrance.listen(self.config.listen)
            self._listen_wireguard()
            self._wireguard.knock(now)
        except BaseException:
            await self._close()
            raise
        self._sharing.start()

    async def stop(self) -> None:
        """Say goodbye to every client, close everything, write the last usage."""
        now = self._loop.time()
        for link in list(self._entrance.links.values()):
            link.close(CloseReason.SHUTDOWN, now)
        for wireguard_link in self._wireguard.links():
            wireguard_link.close(CloseReason.SHUTDOWN, now)
        for tunnel in self._tunnels.all():
            self._tunnels.end(tunnel, now)
        self.books.save()
        self._wireguard.close()
        await self._close()

    async def _close(self) -> None:
        self._entrance.close()
        self._pulse.stop()
        self._dns.close()
        await self.detector.stop()

    # --- what the owner may do ---------------------------------------------------------------

    def share(self) -> None:
        self._sharing.want(True)

    def unshare(self) -> None:
        """Stop forwarding: flows end, clients stay connected and are told."""
        self._sharing.want(False)

    def pair(self, seconds: float = SECRET_LIFETIME) -> Offer:
        """Issue a one-time secret, good for so long, and put it into a URI."""
        # A phone without any network is reached by its cable, whose other end is its loopback.
        endpoints = self._reachable_at(MAX_URI_ENDPOINTS)
        named = endpoints or self._over_a_cable()
        self._invites_until = max(self._invites_until, self._loop.time() + seconds)
        now = self._loop.time()
        secret = self._secrets.issue(now, seconds)
        uri = PairingUri(self.public_key, secret, self.config.name, named)
        spelled = tuple(spell(endpoint.host, endpoint.port) for endpoint in endpoints)
        record = self.offers.issued(secret_id(secret), now + seconds)
        self._changed()
        return Offer(uri.encode(), seconds, spelled, record.id)

    def inviting(self) -> bool:
        """Whether a pairing URI that was handed out is still good."""
        return self._loop.time() < self._invites_until

    def missing(self) -> bool:
        """Whether a device that runs our client has lost its link, and its session waits."""
        return any(t.config is not None and t.link is None for t in self._tunnels.all())

    def lan_addresses(self) -> tuple[int, tuple[str, ...]]:
        """The port, and the addresses outside the VPN, that clients can reach; IPv4 first."""
        found = [
            (host, port)
            for host, port in self._entrance.endpoints(self.detector)
            if "%" not in host and not host.startswith(("127.", "::1", "fe80:"))
        ]
        port = found[0][1] if found else 0
        return port, tuple(host for host, own_port in found if own_port == port)

    def requests(self) -> list[PairingRequest]:
        """Devices that wait, oldest first."""
        return self._admission.desk.waiting()

    def request(self, request_id: str) -> PairingRequest:
        """The device that waits. Raises NoSuchRequest."""
        return self._admission.desk.find(request_id)

    def now(self) -> float:
        """The clock that requests, tunnels and flows are timed by (monotonic seconds)."""
        return self._loop.time()

    def approve(self, request_id: str, rules: Rules | None = None) -> PeerDevice:
        """Trust the device that waits, and give it its lease, with these rules from its first
        packet; None: with those that it had before, if any. Raises NoSuchRequest."""
        request = self._admission.desk.find(request_id)
        if rules is not None:
            self.registry.set_rules(request.public_key, rules)
        if request.via is Via.WIREGUARD:
            peer = self._wireguard.approve(
                self._admission.desk.approve(request_id), self._loop.time()
            )
            self._journal.approved(peer)
        else:
            peer = self._admission.approve(request_id, self._loop.time())
        if rules is not None:
            self._journal.ruled(peer, rules)
        self._changed()
        return peer

    def deny(self, request_id: str) -> PairingRequest:
        """Turn the device away, and for a while. Raises NoSuchRequest."""
        request = self._admission.deny(request_id, self._loop.time())
        if request.via is Via.WIREGUARD:
            self._wireguard.denied(request)
        self._changed()
        return request

    def undeny(self, request_id: str | None = None) -> PairingRequest:
        """Take a denial back, the latest or this one: the device may ask again. Raises
        NoSuchRequest."""
        request = self._admission.undeny(request_id, self._loop.time())
        self._changed()
        return request

    def peers(self) -> list[PeerDevice]:
        return self.registry.all()

    def revoke(self, peer_id: str) -> PeerDevice:
        """Trust the device no longer; its session and flows end at once. Raises NoSuchPeer."""
        now = self._loop.time()
        peer = self.registry.find(peer_id)
        tunnel = self._tunnels.of_key(peer.public_key)
        if tunnel is not None:
            self._tunnels.end(tunnel, now)
        for link in list(self._entrance.links.values()):
            if link.public_key == peer.public_key:
                link.close(CloseReason.REVOKED, now)
        self._wireguard.revoke(peer.public_key, now)
        # The device is out; now for the books, which may take their time.
        peer = self.registry.revoke(peer)
        self._journal.revoked(peer)
        self._changed()
        return peer

    def set_rules(self, peer: PeerDevice, rules: Rules) -> None:
        """What the device may do from now on, judged (`rules.encoding.changed`)."""
        if rules == self.registry.rules(peer.public_key):
            return
        self._journal.ruled(peer, rules)
        self.registry.set_rules(peer.public_key, rules)
        self._changed()

    def rename(self, peer_id: str, label: str) -> PeerDevice:
        """Give the device a name of the owner's. Raises NoSuchPeer."""
        peer = self.registry.rename(self.registry.find(peer_id), label)
        tunnel = self._tunnels.of_key(peer.public_key)
        if tunnel is not None:
            tunnel.peer = peer
        self._changed()
        return peer

    def wireguard_add(
        self, label: str, endpoint: tuple[str, int] | None = None, key: bytes | None = None
    ) -> WireguardOffer:
        """Make a device for a WireGuard app; its config names `endpoint`, or where we are.

        Raises OfferRefused and ListenError.
        """
        host, port = endpoint or (self._wireguard_host(), self.config.wireguard)
        offer = self._wireguard.add(label, host, port, self._loop.time(), key)
        self._changed()
        return offer

    def wireguard_invite(
        self, label: str, endpoint: tuple[str, int] | None = None
    ) -> WireguardOffer:
        """A config for a device that makes its own key pair, and asks with it.

        Raises OfferRefused and ListenError.
        """
        host, port = endpoint or (self._wireguard_host(), self.config.wireguard)
        offer = self._wireguard.invite(label, host, port, self._loop.time())
        self._changed()
        return offer

    def wireguard_renew(
        self, peer_id: str, endpoint: tuple[str, int] | None = None, key: bytes | None = None
    ) -> WireguardOffer:
        """Another key for a device, at the same addresses; see `wireguard_add`.

        Raises NoSuchPeer, OfferRefused and ListenError.
        """
        host, port = endpoint or (self._wireguard_host(), self.config.wireguard)
        device = self.registry.find(peer_id)
        offer = self._wireguard.renew(device, host, port, self._loop.time(), key)
        self._changed()
        return offer

    def wireguard_troubles(self) -> list[Trouble]:
        """Why WireGuard devices are not there, as far as can be told from here."""
        own = [socket.inet_ntop(_family_of(a), a) for a in self.detector.attached().own]
        return self._wireguard.troubles(own, self._wireguard_host(), self._loop.time())

    @property
    def wireguard(self) -> WireguardAccess:
        """WireGuard's devices, to be read only."""
        return self._wireguard

    def tunnels(self) -> list[Tunnel]:
        """Leases in use, with what carries them."""
        return self._tunnels.all()

    @property
    def books(self) -> Books:
        """What each device has used; the figures are IP bytes."""
        return self.registry.books

    def totals(self) -> tuple[int, int]:
        """Bytes from and to all tunnels since the start, ended ones included."""
        return self._tunnels.totals()

    def ask_round_trips(self) -> None:
        """Somebody looks at the tunnels: have round trips measured that are long known.

        Nobody looks, nobody is asked: a PING wakes a phone.
        """
        now = self._loop.time()
        for tunnel in self._tunnels.all():
            if tunnel.link is not None and now - tunnel.asked_at >= ROUND_TRIP_AGE:
                tunnel.asked_at = now
                tunnel.link.ask_round_trip(now)
                self._pulse.mark(tunnel.link)

    def flows(self, peer_id: str | None = None) -> list[Flow]:
        """The open flows of all devices or of one, to be read only. Raises NoSuchPeer."""
        if peer_id is None:
            return self._nat.open_flows()
        tunnel = self._tunnels.of_key(self.registry.find(peer_id).public_key)
        return [] if tunnel is None else self._nat.open_flows(tunnel.nat_peer)

    def close_flow(self, flow_id: int) -> bool:
        """End one flow, at both ends; False if there is none of that id."""
        closed = self._nat.close_flow(flow_id, self._loop.time())
        self._changed()
        return closed

    def configure(self, config: GatewayConfig) -> None:
        """Take new settings while running. Address pools stay as they were.

        Lease MTU and grace time count from the next lease and the next break. Raises
        ListenError when the new addresses cannot be listened on; nothing has changed then.
        """
        if config.listen != self.config.listen:
            self._entrance.listen(config.listen)
        before, self.config = self.config, config
        if config.listen != before.listen:
            self._listen_wireguard()
        self._admission.auto_approve_qr = config.auto_approve_qr
        self._wireguard.auto_approve = config.auto_approve_qr
        self._tunnels.name = config.name
        self._tunnels.mtu = config.mtu
        self._tunnels.grace = config.grace
        self._tunnels.seconds = config.lease
        self._nat.config = replace(
            self._nat.config, address_dependent_filtering=config.address_dependent_filtering
        )
        if config.dns != before.dns:
            self.configure_dns(config.dns)
        if config.bypass is not before.bypass:
            self._sharing.bypass(config.bypass)
        if config.vpn_interface != before.vpn_interface:
            self.detector.choose(config.vpn_interface)
        self._changed()

    def relisten(self, drop: bool = False) -> None:
        """Open the listening sockets anew: after a hotspot or an interface came back, say.

        With `drop` all links are closed, too; devices come back at once. Raises ListenError;
        the old sockets go on then.
        """
        self._entrance.listen(self.config.listen, anew=True)
        self._listen_wireguard(anew=True)
        if drop:
            self._entrance.drop()
        self._changed()

    def resolve(self, wire: bytes, reply: Reply) -> None:
        """Ask the leases' resolver a question of our own (the doctor's), shared or not."""
        self._dns.query(wire, False, "doctor", reply)

    def dns_state(self) -> tuple[dict[str, int], dict[str, int]]:
        """The resolver's counters, and the sizes of its cache and of what it is asking."""
        return dict(self._dns.counters), self._dns.sizes()

    def knocks(self) -> list[Knocks]:
        """By which local addresses somebody has come in so far."""
        return self._entrance.knocks()

    def configure_dns(self, config: DnsConfig) -> None:
        """Change the leases' resolver while it runs."""
        self._dns.configure(config)

    def resolvers(self) -> tuple[str, ...]:
        """Whom the leases' resolver asks now, for people; empty when the VPN names nobody."""
        return self._dns.resolvers()

    def name_of(self, peer_id: str, address: bytes, began: float) -> str:
        """The name by which a device found an address of 4 or 16 bytes to which it opened a
        connection then (the loop's clock); empty where it is not known.
        """
        return self._dns.name_of(peer_id, address, began)

    def recent_questions(self) -> list[RecentQuestion]:
        """The last DNS questions, newest last; always empty unless the owner set `dns.recent`."""
        return self._dns.recent()

    def status(self) -> GatewaySnapshot:
        now = self._loop.time()
        up, down = self._tunnels.totals()
        return GatewaySnapshot(
            sharing=self._sharing.state,
            vpn=self.guard.network,
            guard=str(self.guard.strength),
            bypass=self.config.bypass,
            listen=self._entrance.listening(),
            uptime=now - self._started,
            peers=sum(not peer.revoked for peer in self.registry.all()),
            connected=self._tunnels.connected(),
            requests=len(self._admission.desk),
            flows=sum(tunnel.nat_peer.flow_count for tunnel in self._tunnels.all()),
            from_tunnel_bytes=up,
            to_tunnel_bytes=down,
            from_tunnel_rate=self._up.read(up, now),
            to_tunnel_rate=self._down.read(down, now),
            counters=self._all_counters(),
            alarms=self._sharing.alarms(),
            egress=self._sharing.egress,
        )

    def _all_counters(self) -> dict[str, int]:
        counts = self.counters.snapshot() | self.guard.counters | self._dns.counters
        counts |= self._entrance.datagram_counters
        counts |= {f"wireguard__{k}": n for k, n in self._wireguard.device.counters.items()}
        for link in self._entrance.links.values():
            for name, n in link.counters.items():
                counts[name] = counts.get(name, 0) + n
        return counts

    def _changed(self) -> None:
        self._pulse.settle_soon()
        self.on_change()

    # --- sharing and the LAN -----------------------------------------------------------------

    def _sharing_changed(self, now: float) -> None:
        for tunnel in self._tunnels.all():
            if tunnel.link is not None:
                self._tell_status(tunnel.link, now)
        self._changed()

    def _tell_status(self, link: Link, now: float) -> None:
        status = self._sharing.client_status()
        tunnel = self._tunnels.of_link(link)
        if tunnel is not None:
            gate = self.gates.of(tunnel)
            status = replace(
                status,
                quota_left=gate.verdict.left,
                shut_out=f"This device {gate.why}." if gate.why else "",
            )
        link.tell_status(status, now)
        self._pulse.mark(link)

    def _limits_changed(self, public_key: bytes, rules: Rules) -> None:
        self._tunnels.limit(public_key, rules, self._loop.time())

    def _gate_changed(self, tunnel: Tunnel, now: float) -> None:
        if tunnel.link is not None:
            self._tell_status(tunnel.link, now)
        self._changed()

    def _rules_changed(self, public_key: bytes, rules: Rules) -> None:
        self.gates.rules_changed(public_key, self._loop.time())
        # It may be another moment now at which the gate is to be looked at.
        self._pulse.settle_soon()

    def _attached_changed(self, attached: Attached) -> None:
        self.policy.set_networks(
            [socket.inet_ntop(_family_of(address), address) for address in attached.own],
            [
                f"{socket.inet_ntop(_family_of(address), address)}/{prefix}"
                for address, prefix in attached.networks
            ],
        )
        self._nat.policy_changed(self._loop.time())
        self._tell_endpoints(self._loop.time())
        self._pulse.settle_soon()
        # Whoever announces where we are has to know.
        self._changed()

    def _listen_wireguard(self, anew: bool = False) -> None:
        """Listen for WireGuard where clients knock; that it fails stops nothing else."""
        hosts = [host for host, _ in self.config.listen]
        try:
            self._wireguard.listen(hosts, self._loop.time(), anew)
        except ListenError as error:
            self.counters.counts["wireguard__listen__failed"] += 1
            _log.error("%s", error)

    def _wireguard_host(self) -> str:
        """Our address that a config shall name: IPv4 where there is one, for it is shorter."""
        found = self._entrance.endpoints(self.detector)
        return next((host for host, _ in found if "%" not in host), "127.0.0.1")

    def _tell_endpoints(self, now: float) -> None:
        """Clients shall know where to come back to."""
        self._tunnels.tell_endpoints(self._reachable_at(MAX_ENDPOINTS), now)

    def _reachable_at(self, most: int) -> tuple[Endpoint, ...]:
        """Where clients can reach the listeners, the likeliest first."""
        found = self._entrance.endpoints(self.detector)
        # A scope (fe80::1%wlan0) means something on this device only: clients have their own.
        places = dict.fromkeys((host.partition("%")[0], port) for host, port in found)
        return tuple(Endpoint.of("any", host, port) for host, port in [*places][:most])

    def _over_a_cable(self) -> tuple[Endpoint, ...]:
        ports = [port for _, port in self._entrance.places.addresses()]
        return tuple(Endpoint.of("any", "127.0.0.1", port) for port in ports[:1])

    # --- links -------------------------------------------------------------------------------

    def _secret(self, secret_id: bytes) -> bytes:
        """The PSK of a one-time secret (the sessions' `SecretLookup`)."""
        return self._secrets.lookup(secret_id, self._loop.time())

    def link_event(self, link: SessionLink, event: ev.Event, now: float) -> None:
        """A session's news (LinkOwner)."""
        match event:
            case ev.HelloReceived():
                link.carrier = event.carrier
                if self._admission.hello(link, event, now):
                    self._entrance.admitted(link)
                    self._changed()
            case ev.CodeAgreed():
                self._admission.agreed(link, now)
            case ev.Confirmed():
                link.confirmed = True
                if self._tunnels.confirmed(link, now):
                    self._took_effect(link, now)
            case ev.RttMeasured():
                tunnel = self._tunnels.of_link(link)
                if tunnel is not None:
                    tunnel.rtt = event.smoothed
            case ev.PathPayloadFound():
                self._tunnels.path_found(link, event.payload, now)
            case ev.PeerClosed(reason=CloseReason.CODE_REFUSED):
                self._admission.other_digits(link, now)
                self._changed()
            case ev.PeerClosed(reason=CloseReason.DISCONNECTED):
                # It said goodbye: no grace for what it no longer wants.
                tunnel = self._tunnels.of_link(link)
                if tunnel is not None:
                    self._tunnels.end(tunnel, now)
                    self._journal.left(tunnel.peer, now)
                    self._changed()
            case _:
                pass

    def link_broken(self, link: Link, reason: str, now: float) -> None:
        """The link's socket is closed (LinkOwner): a tunnel it carried waits for another."""
        self._entrance.left(link)
        counts = self.counters.counts
        counts[reason] += 1
        for name, n in link.counters.items():
            counts[name] += n
        waited = self._admission.link_gone(link, now)
        tunnel = self._tunnels.of_link(link)
        carried = self._tunnels.link_gone(link, now)
        if tunnel is not None:
            self._journal.lost(tunnel.peer, link, reason, now)
        link.detach()
        if waited or carried:
            self._changed()

    def link_again(self, link: Link) -> None:
        """The link has more to send than its turn allowed (LinkOwner)."""
        self._pulse.mark(link)

    def _grant(
        self, link: SessionLink, hello: ev.HelloReceived, peer: PeerDevice, now: float
    ) -> None:
        """Give a trusted device its lease (Admission's)."""
        if self._tunnels.grant(link, hello, peer, self.guard.network.ipv6, now):
            self._took_effect(link, now)
        if not link.closed:
            self._pulse.mark(link)

    def _took_effect(self, link: SessionLink, now: float) -> None:
        self._entrance.admitted(link)
        link.search_path(now)
        self._tell_status(link, now)
        self._changed()

    # --- time --------------------------------------------------------------------------------

    def _output(self, nat_peer: ClientSide) -> None:
        """The NAT has something for this peer."""
        link = self._tunnels.link_of(nat_peer)
        if link is not None:
            self._pulse.mark(link)

    def _deadline(self) -> float:
        """When anything of ours is due next (Pulse's). Asked after every batch."""
        at = self._nat.get_timer() or NEVER
        for link in self._entrance.links.values():
            other = link.get_timer()
            if other is not None and other < at:
                at = other
        other = self._admission.desk.get_timer()
        if other is not None and other < at:
            at = other
        other = self._tunnels.get_timer()
        if other is not None and other < at:
            at = other
        other = self.gates.get_timer()
        if other is not None and other < at:
            at = other
        other = self._wireguard.get_timer()
        if other is not None and other < at:
            at = other
        other = self._entrance.places.get_timer()
        if other is not None and other < at:
            at = other
        if self._usage_at is None:
            if not self._tunnels.connected() and not self.books.unsaved:
                return at
            self._usage_at = self._loop.time() + USAGE_SECONDS
        return min(at, self._usage_at)

    def _due(self, now: float) -> None:
        """The timer fired (Pulse's)."""
        self._nat.handle_timer(now)
        self._entrance.places.handle_timer(now)
        for link in list(self._entrance.links.values()):
            link.handle_timer(now)
        changed = self._wireguard.handle_timer(now)
        changed |= self._admission.expire(now)
        changed |= self._tunnels.expire(now)
        self._tunnels.renew(now)
        self.gates.handle_timer(now)
        if self._usage_at is not None and self._usage_at <= now:
            hurry = self._sharing.prove(now)
            self._usage_at = None if hurry is None else now + hurry
            self.books.collect(time.time())
            self.books.save()
            self.on_usage()
        if changed:
            self.on_change()


def _ticket_key(store: GatewayStore) -> bytes:
    """The key that resume tickets are sealed with, made on first use."""
    key = store.secret("ticket_key")
    if key is None:
        key = os.urandom(32)
        store.save_secret("ticket_key", key)
    return key


def _family_of(address: bytes) -> int:
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6
