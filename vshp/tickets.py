"""Tickets: what lets a client continue its session over another link, in one round trip.

Theory of operation. A ticket is sealed with the gateway's ticket key and says:
this session, this peer key, this generation, issued then. The client cannot
read it and nobody else can use it, for it counts only from the peer key that
the handshake has just proven. Each resume hands out the next generation. A
ticket is dead as soon as its successor has been *confirmed*, that is, when a
record of the client arrived on the resumed session; until then it still opens,
because the gateway's answer may have been lost on the way. So a ticket is good
once, and a replayed first message burns nothing.

The newest generations are remembered for a bounded number of sessions. After a
restart of the gateway none are: the first ticket that arrives for a session is
then taken at its word, which only the peer's own old tickets could abuse.

Times are seconds of a clock that the caller chooses and that never steps: a ticket
that seems to come from the future is refused, so a clock that was put back would
cost every session its ticket.
"""

from __future__ import annotations

import os
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from sealing.errors import LocalMisuse
from sealing.records import KEY_SIZE, TAG_SIZE
from vshp.config import CloseReason
from vshp.constants import MAX_TICKET_SESSIONS, SESSION_ID_SIZE, TICKET_LIFETIME
from vshp.errors import Refused

_VERSION = 1
_NONCE_SIZE = 12
_BODY = struct.Struct("<16s32sQQ")
"""session id, peer key, generation, issued (seconds)."""
TICKET_SIZE = 1 + _NONCE_SIZE + _BODY.size + TAG_SIZE
_CLOCK_SKEW = 300.0
"""Seconds a ticket may seem to come from the future before it is refused."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """An opened ticket that may be used."""

    session_id: bytes
    generation: int


class TicketBook:
    """Issues tickets, opens them, and knows which generation of each session is the newest."""

    def __init__(self, key: bytes, rng: Callable[[int], bytes] = os.urandom) -> None:
        """`key`: 32 bytes, kept by the gateway over restarts."""
        if len(key) != KEY_SIZE:
            raise LocalMisuse("key_size")
        self._aead = ChaCha20Poly1305(key)
        self._rng = rng
        self._newest: OrderedDict[bytes, int] = OrderedDict()
        """Session id -> newest confirmed generation, least recently used first."""

    def issue(self, session_id: bytes, peer_key: bytes, at: float, after: int = 0) -> bytes:
        """A ticket of the generation that follows `after` (0 for a new session)."""
        if len(session_id) != SESSION_ID_SIZE or len(peer_key) != KEY_SIZE:
            raise LocalMisuse("ticket_fields")
        nonce = self._rng(_NONCE_SIZE)
        body = _BODY.pack(session_id, peer_key, after + 1, int(at))
        head = bytes((_VERSION,)) + nonce
        return head + self._aead.encrypt(nonce, body, head)

    def open(self, ticket: bytes, session_id: bytes, peer_key: bytes, at: float) -> Ticket:
        """What the ticket allows, for the peer that the handshake has proven.

        Raises Refused: `ticket_invalid`, `ticket_expired` or `ticket_used`.
        """
        if len(ticket) != TICKET_SIZE or ticket[0] != _VERSION:
            raise Refused(CloseReason.TICKET_INVALID)
        head, sealed = ticket[: 1 + _NONCE_SIZE], ticket[1 + _NONCE_SIZE :]
        try:
            body = self._aead.decrypt(head[1:], sealed, head)
        except InvalidTag:
            raise Refused(CloseReason.TICKET_INVALID) from None
        named, holder, generation, issued = _BODY.unpack(body)
        if named != session_id or holder != peer_key or issued > at + _CLOCK_SKEW:
            raise Refused(CloseReason.TICKET_INVALID)
        if at - issued > TICKET_LIFETIME:
            raise Refused(CloseReason.TICKET_EXPIRED)
        if generation < self._newest.get(session_id, 0):
            raise Refused(CloseReason.TICKET_USED)
        return Ticket(session_id, generation)

    def confirm(self, session_id: bytes, generation: int) -> None:
        """The client has a ticket of this generation in hand: earlier ones are dead.

        Called on `Confirmed`, with the generation of the ticket that the session granted.
        """
        newest = max(generation, self._newest.pop(session_id, 0))
        self._newest[session_id] = newest
        while len(self._newest) > MAX_TICKET_SESSIONS:
            self._newest.popitem(last=False)

    def forget(self, session_id: bytes) -> None:
        """The session is over for good (its tickets must be refused by the peer's policy)."""
        self._newest.pop(session_id, None)
