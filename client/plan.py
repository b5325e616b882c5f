"""What to connect to: a pairing URI, an address, a host's or a known gateway's name, or nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from client import resume as resuming
from client.model import (
    MAX_KNOWN_ENDPOINTS,
    ClientError,
    ClientStore,
    KnownGateway,
    TransportEndpoint,
)
from client.reconnect import Ending, in_order
from reach.cable import is_serial
from vshp.config import Resume
from vshp.constants import DEFAULT_PORT
from vshp.endpoints import Endpoint
from vshp.spelling import Place, SpellingError, parse_name, parse_place
from vshp.uri import PairingUri, UriError, is_uri

NOT_RESUMABLE = frozenset({"ticket_invalid", "ticket_used", "ticket_expired", "lease_expired"})
"""Endings after which the next round asks for a fresh lease."""
_SPENT = frozenset({"secret_used", "secret_expired", "secret_unknown"})

TRANSPORTS = ("tcp", "udp", "usb")
"""Transports that there is a link driver for."""
ANY_PHONE = "usb"
"""The target that means: whatever phone hangs on this machine's USB."""
_MIN_PREFIX = 4
"""Hex digits of a fingerprint that may stand for it."""


@dataclass(slots=True)
class Plan:
    """A gateway, and the means to get in."""

    public_key: bytes | None
    """None on first contact without a QR code: then Noise XX, and a pairing code."""
    name: str
    endpoints: tuple[TransportEndpoint, ...]
    """All that are known, whatever transport is wanted."""
    transport: str
    secret: bytes | None = None
    """A pairing URI's one-time secret, until it was spent."""
    resume: Resume | None = None
    """The session to go on with, until a gateway will not have it."""
    known: KnownGateway | None = None
    """What the store has about this gateway, if anything."""
    target: str | None = None
    """What the user named."""
    by_address: bool = False
    """The user named an address: a gateway that has forgotten us may be asked anew."""
    given: frozenset[str] = frozenset()
    """The hosts that the user typed: these may be this device itself."""
    unseen: bool = False
    """The user gave up comparing the digits (`--yes`): whoever answers is believed."""
    met: bytes | None = field(default=None, repr=False)
    """The key that the first contact showed; believed once the user has agreed to its digits."""
    shown: bytes | None = field(default=None, repr=False)
    """The key whose digits the user sees."""
    agreed: bytes | None = field(default=None, repr=False)
    """The key whose digits the user has agreed to: also if the link breaks meanwhile."""
    probed: bool = False
    """Somebody answered and would not prove the known key, and was asked whose it shows."""
    watched: bool = False
    """The user has asked just now, and is told at once whose key is there. A wish that is pursued
    by itself goes on: who shows another key is not where the gateway is, that is all."""
    another: str | None = None
    """Of the known key and of the one that was there instead, when last looked at."""

    @property
    def expected(self) -> bytes | None:
        """The only key that will do; None while any may answer."""
        known = self.known.public_key if self.known else None
        return self.public_key or known or self.agreed

    @property
    def promised(self) -> bool:
        """Whether the gateway has granted before: then the network is closed while it is sought."""
        return self.known is not None and self.secret is None

    @property
    def guessable(self) -> bool:
        """Whether the gateway may be tried where nobody has said that it is: IK hides from whoever
        else is there who asks, and for whom."""
        return self.public_key is not None and self.promised

    @property
    def only_usb(self) -> bool:
        """Whether the gateway can be reached by the cable alone."""
        return self.transport == "usb" or all(e.transport == "usb" for e in self.endpoints)

    @property
    def port(self) -> int:
        """The gateway's port, for endpoints that are found by other means."""
        return self.endpoints[0].port if self.endpoints else DEFAULT_PORT


def make_plan(store: ClientStore, target: str | None, transport: str) -> Plan:
    """See `Client.connect`, also for the errors."""
    if transport != "auto" and transport not in TRANSPORTS:
        raise ClientError(
            "transport_unavailable",
            f"The transport {transport} is not available.",
            f"Choose one of: auto, {', '.join(TRANSPORTS)}.",
        )
    wanted = None if target is None else target.strip()
    if wanted is not None and is_uri(wanted):
        plan = _from_uri(store, wanted, transport)
    elif wanted is not None and (there := _place(store, wanted)) is not None:
        plan = _from_address(store, there, transport)
    else:
        plan = _from_known(find_gateway(store, wanted), transport)
    plan.endpoints = plan.endpoints[:MAX_KNOWN_ENDPOINTS]
    plan.target = wanted
    # USB endpoints are found when they are needed.
    if transport != "usb" and plan.endpoints and not in_order(plan.endpoints, transport):
        raise ClientError(
            "transport_unavailable",
            f"{plan.name or 'The gateway'} offers no endpoint of the transport {transport}.",
            "Choose another transport, or pair again with a new QR code or URI.",
        )
    return plan


def parse_address(text: str) -> tuple[TransportEndpoint, ...] | None:
    """The endpoints that `ADDRESS`, `ADDRESS:PORT`, `usb` or `usb:SERIAL` names.

    None when it is none of these: it may be a gateway's name (see `parse_place`).
    """
    if text == ANY_PHONE:
        return ()
    scheme, _, serial = text.partition(":")
    if scheme == ANY_PHONE and is_serial(serial):
        return (TransportEndpoint("usb", serial, DEFAULT_PORT),)
    try:
        place = parse_place(text)
    except SpellingError:
        return None
    return None if place is None else _at(place)


