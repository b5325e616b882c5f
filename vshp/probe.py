"""Whose gateway is it? Its key, by the first two messages of a first contact (XX), and no more.

The gateway has shown its static key to an ephemeral one, and has learnt nothing: no request
comes to its owner's desk, and no pairing code is used up, since message three is never sent.
Pure, like a session:

    probe = KeyProbe()              # a stream; DatagramKeyProbe for datagrams
    send probe.question
    feed what arrives to probe.received, until it returns the key, or raises

What arrives is bounded by one handshake message.
"""

from __future__ import annotations

import os
import struct

from sealing.cookies import COOKIE_SIZE, NO_COOKIE
from sealing.errors import PeerViolation
from sealing.identity import generate_identity
from vshp.config import CloseReason, Pattern, Suite
from vshp.constants import (
    DATAGRAM_COOKIE,
    DATAGRAM_REFUSED,
    DATAGRAM_RESPONSE,
    MAX_HANDSHAKE_MESSAGE,
    MESSAGE_HEADER_SIZE,
    MESSAGE_NOISE,
    MESSAGE_REFUSED,
)
from vshp.core import Random
from vshp.datagram_session import HEAD, initiation, random_index
from vshp.errors import Refused
from vshp.frames import close_reason
from vshp.handshake import NoiseHandshake
from vshp.preamble import Preamble

_HEADER = struct.Struct("<BH")
_PEER_INDEX = 4
"""Octets of the gateway's own index, ahead of message two."""


class KeyProbe:
    """One look at a gateway's key, over one stream."""

    def __init__(self, suite: Suite = Suite.CHACHAPOLY_BLAKE2S) -> None:
        """Nothing of ours goes into it: the identity is made for it, and never shown."""
        self._handshake, preamble, message = _begin(suite, datagram=False)
        self.question = preamble + _HEADER.pack(MESSAGE_NOISE, len(message)) + message
        """All that is ever sent."""
        self._answer = bytearray()

    def received(self, data: bytes) -> bytes | None:
        """The gateway's static public key (32 bytes), once message two is whole.

        Raises PeerViolation and AuthFailed as a session does, and Refused (`busy`, for one) when
        the gateway says that it will not; nothing vouches for that.
        """
        self._answer += data[: MESSAGE_HEADER_SIZE + MAX_HANDSHAKE_MESSAGE]
        if len(self._answer) < MESSAGE_HEADER_SIZE:
            if self._answer and self._answer[0] not in (MESSAGE_NOISE, MESSAGE_REFUSED):
                raise PeerViolation("message_unknown", str(self._answer[0]))
            return None
        kind, size = _HEADER.unpack_from(self._answer)
        if kind not in (MESSAGE_NOISE, MESSAGE_REFUSED):
            raise PeerViolation("message_unknown", str(kind))
        if size > MAX_HANDSHAKE_MESSAGE:
            raise PeerViolation("handshake_message_too_long", str(size))
        body = bytes(self._answer[MESSAGE_HEADER_SIZE : MESSAGE_HEADER_SIZE + size])
        if len(body) < size:
            return None
        if kind == MESSAGE_REFUSED:
            if size != 1:
                raise PeerViolation("refusal_size")
            raise Refused(CloseReason(close_reason(body[0])))
        return _shown(self._handshake, body)


class DatagramKeyProbe:
    """The same over datagrams, where the question is repeated until something is answered."""

    def __init__(self, suite: Suite = Suite.CHACHAPOLY_BLAKE2S, rng: Random = os.urandom) -> None:
        """`rng` gives the index that answers are known by."""
        self._handshake, preamble, message = _begin(suite, datagram=True)
        self._message = preamble + message
        self._index = random_index(rng)
        self.question = initiation(self._message, self._index, NO_COOKIE)
        """What is sent; another once a busy gateway has asked for its cookie."""

    def received(self, data: bytes) -> bytes | None:
        """The gateway's static public key (32 bytes), once a datagram is its answer.

        What answers another question is passed over. Raises PeerViolation, AuthFailed and Refused
        as `KeyProbe.received` does.
        """
        if len(data) < HEAD.size:
            return None
        kind, value, length, index = HEAD.unpack_from(data)
        if index != self._index:
            return None
        body = data[HEAD.size :]
        if kind == DATAGRAM_COOKIE and len(body) == COOKIE_SIZE:
            self.question = initiation(self._message, self._index, body)
        elif kind == DATAGRAM_REFUSED and not body:
            raise Refused(CloseReason(close_reason(value)))
        elif kind == DATAGRAM_RESPONSE and len(body) == _PEER_INDEX + length:
            return _shown(self._handshake, body[_PEER_INDEX:])
        return None


def _begin(suite: Suite, datagram: bool) -> tuple[NoiseHandshake, bytes, bytes]:
    """The handshake, the preamble, and message one."""
    preamble = Preamble(Pattern.XX, suite, datagram).encode()
    handshake = NoiseHandshake(Pattern.XX, suite, True, generate_identity(), preamble)
    return handshake, preamble, handshake.write(b"")


def _shown(handshake: NoiseHandshake, message: bytes) -> bytes:
    """The key in message two. Raises PeerViolation, AuthFailed."""
    if handshake.read(message):
        raise PeerViolation("payload_unexpected")
    key = handshake.remote_static
    assert key is not None
    return key
