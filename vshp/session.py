"""Sessions on a byte stream (TCP, USB): what a driver constructs.

Driven by three kinds of sources: bytes (`receive_buffer`, `received`), time
(`get_timer`, `handle_timer`), and the driver's own wishes (`close`, the
gateway's decisions, packets through `writer`). After each of them the driver

1. takes events with `next_event` until there are none,
2. writes `writer.output()` to the stream and reports with `writer.consumed`,
3. arms its timer at `get_timer()`.

When `received` raises, the session is over: write what is in the output, then
close the stream. Packets the driver puts into the writer leave with
`writer.flush()`.
"""

from __future__ import annotations

import os

from sealing.errors import PeerViolation
from vshp.client_role import ClientRole
from vshp.config import CloseReason, Hello, Resume, Suite
from vshp.constants import MESSAGE_NOISE, MESSAGE_REFUSED
from vshp.core import PacketHandler, Random
from vshp.frames import CLOSE_CODES
from vshp.gateway_role import GatewayRole, SecretLookup
from vshp.preamble import decode_preamble
from vshp.states import State
from vshp.stream import StreamTransport, _pack_message

__all__ = ["ClientSession", "GatewaySession", "PacketHandler", "Random", "SecretLookup"]


class ClientSession(ClientRole, StreamTransport):
    """The client's end. Its first bytes are in the writer at once.

    Without a gateway key the pattern is XX (first contact, pairing code); with a
    secret from a pairing URI IKpsk1; else IK, with RESUME when there is a ticket.
    """

    def __init__(
        self,
        identity: bytes,
        gateway_key: bytes | None,
        hello: Hello,
        *,
        now: float,
        secret: bytes | None = None,
        resume: Resume | None = None,
        suite: Suite = Suite.CHACHAPOLY_BLAKE2S,
        rng: Random = os.urandom,
        ephemeral: bytes | None = None,
    ) -> None:
        """`identity` is the 32-byte private key, `secret` the URI's 16 bytes.

        `ephemeral` fixes the handshake's own key, for test vectors only.
        """
        super().__init__(now, rng)
        self._start_client(identity, gateway_key, hello, now, secret, resume, suite, ephemeral)

    def _send_first(self, preamble: bytes, message: bytes) -> None:
        self.writer.raw(preamble)
        self._send_handshake(message)

    def _on_handshake(self, kind: int, body: bytes, now: float) -> None:
        if kind == MESSAGE_REFUSED:
            self._on_refused(body, now)
        else:
            self._on_message(body, now)


class GatewaySession(GatewayRole, StreamTransport):
    """The gateway's end of one accepted stream."""

    def __init__(
        self,
        identity: bytes,
        secrets: SecretLookup,
        now: float,
        transport: str = "tcp",
        rng: Random = os.urandom,
        ephemeral: bytes | None = None,
    ) -> None:
        """`identity` is the 32-byte private key. `ephemeral` is for test vectors only."""
        super().__init__(now, rng)
        self._listen(identity, secrets, now, transport, ephemeral)

    def _handshake_step(self, data: memoryview, now: float) -> int:
        if self.state is not State.PREAMBLE:
            if self.state is State.DECIDING:
                # The client has nothing to say before our message two.
                if data:
                    raise PeerViolation("data_unexpected")
                return 0
            return super()._handshake_step(data, now)
        found = decode_preamble(data) if data else None
        if found is None:
            return 0
        preamble, size = found
        self._on_preamble(preamble)
        return size

    def _on_handshake(self, kind: int, body: bytes, now: float) -> None:
        if kind != MESSAGE_NOISE:
            raise PeerViolation("message_unknown", str(kind))
        self._on_message(body, now)

    def _turn_away(self, reason: CloseReason) -> None:
        self.writer.raw(_pack_message(MESSAGE_REFUSED, 1) + bytes((CLOSE_CODES[reason],)))
