"""What to connect to: from a pairing URI, a known gateway's name or fingerprint, or nothing."""

from __future__ import annotations

from dataclasses import dataclass

from client import resume as resuming
from client.model import (
    MAX_KNOWN_ENDPOINTS,
    ClientError,
    ClientStore,
    KnownGateway,
    TransportEndpoint,
)
from client.reconnect import in_order
from vshp.config import Resume
from vshp.uri import SCHEME, PairingUri, UriError

TRANSPORTS = ("tcp",)
"""Transports that there is a link driver for."""
_MIN_PREFIX = 4
"""Hex digits of a fingerprint that may stand for it."""


@dataclass(slots=True)
class Plan:
    """A gateway, and the means to get in."""

    public_key: bytes
    name: str
    endpoints: tuple[TransportEndpoint, ...]
    transport: str
    secret: bytes | None = None
    """A pairing URI's one-time secret, until it was spent."""
    resume: Resume | None = None
    """The session to go on with, until a gateway will not have it."""


def make_plan(store: ClientStore, target: str | None, transport: str) -> Plan:
    """See `Client.connect`, also for the errors."""
    if transport != "auto" and transport not in TRANSPORTS:
        raise ClientError(
            "transport_unavailable",
            f"The transport {transport} is not available.",
            f"Choose one of: auto, {', '.join(TRANSPORTS)}.",
        )
    if target is not None and target.strip()[: len(SCHEME)].upper() == SCHEME:
        plan = _from_uri(store, target, transport)
    else:
        plan = _from_known(find_gateway(store, target), transport)
    plan.endpoints = tuple(
        e
        for e in in_order(plan.endpoints[:MAX_KNOWN_ENDPOINTS], transport)
        if e.transport in TRANSPORTS
    )
    if not plan.endpoints:
        raise ClientError(
            "transport_unavailable",
            f"{plan.name or 'The gateway'} offers no endpoint of the transport {transport}.",
            "Choose another transport, or pair again with a new QR code or URI.",
        )
    return plan


def find_gateway(store: ClientStore, target: str | None) -> KnownGateway:
    """By name, fingerprint, or the first digits of it; None means the one seen last.

    Raises ClientError `gateway_unknown`, `gateway_ambiguous`.
    """
    gateways = store.gateways()
    if target is None:
        if not gateways:
            raise ClientError(
                "gateway_unknown",
                "This device knows no gateway yet.",
                "Pair first: vpnshare connect URI, with the URI that vpnshare pair prints there.",
            )
        return gateways[0]
    wanted = target.strip().lower()
    digits = wanted.replace(":", "")
    exact = [g for g in gateways if g.fingerprint.replace(":", "") == digits]
    named = [g for g in gateways if g.name.lower() == wanted]
    begun = [g for g in gateways if g.fingerprint.replace(":", "").startswith(digits)]
    found = exact or named or (begun if len(digits) >= _MIN_PREFIX else [])
    if len(found) > 1:
        raise ClientError(
            "gateway_ambiguous",
            f"{target!r} fits {len(found)} gateways.",
            "Use the fingerprint: " + ", ".join(g.fingerprint for g in found[:4]),
        )
    if not found:
        known = ", ".join(f"{g.name} ({g.fingerprint})" for g in gateways[:4])
        raise ClientError(
            "gateway_unknown",
            f"{target!r} is neither a pairing URI nor a gateway this device knows.",
            f"Known are: {known}." if known else "Pair first, with a URI (it begins with VSHP:).",
        )
    return found[0]


def _from_uri(store: ClientStore, target: str, transport: str) -> Plan:
    try:
        uri = PairingUri.decode(target)
    except UriError as error:
        raise ClientError("uri_invalid", str(error), "Ask for a new one: vpnshare pair.") from error
    endpoints = [
        TransportEndpoint(carrier, endpoint.host, endpoint.port)
        for endpoint in uri.endpoints
        for carrier in (("tcp", "udp") if endpoint.transport == "any" else (endpoint.transport,))
    ]
    for known in store.gateways():
        if known.public_key == uri.public_key:
            endpoints += known.endpoints
    return Plan(uri.public_key, uri.name, tuple(endpoints), transport, secret=uri.secret)


def _from_known(known: KnownGateway, transport: str) -> Plan:
    return Plan(
        known.public_key,
        known.name,
        known.endpoints,
        transport,
        resume=resuming.decode(known.resume),
    )
