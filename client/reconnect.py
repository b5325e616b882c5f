"""When to try again, with what, and when to give up: pure rules, no clock, no socket.

Theory of operation. The client's state moves by the table below and in no
other way. What ends an attempt or a link has a *reason*, a stable name; the
rules say for each whether it is final (the user must do something) or will
pass, and give people a sentence for it. A reason that will pass is retried
after a growing, jittered delay; on first contact only a few times, because
somebody is watching the screen; once a lease was held, for ever.

A refusal that was not authenticated (it came before keys were agreed on, so
anybody at that address may have sent it) never ends a session that once
worked: it is retried like a broken link.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from client.model import ClientState, EndpointKind, TransportEndpoint
from reach.cable import LACKS
from reach.names import LACKS as NAME_LACKS


class Step(StrEnum):
    """What moves the state."""

    CONNECT = "connect"
    """The user asked to connect."""
    SHOWN = "shown"
    """The digits are shown: this device's own user is being asked."""
    AGREED = "agreed"
    """... and said that the gateway shows the same, or has said so of this gateway before."""
    ASKED = "asked"
    """The gateway's owner is being asked."""
    GRANTED = "granted"
    """There is a lease and the host is set up."""
    BROKEN = "broken"
    """The attempt or the link ended by something that will pass."""
    REFUSED = "refused"
    """... by something final."""
    DISCONNECT = "disconnect"
    """The user asked to disconnect."""


_S = ClientState
TRANSITIONS: dict[ClientState, dict[Step, ClientState]] = {
    _S.IDLE: {Step.CONNECT: _S.CONNECTING, Step.DISCONNECT: _S.IDLE},
    _S.CONNECTING: {
        Step.SHOWN: _S.ASKED,
        Step.ASKED: _S.WAITING,
        Step.GRANTED: _S.CONNECTED,
        Step.BROKEN: _S.CONNECTING,
        Step.REFUSED: _S.FAILED,
        Step.DISCONNECT: _S.IDLE,
    },
    _S.ASKED: {
        Step.SHOWN: _S.ASKED,
        Step.AGREED: _S.WAITING,
        Step.ASKED: _S.ASKED,
        Step.BROKEN: _S.CONNECTING,
        Step.REFUSED: _S.FAILED,
        Step.DISCONNECT: _S.IDLE,
    },
    _S.WAITING: {
        Step.ASKED: _S.WAITING,
        Step.GRANTED: _S.CONNECTED,
        Step.BROKEN: _S.CONNECTING,
        Step.REFUSED: _S.FAILED,
        Step.DISCONNECT: _S.IDLE,
    },
    _S.CONNECTED: {
        Step.BROKEN: _S.RECONNECTING,
        Step.REFUSED: _S.FAILED,
        Step.DISCONNECT: _S.IDLE,
    },
    _S.RECONNECTING: {
        Step.SHOWN: _S.ASKED,
        Step.ASKED: _S.RECONNECTING,
        Step.GRANTED: _S.CONNECTED,
        Step.BROKEN: _S.RECONNECTING,
        Step.REFUSED: _S.FAILED,
        Step.DISCONNECT: _S.IDLE,
    },
    _S.FAILED: {Step.CONNECT: _S.CONNECTING, Step.DISCONNECT: _S.IDLE},
}


class IllegalStep(Exception):
    """A step that the state does not know: a mistake of ours; nothing has changed."""


def after(state: ClientState, step: Step) -> ClientState:
    """The state that `step` leads to. Raises IllegalStep."""
    try:
        return TRANSITIONS[state][step]
    except KeyError:
        raise IllegalStep(f"{step} while {state}") from None


@dataclass(frozen=True, slots=True)
class Rule:
    """What a reason means."""

    final: bool
    sentence: str
    """For people; names the fix."""


