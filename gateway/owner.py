"""What the owner may do: share, invite, let devices in and turn them out, change settings.

Each verb is one call of the control API's: it does what was asked, throughout the gateway,
before it returns, and raises where it cannot. What the owner is shown is in `snapshots`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from gateway.listeners import ListenError, spell
from gateway.model import PairingRequest, PeerDevice, Via
from gateway.parts import Parts
from gateway.records import GatewayConfig, Offer
from gateway.wireguard_offers import WireguardOffer
from rules.value import Rules
from vshp.config import CloseReason
from vshp.constants import SECRET_LIFETIME
from vshp.pairing import secret_id
from vshp.uri import PairingUri

MAX_URI_ENDPOINTS = 3
"""Endpoints in a pairing URI: more would make its QR code too large for a phone."""

_log = logging.getLogger(__name__)


class Owner:
    """The owner's hand on a running gateway."""

    def __init__(
        self, parts: Parts, config: GatewayConfig, public_key: bytes, changed: Callable[[], None]
    ) -> None:
        """`changed` is called when something that the control API shows has changed."""
        self.config = config
        """The settings in force."""
        self._parts = parts
        self._public_key = public_key
        self._changed = changed

    # --- sharing -----------------------------------------------------------------------------

    def share(self) -> None:
        self._parts.sharing.want(True)

    def unshare(self) -> None:
        """Stop forwarding: flows end, clients stay connected and are told."""
        self._parts.sharing.want(False)

    # --- invitations -------------------------------------------------------------------------

    def pair(self, seconds: float = SECRET_LIFETIME) -> Offer:
        """Issue a one-time secret, good for so long, and put it into a URI."""
        parts, now = self._parts, self._parts.clock.now()
        # A phone without any network is reached by its cable, whose other end is its loopback.
        endpoints = parts.endpoints.likeliest(MAX_URI_ENDPOINTS)
        named = endpoints or parts.endpoints.over_a_cable()
        secret = parts.secrets.issue(now, seconds)
        uri = PairingUri(self._public_key, secret, self.config.name, named)
        spelled = tuple(spell(endpoint.host, endpoint.port) for endpoint in endpoints)
        record = parts.offers.issued(secret_id(secret), now + seconds)
        self._changed()
        return Offer(uri.encode(), seconds, spelled, record.id)

    def inviting(self) -> bool:
        """Whether a pairing URI that was handed out is still good: not used, and not too old."""
        return self._parts.secrets.offered(self._parts.clock.now())

    def wireguard_add(
        self, label: str, endpoint: tuple[str, int] | None = None, key: bytes | None = None
    ) -> WireguardOffer:
        """Make a device for a WireGuard app; its config names `endpoint`, or where we are.

        Raises OfferRefused and ListenError.
        """
        host, port = endpoint or self._wireguard_endpoint()
        offer = self._parts.wireguard.add(label, host, port, self._parts.clock.now(), key)
        self._changed()
        return offer

    def wireguard_invite(
        self, label: str, endpoint: tuple[str, int] | None = None
    ) -> WireguardOffer:
        """A config for a device that makes its own key pair, and asks with it.

        Raises OfferRefused and ListenError.
        """
        host, port = endpoint or self._wireguard_endpoint()
        offer = self._parts.wireguard.invite(label, host, port, self._parts.clock.now())
        self._changed()
        return offer

    def wireguard_renew(
        self, peer_id: str, endpoint: tuple[str, int] | None = None, key: bytes | None = None
    ) -> WireguardOffer:
        """Another key for a device, at the same addresses; see `wireguard_add`.

        Raises NoSuchPeer, OfferRefused and ListenError.
        """
        host, port = endpoint or self._wireguard_endpoint()
        device = self._parts.registry.find(peer_id)
        offer = self._parts.wireguard.renew(device, host, port, self._parts.clock.now(), key)
        self._changed()
        return offer

    def _wireguard_endpoint(self) -> tuple[str, int]:
        return self._parts.endpoints.host(), self.config.wireguard

    # --- devices -----------------------------------------------------------------------------

    def approve(self, request_id: str, rules: Rules | None = None) -> PeerDevice:
        """Trust the device that waits, and give it its lease, with these rules from its first
        packet; None: with those that it had before, if any. Raises NoSuchRequest."""
        parts, now = self._parts, self._parts.clock.now()
        desk = parts.admission.desk
        request = desk.find(request_id)
        if rules is not None:
            parts.registry.set_rules(request.public_key, rules)
        if request.via is Via.WIREGUARD:
            peer = parts.wireguard.approve(desk.approve(request_id), now)
            parts.journal.approved(peer)
        else:
            peer = parts.admission.approve(request_id, now)
        if rules is not None:
            parts.journal.ruled(peer, rules)
        self._changed()
        return peer

    def deny(self, request_id: str) -> PairingRequest:
        """Turn the device away, and for a while. Raises NoSuchRequest."""
        request = self._parts.admission.deny(request_id, self._parts.clock.now())
        if request.via is Via.WIREGUARD:
            self._parts.wireguard.denied(request)
        self._changed()
        return request

    def undeny(self, request_id: str | None = None) -> PairingRequest:
        """Take a denial back, the latest or this one: the device may ask again. Raises
        NoSuchRequest."""
        request = self._parts.admission.undeny(request_id, self._parts.clock.now())
        self._changed()
        return request

    def revoke(self, peer_id: str) -> PeerDevice:
        """Trust the device no longer; its session and flows end at once. Raises NoSuchPeer."""
        parts, now = self._parts, self._parts.clock.now()
        peer = parts.registry.find(peer_id)
        tunnel = parts.tunnels.of_key(peer.public_key)
        if tunnel is not None:
            parts.tunnels.end(tunnel, now)
        for link in parts.entrance.links.all():
            if link.public_key == peer.public_key:
                link.close(CloseReason.REVOKED, now)
        parts.wireguard.revoke(peer.public_key, now)
        # The device is out; now for the books, which may take their time.
        peer = parts.registry.revoke(peer.public_key)
        parts.journal.revoked(peer)
        self._changed()
        return peer

    def set_rules(self, peer: PeerDevice, rules: Rules) -> None:
        """What the device may do from now on, judged (`rules.encoding.changed`)."""
        if rules == self._parts.registry.rules(peer.public_key):
            return
        self._parts.journal.ruled(peer, rules)
        self._parts.registry.set_rules(peer.public_key, rules)
        self._changed()

    def rename(self, peer_id: str, label: str) -> PeerDevice:
        """Give the device a name of the owner's. Raises NoSuchPeer."""
        registry = self._parts.registry
        peer = registry.rename(registry.find(peer_id).public_key, label)
        self._changed()
        return peer

    def close_flow(self, flow_id: int) -> bool:
        """End one flow, at both ends; False if there is none of that id."""
        closed = self._parts.nat.close_flow(flow_id, self._parts.clock.now())
        self._changed()
        return closed

    # --- settings ----------------------------------------------------------------------------

    def listen(self, anew: bool = False) -> None:
        """Listen where the settings say, with `anew` by new sockets. Raises ListenError; the
        old sockets go on then."""
        self._parts.entrance.listen(self.config.listen, anew)
        self._listen_wireguard(anew)

    def relisten(self, drop: bool = False) -> None:
        """Open the listening sockets anew: after a hotspot or an interface came back, say.

        With `drop` all links are closed, too; devices come back at once. Raises ListenError;
        the old sockets go on then.
        """
        self.listen(anew=True)
        if drop:
            self._parts.entrance.links.close(CloseReason.LISTENER_CLOSED)
        self._changed()

    def configure(self, config: GatewayConfig) -> None:
        """Take new settings while running. Address pools stay as they were.

        Lease MTU and grace time count from the next lease and the next break. Raises
        ListenError when the new addresses cannot be listened on; nothing has changed then.
        """
        parts = self._parts
        if config.listen != self.config.listen:
            parts.entrance.listen(config.listen)
        before, self.config = self.config, config
        if config.listen != before.listen:
            self._listen_wireguard()
        parts.admission.auto_approve_qr = config.auto_approve_qr
        parts.wireguard.auto_approve = config.auto_approve_qr
        parts.tunnels.name = config.name
        parts.tunnels.mtu = config.mtu
        parts.tunnels.grace = config.grace
        parts.tunnels.seconds = config.lease
        parts.nat.config = replace(
            parts.nat.config, address_dependent_filtering=config.address_dependent_filtering
        )
        if config.dns != before.dns:
            parts.dns.configure(config.dns)
        if config.bypass is not before.bypass:
            parts.sharing.bypass(config.bypass)
        if config.vpn_interface != before.vpn_interface:
            parts.detector.choose(config.vpn_interface)
        self._changed()

    def _listen_wireguard(self, anew: bool = False) -> None:
        """Listen for WireGuard where clients knock; that it fails stops nothing else."""
        hosts = [host for host, _ in self.config.listen]
        try:
            self._parts.wireguard.doors.listen(hosts, self._parts.clock.now(), anew)
        except ListenError as error:
            self._parts.counters.counts["wireguard__listen__failed"] += 1
            _log.error("%s", error)
