"""WireGuard devices in the control API's words."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from control import methods as m
from control import schema as s
from control.errors import Code, ControlError
from gateway.gateway import Gateway
from gateway.listeners import ListenError
from gateway.model import Kind, peer_id
from gateway.wireguard_diagnosis import Trouble
from gateway.wireguard_offers import OfferRefused, WireguardOffer
from services.doctor.system import System
from services.logs import clean
from services.wireguard_words import say
from wireguard.profile import (
    ProfileError,
    parse_endpoint,
    parse_key,
    spell_endpoint,
    spell_key,
    tunnel_name,
)


def add_device(gateway: Gateway, params: m.WireguardAddParams) -> s.WireguardConfig:
    """Make a device. Raises `ControlError`."""
    key, place = _key(params.key), _place(params.endpoint, gateway)
    return _made(gateway, lambda: gateway.owner.wireguard_add(params.label, place, key))


def invite_device(gateway: Gateway, params: m.WireguardInviteParams) -> s.WireguardConfig:
    """A config for a device that makes its own key pair. Raises `ControlError`."""
    place = _place(params.endpoint, gateway)
    return _made(gateway, lambda: gateway.owner.wireguard_invite(params.label, place))


def renew_device(gateway: Gateway, params: m.WireguardRenewParams) -> s.WireguardConfig:
    """Another key for a device. Raises `ControlError` and `NoSuchPeer`."""
    key, place = _key(params.key), _place(params.endpoint, gateway)
    return _made(gateway, lambda: gateway.owner.wireguard_renew(params.id, place, key))


def _key(text: str | None) -> bytes | None:
    try:
        return None if text is None else parse_key(text)
    except ProfileError as error:
        raise ControlError(Code.INVALID_PARAMS, _sentence(str(error))) from None


def _place(text: str | None, gateway: Gateway) -> tuple[str, int] | None:
    try:
        return None if text is None else _endpoint(text, gateway.owner.config.wireguard)
    except ProfileError as error:
        raise ControlError(Code.INVALID_PARAMS, _sentence(str(error))) from None


def _made(gateway: Gateway, make: Callable[[], WireguardOffer]) -> s.WireguardConfig:
    try:
        offer = make()
    except OfferRefused as refused:
        raise ControlError(Code.FAILED, _sentence(str(refused))) from None
    except ListenError as error:
        raise ControlError(Code.FAILED, _sentence(str(error)), name="cannot_listen") from None
    return s.WireguardConfig(
        id="" if offer.invites else peer_id(offer.public_key),
        label=offer.label,
        text=offer.profile.text(),
        tunnel=tunnel_name(offer.label),
        endpoint=spell_endpoint(offer.profile.host, offer.profile.port),
        expires_in=offer.expires - gateway.snapshots.now(),
    )


def wireguard_state(gateway: Gateway) -> s.Wireguard:
    """The listener, and all devices: those let in first, then those that were made."""
    access, now = gateway.snapshots.wireguard, gateway.snapshots.now()
    asking = {request.public_key for request in gateway.snapshots.requests()}
    devices = []
    for known in gateway.registry.all_trusted(Kind.WIREGUARD):
        peer = access.device.peers.get(known.public_key)
        if peer is None:
            continue
        seen = access.sighting(known.public_key)
        at = peer.endpoint
        devices.append(
            s.WireguardDevice(
                id=known.id,
                label=known.label,
                key=spell_key(known.public_key),
                state="connected" if peer.writer.pair is not None else "quiet",
                ipv4=str(ipaddress.ip_address(peer.ipv4)),
                ipv6=str(ipaddress.ip_address(peer.ipv6)),
                told="" if seen is None else seen.told,
                endpoint=None if at is None else spell_endpoint(at.host, at.port),
                handshake_age=None if peer.handshake_at is None else now - peer.handshake_at,
                received_bytes=peer.received_bytes,
                sent_bytes=peer.sent_bytes,
            )
        )
    devices += [_offered(gateway, offer, asking, now) for offer in access.offers()]
    system = System()
    troubles = [
        _trouble(each, access.doors.port, system) for each in gateway.snapshots.wireguard_troubles()
    ]
    return s.Wireguard(
        spell_key(access.public_key), access.doors.port, access.doors.listening, devices, troubles
    )


def _offered(
    gateway: Gateway, offer: WireguardOffer, asking: set[bytes], now: float
) -> s.WireguardDevice:
    """What was made, and is not let in or not confirmed."""
    key, state = offer.public_key, "offered"
    if offer.invites:
        state = "invited"
    elif key in gateway.snapshots.wireguard.device.peers:
        state = "quiet"
    elif key in asking:
        state = "asking"
    return s.WireguardDevice(
        id=peer_id(key),
        label=offer.label,
        key="" if offer.invites else spell_key(key),
        state=state,
        ipv4=str(ipaddress.ip_address(offer.profile.ipv4)),
        ipv6=str(ipaddress.ip_address(offer.profile.ipv6)),
        told=spell_endpoint(offer.profile.host, offer.profile.port),
        expires_in=max(0.0, offer.expires - now),
        renews=None if offer.renews is None else peer_id(offer.renews),
        asking=[spell_key(k) for k in gateway.snapshots.wireguard.invited()]
        if offer.invites
        else [],
    )


def _trouble(trouble: Trouble, port: int, system: System) -> s.WireguardTrouble:
    said = say(trouble, port, system)
    device = None if trouble.key is None else peer_id(trouble.key)
    return s.WireguardTrouble(trouble.cause, device, said.found, said.advice)


def _endpoint(text: str, port: int) -> tuple[str, int]:
    """`HOST` or `HOST:PORT`, with brackets around IPv6 where a port follows."""
    try:
        host = str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        return parse_endpoint(text if ":" in text else f"{text}:{port}")
    return parse_endpoint(spell_endpoint(host, port))


def _sentence(text: str) -> str:
    text = clean(text).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."
