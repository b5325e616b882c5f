"""Configs that were handed out for WireGuard devices and that nobody has come in by yet.

Theory of operation. Each offer holds a lease number, for the config names its addresses.
There are three kinds. A *new device* has a key pair of ours, or a public key that its
owner gave us. A *renewal* is a new key for a device that is let in: it holds no number
of its own, but has the device's, and the device's key stays good until the new one is
confirmed. An *invitation* is a config without a private key, for a device that makes
its own pair: the first key that nobody knows may ask for it, so there is one at a time,
and no owner's setting lets that key in unseen. A key that is given by hand under the
invitation's name takes its place.

An offer is good for `OFFER_SECONDS`, and as long as a request by it waits at the desk. It is in
the store from before its config is shown until it is used or over, so that whoever has the
config can come in by it after a restart of the gateway, too: all but the private key, which is
nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from eventloop.clock import Clock
from gateway.leases import AddressPool, PoolError
from gateway.model import GatewayStore, Kind, Offer, PeerDevice, Via
from gateway.pairing import PairingDesk
from gateway.peers import PeerRegistry
from sealing.errors import ProtocolError
from sealing.identity import generate_identity, public_key
from wireguard.noise import Identity
from wireguard.profile import Profile

OFFER_SECONDS = 600.0
"""How long a config waits for its first use."""
MAX_OFFERS = 16
MAX_INVITED = 4
"""Keys that may ask for one invitation at once: strangers may be among them."""

Place = tuple[str, int]
"""(host, port) that a config names as its endpoint."""


class OfferRefused(Exception):
    """A device that cannot be made; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class WireguardOffer:
    """A config that nobody has come in by yet."""

    public_key: bytes
    """Of an invitation, random bytes that hold its lease number."""
    label: str
    profile: Profile
    """For the caller only: it may hold the private key, and is not kept."""
    expires: float
    """Monotonic seconds."""
    renews: bytes | None = None
    """The public key of the device whose new key this is."""
    invites: bool = False
    """For whatever key asks next."""

    @property
    def old(self) -> bytes:
        """Of a renewal, the key that the device has still."""
        assert self.renews is not None
        return self.renews


