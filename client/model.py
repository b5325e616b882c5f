"""The receiving side's domain: what it keeps, how it is set up, what it shows.

Values and two tiny ports; nothing here does anything by itself. Times are
seconds; `last_seen` is Unix time. Byte counters name their direction.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from client.guard import GuardSnapshot
from reach.cable import is_serial
from vshp.constants import DEFAULT_PORT
from vshp.spelling import parse_name

MAX_KNOWN_GATEWAYS = 256
"""Gateways a store keeps; the one seen longest ago goes first."""
MAX_KNOWN_ENDPOINTS = 16
"""Endpoints kept per gateway, so that a long life on many networks does not slow a reconnect."""


class ClientState(StrEnum):
    """What the client is doing; the transitions are in `client/reconnect.py`."""

    IDLE = "idle"
    CONNECTING = "connecting"
    ASKED = "asked"
    """First contact without a QR code: this device's own user is asked to compare the digits."""
    WAITING = "waiting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    FAILED = "failed"


class EndpointKind(StrEnum):
    """How a gateway is reached, fastest first: the order in which endpoints are tried."""

    USB = "usb"
    LAN = "lan"
    HOTSPOT = "hotspot"
    ROUTED = "routed"
    """On none of this device's networks, as they are now: a router has to know the way."""


