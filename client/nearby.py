"""What gateways there are near this device: on the cable, at its router, announced on its networks.

Theory of operation. All three are looked at together, each for a moment. A phone on the cable is
a gateway only if one listens on it, which connecting will show. On a phone's hotspot, and on its
USB tethering, the gateway is the default router, whether multicast passes there or not; so each
router is asked who it is (`probe`): a handshake that is given up before anybody at the gateway is
bothered, and that tells a stranger's router that somebody knocked. What is announced is heard by
mDNS, where that is installed and passes.

Nothing of this is proven: anybody may be a router, and announce anything. Who chooses one of
these makes a first contact like any other, with digits to compare. What a stranger says is
cleaned, and an address that may not be dialled is left out.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from client.judgement import HostFacts, LeaseAddresses, Source, judge_endpoint, scoped
from client.kinds import kind_of
from client.model import ClientError, EndpointKind, TransportEndpoint, fingerprint
from client.probe import whose_key
from client.routers import router_endpoints
from client.system.interfaces import Nature, nature
from reach import mdns
from reach.cable import CABLE_PATIENCE, Phone, PhoneState, advice
from reach.mdns import Announcement, DiscoveryUnavailable
from vshp.constants import DEFAULT_PORT
from vshp.labels import clean_label

LISTEN_SECONDS = 2.0
"""For announcements: a gateway answers a question within some 100 ms (RFC 6762 section 6)."""
ANSWER_SECONDS = 1.5
"""For a router to say who it is."""
MAX_NEARBY = 32
MAX_MODEL = 48
_USABLE = (PhoneState.READY, PhoneState.NOT_ALLOWED)
"""The person at the phone is asked to allow this device when it is connected to."""

Probe = Callable[[TransportEndpoint, int, float], Awaitable[str]]
"""The fingerprint of the gateway at an endpoint; with the mark for the socket, and seconds.
Raises OSError, ClientError."""
Browse = Callable[[Iterable[str], float], Awaitable[list[Announcement]]]


class Phones(Protocol):
    """What is asked of a `Cable` here."""

    async def phones(self) -> list[Phone]:
        """See there."""


@dataclass(frozen=True, slots=True)
class Nearby:
    """A gateway that is near, or what may be one."""

    way: str
    """`cable`, `router` or `announced`."""
    target: str
    """As `Client.connect` takes it."""
    name: str = ""
    """As it, or the phone, calls itself; cleaned."""
    fingerprint: str = ""
    """That it has shown, or announced; empty where nobody has said one."""
    kind: EndpointKind = EndpointKind.LAN
    lack: str = ""
    """What keeps it from being used, and what to do; empty for nothing."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All that was found, in the order in which it should be tried."""

    found: tuple[Nearby, ...] = ()
    deaf: str = ""
    """Why announcements were not heard; empty when they were listened for."""
    lacks: str = ""
    """The package that would help."""


async def look(
    facts: HostFacts,
    cable: Phones,
    mark: int,
    probe: Probe | None = None,
    browse: Browse = mdns.browse,
    seconds: float = LISTEN_SECONDS,
) -> Surroundings:
    """Look around; takes about `seconds`. `facts` are the host's now."""
    phones, by_router, announced = await asyncio.gather(
        _phones(cable),
        routers(facts, mark, probe or shown_key),
        _announced(facts, browse, seconds),
    )
    heard, deaf, lacks = announced
    merged = {found.target: found for found in (*phones, *by_router)}
    for found in heard:
        same = next(
            (each for each in merged.values() if each.way == "router" and _same(each, found)), None
        )
        if same is None:
            merged.setdefault(found.target, found)
        else:
            merged[same.target] = replace(
                same, name=found.name, fingerprint=same.fingerprint or found.fingerprint
            )
    return Surroundings(tuple(merged.values())[:MAX_NEARBY], deaf, lacks)


def _same(router: Nearby, announced: Nearby) -> bool:
    """Whether an announcement is the router's own."""
    if router.fingerprint:
        return router.fingerprint == announced.fingerprint
    return router.target == announced.target


async def shown_key(endpoint: TransportEndpoint, mark: int, seconds: float) -> str:
    """The fingerprint that the gateway at a stream's endpoint shows (`client/probe.py`)."""
    return fingerprint(await whose_key(endpoint, mark, seconds))


def local_addresses(facts: HostFacts) -> list[str]:
    """This device's IPv4 addresses on networks where a gateway may be."""
    return [
        str(address)
        for address in sorted(facts.own, key=str)
        if address.version == 4
        and (network := facts.attached_to(address)) is not None
        and nature(network.interface) is not Nature.NONE
    ]


def place(host: str, port: int) -> str:
    """An address as `Client.connect` takes it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _phones(cable: Phones) -> list[Nearby]:
    try:
        async with asyncio.timeout(CABLE_PATIENCE):
            phones = await cable.phones()
    except (OSError, TimeoutError):
        return []
    return [
        Nearby(
            "cable",
            f"usb:{phone.serial}",
            clean_label(phone.model, MAX_MODEL),
            kind=EndpointKind.USB,
            lack="" if phone.state in _USABLE else advice(phone),
        )
        for phone in phones
    ]


async def routers(facts: HostFacts, mark: int, probe: Probe = shown_key) -> list[Nearby]:
    """This device's default routers that are gateways. Nobody there is bothered."""

    async def ask(endpoint: TransportEndpoint) -> Nearby | None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                shown = await probe(endpoint, mark, ANSWER_SECONDS)
        except (OSError, ClientError, TimeoutError):
            return None
        return Nearby(
            "router", place(endpoint.host, endpoint.port), fingerprint=shown, kind=endpoint.kind
        )

    found = await asyncio.gather(*map(ask, router_endpoints(facts, DEFAULT_PORT)))
    return [each for each in found if each is not None]


async def _announced(
    facts: HostFacts, browse: Browse, seconds: float
) -> tuple[list[Nearby], str, str]:
    """What was heard; or why nobody has listened, and for want of which package."""
    here = local_addresses(facts)
    if not here:
        return [], "This device is on no local network.", ""
    try:
        announcements = await browse(here, seconds)
    except DiscoveryUnavailable as error:
        return [], str(error), error.lacks or ""
    found = []
    for each in announcements:
        host = next((h for h in each.addresses if _may_dial(h, facts)), None)
        if host is not None:
            host = next(iter(scoped(host, facts)), host)
            target = place(host, each.port)
            kind = kind_of(host, facts)
            found.append(Nearby("announced", target, each.name, each.fingerprint, kind))
    return found, "", ""


def _may_dial(host: str, facts: HostFacts) -> bool:
    if judge_endpoint(host, facts, LeaseAddresses(), Source.GATEWAY) is not None:
        return False
    # What is announced on a network is on it, and not somewhere behind a router.
    address = ipaddress.ip_address(host)
    return facts.attached_to(address) is not None or address.is_link_local