def _at(place: Place) -> tuple[TransportEndpoint, ...]:
    number = DEFAULT_PORT if place.port is None else place.port
    return tuple(TransportEndpoint(transport, place.host, number) for transport in ("tcp", "udp"))


def _place(store: ClientStore, target: str) -> tuple[TransportEndpoint, ...] | None:
    """The endpoints at that address or host; None when it is neither, or a known gateway's name.

    Raises ClientError `bad_address`.
    """
    if (there := parse_address(target)) is not None:
        return there
    scheme = target.partition(":")[0]
    if scheme in TRANSPORTS or any(g.name.lower() == target.lower() for g in store.gateways()):
        return None
    try:
        place = parse_name(target)
    except SpellingError as error:
        raise ClientError("bad_address", str(error), error.hint) from None
    return None if place is None else _at(place)


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
                "Pair first: vpnshare connect -, with the URI that is shown by: vpnshare pair",
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
        _check_spelling(target)
        known = ", ".join(f"{g.name} ({g.fingerprint})" for g in gateways[:4])
        raise ClientError(
            "gateway_unknown",
            f"{target!r} is neither a pairing URI, nor an address (HOST:PORT), nor a gateway "
            "this device knows.",
            f"Known are: {known}." if known else "Pair first, with a URI (it begins with VSHP:).",
        )
    return found[0]


def _check_spelling(target: str) -> None:
    """Say what is wrong with what was meant as an address. Raises ClientError `bad_address`."""
    scheme, _, serial = target.partition(":")
    if scheme == ANY_PHONE and serial:
        raise ClientError(
            "bad_address", f"{serial[:60]!r} is no serial number of a phone.",
            "Connect to the phone on the cable with: vpnshare connect usb",
        )  # fmt: skip
    if scheme in TRANSPORTS and serial:
        raise ClientError(
            "bad_address", f"{target[:60]!r} names its transport.",
            f"Write: vpnshare connect {serial[:60]} --transport {scheme}",
        )  # fmt: skip
    try:
        if parse_name(target) is None:
            parse_place(target)
    except SpellingError as error:
        raise ClientError("bad_address", str(error), error.hint) from None


def known_ways(
    told: Iterable[TransportEndpoint], before: tuple[TransportEndpoint, ...]
) -> tuple[TransportEndpoint, ...]:
    """What is known of a gateway that has said where it listens now; the rest is kept behind.

    Names go first: they are the user's, and no gateway's list of addresses takes their room.
    """
    unique: dict[str, TransportEndpoint] = {}
    for endpoint in (*(e for e in before if e.named), *told, *before):
        unique.setdefault(str(endpoint), endpoint)
    return tuple(unique.values())[:MAX_KNOWN_ENDPOINTS]


def by_transport(endpoints: tuple[Endpoint, ...]) -> list[TransportEndpoint]:
    """What a pairing URI or CONFIG names, one for each transport."""
    return [
        TransportEndpoint(carrier, endpoint.host, endpoint.port)
        for endpoint in endpoints
        for carrier in (("tcp", "udp") if endpoint.transport == "any" else (endpoint.transport,))
    ]


def _from_uri(store: ClientStore, target: str, transport: str) -> Plan:
    try:
        uri = PairingUri.decode(target)
    except UriError as error:
        raise ClientError("uri_invalid", str(error), "Ask for a new one: vpnshare pair.") from error
    endpoints = by_transport(uri.endpoints)
    known = next((g for g in store.gateways() if g.public_key == uri.public_key), None)
    if known is not None:
        endpoints += known.endpoints
    return Plan(
        uri.public_key, uri.name, tuple(endpoints), transport, secret=uri.secret, known=known
    )


def _from_address(store: ClientStore, there: tuple[TransportEndpoint, ...], transport: str) -> Plan:
    """A gateway that was met there before keeps its key: another that answers is refused."""
    places = {str(endpoint) for endpoint in there}
    given = frozenset(endpoint.host for endpoint in there)
    for known in store.gateways():
        if places & {str(endpoint) for endpoint in known.endpoints}:
            plan = _from_known(known, transport)
            plan.endpoints = (*there, *(e for e in known.endpoints if str(e) not in places))
            plan.by_address, plan.given = True, given
            return plan
    return Plan(None, "", there, transport, by_address=True, given=given)


def _from_known(known: KnownGateway, transport: str) -> Plan:
    return Plan(
        known.public_key,
        known.name,
        known.endpoints,
        transport,
        resume=resuming.decode(known.resume),
        known=known,
    )


def second_way(plan: Plan, ending: Ending) -> bool:
    """Change the plan, if there is another way in than the one that was just refused."""
    if ending.reason in _SPENT and plan.secret is not None and plan.known is not None:
        # Paired already, perhaps with this very URI: the key that was remembered will do.
        plan.secret, plan.resume = None, resuming.decode(plan.known.resume)
        return True
    asked_anew = ending.reason in ("not_paired", "revoked") and plan.by_address
    if asked_anew and plan.public_key is not None:
        # The gateway does not have us any more, and the user named it: its owner is asked as at
        # first contact, but it must be the same gateway.
        plan.public_key = plan.resume = None
        return True
    return False


def may_be_another(plan: Plan, ending: Ending) -> bool:
    """Whether to ask, once, for the key alone: a known gateway hung up unproven.

    By UDP one that cannot read message one says nothing at all.
    """
    silent = ending.reason == "handshake_timeout" and plan.transport == "udp"
    if not silent and ending.reason != "link_lost":
        return False
    if plan.probed or plan.public_key is None or plan.secret is not None:
        return False
    plan.probed = True
    return True
