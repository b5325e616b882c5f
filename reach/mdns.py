"""Finding gateways by mDNS: `_vshp._udp.local.`, where `zeroconf` is installed.

A convenience, never proof of anything: anybody may announce anything, so what
is found is cleaned and bounded, and a connection to it is a first contact like
any other, with a pairing code. The interfaces are given by the caller, who
knows which of them are local networks; the library's own choice would include
the VPN. They are asked over IPv4; the answers name IPv6 addresses, too.

TXT record: `name` (for people), `fp` (the fingerprint of the gateway's key),
`v` (the version of VSHP).
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vshp.constants import MAX_NAME, VERSION
from vshp.labels import clean_label, clip_utf8

SERVICE = "_vshp._udp.local."
MAX_FOUND = 64
"""Gateways listed; a LAN with more is lying."""
MAX_ADDRESSES = 4
"""Of one gateway, IPv4 first."""
MAX_FINGERPRINT = 32
ANSWER_SECONDS = 1.0
"""For the details of one announcement."""


class DiscoveryUnavailable(Exception):
    """mDNS cannot be used here; the text says why, `lacks` names a package that would help."""

    def __init__(self, message: str, lacks: str | None = None) -> None:
        super().__init__(message)
        self.lacks = lacks


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a gateway says of itself; not proven."""

    name: str
    fingerprint: str
    addresses: tuple[str, ...]
    port: int


class Announcer:
    """Announces one gateway at given local addresses, until told otherwise."""

    def __init__(self, name: str, fingerprint: str, port: int) -> None:
        """Raises DiscoveryUnavailable when `zeroconf` is not installed."""
        load()
        self._name = name
        self._fingerprint = fingerprint
        self._port = port
        self._zeroconf: Any = None
        self._info: Any = None

    async def start(self, addresses: Iterable[str]) -> None:
        """Announce these own addresses, on the interfaces of those that are IPv4.

        Raises DiscoveryUnavailable.
        """
        asyncio_part, core = load()
        own = sorted(addresses)
        heard_on = [address for address in own if ":" not in address]
        try:
            self._zeroconf = asyncio_part.AsyncZeroconf(
                interfaces=heard_on, ip_version=core.IPVersion.V4Only
            )
            # The instance's label is the fingerprint: unique, and nothing to quote in it.
            label = self._fingerprint.replace(":", "")
            self._info = core.ServiceInfo(
                SERVICE,
                f"{label}.{SERVICE}",
                addresses=[ipaddress.ip_address(address).packed for address in own],
                port=self._port,
                properties={
                    "v": str(VERSION),
                    "name": clip_utf8(self._name, MAX_NAME),
                    "fp": self._fingerprint,
                },
                server=f"{label}.local.",
            )
            await (await self._zeroconf.async_register_service(self._info))
        except (OSError, core.Error) as error:
            await self.stop()
            raise DiscoveryUnavailable(f"mDNS cannot be used here: {error}") from error

    def repeat(self) -> None:
        """Say it once more, unasked: where a network keeps questions from a phone, its own word
        still arrives. One packet on each interface; nothing before `start`."""
        if self._zeroconf is not None and self._info is not None:
            core = self._zeroconf.zeroconf
            core.async_send(core.generate_service_broadcast(self._info, None))

    async def stop(self) -> None:
        """Take the announcement back. Safe to call twice."""
        zeroconf, self._zeroconf = self._zeroconf, None
        info, self._info = self._info, None
        if zeroconf is None:
            return
        if info is not None:
            try:
                await (await zeroconf.async_unregister_service(info))
            except Exception:
                # The library raises its own and the system's errors when an interface has gone;
                # the announcement then ends with its lifetime.
                pass
        await zeroconf.async_close()


async def browse(addresses: Iterable[str], seconds: float) -> list[Announcement]:
    """Gateways that announce themselves on the interfaces of these own addresses (IPv4).

    Raises DiscoveryUnavailable.
    """
    asyncio_part, core = load()
    try:
        zeroconf = asyncio_part.AsyncZeroconf(
            interfaces=sorted(addresses), ip_version=core.IPVersion.V4Only
        )
    except OSError as error:
        raise DiscoveryUnavailable(f"mDNS cannot be used here: {error}") from error
    names: dict[str, None] = {}

    def changed(zeroconf: Any, service_type: str, name: str, state_change: Any) -> None:
        if state_change is core.ServiceStateChange.Removed:
            names.pop(name, None)
        elif len(names) < MAX_FOUND:
            names[name] = None

    browser = asyncio_part.AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[changed])
    try:
        await asyncio.sleep(seconds)
        infos = [asyncio_part.AsyncServiceInfo(SERVICE, name) for name in names]
        answers = await asyncio.gather(
            *(info.async_request(zeroconf.zeroconf, ANSWER_SECONDS * 1000) for info in infos)
        )
    finally:
        await browser.async_cancel()
        await zeroconf.async_close()
    found = [_read(info) for info, answered in zip(infos, answers, strict=True) if answered]
    return sorted((a for a in found if a is not None), key=lambda a: (a.name, a.fingerprint))


def _read(info: Any) -> Announcement | None:
    """A stranger's announcement, cleaned; None when it cannot be used."""
    properties = info.decoded_properties
    usable = (a for a in info.parsed_addresses() if _usable(ipaddress.ip_address(a)))
    addresses = tuple(sorted(usable, key=lambda address: ":" in address))
    fingerprint = properties.get("fp") or ""
    if properties.get("v") != str(VERSION) or not addresses or not info.port:
        return None
    return Announcement(
        clean_label(properties.get("name") or "", MAX_NAME),
        clean_label(fingerprint, MAX_FINGERPRINT),
        addresses[:MAX_ADDRESSES],
        info.port,
    )


def _usable(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    # A link-local IPv6 address says nothing without the interface.
    scoped = address.version == 6 and address.is_link_local
    return not (address.is_loopback or address.is_multicast or address.is_unspecified or scoped)


def load() -> tuple[Any, Any]:
    """The library's two modules; slow the first time. Raises DiscoveryUnavailable."""
    try:
        import zeroconf
        import zeroconf.asyncio
    except ImportError as error:
        raise DiscoveryUnavailable("mDNS needs the package zeroconf.", lacks="zeroconf") from error
    return zeroconf.asyncio, zeroconf
