"""What a session tells its driver: life-cycle news, never packets.

Packets go through the `on_packet` callback; an event per packet would cost more
than the packet. Events wait in the session until `next_event` takes them.
"""

from __future__ import annotations

from dataclasses import dataclass

from vshp.config import Capability, Carrier, CloseReason, GatewayStatus, LeaseConfig, Resume, Route

# --- both sides ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PeerClosed:
    """The session is over: the peer said why, refused us, or went silent."""

    reason: CloseReason
    detail: str = ""
    """A short cleaned sentence of the peer's, or empty."""
    authenticated: bool = True
    """False for a refusal before keys were agreed on: anyone on the path may have sent it."""


@dataclass(frozen=True, slots=True)
class LinkDead:
    """Nothing comes back although we asked: the link is broken. The session is closed.

    A client resumes over another link; a gateway keeps the lease and its flows for the grace time.
    """

    silent_for: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class RttMeasured:
    """A PONG came back."""

    rtt: float
    """Seconds, this one."""
    smoothed: float
    """Seconds, RFC 6298 section 2 smoothing."""


# --- gateway ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HelloReceived:
    """A client has proven its key and asks; the gateway decides.

    Answer with `pending`, `approve` or `deny`.
    """

    public_key: bytes
    """The client's static key, proven by the handshake."""
    label: str
    """Cleaned."""
    platform: str
    """Cleaned."""
    capabilities: Capability
    mtu: int
    """Largest MTU the client's NIC takes."""
    proof: str
    """`secret` (one-time secret proven), `known` (IK: claims to be paired), `none` (XX)."""
    code: str | None
    """The six digits of the pairing code, with proof `none`."""
    resume: Resume | None
    transport: str
    """`tcp`, `udp` or `usb`, as the session was constructed."""
    secret_id: bytes | None = None
    """Which one-time secret was proven; the gateway consumes it."""
    carrier: Carrier = Carrier.UNKNOWN
    """What the client says carries its link: a claim, for showing only."""
    networks: tuple[Route, ...] = ()
    """Networks that the client says its device has: a claim, for choosing its lease beside them."""


@dataclass(frozen=True, slots=True)
class CodeAgreed:
    """First contact: the device's own user says that both sides show the same digits.

    Only from here on may `approve` be called. It comes before or after the owner's decision.
    """


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The client's first record under the new keys: the handshake was no replay.

    Only from here on may the session replace an older one of the same peer or take over its flows.
    """


# --- client ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Handshaken:
    """Keys are agreed on with the holder of this static key."""

    gateway_key: bytes


@dataclass(frozen=True, slots=True)
class CodeShown:
    """First contact: these digits are to be compared with the gateway's, and a lease is refused
    until `agree` was called."""

    code: str


@dataclass(frozen=True, slots=True)
class ApprovalPending:
    """The owner is being asked."""

    code: str | None
    """The pairing code to be compared, on first contact without a QR code."""
    expires_in: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class LeaseGranted:
    """Connected: configure the NIC (or, when `lease.resumed`, go on with it)."""

    lease: LeaseConfig


@dataclass(frozen=True, slots=True)
class LeaseChanged:
    """The gateway changed the lease while it runs (a CONFIG delta, already applied)."""

    lease: LeaseConfig


@dataclass(frozen=True, slots=True)
class StatusReceived:
    """The gateway's state changed."""

    status: GatewayStatus


@dataclass(frozen=True, slots=True)
class PathPayloadFound:
    """Datagrams only: path probing settled on a UDP payload size, in bytes."""

    payload: int


Event = (
    PeerClosed
    | LinkDead
    | RttMeasured
    | HelloReceived
    | CodeAgreed
    | Confirmed
    | Handshaken
    | CodeShown
    | ApprovalPending
    | LeaseGranted
    | LeaseChanged
    | StatusReceived
    | PathPayloadFound
)
