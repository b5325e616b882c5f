"""The doctor as a whole: collects the facts of a side and runs its checks.

A running service examines itself (`of_gateway`, `of_client`), as only it knows
who came in and what its sockets did. Without a service the command looks from
outside (`outside`): it detects the VPN and asks the resolver by itself, opens
no listener and changes nothing.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from client.client import Client
from client.model import ClientError
from client.outlet.outlet import OutletKind
from client.system.journal import MAX_JOURNAL_BYTES
from control.schema import Finding
from eventloop.tasks import create_task
from gateway.dns.flights import Reply
from gateway.dns.forwarder import DnsConfig, DnsForwarder
from gateway.dns.upstreams import parse_server
from gateway.gateway import Gateway
from gateway.proof import EgressReport
from gateway.vpn.detector import VpnDetector
from gateway.vpn.guard import EgressGuard
from gateway.vpn.snapshot import Interface
from reach.cable import Phone
from reach.usb import system_cable
from services import config as conf
from services.doctor import addresses, lan, machine
from services.doctor import client as client_checks
from services.doctor import gateway as gateway_checks
from services.doctor.client import ClientFacts
from services.doctor.gateway import GatewayFacts, WireguardFacts
from services.doctor.machine import Machine
from services.doctor.system import Awake
from services.settings import Settings
from services.wake import WakeLock
from storage import own

ANSWER_SECONDS = 4.0
"""Seconds the resolver may take; less than a check may."""
JOURNAL_NAME = "client-undo.jsonl"
VERSION_REFUSED = (
    "session__version_unsupported",
    "initiation__version_unsupported__refused",
)
"""What a gateway counts for a device of another version, by stream and by datagram."""
_RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


class Doctor:
    """Examines on request; who asks while it is at work waits for the same findings."""

    def __init__(self, examine: Callable[[], Awaitable[list[Finding]]]) -> None:
        self._examine = examine
        self._work: asyncio.Task[list[Finding]] | None = None

    async def run(self) -> list[Finding]:
        if self._work is None or self._work.done():
            self._work = create_task(self._do(), "doctor")
        return await asyncio.shield(self._work)

    async def _do(self) -> list[Finding]:
        return await self._examine()


async def of_gateway(
    gateway: Gateway, subject: Machine, settings: Settings, wake: WakeLock, awake: Awake
) -> list[Finding]:
    """Examine a running gateway."""
    status = gateway.snapshots.status()
    detector = gateway.detector
    facts = GatewayFacts(
        machine=subject,
        now=gateway.snapshots.now(),
        vpn=detector.network,
        guard=str(gateway.guard.strength),
        streams=gateway.guard.streams,
        bypass=status.bypass,
        sharing=status.sharing,
        egress=status.egress,
        countable=detector.counters() is not None,
        listen=tuple(conf.parse_listen(entry) for entry in status.listen),
        interfaces=detector.survey(),
        knocks=tuple(gateway.snapshots.knocks()),
        resolvers=gateway.snapshots.resolvers(),
        vpn_mtu=subject.system.mtu(detector.network.interface),
        lease_mtu=settings.config["gateway", "mtu"],
        descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        version_refused=sum(status.counters.get(name, 0) for name in VERSION_REFUSED),
        wake_lock=wake.state,
        slept=awake.slept(),
        ask=partial(ask, gateway.snapshots.resolve),
        hear=_hear,
        wireguard=_wireguard(gateway),
    )
    found = await machine.CHECKS.run(subject) + await gateway_checks.CHECKS.run(facts)
    if gateway.snapshots.wireguard.pool is not None:
        networks = detector.attached().networks
        found += await addresses.CHECKS.run(gateway.snapshots.wireguard.clash(networks))
    return found


def _wireguard(gateway: Gateway) -> WireguardFacts:
    access = gateway.snapshots.wireguard
    return WireguardFacts(
        port=access.doors.port,
        listen=tuple(access.doors.listening),
        known=len(access.device.peers),
        offered=len(access.offers()),
        connected=sum(peer.writer.pair is not None for peer in access.device.peers.values()),
        troubles=tuple(gateway.snapshots.wireguard_troubles()),
    )


async def of_client(
    client: Client | None, subject: Machine, settings: conf.Config
) -> list[Finding]:
    """Examine a client that runs, or (None) what one would need."""
    facts = ClientFacts(
        machine=subject,
        now=None if client is None else client.status(),
        routes=settings.flag("client", "routes"),
        resolver=settings.flag("client", "dns"),
        kill_switch=settings.flag("client", "kill_switch"),
        mtu=settings["client", "mtu"] or None,
        phones=await _phones(client, subject),
        undone=_undone(subject.paths.state_dir / JOURNAL_NAME),
        outlet=_kind(settings) if client is None else client.outlet.kind,
    )
    return await machine.CHECKS.run(subject) + await client_checks.CHECKS.run(facts)


def _kind(settings: conf.Config) -> OutletKind:
    """Of a client that would be started."""
    return OutletKind.PROXY if settings.text("client", "proxy") else OutletKind.NIC


async def _phones(client: Client | None, subject: Machine) -> tuple[Phone, ...] | None:
    """Phones on the cable; None where nothing speaks to any."""
    try:
        if client is not None:
            return tuple(await client.phones())
        return tuple(await system_cable(subject.paths.state_dir).phones())
    except (OSError, ClientError):
        return None


def _undone(journal: Path) -> bool | None:
    """Whether the journal has nothing left to be undone; None where it cannot be read.

    Only whether there are lines: what they mean is for the client to know.
    """
    try:
        return not own.read(journal, MAX_JOURNAL_BYTES).strip()
    except FileNotFoundError:
        return True
    except OSError:
        return None


async def outside(subject: Machine) -> list[Finding]:
    """Examine the side of a service that does not run."""
    try:
        settings = conf.load(subject.paths.config)
    except conf.ConfigError:
        settings = conf.Config({})  # a check of its own says so
    if subject.role == "client":
        return await of_client(None, subject, settings)
    detector = VpnDetector(settings.text("gateway", "vpn_interface") or None)
    await detector.start()
    guard = EgressGuard(detector, settings.flag("gateway", "bypass"))
    servers = tuple(parse_server(entry) for entry in settings["dns", "servers"])
    forwarder = DnsForwarder(guard, DnsConfig(servers=servers))
    facts = GatewayFacts(
        machine=subject,
        now=asyncio.get_running_loop().time(),
        vpn=detector.network,
        guard=str(guard.strength),
        streams=guard.streams,
        bypass=guard.bypass,
        sharing="stopped",
        egress=EgressReport(),
        countable=detector.counters() is not None,
        listen=tuple(conf.parse_listen(entry) for entry in settings["gateway", "listen"]),
        interfaces=detector.survey(),
        knocks=(),
        resolvers=forwarder.resolvers(),
        vpn_mtu=subject.system.mtu(detector.network.interface),
        lease_mtu=settings["gateway", "mtu"],
        descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        version_refused=0,
        wake_lock="none",
        slept=0.0,
        ask=partial(ask, lambda wire, reply: forwarder.query(wire, False, "doctor", reply)),
        hear=_hear,
    )
    try:
        return await machine.CHECKS.run(subject) + await gateway_checks.CHECKS.run(facts)
    finally:
        forwarder.close()
        await detector.stop()


async def ask(resolve: Callable[[bytes, Reply], None]) -> str:
    """Ask for a name that no cache has; the RCODE by name, or `silence`."""
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def reply(wire: bytes) -> None:
        if not answer.done():
            answer.set_result(wire)

    label = f"x{os.urandom(5).hex()}".encode()
    name = b"".join(bytes((len(part),)) + part for part in (label, b"example", b"com", b""))
    resolve(os.urandom(2) + bytes.fromhex("01000001000000000000") + name + b"\0\1\0\1", reply)
    try:
        wire = await asyncio.wait_for(answer, ANSWER_SECONDS)
    except TimeoutError:
        return "silence"
    code = wire[3] & 15
    return _RCODES.get(code, f"RCODE {code}")


async def _hear(interface: Interface, address: str, prefix: int) -> bool | None:
    return await lan.hears(interface.name, interface.index, address, prefix)
