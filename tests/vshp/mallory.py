"""A man in the middle of a first contact, who uses each freedom that the protocol leaves him.

He runs two real sessions: a gateway toward the client, a client toward the
gateway. What he may choose: in which order he serves the two, when he passes
something on and whether at all, his static and ephemeral keys, the contents of
his messages, his share on either leg, what he reveals, and to break off and
begin anew. What he may not: have a victim's session do anything but receive
bytes.

He grinds for the last `DIGITS` digits of the code, not for all six: a strategy
that is better than chance is better there too, and so it shows after hundreds
of tries instead of millions.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from sealing.errors import ProtocolError
from sealing.identity import generate_identity, public_key
from tests.vshp.dialogue import (
    CLIENT_KEY,
    GATEWAY_KEY,
    GATEWAY_PUBLIC,
    HELLO,
    LEASE,
    drain,
    events,
    feed,
)
from vshp import pairing
from vshp.client_role import ClientRole
from vshp.config import CloseReason, LeaseConfig, Resume
from vshp.constants import CODE_DIGITS
from vshp.core import Handler
from vshp.events import HelloReceived
from vshp.frames import FrameType, decode_share, encode_config, encode_frame
from vshp.handshake import NoiseHandshake
from vshp.session import ClientSession, GatewaySession

DIGITS = 2
MODULUS = 10**DIGITS
CANDIDATES = 256
"""Shares that he tries out for one choice: with what he needs to know, 92 % of his searches
find one whose code ends as he wishes."""
KEYS = 4
"""Handshakes of his that he tries out for one choice; each costs real Diffie-Hellmans."""
RETRIES = 3
"""Handshakes with the gateway that he breaks off before it shows anything."""

Chosen = Callable[[bytes, bytes], bytes]
"""(handshake hash, what the other side has sent him of the code) -> his share."""


@dataclass(frozen=True, slots=True)
class Try:
    """What the two screens show; None where nothing is shown."""

    at_client: str | None
    at_gateway: str | None

    def alike(self, digits: int) -> bool:
        if self.at_client is None or self.at_gateway is None:
            return False
        return self.at_client[-digits:] == self.at_gateway[-digits:]


def any_share(handshake: bytes, known: bytes) -> bytes:
    return os.urandom(32)


def share_for(target: str, code: Callable[[bytes], str]) -> bytes:
    """A share with which the code, as far as he can know it, ends like `target`."""
    share = b""
    for _ in range(CANDIDATES):
        share = os.urandom(32)
        if code(share)[-DIGITS:] == target[-DIGITS:]:
            break
    return share


class TowardClient(GatewaySession):
    """His end of the client's leg; `choose` is asked when the client has committed itself."""

    def __init__(self, choose: Chosen = any_share) -> None:
        def draw(size: int) -> bytes:
            return choose(self._hash, self._commitment)

        super().__init__(generate_identity(), lambda name: bytes(32), 0.0, rng=draw)


class Rewritten(NoiseHandshake):
    """A session's handshake from here on, with payloads that are changed before they are sealed."""

    def __init__(self, original: NoiseHandshake | None, change: Callable[[bytes], bytes]) -> None:
        assert original is not None
        vars(self).update(vars(original))
        # Whose end would be the end of the keys.
        vars(original).clear()
        self._change = change

    def write(self, payload: bytes) -> bytes:
        return super().write(self._change(payload))


class TowardGateway(ClientSession):
    """His end of the gateway's leg; `reveal` is asked when he has the gateway's share."""

    handlers: ClassVar[dict[int, Handler]]

    def __init__(
        self,
        identity: bytes | None = None,
        ephemeral: bytes | None = None,
        commitment: bytes | None = None,
    ) -> None:
        """With somebody else's `commitment` in the place of his own, he waits for `show`."""
        super().__init__(identity or generate_identity(), None, HELLO, now=0.0, ephemeral=ephemeral)
        self.reveal: Chosen | None = None
        self.gateway_share = b""
        self._waits = commitment is not None
        if commitment is not None:
            # It ends the last message's payload.
            self._handshake = Rewritten(self._handshake, lambda payload: payload[:-32] + commitment)

    def show(self, share: bytes) -> None:
        """Reveal this share now."""
        self._share = share
        self._on_code_nonce(self.gateway_share, 0.0)
        self.writer.flush()

    def _on_nonce(self, body: bytes, now: float) -> None:
        self.gateway_share = decode_share(body)
        if self.reveal is not None:
            self._share = self.reveal(self._hash, self.gateway_share)
        if not self._waits:
            self._on_code_nonce(body, now)


