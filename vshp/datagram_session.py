"""Sessions over datagrams (UDP): the client's end, the gateway's end, and the gateway's door.

A client drives one `DatagramClientSession` per attempt. A gateway gives every
datagram of its socket to a `DatagramListener`, which finds or makes the session.

Driving is as with streams: after each call take events, send what
`datagrams_to_send` gives to `session.address`, arm the timer at `get_timer`.
Handshake datagrams, integers little-endian:

    INITIATION  type 1, 0, length u16, sender index u32, cookie 16,
                preamble and Noise message one (`length` bytes), zeros up to 1200
    RESPONSE    type 2, 0, length u16, receiver index u32, sender index u32, message two
    FINISH      type 3, 0, length u16, receiver index u32, message three (XX)
    COOKIE      type 4, 0, 0 u16, receiver index u32, cookie 16
    REFUSED     type 5, reason u8, 0 u16, receiver index u32
"""

from __future__ import annotations

import os
import struct

from sealing.cookies import COOKIE_SIZE, NO_COOKIE
from sealing.errors import AuthFailed, LocalMisuse, PeerViolation
from vshp.client_role import ClientRole
from vshp.config import CloseReason, Hello, Resume, Suite
from vshp.constants import (
    DATAGRAM_COOKIE,
    DATAGRAM_FINISH,
    DATAGRAM_INITIATION,
    DATAGRAM_REFUSED,
    DATAGRAM_RESPONSE,
    INITIATION_SIZE,
)
from vshp.core import Random
from vshp.datagram import Address, DatagramTransport
from vshp.frames import CLOSE_CODES
from vshp.gateway_role import GatewayRole, SecretLookup
from vshp.preamble import Preamble
from vshp.states import State

HEAD = struct.Struct("<BBHI")
"""type, reason (or 0), length, index."""
INITIATION = struct.Struct(f"<BBHI{COOKIE_SIZE}s")
_INDEX = struct.Struct("<I")
_MAX_RESTARTS = 8
"""Fresh attempts after spoilt answers; whoever forges more of them wins anyway."""


def random_index(rng: Random) -> int:
    """A session index nobody can guess."""
    return int.from_bytes(rng(4), "little")


class DatagramClientSession(ClientRole, DatagramTransport):
    """The client's end. Its first datagram is in the writer at once."""

    def __init__(
        self,
        identity: bytes,
        gateway_key: bytes | None,
        hello: Hello,
        *,
        address: Address,
        now: float,
        secret: bytes | None = None,
        resume: Resume | None = None,
        suite: Suite = Suite.CHACHAPOLY_BLAKE2S,
        rng: Random = os.urandom,
        ephemeral: bytes | None = None,
    ) -> None:
        """As `ClientSession`; `address` is the gateway's, given to every send."""
        super().__init__(now, rng, random_index(rng))
        self.address = address
        self._cookie = NO_COOKIE
        self._restarts = 0
        self._question = b""
        self._started = now
        self._arguments = (identity, gateway_key, hello, now, secret, resume, suite)
        self._start_client(*self._arguments, ephemeral)

    def _send_first(self, preamble: bytes, message: bytes) -> None:
        self._question = preamble + message
        self._send_repeatedly(self._initiation(), self._started)

    def _initiation(self) -> bytes:
        return initiation(self._question, self.index, self._cookie)

    def _send_handshake(self, message: bytes) -> None:
        """Message three."""
        assert self.peer_index is not None
        head = HEAD.pack(DATAGRAM_FINISH, 0, len(message), self.peer_index)
        self._send_repeatedly(head + message, self._started)

    def _on_handshake_datagram(self, data: memoryview, address: Address, now: float) -> None:
        self._started = now
        if len(data) < HEAD.size:
            self._count("datagram__too_short__dropped")
            return
        kind, value, length, index = HEAD.unpack_from(data)
        if index != self.index:
            self._count("datagram__other_session__dropped")
        elif self.state is not State.HANDSHAKE:
            # An answer to a repeated question; FINISH is repeated by the timer.
            self._count("handshake__late_answer__dropped")
        elif kind == DATAGRAM_RESPONSE and len(data) == HEAD.size + _INDEX.size + length:
            self._on_response(data, now)
        elif kind == DATAGRAM_COOKIE and len(data) == HEAD.size + COOKIE_SIZE:
            self._on_cookie(bytes(data[HEAD.size :]), now)
        elif kind == DATAGRAM_REFUSED and len(data) == HEAD.size:
            self._on_refused(bytes((value,)), now)
        else:
            self._count("datagram__not_handshake__dropped")

    def _on_cookie(self, cookie: bytes, now: float) -> None:
        if cookie != self._cookie:
            self._cookie = cookie
            self._count("handshake__cookie__answered")
            self._send_repeatedly(self._initiation(), now)

    def _on_response(self, data: memoryview, now: float) -> None:
        (peer_index,) = _INDEX.unpack_from(data, HEAD.size)
        self.peer_index = peer_index
        self._repeat = self._repeat_at = None
        try:
            self._on_message(bytes(data[HEAD.size + _INDEX.size :]), now)
        except AuthFailed:
            self._count("handshake__forged_answer__restarted")
            self._restarts += 1
            if self._restarts > _MAX_RESTARTS or self.state is not State.HANDSHAKE:
                raise
            deadline = self._deadline
            # Under another index, so that answers to the old question are not taken for forged.
            self.index = random_index(self._rng)
            self._start_client(*self._arguments, None)
            self._deadline = deadline