REASONS: dict[str, Rule] = {
    "denied": Rule(True, "The gateway's owner denied this device."),
    "approval_expired": Rule(
        True, "Nobody approved this device in time. Ask the gateway's owner, then connect again."
    ),
    "revoked": Rule(
        True, "The gateway's owner revoked this device. Pair again with a new QR code."
    ),
    "not_paired": Rule(
        True, "The gateway does not know this device. Pair with a new QR code or URI."
    ),
    "secret_unknown": Rule(
        True, "The gateway does not know this pairing URI. Ask for a new one: vpnshare pair."
    ),
    "secret_used": Rule(
        True, "This pairing URI was used already. Ask for a new one: vpnshare pair."
    ),
    "secret_expired": Rule(True, "This pairing URI has expired. Ask for a new one: vpnshare pair."),
    "replaced": Rule(
        True, "Another connection with this device's identity took over. Only one can be used."
    ),
    "disconnected": Rule(True, "The gateway's owner disconnected this device."),
    "version_unsupported": Rule(True, "The gateway speaks another version. Update both sides."),
    "suite_unsupported": Rule(True, "The gateway does not know this cipher. Update both sides."),
    "pattern_unsupported": Rule(
        True, "The gateway does not pair this way. Pair with its QR code or URI."
    ),
    "handshake_failed": Rule(
        True,
        "What answers there is not the gateway of this pairing: its key is another. "
        "Beware of an impostor. If its owner has set it up anew: vpnshare forget GATEWAY, "
        "connect again, and compare the digits.",
    ),
    "code_refused": Rule(
        True,
        "The digits are not those that the gateway showed here: nothing was taken from it. "
        "Somebody may be between the two. Pair with a QR code, or connect again and compare.",
    ),
    "config_before_consent": Rule(
        True,
        "What answered there gave out a lease before anybody had compared the digits, as no "
        "honest gateway does. Nothing was taken from it. Pair with a QR code.",
    ),
    "code_expired": Rule(
        True,
        "Nobody said here in time that both sides show the same digits. Connect again, and "
        "compare them.",
    ),
    "unreachable": Rule(
        False,
        "The gateway cannot be reached. Are both devices on the same network, and is sharing on?",
    ),
    **{lack: Rule(False, sentence) for lack, sentence in {**LACKS, **NAME_LACKS}.items()},
    "busy": Rule(False, "The gateway has too many requests or devices at the moment."),
    "shutdown": Rule(False, "The gateway's service has stopped."),
    "sharing_off": Rule(False, "The gateway's owner has turned sharing off."),
    "listener_closed": Rule(
        False, "The gateway has changed where it listens; its other addresses are tried."
    ),
    "lease_expired": Rule(False, "The lease has expired; a new one is asked for."),
    "ticket_invalid": Rule(False, "The session could not be resumed; a new one is begun."),
    "ticket_used": Rule(False, "The session could not be resumed; a new one is begun."),
    "ticket_expired": Rule(False, "The session could not be resumed; a new one is begun."),
    "lease_forbidden": Rule(
        True,
        "The gateway gives out addresses that no device may take; nothing was changed for it. "
        "Do not use this gateway unless its owner can explain that.",
    ),
    "lease_clashes": Rule(
        False,
        "The gateway's addresses clash with this device's own network, so they are not used. "
        "Another pool helps, on the gateway: vpnshare set gateway.pool_ipv4 NETWORK.",
    ),
    "handshake_timeout": Rule(False, "The gateway did not answer in time."),
    "link_dead": Rule(False, "The gateway has gone silent."),
    "link_lost": Rule(False, "The connection to the gateway broke."),
    "nic_lost": Rule(False, "The virtual network interface was removed; another one is made."),
    "protocol_error": Rule(False, "The gateway and this client misunderstood each other."),
}
"""What vshp's CloseReason values, and the link's own names, mean for the user."""

_UNKNOWN = Rule(False, "The connection to the gateway ended.")


def sentence(reason: str) -> str:
    """What a reason means, for people."""
    return REASONS.get(reason, _UNKNOWN).sentence


