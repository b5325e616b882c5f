"""Who gets in by WireGuard: configs handed out, requests, trusted devices, their links.

Theory of operation. The owner makes a device: its config, private key and all, is shown
once, and only the public key is kept, as an *offer*. The first handshake that proves that
key becomes a request at the same desk as any other, and is not answered; the app repeats
it every few seconds, so an approval connects it at once. Unknown keys get nothing.

    (none)   --add, invite--> OFFERED --handshake--> ASKING --approve--> TRUSTED
    OFFERED  --not used in time, denied--> (none)         TRUSTED --revoke--> (none)
    TRUSTED  --renew--> OFFERED --handshake--> ASKING --approve--> HEIR (beside TRUSTED)
    HEIR     --first data--> TRUSTED, and the old key is out    HEIR --not in time--> (none)

A trusted device is a peer of the `Device`. Its addresses stand in a file on another
machine, so they never change: number and pool are the store's, and the pool is pinned
when the first config names it, whatever the gateway is attached to later. A trusted
device's first confirmed session opens its tunnel; after a start of the gateway each device
that was heard lately is knocked at once, so that nobody waits for its own timers.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace

from eventloop.clock import Clock
from eventloop.poller import NEVER, Poller
from gateway.leases import AddressPool, PoolError
from gateway.link import Link
from gateway.listeners import ListenError
from gateway.model import GatewayStore, Kind, PairingRequest, PeerDevice, Sighting, TunnelLease, Via
from gateway.nat.counters import Counters
from gateway.pairing import PairingDesk, RequestRefused
from gateway.peers import PeerRegistry
from gateway.tunnels import Tunnels
from gateway.wireguard_diagnosis import NEVER as NEVER_SEEN
from gateway.wireguard_diagnosis import Known, Log, Trouble
from gateway.wireguard_doors import WireguardDoors
from gateway.wireguard_link import Spot, WireguardLink, spot_of
from gateway.wireguard_offers import (
    OFFER_SECONDS,
    OfferBook,
    OfferRefused,
    WireguardOffer,
)
from gateway.wireguard_sightings import Sightings, way_to
from netstack.addresses import Addresses
from sealing.errors import LocalMisuse
from sealing.identity import generate_identity
from vshp.config import CloseReason
from wireguard.constants import MTU
from wireguard.device import Device
from wireguard.peer import Peer
from wireguard.profile import short_key, spell_endpoint

PLATFORM = "wireguard"

_log = logging.getLogger(__name__)


class WireguardAccess:
    """All WireGuard of a gateway (DeviceOwner, DoorsOwner, WireguardLinkOwner)."""

    def __init__(
        self,
        store: GatewayStore,
        registry: PeerRegistry,
        desk: PairingDesk,
        tunnels: Tunnels,
        counters: Counters,
        poller: Poller,
        port: int,
        mark: Callable[[Link], None],
        broken: Callable[[Link, str, float], None],
        clock: Clock,
    ) -> None:
        """`port` 0: never. `mark` has a link pumped; `broken` is told of one that is closed."""
        self.auto_approve = False
        self.on_change: Callable[[], None] = lambda: None
        self.on_asked: Callable[[PairingRequest, float], None] = lambda request, now: None
        """Told of each device that begins to wait for the owner."""
        self.on_admitted: Callable[[PeerDevice, bool], None] = lambda peer, by_code: None
        """Told of each that is let in without being asked about."""
        self.now = now = clock.now()
        self._clock = clock
        self._store = store
        self._registry = registry
        self._desk = desk
        self._tunnels = tunnels
        self._counters = counters
        self._mark = mark
        self._broken = broken
        self._links: dict[Peer, WireguardLink] = {}
        self._heard: set[Peer] = set()
        """In this turn of a door."""
        self._heirs: dict[bytes, WireguardOffer] = {}
        """New keys that are let in and not confirmed, by key; the old ones are good still."""
        self._sightings = Sightings(store)
        self.log = Log()
        identity = store.secret("wireguard_key")
        if identity is None:
            identity = generate_identity()
        self._identity = identity
        self.device = Device(identity, self, clock.epoch(), now)
        self.doors = WireguardDoors(self, self.device, port, counters, poller, now)
        self._offers = OfferBook(store, registry, desk, self.device.identity, clock)
        pinned = store.secret("wireguard_pool")
        self.pool: AddressPool | None = None if pinned is None else _unpack_pool(pinned)
        """None until a config names it."""
        for peer in registry.all_trusted(Kind.WIREGUARD):
            self._admit(peer.public_key, peer)
        for heir in self._offers.restore(self.pool, now):
            self._let_in_beside(heir)

    @property
    def public_key(self) -> bytes:
        return self.device.identity.public

    @property
    def wanted(self) -> bool:
        return bool(self.doors.port and (self.device.peers or self._offers))

    def knock(self, now: float) -> None:
        """Begin a session with each device that was heard lately: the gateway has just started."""
        for key, sighting in self._sightings.recent(self._clock.wall()):
            peer = self.device.peers.get(key)
            door = self.doors.facing(sighting.host)
            where = way_to(sighting)
            if peer is not None and door is not None and where is not None:
                peer.endpoint = Spot(where, door)
                peer.begin(now)
        self.send_messages()

    # --- the owner ---------------------------------------------------------------------------

    def add(
        self, label: str, host: str, port: int, now: float, key: bytes | None = None
    ) -> WireguardOffer:
        """Make a device; its config names `host`. With `key` its owner has the private one.

        Raises OfferRefused and ListenError, and nothing is kept then.
        """
        pool = self._pool_to_offer(now)
        return self._offered(self._offers.add(label, (host, port), pool, now, key))

    def invite(self, label: str, host: str, port: int, now: float) -> WireguardOffer:
        """Let the key ask that comes next, with the config that this gives. Raises as `add`."""
        pool = self._pool_to_offer(now)
        return self._offered(self._offers.invite(label, (host, port), pool, now))

    def renew(
        self, device: PeerDevice, host: str, port: int, now: float, key: bytes | None = None
    ) -> WireguardOffer:
        """Another key for a device that is let in, at the same addresses. Raises as `add`."""
        if self._registry.trusted(device.public_key, Kind.WIREGUARD) is None:
            raise OfferRefused(f"{device.label} does not come by WireGuard, or was revoked")
        pool = self._pool_to_offer(now)
        offer = self._offers.renew(device, (host, port), pool, now, key)
        self._drop_heir(device.public_key)
        return self._offered(offer)

    def _pool_to_offer(self, now: float) -> AddressPool:
        if not self.doors.port:
            raise OfferRefused("WireGuard is off: vpnshare set gateway.wireguard 51820")
        self.expire(now)
        # With the last device the addresses are free to be others.
        if self.pool is None or not (self.device.peers or self._offers):
            self.pool = replace(self._tunnels.pool, others=())
            # Before any offer names them.
            self._store.save_secret("wireguard_key", self._identity)
            self._store.save_secret("wireguard_pool", _pack_pool(self.pool))
        return self.pool

    def _offered(self, offer: WireguardOffer) -> WireguardOffer:
        try:
            self.doors.open()
        except ListenError:
            self._offers.forget(offer.public_key)
            raise
        return offer

    def approve(self, request: PairingRequest, now: float) -> PeerDevice:
        """The owner lets the device in; its next handshake is answered."""
        return self._trust(request.public_key, request.label, now)

    def denied(self, request: PairingRequest) -> None:
        """The owner turned the device away: its config is good for nothing. An invitation's
        is, for the next key."""
        self._offers.forget(request.public_key)

    def revoke(self, public_key: bytes, now: float) -> None:
        """Sessions end at once; from now on the device gets no answer."""
        self._offers.drop_renewal(public_key, now)
        self._drop_heir(public_key)
        self._shut_out(public_key, now)

    def _shut_out(self, public_key: bytes, now: float) -> None:
        self.log.forget(public_key)
        peer = self.device.peers.get(public_key)
        if peer is not None:
            link = self._links.get(peer)
            self.device.remove(peer)
            if link is not None:
                link.close(CloseReason.REVOKED, now)

    def offers(self) -> list[WireguardOffer]:
        """Devices that were made and are not let in yet."""
        return [*self._offers.all(), *self._heirs.values()]

    def invited(self) -> list[bytes]:
        """Keys that ask for the open invitation."""
        return self._offers.invited()

    def sighting(self, public_key: bytes) -> Sighting | None:
        return self._sightings.get(public_key)

    def clash(self, attached: Iterable[tuple[bytes, int]]) -> tuple[str, str] | None:
        """Of the devices' addresses with a network that this host is in now, (address, prefix
        length): both networks, spelled; None where all is well."""
        if self.pool is None or not self.device.peers:
            return None
        for address, prefix in attached:
            if not prefix:
                continue
            other = ipaddress.ip_network((address, prefix), strict=False)
            for pool in (self.pool.ipv4, self.pool.ipv6):
                if other.version == pool.version and pool.overlaps(other):
                    return str(pool), str(other)
        return None

    def links(self) -> list[WireguardLink]:
        return list(self._links.values())

    def troubles(self, own: Collection[str], host: str, now: float) -> list[Trouble]:
        """Why devices are not there; `own` has our addresses, `host` the one to be named."""
        named = spell_endpoint(host, self.doors.port)
        return self.log.diagnose(self._known(), own, named, self._registry.revoked_label, now)

    def _known(self) -> Iterator[Known]:
        for key, peer in self.device.peers.items():
            heir = self._heirs.get(key)
            device = self._registry.trusted(key if heir is None else heir.old, Kind.WIREGUARD)
            seen = self._sightings.get(key)
            where, at = peer.answered or (None, NEVER_SEEN)
            yield Known(
                key,
                "" if device is None else device.label,
                "" if seen is None else seen.told,
                keys=peer.writer.pair is not None,
                heard_at=NEVER_SEEN if peer.heard_at is None else peer.heard_at,
                unconfirmed=peer.unconfirmed,
                answered_host="" if where is None else where.host,
                answered_at=at,
            )
        asking = {request.public_key for request in self._desk.waiting()}
        for offer in self._offers.all():
            key = offer.public_key
            if key not in asking:
                told = spell_endpoint(offer.profile.host, offer.profile.port)
                made = offer.expires - OFFER_SECONDS
                yield Known(key, offer.label, told, offered_at=made)

    # --- time --------------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        """When a session or an offer wants something."""
        at, doors = self.device.alarm, self.doors.alarm
        if doors < at:
            at = doors
        # Asked after every batch of packets, and mostly there are none.
        if self._offers.pending or self._heirs:
            at = min(at, *(offer.expires for offer in self.offers()))
        return None if at == NEVER else at

    def handle_timer(self, now: float) -> bool:
        """True when offers have expired, or it is listened again."""
        self.device.handle_timer(now)
        self.send_messages()
        reopened = self.doors.handle_timer(now)
        if reopened:
            self.knock(now)
        return self.expire(now) or reopened

    def expire(self, now: float) -> bool:
        """Forget configs that were not used in time; True when there were any."""
        late = [heir for heir in self._heirs.values() if heir.expires <= now]
        for heir in late:
            self._drop_heir(heir.old)
        return self._offers.expire(now) or bool(late)

    # --- what the doors tell (DoorsOwner) -----------------------------------------------------

    def received(self, data: memoryview, segment: int, spot: Spot, now: float) -> None:
        self.now = self.log.arrived = now
        self._heard |= self.device.receive(data, segment, spot, now)
        self.send_messages()

    def turned(self, now: float) -> None:
        """What came at once is dealt with at once: pieces of one flow from several runs, too."""
        heard, self._heard = self._heard, set()
        for peer in heard:
            link = self._links.get(peer)
            if link is not None:
                link.arrived(now)

    def drained(self, now: float) -> None:
        for link in self.links():
            link.pump(now)

    def adopted(self, peer: Peer) -> None:
        link = self._links.get(peer)
        if link is not None:
            link.follow()

    def send_messages(self) -> None:
        self.doors.send_messages()

    # --- what the device tells (DeviceOwner) ---------------------------------------------------

    def confirmed(self, peer: Peer, now: float) -> None:
        heir = self._heirs.get(peer.keys.public)
        if heir is not None:
            self._succeed(heir, now)
        device = self._registry.trusted(peer.keys.public, Kind.WIREGUARD)
        if device is None:
            return
        link = self._links.get(peer)
        tunnel = self._tunnels.of_key(device.public_key)
        if link is None or tunnel is None or tunnel.link is not link:
            link = WireguardLink(self, peer, now)
            self._links[peer] = link
            self._registry.seen(device.public_key, PLATFORM)
            self._tunnels.carry(link, device.public_key, self._lease(peer, device), now)
            self.on_change()
        else:
            link.revive(now)
        self._see(peer, now)
        self._mark(link)

    def moved(self, peer: Peer, now: float) -> None:
        self._counters.counts["wireguard__endpoint__moved"] += 1
        self._see(peer, now)

    def silent(self, peer: Peer, now: float) -> None:
        link = self._links.get(peer)
        if link is not None:
            link.close(CloseReason.LINK_DEAD, now)

    def unknown(self, public: bytes, where: Spot, now: float) -> Peer | None:
        offer = self._offers.asked_by(public)
        if offer is None:
            self.log.unknown_key(public, where.host, now)
            return None
        # Whoever asks for an invitation has shown nothing that the owner gave him.
        if self.auto_approve and not offer.invites:
            self.on_admitted(self._trust(public, offer.label, now), True)
            self.on_change()
            return self.device.peers.get(public)
        try:
            # Whoever was handed a config is known by it; who was invited, by his key alone.
            code = short_key(public) if offer.invites else None
            request = self._desk.submit(
                public, offer.label, PLATFORM, Via.WIREGUARD, where.host, code, now
            )
        except RequestRefused as refused:
            self._counters.counts[f"pairing__{refused.reason}__refused"] += 1
        else:
            if request.created == now:  # else it waits already, and has asked again
                self.on_asked(request, now)
            self.on_change()
        return None

    def refused(self, reason: str, peer: Peer | None, where: Spot, now: float) -> None:
        """Remember it for `troubles`; the device has counted it."""
        if reason == "handshake_mac1_wrong":
            self.log.wrong_gateway(where.host, now)
        elif reason == "initiation_outdated" and peer is not None:
            self.log.went_back(peer.keys.public, self.device.behind, where.host, now)

    # --- links (WireguardLinkOwner) ------------------------------------------------------------

    def link_broken(self, link: WireguardLink, reason: str, now: float) -> None:
        self._links.pop(link.wg, None)
        self._broken(link, f"wireguard__{reason}", now)

    def link_again(self, link: Link) -> None:
        self._mark(link)

    # --- inside ------------------------------------------------------------------------------

    def _trust(self, public: bytes, label: str, now: float) -> PeerDevice:
        self.log.forget(public)
        offer = self._offers.take(public, now)
        if offer is not None:
            told = spell_endpoint(offer.profile.host, offer.profile.port)
            self._sightings.told(public, told)
            if offer.renews is not None:
                heir = replace(offer, expires=now + OFFER_SECONDS)
                self._offers.keep(heir, now, approved=True)
                return self._let_in_beside(heir)
        peer = self._registry.approve(public, label, PLATFORM, Kind.WIREGUARD)
        if offer is not None:
            self._offers.settle(offer)
        self._admit(public, peer)
        return peer

    def _let_in_beside(self, heir: WireguardOffer) -> PeerDevice:
        """Answer the new key of a device, and the one it has."""
        device = self._registry.trusted(heir.old, Kind.WIREGUARD)
        assert device is not None, "a renewal goes with its device"
        self._heirs[heir.public_key] = heir
        self._admit(heir.public_key, device)
        return device

    def _admit(self, public: bytes, peer: PeerDevice) -> None:
        """Answer this key, at the addresses of the device."""
        if self.pool is None or public in self.device.peers:
            return
        try:
            addresses = self.pool.addresses(self._registry.lease_number(peer.public_key))
            self.device.add(public, addresses.ipv4, addresses.ipv6)
        except (PoolError, LocalMisuse) as error:
            _log.error("%s cannot be let in by WireGuard: %s", peer.id, error)

    def _succeed(self, heir: WireguardOffer, now: float) -> None:
        """A device speaks under its new key: the old one is out, and what it had is the new's."""
        old = heir.old
        del self._heirs[heir.public_key]
        tunnel = self._tunnels.of_key(old)
        if tunnel is not None:
            self._tunnels.end(tunnel, now)
        self._shut_out(old, now)
        self._registry.succeed(old, heir.public_key)
        self._offers.settle(heir)

    def _drop_heir(self, device: bytes) -> None:
        """The new key of the device was not confirmed in time, or is wanted no more."""
        for public, heir in list(self._heirs.items()):
            if heir.old == device:
                del self._heirs[public]
                self._offers.settle(heir)
                peer = self.device.peers.get(public)
                if peer is not None:
                    self.device.remove(peer)

    def _lease(self, peer: Peer, device: PeerDevice) -> TunnelLease:
        assert self.pool is not None
        return TunnelLease(
            id=device.public_key.hex()[:8],
            peer_id=device.id,
            addresses=Addresses(
                peer.ipv4, peer.ipv6, self.pool.gateway_ipv4, self.pool.gateway_ipv6
            ),
            mtu=MTU,
            offload=False,
            expires=NEVER,
        )

    def _see(self, peer: Peer, now: float) -> None:
        """Keep where the device is, for a knock after the next start."""
        spot = spot_of(peer)
        self.log.heard(peer.keys.public, spot.host, spot.port, now)
        self._sightings.see(peer.keys.public, spot, self._clock.wall())


def _pack_pool(pool: AddressPool) -> bytes:
    return f"{pool.ipv4} {pool.ipv6}".encode()


def _unpack_pool(text: bytes) -> AddressPool:
    ipv4, ipv6 = text.decode().split()
    return AddressPool(ipaddress.IPv4Network(ipv4), ipaddress.IPv6Network(ipv6))
