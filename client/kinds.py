"""What lies between this host and an endpoint: USB, a local network, the phone's hotspot, routers.

Nothing is sent: the host's facts say on which of its networks the endpoint is, hence by which
interface it is reached, and sysfs says what that interface is. A wireless interface whose
default router is the endpoint itself is a hotspot: the phone shares its own radio.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from client.judgement import HostFacts
from client.model import EndpointKind, TransportEndpoint
from client.system.interfaces import Nature, nature
from reach.cable import CABLE_PATIENCE, Cable, PhoneState, lack, nearest


def classify(
    endpoints: Iterable[TransportEndpoint], facts: HostFacts, system: Path = Path("/")
) -> tuple[TransportEndpoint, ...]:
    """The endpoints with their kinds as the host is now. `system` is the root of sysfs."""
    return tuple(
        replace(
            endpoint,
            kind=EndpointKind.USB
            if endpoint.transport == "usb"
            else kind_of(endpoint.host, facts, system),
        )
        for endpoint in endpoints
    )


@dataclass(frozen=True, slots=True)
class Phones:
    """What hangs on the cable."""

    endpoints: tuple[TransportEndpoint, ...] = ()
    lack: str = ""
    """Why there is none: a reason of `reach.cable.LACKS`."""
    detail: str = ""


async def usb_phones(cable: Cable, port: int) -> Phones:
    """Phones on USB that may be used, or why there is none."""
    try:
        async with asyncio.timeout(CABLE_PATIENCE):
            phones = await cable.phones()
    except (OSError, TimeoutError):
        return Phones(lack="usb_absent")
    ready = tuple(
        TransportEndpoint("usb", phone.serial, port, EndpointKind.USB)
        for phone in phones
        if phone.state is PhoneState.READY
    )
    phone = nearest(phones)
    return Phones(ready, lack(phones), "" if ready or phone is None else phone.detail)


def kind_of(host: str, facts: HostFacts, system: Path = Path("/")) -> EndpointKind:
    """The kind of an endpoint at the address `host`, which may carry a %scope."""
    text, _, scope = host.partition("%")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return EndpointKind.ROUTED
    routed_by = {r.interface for r in facts.defaults if r.address == address}
    network = facts.attached_to(address)
    interface = scope or next(iter(routed_by), "") or (network.interface if network else "")
    if not interface:
        near = address.is_loopback or address.is_link_local or address in facts.own
        return EndpointKind.LAN if near else EndpointKind.ROUTED
    match nature(interface, system):
        case Nature.USB:
            return EndpointKind.USB
        case Nature.WIRELESS if interface in routed_by:
            return EndpointKind.HOTSPOT
        case _:
            return EndpointKind.LAN