FIRST_ROUNDS = 3
"""Attempts at all endpoints before a first contact is given up."""
BACKOFF_FIRST = 0.25
"""Seconds before the second attempt; the first is made at once."""
BACKOFF_FACTOR = 2.0
BACKOFF_MAX = 120.0
"""Where nothing has changed: a network that comes, a phone on the cable and an announcement of the
gateway begin a round at once, and wake nobody in between."""
QUIET_ROUNDS = 8
"""Rounds after which the next are quiet: those of the first minute."""
BACKOFF_JITTER = 0.25
"""Share by which a delay is stretched or cut, so that many clients do not come at once."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt or a link ended."""

    reason: str
    detail: str = ""
    authenticated: bool = True
    """Whether the gateway itself is known to have said so."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows."""

    step: Step
    """BROKEN or REFUSED."""
    error: str
    sentence: str


def judge(ending: Ending, leased: bool, rounds: int, may_retry: bool = True) -> Verdict:
    """What an ending means: `leased` once a lease was held, `rounds` attempts made since."""
    rule = REASONS.get(ending.reason, _UNKNOWN)
    sentence = f"{rule.sentence} ({ending.detail})" if ending.detail else rule.sentence
    final = rule.final
    if leased:
        if not ending.authenticated:
            final = False
    elif rounds >= FIRST_ROUNDS:
        final = True
    if not may_retry:
        final = True
    return Verdict(Step.REFUSED if final else Step.BROKEN, ending.reason, sentence)


class Backoff:
    """The delay before each attempt after a break: none, then growing."""

    __slots__ = ("rounds",)

    def __init__(self) -> None:
        self.rounds = 0
        """Attempts since the last success."""

    def reset(self) -> None:
        self.rounds = 0

    def again(self) -> None:
        """This device is on other networks now: what failed before says little."""
        self.rounds = min(self.rounds, 1)

    @property
    def quiet(self) -> bool:
        """Whether the attempt under way comes after a minute of vain ones: it is to wake this
        device as seldom as may be."""
        return self.rounds > QUIET_ROUNDS

    def next(self, random: float) -> float:
        """Seconds until the next attempt; `random` is in [0, 1)."""
        rounds, self.rounds = self.rounds, self.rounds + 1
        if rounds == 0:
            return 0.0
        # The exponent is bounded: a float overflows after a thousand doublings.
        delay = min(BACKOFF_MAX, BACKOFF_FIRST * BACKOFF_FACTOR ** min(rounds - 1, 20))
        return delay * (1 + BACKOFF_JITTER * (2 * random - 1))


_KINDS = {kind: place for place, kind in enumerate(EndpointKind)}
_TRANSPORTS = {"usb": 0, "tcp": 1, "udp": 2}
"""Streams first: there segments of 64 KiB travel whole, and each costs one record."""


def rank(endpoint: TransportEndpoint) -> tuple[int, int]:
    """The place of an endpoint among others, the best first: by kind, then by transport."""
    return _KINDS[endpoint.kind], _TRANSPORTS[endpoint.transport]


def in_order(
    endpoints: Iterable[TransportEndpoint], transport: str = "auto"
) -> tuple[TransportEndpoint, ...]:
    """Endpoints of `transport` (or any), the best first, each once; else as they came."""
    unique: dict[str, TransportEndpoint] = {}
    for endpoint in endpoints:
        if transport in ("auto", endpoint.transport):
            unique.setdefault(str(endpoint), endpoint)
    return tuple(sorted(unique.values(), key=rank))


def most_telling(endings: list[Ending]) -> Ending:
    """Of several endpoints' failures, the one to show: what a gateway said goes first."""
    if not endings:
        return Ending("unreachable")

    def weight(ending: Ending) -> tuple[bool, bool, bool]:
        rule = REASONS.get(ending.reason, _UNKNOWN)
        return ending.authenticated, rule.final, ending.reason != "unreachable"

    return max(endings, key=weight)