TowardGateway.handlers = ClientSession.handlers | {
    FrameType.CODE_NONCE: (
        ClientRole.handlers[FrameType.CODE_NONCE][0],
        TowardGateway._on_nonce,
    )
}


class Client:
    """The victim that wants to connect, and the words for its leg."""

    def __init__(self) -> None:
        self.session = ClientSession(CLIENT_KEY, None, HELLO, now=0.0)
        self.question = drain(self.session)

    def commit(self, mallory: GatewaySession) -> bytes:
        """Shake hands with him; its last message, which he may keep for a while."""
        if self.question:
            feed(mallory, self.question)
            self.question = b""
        feed(self.session, drain(mallory))
        return drain(self.session)

    def show(self, mallory: GatewaySession, last: bytes) -> str | None:
        """He takes the message, sends his share, and the client reveals; what its screen shows."""
        feed(mallory, last)
        feed(self.session, drain(mallory))
        feed(mallory, drain(self.session))
        return self.session.code


class Gateway:
    """The victim whose owner is asked, and the words for its leg."""

    def __init__(self) -> None:
        self.session = GatewaySession(GATEWAY_KEY, lambda name: bytes(32), 0.0)

    def answer(self, mallory: ClientSession) -> bytes:
        """Its first message."""
        feed(self.session, drain(mallory))
        return drain(self.session)

    def disclose(self, mallory: ClientSession) -> str | None:
        """Takes his commitment and gives him its share: the code as he knows it then."""
        feed(self.session, drain(mallory))
        feed(mallory, drain(self.session))
        return mallory.code

    def show(self, mallory: ClientSession) -> str | None:
        """He reveals; what its owner's screen shows, None when it refuses."""
        try:
            feed(self.session, drain(mallory))
        except ProtocolError:
            return None
        for event in events(self.session):
            if isinstance(event, HelloReceived):
                return event.code
        return None


def whole_client_leg() -> str:
    """The client first, with nothing chosen: the code that it shows from then on."""
    client, mallory = Client(), TowardClient()
    code = client.show(mallory, client.commit(mallory))
    assert code is not None
    return code


# --- strategies ------------------------------------------------------------------------------


def client_first() -> Iterator[Try]:
    """He passes everything on as it comes, and hopes."""
    code = whole_client_leg()
    gateway, mallory = Gateway(), TowardGateway()
    feed(mallory, gateway.answer(mallory))
    gateway.disclose(mallory)
    yield Try(code, gateway.show(mallory))


def gateway_first_then_a_share() -> Iterator[Try]:
    """The gateway's code in hand, he looks for the share to give to the client, whose own he
    takes to be what its commitment says."""
    gateway, toward = Gateway(), TowardGateway()
    feed(toward, gateway.answer(toward))
    target = gateway.disclose(toward)
    assert target is not None

    def choose(handshake: bytes, commitment: bytes) -> bytes:
        return share_for(target, lambda share: pairing.pairing_code(handshake, commitment, share))

    client, mallory = Client(), TowardClient(choose)
    yield Try(client.show(mallory, client.commit(mallory)), gateway.show(toward))


def gateway_first_then_keys() -> Iterator[Try]:
    """The gateway's code in hand, he answers the client with the ephemeral key that looks best
    to him, and gives his share last."""
    gateway, toward = Gateway(), TowardGateway()
    feed(toward, gateway.answer(toward))
    target = gateway.disclose(toward)
    client = Client()
    tried: list[tuple[bool, TowardClient]] = []
    for _ in range(KEYS):
        mallory = TowardClient(lambda handshake, commitment: bytes(32))
        feed(mallory, client.question)
        assert mallory._handshake is not None
        so_far = bytes(mallory._handshake._noise.noise_protocol.symmetric_state.h)
        guess = pairing.pairing_code(so_far, bytes(32), bytes(32))
        tried.append((target is not None and guess[-DIGITS:] == target[-DIGITS:], mallory))
    client.question = b""
    mallory = max(tried, key=lambda each: each[0])[1]
    shown = gateway.show(toward)
    yield Try(client.show(mallory, client.commit(mallory)), shown)


