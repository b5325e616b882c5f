"""The gateway's door for datagrams: which session is this for, and may a new one begin.

Theory of operation. Data and FINISH name the session by its index, one look-up.
An INITIATION that has been seen (same ephemeral key, same sender index) goes to
the session it began. A new one costs a Diffie-Hellman and some memory; so when
many handshakes are half open the sender first gets a stateless cookie for his
address, and brings it back or is forgotten. Half-open sessions are bounded: the
oldest unconfirmed one makes way. Nothing here answers with more bytes than came.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable

from sealing.cookies import CookieJar
from sealing.errors import AuthFailed, PeerViolation
from sealing.records import KEY_SIZE
from vshp.config import CloseReason
from vshp.constants import (
    COOKIE_LIFETIME,
    COOKIE_PERSON,
    DATAGRAM_DATA,
    DATAGRAM_FINISH,
    DATAGRAM_INITIATION,
    LOAD_HALF_OPEN,
    MAX_HALF_OPEN,
)
from vshp.core import Random
from vshp.datagram import Address
from vshp.datagram_session import (
    DatagramGatewaySession,
    cookie_reply,
    parse_initiation,
    random_index,
    refusal,
)
from vshp.errors import Refused
from vshp.gateway_role import SecretLookup
from vshp.preamble import Preamble, decode_preamble

MAX_REPLIES = 64
"""Stateless answers that wait to be sent."""
_INDEX_AT = 4


class DatagramListener:
    """Finds or makes the session of every datagram that arrives at one socket."""

    def __init__(
        self, identity: bytes, secrets: SecretLookup, now: float, rng: Random = os.urandom
    ) -> None:
        self.counters: dict[str, int] = {}
        self.sessions: dict[int, DatagramGatewaySession] = {}
        """By our index; the driver removes a closed one with `forget`."""
        self.under_load = False
        """Set by the driver to ask everybody for cookies; many half-open sessions do as well."""
        self.admit: Callable[[Address, float], bool] = lambda address, now: True
        """The driver's own bound on handshakes, asked when one would really be begun: of a
        sender who, under load, has shown a cookie, so that forged addresses use up nothing."""
        self.on_evicted: Callable[[DatagramGatewaySession, float], None] = lambda session, now: None
        """Called with a half-open session that has made way for another and is closed."""
        self.ephemeral: bytes | None = None
        """Fixes the handshake's own key, for test vectors only."""
        self._identity = identity
        self._secrets = secrets
        self._rng = rng
        self._jar = CookieJar(now, COOKIE_LIFETIME, COOKIE_PERSON, rng)
        self._half_open: OrderedDict[tuple[int, bytes], DatagramGatewaySession] = OrderedDict()
        """By sender index and ephemeral key, oldest first, until confirmed."""
        self._replies: list[tuple[bytes, Address]] = []

    def receive_datagram(
        self, data: memoryview, address: Address, now: float
    ) -> DatagramGatewaySession | None:
        """The session that this datagram concerned, None when there is none.

        Raises PeerViolation or AuthFailed as the session does; it is then closed and is
        `session_of` the datagram. What a stranger does wrong is only counted.
        """
        kind = data[0] if len(data) >= _INDEX_AT + 4 else 0
        if kind == DATAGRAM_INITIATION:
            return self._initiation(data, address, now)
        session = self.session_of(data)
        if session is None:
            self._count("datagram__no_session__dropped")
            return None
        session.receive_datagram(data, address, now)
        return session

    def session_of(self, data: memoryview) -> DatagramGatewaySession | None:
        """The session whose index a data or FINISH datagram names."""
        if len(data) < _INDEX_AT + 4 or data[0] not in (DATAGRAM_DATA, DATAGRAM_FINISH):
            return None
        return self.sessions.get(int.from_bytes(data[_INDEX_AT : _INDEX_AT + 4], "little"))

    def replies(self) -> list[tuple[bytes, Address]]:
        """Stateless answers (cookies, refusals) to be sent; taken."""
        replies, self._replies = self._replies, []
        return replies

    def adopt(self, session: DatagramGatewaySession) -> bool:
        """A session of another listener comes by this socket now; False when its index is taken."""
        if session.index in self.sessions:
            return False
        self.sessions[session.index] = session
        return True

    def forget(self, session: DatagramGatewaySession) -> None:
        """The session is over."""
        self.sessions.pop(session.index, None)
        for name, half_open in self._half_open.items():
            if half_open is session:
                del self._half_open[name]
                break

    def _initiation(
        self, data: memoryview, address: Address, now: float
    ) -> DatagramGatewaySession | None:
        try:
            peer_index, cookie, question = parse_initiation(data)
            found = decode_preamble(question)
        except PeerViolation as error:
            self._count(f"initiation__{error.reason}__dropped")
            return None
        except Refused as error:
            self._refuse(error, peer_index, address)
            return None
        if found is None or len(question) < found[1] + KEY_SIZE:
            self._count("initiation__truncated__dropped")
            return None
        preamble, size = found
        message = bytes(question[size:])
        name = (peer_index, message[:KEY_SIZE])
        session = self._half_open.get(name)
        if session is not None:
            session.asked_again(address)
            return session
        self._sweep()
        if self.under_load or len(self._half_open) >= LOAD_HALF_OPEN:
            place = repr(address).encode()
            if not self._jar.check(cookie, place, now):
                self._count("initiation__cookie_missing__asked")
                self._reply(cookie_reply(self._jar.make(place, now), peer_index), address)
                return None
        if not self.admit(address, now):
            self._count("initiation__not_admitted__dropped")
            return None
        return self._begin(preamble, message, name, address, now)

    def _begin(
        self,
        preamble: Preamble,
        message: bytes,
        name: tuple[int, bytes],
        address: Address,
        now: float,
    ) -> DatagramGatewaySession | None:
        index = random_index(self._rng)
        while index in self.sessions:
            index = random_index(self._rng)
        session = DatagramGatewaySession(
            self._identity, self._secrets, now, index, rng=self._rng, ephemeral=self.ephemeral
        )
        try:
            session.begin(preamble, message, name[0], address, now)
        except Refused as error:
            self._refuse(error, name[0], address)
            return None
        except (PeerViolation, AuthFailed) as error:
            self._count(f"initiation__{error.reason}__dropped")
            return None
        while len(self._half_open) >= MAX_HALF_OPEN:
            _, oldest = self._half_open.popitem(last=False)
            self.sessions.pop(oldest.index, None)
            oldest.close(CloseReason.BUSY, now)
            self._count("session__half_open_full__closed")
            self.on_evicted(oldest, now)
        self.sessions[index] = session
        self._half_open[name] = session
        return session

    def _sweep(self) -> None:
        """Confirmed and closed sessions are not half open any more."""
        done = [name for name, s in self._half_open.items() if s.closed or s.records]
        for name in done:
            del self._half_open[name]

    def _refuse(self, error: Refused, peer_index: int, address: Address) -> None:
        self._count(f"initiation__{error.reason}__refused")
        self._reply(refusal(CloseReason(error.reason), peer_index), address)

    def _reply(self, data: bytes, address: Address) -> None:
        if len(self._replies) < MAX_REPLIES:
            self._replies.append((data, address))
        else:
            self._count("reply__queue_full__dropped")

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
