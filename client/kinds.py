"""What lies between this host and an endpoint: USB, a local network, or the phone's hotspot.

Asked of the kernel without sending anything: a connected UDP socket says which
address, hence which interface, would be used; sysfs says what that interface
is. A wireless interface whose default router is the endpoint itself is a
hotspot: the phone shares its own radio. Where sysfs or procfs cannot be read
everything is a LAN, and only the order of attempts is less good.
"""

from __future__ import annotations

import asyncio
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from client.dial import open_datagram
from client.model import EndpointKind, TransportEndpoint
from reach.cable import Cable, PhoneState, lack

CABLE_PATIENCE = 1.0
"""Seconds for the phones on the cable to be listed."""

_SIOCGIFADDR = 0x8915
_FLAG_GATEWAY = 0x2


def classify(
    endpoints: Iterable[TransportEndpoint], mark: int, system: Path = Path("/")
) -> tuple[TransportEndpoint, ...]:
    """The endpoints with their kinds as they are now. `system` is the root of sysfs and procfs."""
    kinds: dict[str, EndpointKind] = {}
    found = []
    for endpoint in endpoints:
        if endpoint.transport == "usb":
            found.append(replace(endpoint, kind=EndpointKind.USB))
            continue
        kind = kinds.get(endpoint.host)
        if kind is None:
            interface = _interface_to(endpoint, mark)
            kind = kind_of(interface, endpoint.host, system)
            kinds[endpoint.host] = kind
        found.append(replace(endpoint, kind=kind))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Phones:
    """What hangs on the cable."""

    endpoints: tuple[TransportEndpoint, ...] = ()
    lack: str = ""
    """Why there is none: a reason of `reach.cable.LACKS`."""


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
    return Phones(ready, lack(phones))


def kind_of(interface: str | None, host: str, system: Path = Path("/")) -> EndpointKind:
    """The kind of an endpoint at `host` that is reached by `interface`."""
    if interface is None:
        return EndpointKind.LAN
    device = system / "sys/class/net" / interface
    if "/usb" in str((device / "device").resolve()):
        return EndpointKind.USB
    if (device / "wireless").exists() and host in _routers(interface, system):
        return EndpointKind.HOTSPOT
    return EndpointKind.LAN


def _interface_to(endpoint: TransportEndpoint, mark: int) -> str | None:
    """The interface that packets to the endpoint would leave by; IPv4, else None."""
    if ":" in endpoint.host:
        scope = endpoint.host.partition("%")[2]
        return scope if scope and not scope.isdecimal() else None
    try:
        with open_datagram(endpoint, mark) as probe:
            local = probe.getsockname()[0]
            for _, name in socket.if_nameindex():
                request = struct.pack("40s", name.encode())
                try:
                    answer = fcntl.ioctl(probe, _SIOCGIFADDR, request)
                except OSError:
                    continue
                if socket.inet_ntoa(answer[20:24]) == local:
                    return name
    except OSError:
        pass
    return None


def _routers(interface: str, system: Path) -> set[str]:
    """IPv4 default routers by an interface (proc(5), /proc/net/route)."""
    try:
        lines = (system / "proc/net/route").read_text().splitlines()[1:]
    except OSError:
        return set()
    found = set()
    for line in lines:
        fields = line.split()
        if len(fields) < 8 or fields[0] != interface or int(fields[1], 16):
            continue
        if int(fields[3], 16) & _FLAG_GATEWAY:
            found.add(str(ipaddress.IPv4Address(struct.pack("=I", int(fields[2], 16)))))
    return found
