"""The gateway: composes listeners, sessions, pairing, leases, NAT and the VPN's guard.

Theory of operation. Everything happens on one asyncio loop: the poller's
batches (links and forwarded sockets), one timer, and calls of the control API;
`pulse` ties them together. A session's life goes through `listeners` (may this
stranger knock?), `link` (bytes), `reception` (what a link tells), `admission` (may
this device in?) and `tunnels` (its lease, its flows, its return). What is forwarded,
and when nothing may be, is `sharing`'s to decide.

Here the parts are made, each given what it needs of the others, started and stopped.
What the owner may do is in `owner`, what he is shown in `snapshots`.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable
from contextlib import AsyncExitStack

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from eventloop.clock import SYSTEM, Clock
from eventloop.poller import Poller, running_poller
from gateway.admission import Admission
from gateway.books import Books
from gateway.collector import Collector
from gateway.destinations import Destinations
from gateway.dns.forwarder import DnsForwarder
from gateway.dns.shared import SharedResolver
from gateway.endpoints import Endpoints
from gateway.entrance import Entrance
from gateway.gates import Gates
from gateway.grants import Grants
from gateway.journal import Journal
from gateway.leases import choose_pool
from gateway.listeners import Doorman
from gateway.model import GatewayStore, fingerprint
from gateway.nat.counters import Counters
from gateway.nat.limits import limits_for
from gateway.nat.policy import EgressPolicy
from gateway.nat.router import Nat, NatConfig
from gateway.networks import Networks
from gateway.offers import OfferBook
from gateway.open_links import OpenLinks
from gateway.owner import Owner
from gateway.parts import Parts
from gateway.peers import PeerRegistry
from gateway.proof import EgressProof
from gateway.pulse import Pulse
from gateway.reception import Reception
from gateway.records import GatewayConfig
from gateway.sharing import Sharing
from gateway.snapshots import Snapshots
from gateway.sockets import Sockets
from gateway.timing import Timing
from gateway.tunnels import Tunnels
from gateway.vpn.detector import VpnDetector
from gateway.vpn.guard import EgressGuard
from gateway.wireguard_access import WireguardAccess
from rules.value import Rules
from sealing.happenings import Event
from vshp.config import CloseReason
from vshp.pairing import OneTimeSecrets
from vshp.tickets import TicketBook


class Gateway:
    """The sharing side of VPN Share."""

    on_change: Callable[[], None]
    """Called when something that the control API shows has changed in kind, not in bytes."""
    owner: Owner
    """What the owner may do, once it is started."""
    snapshots: Snapshots
    """What he is shown, once it is started."""

    def __init__(
        self,
        config: GatewayConfig,
        store: GatewayStore,
        on_event: Callable[[Event], None] | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        """`on_event` is told what happens to devices and sharing; without it the log is."""
        self.clock = clock
        """What everybody here, and who serves it, knows the time by."""
        self.on_change = lambda: None
        self.on_alarm: Callable[[str], None] = lambda text: None
        """Called with a sentence when the egress proof failed and sharing was stopped."""
        self.on_usage: Callable[[], None] = lambda: None
        """Called when usage was written: every 30 s while a device is connected."""
        identity = store.identity()
        if identity is None:
            identity = X25519PrivateKey.generate().private_bytes_raw()
            store.save_identity(identity)
        self._identity = identity
        private_key = X25519PrivateKey.from_private_bytes(identity)
        self.public_key = private_key.public_key().public_bytes_raw()
        self._config = config
        """To start with; the `owner` has what is in force."""
        self._store = store
        self.registry = PeerRegistry(store, clock)
        self.counters = Counters()
        self.detector = VpnDetector(config.vpn_interface)
        self.guard = EgressGuard(self.detector, bypass=config.bypass)
        self._tickets = TicketBook(_ticket_key(store))
        self._secrets = OneTimeSecrets(self.public_key)
        self.offers = OfferBook()
        self._journal = Journal(on_event)
        self._opened = AsyncExitStack()
        """What is to be closed, the last opened first."""

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.public_key)

    @property
    def books(self) -> Books:
        """What each device has used; the figures are IP bytes."""
        return self.registry.books

    # --- life --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Look for the VPN, choose the address pool, listen.

        Raises ListenError and PoolError; nothing is left open then.
        """
        self._loop = asyncio.get_running_loop()
        try:
            self._opened.push_async_callback(self.detector.stop)
            await self.detector.start()
            poller = running_poller()
            self._compose_forwarding(poller)
            self._compose_tunnels()
            self._compose_entrance(poller)
            self._compose_timing()
            parts = self._parts()
            self.snapshots = Snapshots(parts)
            self.owner = Owner(parts, self._config, self.public_key, self._changed)
            self.owner.listen()
            self._wireguard.knock(self.clock.now())
        except BaseException:
            await self._close()
            raise
        self._sharing.start()

    async def stop(self) -> None:
        """Say goodbye to every client, close everything, write the last usage."""
        now = self.clock.now()
        self._entrance.links.close(CloseReason.SHUTDOWN)
        for link in self._wireguard.links():
            link.close(CloseReason.SHUTDOWN, now)
        for tunnel in self._tunnels.all():
            self._tunnels.end(tunnel, now)
        self.books.save()
        self._wireguard.doors.close()
        await self._close()

    async def _close(self) -> None:
        await self._opened.aclose()

    def _changed(self) -> None:
        self._pulse.settle_soon()
        self.on_change()

    # --- composition, from the VPN's side to the clients' ------------------------------------

    def _compose_forwarding(self, poller: Poller) -> None:
        """What stands between the devices' packets and the VPN."""
        self._dns = DnsForwarder(self.guard, self._config.dns)
        self._opened.callback(self._dns.close)
        self._timing = Timing(lambda: self.on_change())
        self._pulse = Pulse(self._loop, poller, self._timing.deadline, self._timing.due)
        self._opened.callback(self._pulse.stop)
        resolver = SharedResolver(self._dns)
        descriptors = self._config.max_descriptors or resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        sockets = Sockets(self.guard, poller)
        self._nat = Nat(
            NatConfig(
                limits=limits_for(descriptors),
                address_dependent_filtering=self._config.address_dependent_filtering,
            ),
            sockets,
            resolver,
            EgressPolicy(),
            self.counters,
        )
        self._sharing = Sharing(
            self._config.share,
            self.detector,
            self.guard,
            EgressProof(self.detector, sockets.tally),
            self._nat,
            self._dns,
            resolver,
            self.counters,
            self._journal,
            self.clock.now,
        )
        self._sharing.on_alarm = lambda text: self.on_alarm(text)

    def _compose_tunnels(self) -> None:
        """What devices have, and by which rules. Raises PoolError."""
        config, attached = self._config, self.detector.attached()
        self.gates = Gates(self._nat, self.registry, self._journal, self.clock)
        self._tunnels = Tunnels(
            self._nat,
            choose_pool(self.public_key, attached.networks, config.pool_ipv4, config.pool_ipv6),
            self.registry,
            self._tickets,
            self.counters,
            self._journal,
            self.gates,
            self.clock,
            config.name,
            config.mtu,
            config.grace,
            config.lease,
        )
        self.registry.on_rules.append(self._rules_changed)
        Destinations(self._nat, self._dns, self.registry, self._tunnels, self.clock.now)

    def _compose_entrance(self, poller: Poller) -> None:
        """Who may come in, by which doors, and who is told of it."""
        now = self.clock.now()
        doorman = Doorman(self.counters, now)
        doorman.on_refused = self._journal.strangers
        links = OpenLinks(doorman, self.clock.now)
        self._timing.links = links.by_id
        grants = Grants(
            self._tunnels, self.gates, self._sharing, self.guard, links, self._pulse, self._changed
        )
        self._sharing.on_change = grants.sharing_changed
        self.gates.on_change = grants.gate_changed
        self._admission = Admission(
            self.registry,
            self._secrets,
            self.offers,
            self.counters,
            grants.grant,
            self._config.auto_approve_qr,
            self._journal,
        )
        reception = Reception(
            self.registry,
            self._admission,
            grants,
            self._tunnels,
            links,
            self.counters,
            self._journal,
            self._pulse,
            self._timing,
            self._changed,
        )
        self._entrance = Entrance(
            reception, links, poller, self.counters, self._identity, self._secret, self.clock.now
        )
        self._opened.callback(self._entrance.close)
        self._wireguard = WireguardAccess(
            self._store,
            self.registry,
            self._admission.desk,
            self._tunnels,
            self.counters,
            poller,
            self._config.wireguard,
            self._pulse.mark,
            reception.link_broken,
            self.clock,
        )
        self._wireguard.auto_approve = self._config.auto_approve_qr
        self._wireguard.on_change = self._changed
        self._wireguard.on_asked = self._journal.asked
        self._wireguard.on_admitted = self._journal.approved
        self._endpoints = Endpoints(self._entrance, self.detector)
        networks = Networks(
            self._nat,
            self._endpoints,
            self._tunnels,
            self._pulse,
            self.clock.now,
            self._changed,
        )
        self.detector.on_attached = networks.attached
        networks.attached(self.detector.attached())
        self._entrance.places.on_change = networks.tell_endpoints

    def _compose_timing(self) -> None:
        """Who is called when something of his is due."""
        self._collector = Collector(self._tunnels, self.books, self._sharing, self.clock)
        self._collector.on_collected = lambda: self.on_usage()
        timing = self._timing
        timing.ask(self._nat)
        timing.ask(self._wireguard)
        timing.ask(self._collector)
        places, desk = self._entrance.places, self._admission.desk
        places.wake_by = timing.enter("places", places)
        desk.wake_by = timing.enter("desk", self._admission)
        self._tunnels.wake_by = timing.enter("tunnels", self._tunnels)
        self.gates.wake_by = timing.enter("gates", self.gates)

    def _parts(self) -> Parts:
        return Parts(
            clock=self.clock,
            pulse=self._pulse,
            counters=self.counters,
            journal=self._journal,
            registry=self.registry,
            detector=self.detector,
            guard=self.guard,
            nat=self._nat,
            dns=self._dns,
            sharing=self._sharing,
            secrets=self._secrets,
            offers=self.offers,
            admission=self._admission,
            entrance=self._entrance,
            endpoints=self._endpoints,
            tunnels=self._tunnels,
            wireguard=self._wireguard,
        )

    def _rules_changed(self, public_key: bytes, rules: Rules) -> None:
        now = self.clock.now()
        self.gates.rules_changed(public_key, now)
        self._tunnels.limit(public_key, rules, now)
        # It may be another moment now at which the gate is to be looked at.
        self._pulse.settle_soon()

    def _secret(self, secret_id: bytes) -> bytes:
        """The PSK of a one-time secret (the sessions' `SecretLookup`)."""
        return self._secrets.lookup(secret_id, self.clock.now())


def _ticket_key(store: GatewayStore) -> bytes:
    """The key that resume tickets are sealed with, made on first use."""
    key = store.secret("ticket_key")
    if key is None:
        key = os.urandom(32)
        store.save_secret("ticket_key", key)
    return key