def client_first_then_keys() -> Iterator[Try]:
    """The client's code in hand, he writes the gateway several last messages, with other shares
    and commitments, and sends the one that would do if the gateway's share were zero."""
    target = whole_client_leg()
    gateway = Gateway()
    identity, ephemeral = generate_identity(), generate_identity()
    first = TowardGateway(identity, ephemeral)
    answer = gateway.answer(first)
    tried: list[tuple[bool, TowardGateway]] = []
    for _ in range(KEYS):
        mallory = TowardGateway(identity, ephemeral)
        drain(mallory)
        feed(mallory, answer)
        guess = pairing.pairing_code(mallory._hash, mallory._share, bytes(32))
        tried.append((guess[-DIGITS:] == target[-DIGITS:], mallory))
    mallory = max(tried, key=lambda each: each[0])[1]
    gateway.disclose(mallory)
    yield Try(target, gateway.show(mallory))


def another_share_at_the_reveal() -> Iterator[Try]:
    """The client's code and the gateway's share in hand, he reveals the share that fits."""
    target = whole_client_leg()
    gateway, mallory = Gateway(), TowardGateway()
    feed(mallory, gateway.answer(mallory))
    mallory.reveal = lambda handshake, theirs: share_for(
        target, lambda share: pairing.pairing_code(handshake, share, theirs)
    )
    gateway.disclose(mallory)
    yield Try(target, gateway.show(mallory))


def break_off_and_begin_anew() -> Iterator[Try]:
    """The client's code in hand, he begins with the gateway until the code would fit, and breaks
    off before it shows anything else. Each of its shares that he gets is a try."""
    target = whole_client_leg()
    for _ in range(1 + RETRIES):
        gateway, mallory = Gateway(), TowardGateway()
        feed(mallory, gateway.answer(mallory))
        code = gateway.disclose(mallory)
        fits = code is not None and code[-DIGITS:] == target[-DIGITS:]
        yield Try(target, gateway.show(mallory) if fits else None)
        if fits:
            return


def mirrored() -> Iterator[Try]:
    """He gives each side the other's commitment and share: the same shares on both legs."""
    client, gateway = Client(), Gateway()
    legs: list[TowardGateway] = []

    def choose(handshake: bytes, commitment: bytes) -> bytes:
        toward = TowardGateway(commitment=commitment)
        feed(toward, gateway.answer(toward))
        gateway.disclose(toward)
        legs.append(toward)
        return toward.gateway_share

    mallory = TowardClient(choose)
    at_client = client.show(mallory, client.commit(mallory))
    (toward,) = legs
    toward.show(client.session._share)  # which the client has just revealed to him
    yield Try(at_client, gateway.show(toward))


STRATEGIES: dict[str, Callable[[], Iterator[Try]]] = {
    strategy.__name__: strategy
    for strategy in (
        client_first,
        gateway_first_then_a_share,
        gateway_first_then_keys,
        client_first_then_keys,
        another_share_at_the_reveal,
        break_off_and_begin_anew,
        mirrored,
    )
}


# --- strategies of who needs no codes: he grants by himself -----------------------------------
#
# Each ends with the victim's session, which must have no lease: its user has said nothing yet.

HIS_LEASE = replace(LEASE, name="phone", ticket=b"h" * 80)


class Granting(GatewaySession):
    """A gateway of his that says CONFIG when he likes, whatever the protocol says."""

    def __init__(self) -> None:
        super().__init__(generate_identity(), lambda name: bytes(32), 0.0)

    def grant(self, base: LeaseConfig | None = None) -> None:
        self.writer.frame(FrameType.CONFIG, encode_config(HIS_LEASE, base))
        self.writer.flush()


class GrantingInstead(Granting):
    """Grants where a gateway says why it closes."""

    def close(self, reason: CloseReason, now: float, detail: str = "") -> None:
        self.grant()


def _tell(victim: ClientSession, data: bytes) -> None:
    try:
        feed(victim, data)
    except ProtocolError:
        pass


def _code_shown() -> tuple[Client, Granting]:
    client, mallory = Client(), Granting()
    client.show(mallory, client.commit(mallory))
    assert client.session.code is not None
    return client, mallory