class DatagramGatewaySession(GatewayRole, DatagramTransport):
    """The gateway's end; made by a `DatagramListener`."""

    def __init__(
        self,
        identity: bytes,
        secrets: SecretLookup,
        now: float,
        index: int,
        transport: str = "udp",
        rng: Random = os.urandom,
        ephemeral: bytes | None = None,
    ) -> None:
        super().__init__(now, rng, index)
        self._listen(identity, secrets, now, transport, ephemeral)
        self._response = b""
        """Message two, for a client that asks again."""

    def begin(
        self, preamble: Preamble, message: bytes, peer_index: int, address: Address, now: float
    ) -> None:
        """The first question. Raises Refused, PeerViolation or AuthFailed; then forget it."""
        if self.state is not State.PREAMBLE:
            raise LocalMisuse("state", f"begin in {self.state.name}")
        self.peer_index = peer_index
        self.address = address
        self._on_preamble(preamble)
        self._on_message(message, now)

    def asked_again(self, address: Address) -> None:
        """The same question came again: the same answer, if there is one already."""
        if self._response and self.records == 0 and address == self.address:
            self.writer.raw(self._response)

    def _send_handshake(self, message: bytes) -> None:
        assert self.peer_index is not None
        head = HEAD.pack(DATAGRAM_RESPONSE, 0, len(message), self.peer_index)
        self._response = head + _INDEX.pack(self.index) + message
        self.writer.raw(self._response)

    def _on_handshake_datagram(self, data: memoryview, address: Address, now: float) -> None:
        if len(data) < HEAD.size:
            self._count("datagram__too_short__dropped")
            return
        kind, _, length, index = HEAD.unpack_from(data)
        if kind != DATAGRAM_FINISH or index != self.index or len(data) != HEAD.size + length:
            self._count("datagram__not_handshake__dropped")
        elif self.state is not State.HANDSHAKE:
            self._count("handshake__repeated__dropped")
            self._answer_finish(now)
        else:
            self._on_message(bytes(data[HEAD.size :]), now)

    def _answer_finish(self, now: float) -> None:
        """The client repeats FINISH until a record of ours arrives: give it one."""
        if self._keyed and self.records == 0:
            self.ping(now)

    def _turn_away(self, reason: CloseReason) -> None:
        if self.peer_index is not None:
            self.writer.raw(refusal(reason, self.peer_index))


def initiation(question: bytes, index: int, cookie: bytes) -> bytes:
    """An INITIATION datagram; `question` is preamble and message one."""
    head = INITIATION.pack(DATAGRAM_INITIATION, 0, len(question), index, cookie)
    return (head + question).ljust(INITIATION_SIZE, b"\0")


def refusal(reason: CloseReason, peer_index: int) -> bytes:
    """A REFUSED datagram."""
    return HEAD.pack(DATAGRAM_REFUSED, CLOSE_CODES[reason], 0, peer_index)


def cookie_reply(cookie: bytes, peer_index: int) -> bytes:
    """A COOKIE datagram."""
    return HEAD.pack(DATAGRAM_COOKIE, 0, 0, peer_index) + cookie


def parse_initiation(data: memoryview) -> tuple[int, bytes, memoryview]:
    """(sender index, cookie, preamble and message). Raises PeerViolation."""
    if len(data) != INITIATION_SIZE:
        raise PeerViolation("initiation_size")
    _, reserved, length, index, cookie = INITIATION.unpack_from(data)
    if reserved or length > INITIATION_SIZE - INITIATION.size:
        raise PeerViolation("initiation_length")
    return index, cookie, data[INITIATION.size : INITIATION.size + length]
