"""Whose gateway is it? Its key, by the first two messages of a first contact (XX), and no more.

The gateway has shown its static key to an ephemeral one, and has learnt nothing: no request
comes to its owner's desk, and no pairing code is used up, since message three is never sent.
The stream is closed then. On a stream only; pure, like a session:

    probe = KeyProbe(now)
    send probe.question
    feed what arrives to probe.received, until it returns the key, or raises

What arrives is bounded by one handshake message.
"""

from __future__ import annotations

import struct

from sealing.errors import PeerViolation
from sealing.identity import generate_identity
from vshp.config import CloseReason, Pattern, Suite
from vshp.constants import (
    MAX_HANDSHAKE_MESSAGE,
    MESSAGE_HEADER_SIZE,
    MESSAGE_NOISE,
    MESSAGE_REFUSED,
)
from vshp.errors import Refused
from vshp.frames import close_reason
from vshp.handshake import NoiseHandshake
from vshp.preamble import Preamble

_HEADER = struct.Struct("<BH")


class KeyProbe:
    """One look at a gateway's key, over one stream."""

    def __init__(self, suite: Suite = Suite.CHACHAPOLY_BLAKE2S) -> None:
        """Nothing of ours goes into it: the identity is made for it, and never shown."""
        preamble = Preamble(Pattern.XX, suite).encode()
        self._handshake = NoiseHandshake(Pattern.XX, suite, True, generate_identity(), preamble)
        message = self._handshake.write(b"")
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
        if self._handshake.read(body):
            raise PeerViolation("payload_unexpected")
        key = self._handshake.remote_static
        assert key is not None
        return key