def grants_in_message_two() -> ClientSession:
    """With the first thing that he says."""
    client, mallory = Client(), Granting()
    feed(mallory, client.question[:-35])
    frame = encode_frame(FrameType.CONFIG, encode_config(HIS_LEASE))
    mallory._handshake = Rewritten(mallory._handshake, lambda payload: payload + frame)
    feed(mallory, client.question[-35:])
    _tell(client.session, drain(mallory))
    return client.session


def grants_before_the_code() -> ClientSession:
    """As soon as there are keys, in the place of his share."""
    client, mallory = Client(), GrantingInstead()
    last = client.commit(mallory)
    mallory.admit_code = lambda now: False
    feed(mallory, last)
    _tell(client.session, drain(mallory))
    return client.session


def grants_after_the_code() -> ClientSession:
    """The digits are on the screen, and nobody has looked at them."""
    client, mallory = _code_shown()
    mallory.grant()
    _tell(client.session, drain(mallory))
    return client.session


def grants_as_approved() -> ClientSession:
    """After saying that his owner has approved."""
    client, mallory = _code_shown()
    mallory.approved(60, 0.0)
    mallory.grant()
    _tell(client.session, drain(mallory))
    return client.session


def grants_by_delta() -> ClientSession:
    """As a change of a lease that there never was."""
    client, mallory = _code_shown()
    mallory.grant(replace(HIS_LEASE, mtu=1300))
    _tell(client.session, drain(mallory))
    return client.session


def grants_at_resume() -> ClientSession:
    """A client that was paired comes back, with the real gateway's key and a ticket."""
    resume = Resume(LEASE.session_id, LEASE.ticket, LEASE)
    session = ClientSession(CLIENT_KEY, GATEWAY_PUBLIC, HELLO, now=0.0, resume=resume)
    mallory = Granting()
    _answer_blindly(mallory, drain(session))
    _tell(session, drain(mallory))
    return session


def _answer_blindly(mallory: Granting, question: bytes) -> None:
    """He cannot read it; he answers as if it had been sent to his own key."""
    own = ClientSession(CLIENT_KEY, public_key(mallory._identity), HELLO, now=0.0)
    feed(mallory, drain(own))
    mallory.approve(HIS_LEASE, 0.0)


GRANTS: dict[str, Callable[[], ClientSession]] = {
    strategy.__name__: strategy
    for strategy in (
        grants_in_message_two,
        grants_before_the_code,
        grants_after_the_code,
        grants_as_approved,
        grants_by_delta,
        grants_at_resume,
    )
}


# --- judgement -------------------------------------------------------------------------------

UNBELIEVABLE = 1e-9
"""Odds below which so many matches are no chance."""


def odds(hits: int, tries: int, chance: float) -> float:
    """The probability of at least so many hits by chance (the binomial's upper tail)."""

    def log_term(k: int) -> float:
        ways = math.lgamma(tries + 1) - math.lgamma(k + 1) - math.lgamma(tries - k + 1)
        return ways + k * math.log(chance) + (tries - k) * math.log1p(-chance)

    if hits <= 0:
        return 1.0
    return min(1.0, math.fsum(math.exp(log_term(k)) for k in range(hits, tries + 1)))


@dataclass(slots=True)
class Tally:
    """What came of the tries of one strategy."""

    tries: int = 0
    shown: int = 0
    """Tries after which both screens showed a code."""
    ends: int = 0
    """Codes that ended alike, as he wished."""
    whole: int = 0
    """Codes that were alike."""

    def add(self, each: Try) -> None:
        self.tries += 1
        self.shown += each.at_gateway is not None
        self.ends += each.alike(DIGITS)
        self.whole += each.alike(CODE_DIGITS)

    def beyond_chance(self) -> bool:
        return (
            odds(self.ends, self.tries, 1 / MODULUS) < UNBELIEVABLE
            or odds(self.whole, self.tries, 10.0**-CODE_DIGITS) < UNBELIEVABLE
        )


def play(strategy: Callable[[], Iterator[Try]], tries: int) -> Tally:
    """At least so many tries."""
    tally = Tally()
    while tally.tries < tries:
        for each in strategy():
            tally.add(each)
    return tally
