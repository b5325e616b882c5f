"""The values that the two sides exchange: who asks, what is granted, why it ends.

All are frozen; a session hands them out in events and takes them as arguments.
How they travel is the business of `frames`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum, IntFlag, StrEnum

from sealing.records import Cipher
from vshp.endpoints import Endpoint


class Suite(IntEnum):
    """Cipher suite of the Noise handshake and the records; the value travels in the preamble."""

    CHACHAPOLY_BLAKE2S = 1
    AESGCM_SHA256 = 2

    @property
    def cipher(self) -> Cipher:
        """What its records are sealed with."""
        return _CIPHERS[self]


_CIPHERS = {
    Suite.CHACHAPOLY_BLAKE2S: Cipher.CHACHAPOLY,
    Suite.AESGCM_SHA256: Cipher.AESGCM,
}


class Pattern(IntEnum):
    """Noise handshake pattern; the value travels in the preamble."""

    IK = 1
    """Paired before: each side knows the other's key."""
    IK_PSK1 = 2
    """From a pairing URI: the one-time secret is proven in the first message."""
    XX = 3
    """First contact without a QR code: the pairing code ties the two together."""


class Carrier(IntEnum):
    """What carries a client's link where the gateway cannot see it by itself.

    Only the client's word: good for showing, never for deciding.
    """

    UNKNOWN = 0
    """As it looks: TCP or UDP."""
    USB = 1
    """A USB cable: at the gateway it looks like a TCP connection from itself."""


class Capability(IntFlag):
    """What a client's virtual NIC can do."""

    NONE = 0
    OFFLOAD = 1
    """Takes and gives TCP segments up to 64 KiB with partial checksums (virtio header)."""
    OFFLOAD_UDP = 2
    """The same for UDP (USO)."""
    IPV6 = 4


class CloseReason(StrEnum):
    """Why a session ended or a handshake was refused: the names that users' errors are made of."""

    DISCONNECTED = "disconnected"
    """The user of that side asked for it."""
    SHUTDOWN = "shutdown"
    """The service stops; coming back later makes sense."""
    DENIED = "denied"
    """The owner said no."""
    APPROVAL_EXPIRED = "approval_expired"
    """Nobody answered the pairing request in time."""
    REVOKED = "revoked"
    """The owner withdrew this device's pairing."""
    LEASE_EXPIRED = "lease_expired"
    NOT_PAIRED = "not_paired"
    """The gateway does not know this device's key."""
    SECRET_UNKNOWN = "secret_unknown"
    SECRET_USED = "secret_used"
    SECRET_EXPIRED = "secret_expired"
    TICKET_INVALID = "ticket_invalid"
    TICKET_USED = "ticket_used"
    TICKET_EXPIRED = "ticket_expired"
    BUSY = "busy"
    """Too many requests or sessions; try again later."""
    REPLACED = "replaced"
    """A newer session of the same device took over."""
    VERSION_UNSUPPORTED = "version_unsupported"
    SUITE_UNSUPPORTED = "suite_unsupported"
    PATTERN_UNSUPPORTED = "pattern_unsupported"
    PROTOCOL_ERROR = "protocol_error"
    """The peer broke the protocol; the detail names how."""
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    LINK_DEAD = "link_dead"
    """Nothing came back any more: said in case only one direction is broken."""
    SHARING_OFF = "sharing_off"
    LISTENER_CLOSED = "listener_closed"
    """The gateway listens elsewhere, or anew: come back by another of its endpoints."""
    CODE_REFUSED = "code_refused"
    """The device's user says that the gateway shows other digits: somebody may be in the middle."""
    CODE_EXPIRED = "code_expired"
    """The device's user did not say in time whether the digits are alike."""


@dataclass(frozen=True, slots=True)
class Route:
    """A destination that goes into the tunnel."""

    address: bytes
    """Network address, 4 or 16 bytes."""
    prefix: int


@dataclass(frozen=True, slots=True)
class Hello:
    """What a client says about itself in its first authenticated message."""

    label: str
    """A name for people; cleaned again by the gateway."""
    platform: str
    """`linux`, `android`, ..."""
    capabilities: Capability = Capability.NONE
    mtu: int = 65535
    """Largest MTU the virtual NIC takes."""
    carrier: Carrier = Carrier.UNKNOWN
    networks: tuple[Route, ...] = ()
    """Networks that the device has already, at most MAX_ROUTES: the lease is chosen beside them.
    Only its word, and only good for that."""


DEFAULT_ROUTES = (Route(bytes(4), 0), Route(bytes(16), 0))
"""All of IPv4 and of IPv6."""


@dataclass(frozen=True, slots=True)
class LeaseConfig:
    """What the gateway grants: addresses, MTU, routes, until when, and how to come back."""

    session_id: bytes
    """16 random bytes; kept over every resume."""
    ipv4: bytes
    """4 bytes, the client's address in the tunnel; likewise the others, 4 or 16 bytes."""
    ipv6: bytes
    gateway_ipv4: bytes
    """The gateway's virtual address: also the resolver."""
    gateway_ipv6: bytes
    prefix_ipv4: int = 24
    prefix_ipv6: int = 64
    mtu: int = 1500
    offload: bool = False
    """IP_PACKET_OFFLOAD frames both ways."""
    offload_udp: bool = False
    expires_in: int = 86400
    """Seconds from receipt."""
    routes: tuple[Route, ...] = DEFAULT_ROUTES
    name: str = ""
    """The gateway's name for people."""
    ticket: bytes = b""
    """Opaque to the client; goes into RESUME. Empty when resuming is not offered."""
    ipv6_internet: bool = True
    """Whether the VPN reaches the IPv6 Internet (it is refused at once inside otherwise)."""
    resumed: bool = False
    """Whether the session continues an earlier one, flows and all; otherwise it is fresh."""

    endpoints: tuple[Endpoint, ...] = ()
    """Where the gateway listens, for a client that has to come back; at most MAX_ENDPOINTS."""

    def with_ticket(self, ticket: bytes) -> LeaseConfig:
        """The same lease with the ticket for the next resume."""
        return replace(self, ticket=ticket)


@dataclass(frozen=True, slots=True)
class Resume:
    """A client's wish to continue a session."""

    session_id: bytes
    ticket: bytes
    lease: LeaseConfig | None = None
    """Client side only: the lease as it was, to which a CONFIG delta is applied."""


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """The gateway's state as told to clients in STATUS."""

    vpn_up: bool = True
    sharing: bool = True
    ipv6_internet: bool = True
    quota_left: int | None = None
    """Bytes left to this client, None when unlimited."""
    shut_out: str = ""
    """Why the gateway's owner does not let this client use the tunnel now, a sentence; empty when
    it may."""