class OfferBook:
    """The offers of a gateway."""

    def __init__(
        self,
        store: GatewayStore,
        registry: PeerRegistry,
        desk: PairingDesk,
        identity: Identity,
        clock: Clock,
    ) -> None:
        self._store = store
        self._registry = registry
        self._desk = desk
        self._identity = identity
        self.pending: dict[bytes, WireguardOffer] = {}
        """By public key; written here alone."""
        self._clock = clock

    def __len__(self) -> int:
        return len(self.pending)

    def all(self) -> list[WireguardOffer]:
        return list(self.pending.values())

    # --- keeping -----------------------------------------------------------------------------

    def restore(self, pool: AddressPool | None, now: float) -> list[WireguardOffer]:
        """Take up what the gateway had handed out before its start.

        Gives the renewals among it that the owner had let in: those are not offers any more.
        """
        approved = []
        for kept in self._store.offers():
            offer = None if pool is None else self._taken_up(kept, pool, now)
            if offer is None:
                self._drop(kept.public_key, kept.renews is not None)
            elif kept.approved:
                approved.append(offer)
            else:
                self.pending[kept.public_key] = offer
        return approved

    def _taken_up(self, kept: Offer, pool: AddressPool, now: float) -> WireguardOffer | None:
        """None where it is over, or was used by a device that is let in."""
        # A clock that has gone back makes no offer longer than it was.
        left = min(kept.expires - self._clock.wall(), OFFER_SECONDS)
        over = left <= 0 or self._registry.trusted(kept.public_key, Kind.WIREGUARD)
        if over or (kept.renews and not self._registry.trusted(kept.renews, Kind.WIREGUARD)):
            return None
        try:
            profile = self._profile(kept.renews or kept.public_key, (kept.host, kept.port), pool)
        except PoolError:
            return None
        offer = WireguardOffer(kept.public_key, kept.label, profile, now + left)
        return replace(offer, renews=kept.renews, invites=kept.invites)

    def keep(self, offer: WireguardOffer, now: float, approved: bool = False) -> None:
        """Have it in the store; `settle` when it is used."""
        place = offer.profile.host, offer.profile.port
        expires = self._clock.wall() + offer.expires - now
        kept = Offer(offer.public_key, offer.label, *place, expires, offer.renews, offer.invites)
        self._store.save_offer(replace(kept, approved=approved))

    def settle(self, offer: WireguardOffer) -> None:
        """What it offered is had, or wanted no more."""
        self._store.forget_offer(offer.public_key)

    def _drop(self, public: bytes, renewal: bool) -> None:
        self._store.forget_offer(public)
        if not renewal and self._registry.trusted(public, Kind.WIREGUARD) is None:
            self._store.move_lease_number(public, None)

    # --- making ------------------------------------------------------------------------------

    def add(
        self, label: str, place: Place, pool: AddressPool, now: float, key: bytes | None
    ) -> WireguardOffer:
        """A device. With `key` its owner has the private one. Raises OfferRefused."""
        private, public = self._pair(key)
        invitation = self._invitation()
        if key is not None and invitation is not None and invitation.label == label:
            self._bind(invitation, public, now)
            self.settle(invitation)
        return self._make(public, label, private, place, pool, now)

    def renew(
        self, device: PeerDevice, place: Place, pool: AddressPool, now: float, key: bytes | None
    ) -> WireguardOffer:
        """Another key for a device, in place of any made before. Raises OfferRefused."""
        private, public = self._pair(key)
        self.drop_renewal(device.public_key, now)
        return self._make(public, device.label, private, place, pool, now, renews=device.public_key)

    def invite(self, label: str, place: Place, pool: AddressPool, now: float) -> WireguardOffer:
        """A config for whoever asks next, in place of one before. Raises OfferRefused."""
        invitation = self._invitation()
        if invitation is not None:
            self._withdraw_invited(now)
            self.forget(invitation.public_key)
        return self._make(generate_identity(), label, None, place, pool, now, invites=True)

    def _pair(self, key: bytes | None) -> tuple[bytes | None, bytes]:
        """(private key if it is ours to make, public key)."""
        if key is None:
            private = generate_identity()
            return private, public_key(private)
        offer = self.pending.get(key)
        taken = offer is not None and offer.renews is not None
        if taken or self._registry.trusted(key, Kind.WIREGUARD) or key == self._identity.public:
            raise OfferRefused("this key is in use already")
        try:
            self._identity.exchange(key)
        except (ProtocolError, ValueError):
            raise OfferRefused("this key is none that can be used") from None
        return None, key

    def _make(
        self,
        public: bytes,
        label: str,
        private: bytes | None,
        place: Place,
        pool: AddressPool,
        now: float,
        renews: bytes | None = None,
        invites: bool = False,
    ) -> WireguardOffer:
        if len(self.pending) >= MAX_OFFERS:
            raise OfferRefused("too many devices wait for their first use; one of them first")
        try:
            profile = self._profile(renews or public, place, pool)
        except PoolError as error:
            if renews is None:
                self._store.move_lease_number(public, None)
            raise OfferRefused(str(error)) from None
        offer = WireguardOffer(public, label, profile, now + OFFER_SECONDS, renews, invites)
        self.pending[public] = offer
        self.keep(offer, now)
        return replace(offer, profile=replace(profile, private_key=private))

    def _profile(self, holder: bytes, place: Place, pool: AddressPool) -> Profile:
        """What the config says, but for the private key. Raises PoolError."""
        addresses = pool.addresses(self._registry.lease_number(holder))
        host, port = place
        return Profile(
            private_key=None,
            ipv4=addresses.ipv4,
            ipv6=addresses.ipv6,
            dns=(addresses.gateway_ipv4,),
            gateway_key=self._identity.public,
            host=host,
            port=port,
        )

    # --- using -------------------------------------------------------------------------------

    def asked_by(self, public: bytes) -> WireguardOffer | None:
        """The offer by which a key that was proven may ask the owner."""
        offer = self.pending.get(public)
        if offer is not None and not offer.invites:
            return offer
        asking = self.invited()
        full = len(asking) >= MAX_INVITED and public not in asking
        return None if full or self._registry.is_revoked(public) else self._invitation()

    def take(self, public: bytes, now: float) -> WireguardOffer | None:
        """The owner lets the key in: by which offer, which is over; `settle` it then."""
        invitation = self._invitation()
        if public not in self.pending and invitation is not None:
            self._bind(invitation, public, now)
            return invitation
        return self.pending.pop(public, None)

    def forget(self, public: bytes) -> None:
        """The config is good for nothing any more."""
        offer = self.pending.pop(public, None)
        if offer is not None:
            self._drop(public, offer.renews is not None)

    def drop_renewal(self, device: bytes, now: float) -> None:
        """No new key for the device."""
        for offer in self.all():
            if offer.renews == device:
                self._desk.withdraw(offer.public_key, now)
                self.forget(offer.public_key)

    def expire(self, now: float) -> bool:
        """Forget what was not used in time; True when there was any."""
        waiting = {request.public_key for request in self._desk.waiting()}
        invited = self.invited()
        over = [
            offer
            for offer in self.pending.values()
            if offer.expires <= now
            and not (invited if offer.invites else offer.public_key in waiting)
        ]
        for offer in over:
            self.forget(offer.public_key)
        return bool(over)

    # --- invitations -------------------------------------------------------------------------

    def _invitation(self) -> WireguardOffer | None:
        return next((offer for offer in self.pending.values() if offer.invites), None)

    def invited(self) -> list[bytes]:
        """The keys that ask for the invitation."""
        return [
            request.public_key
            for request in self._desk.waiting()
            if request.via is Via.WIREGUARD and request.public_key not in self.pending
        ]

    def _withdraw_invited(self, now: float) -> None:
        for key in self.invited():
            self._desk.withdraw(key, now)

    def _bind(self, invitation: WireguardOffer, public: bytes, now: float) -> None:
        """The invitation, its addresses, are this key's; who else asks has asked in vain."""
        del self.pending[invitation.public_key]
        self._store.move_lease_number(invitation.public_key, public)
        self._withdraw_invited(now)