class ClientError(Exception):
    """A request that cannot be done; `name` is stable, for scripts; `hint` names the fix."""

    def __init__(self, name: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.name = name
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class TransportEndpoint:
    """A place where a gateway listens."""

    transport: str
    """`tcp`, `udp` or `usb`."""
    host: str
    """An IP address, or a host's name that leads to some; with `usb` the phone's serial number."""
    port: int
    kind: EndpointKind = EndpointKind.LAN
    guessed: bool = field(default=False, compare=False)
    """Nobody has named it: the gateway may be there, or anybody else. Not kept as such."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}:{host}:{self.port}"

    @property
    def named(self) -> bool:
        """Whether the host is a name, which has to be looked up before it can be dialled."""
        return self.transport != "usb" and not _is_address(self.host)

    @classmethod
    def parse(cls, text: str, kind: EndpointKind = EndpointKind.LAN) -> TransportEndpoint:
        """The inverse of `str()`; raises ClientError `bad_endpoint`."""
        transport, _, rest = text.partition(":")
        host, _, port = rest.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        number = int(port) if port.isdecimal() and len(port) < 6 else 0
        known = {"tcp": _is_host, "udp": _is_host, "usb": is_serial}.get(transport)
        if known is None or not known(host) or not 0 < number < 65536:
            raise ClientError("bad_endpoint", f"{text!r} is not TRANSPORT:HOST:PORT.")
        return cls(transport, host, number, kind)


@dataclass(frozen=True, slots=True)
class KnownGateway:
    """A gateway this client was approved by: enough to come back without a URI."""

    public_key: bytes
    name: str
    endpoints: tuple[TransportEndpoint, ...]
    last_seen: float
    resume: bytes | None = None
    """What resuming needs (the last lease with its single-use ticket), opaque to the store;
    secret, replaced at each grant; None when there is nothing to resume."""

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.public_key)

    def seen_at(self, endpoint: TransportEndpoint, now: float) -> KnownGateway:
        """This gateway with `endpoint` as the one that worked last."""
        others = tuple(e for e in self.endpoints if str(e) != str(endpoint))
        here = replace(endpoint, guessed=False)
        return replace(self, endpoints=(here, *others)[:MAX_KNOWN_ENDPOINTS], last_seen=now)


class ClientStore(Protocol):
    """What the client needs kept. The services' store is one; `MemoryStore` another.

    The methods are quick and are called on the loop's thread. What is saved counts at once
    for all that is asked afterwards; none raises because something cannot be written: keeping
    it until it can be, and telling the user, is the store's.
    """

    def identity(self) -> bytes | None:
        """The client's static private key (32 bytes), or None on first start."""

    def save_identity(self, private_key: bytes) -> None: ...

    def gateways(self) -> list[KnownGateway]:
        """All known gateways, the one seen last first."""

    def save_gateway(self, gateway: KnownGateway) -> None:
        """Insert or replace, keyed by public key. Tickets are single use: written at once."""

    def forget_gateway(self, public_key: bytes) -> None:
        """Remove; an unknown key is no error."""

    def wanted(self) -> str | None:
        """The user's wish to be connected, if any, as `client/wish.py` writes it."""

    def save_wanted(self, wish: str | None) -> None:
        """Note the user's wish: what a start after a crash goes on with."""


@dataclass(slots=True)
class MemoryStore:
    """A store that forgets at exit: for tests."""

    _identity: bytes | None = None
    _gateways: dict[bytes, KnownGateway] = field(default_factory=dict)
    _wanted: str | None = None

    def identity(self) -> bytes | None:
        return self._identity

    def save_identity(self, private_key: bytes) -> None:
        self._identity = private_key

    def gateways(self) -> list[KnownGateway]:
        return sorted(self._gateways.values(), key=lambda g: g.last_seen, reverse=True)

    def save_gateway(self, gateway: KnownGateway) -> None:
        self._gateways[gateway.public_key] = gateway
        for stale in self.gateways()[MAX_KNOWN_GATEWAYS:]:
            del self._gateways[stale.public_key]

    def forget_gateway(self, public_key: bytes) -> None:
        self._gateways.pop(public_key, None)

    def wanted(self) -> str | None:
        return self._wanted

    def save_wanted(self, wish: str | None) -> None:
        self._wanted = wish


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """How the client behaves; every field has a default that suits a Linux laptop."""

    state_dir: Path
    """Where the undo journal and the resolver's backup are kept; created if missing."""
    label: str = "device"
    """The name shown to the gateway's owner."""
    platform: str = "linux"
    interface: str = "vshp%d"
    """Name, or pattern with one %d, of the virtual NIC."""
    offload: bool = True
    """Ask the kernel and the gateway for segmentation offload."""
    mtu: int | None = None
    """Overrides the lease's MTU downward."""
    routes: bool = True
    """Send all traffic into the tunnel; when False only the addresses are set."""
    resolver: bool = True
    """Use the gateway as the system's resolver while connected."""
    resolv_conf: Path = Path("/etc/resolv.conf")
    """The system's resolver file."""
    open_on_failure: bool = False
    """The weaker promise: what lasts longer than a pause opens the network (see `client/block.py`).
    A wish may say otherwise."""
    local_interfaces: tuple[str, ...] = ()
    """Interfaces whose networks on the link are direct, as names or patterns (see
    `client/system/onlink.py`); empty: all, as far as they are private; `none`: no network is."""
    forward: bool = True
    """Whether what is behind this device (containers) may use the tunnel; see `system/fence.py`."""
    kill_switch: bool = False
    """Also drop, by nftables, whatever would leave outside the tunnel and the local networks."""
    mark: int = 51830
    """First firewall mark and routing table tried; the next free one is taken."""
    reconnect: bool = True
    """Come back by itself when the link breaks."""
    connect_timeout: float = 10.0
    """Seconds for an endpoint to answer and complete the handshake."""
    suite: str = "auto"
    """`auto`, `aesgcm` or `chacha`: the record cipher."""


@dataclass(frozen=True, slots=True)
class LeaseSnapshot:
    """The lease as text, for people and the control API."""

    ipv4: str
    ipv6: str
    gateway_ipv4: str
    gateway_ipv6: str
    dns: tuple[str, ...]
    mtu: int
    offload: bool
    expires_in: float


@dataclass(frozen=True, slots=True)
class ClientSnapshot:
    """The client's state at one moment. `connected_for` is in seconds, rates in bytes a second."""

    state: ClientState
    label: str
    fingerprint: str
    reason: str | None = None
    """A sentence that names the fix, when failed or reconnecting."""
    error: str | None = None
    """The reason's stable name: `denied`, `secret_expired`, `unreachable`..."""
    code: str | None = None
    """The pairing code to compare while waiting."""
    gateway: str | None = None
    gateway_fingerprint: str | None = None
    endpoint: str | None = None
    transport: str | None = None
    outlet: str = "nic"
    """An `OutletKind`."""
    interface: str | None = None
    """The outlet's NIC, if it has one."""
    proxy: str | None = None
    """Where programs connect to the outlet, if it is a proxy."""
    lease: LeaseSnapshot | None = None
    sharing: str | None = None
    """As the gateway's STATUS said last: `on`, `off`, `unavailable`."""
    shut_out: str = ""
    """Why the gateway's owner does not let this device use the tunnel now, a sentence of the
    gateway's, cleaned; empty when it may."""
    quota_left: int | None = None
    """Bytes left of what the owner gives this device; None without such a bound."""
    connected_for: float | None = None
    reconnects: int = 0
    rtt_ms: float | None = None
    from_tunnel_bytes: int = 0
    to_tunnel_bytes: int = 0
    from_tunnel_rate: float = 0.0
    to_tunnel_rate: float = 0.0
    counters: dict[str, int] = field(default_factory=dict)
    guard: GuardSnapshot = field(default_factory=GuardSnapshot)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def _is_host(text: str) -> bool:
    return _is_address(text) or parse_name(f"{text}:{DEFAULT_PORT}") is not None


def fingerprint(public_key: bytes) -> str:
    """A public key as people compare it: 8 bytes of BLAKE2s, in hex pairs."""
    return hashlib.blake2s(public_key, digest_size=8).digest().hex(":")
