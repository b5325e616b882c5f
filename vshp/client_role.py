"""The client's half of the dialogue, whatever carries it.

IK, IKpsk1:  HELLO (and RESUME) in message one; the gateway's answer in message two.
XX:          keys first; HELLO and the commitment to our share of the pairing code in message three.
             Whoever answers may be anybody: nothing is granted to us before our own user has
             compared the digits and said so (`agree`).
"""

from __future__ import annotations

from typing import ClassVar

from sealing.errors import LocalMisuse, PeerViolation
from vshp.config import CloseReason, GatewayStatus, Hello, LeaseConfig, Pattern, Resume, Suite
from vshp.constants import HANDSHAKE_TIMEOUT, NONCE_SIZE, SECRET_SIZE
from vshp.core import COMMON_HANDLERS, Handler, SessionCore
from vshp.events import (
    ApprovalPending,
    CodeShown,
    Handshaken,
    LeaseChanged,
    LeaseGranted,
    PeerClosed,
    StatusReceived,
)
from vshp.frames import (
    AUTH_PENDING,
    FrameType,
    close_reason,
    decode_auth,
    decode_config,
    decode_share,
    decode_status,
    encode_frame,
    encode_hello,
    encode_resume,
    split_frames,
)
from vshp.handshake import NoiseHandshake
from vshp.pairing import code_commitment, derive_psk, pairing_code, secret_id
from vshp.preamble import Preamble
from vshp.states import Role, State, Step

APPROVAL_GRACE = 10.0
"""Seconds beyond the announced expiry before the client gives up by itself."""


class ClientRole(SessionCore):
    """HELLO, wait, lease."""

    role = Role.CLIENT
    handlers: ClassVar[dict[int, Handler]]

    def _start_client(
        self,
        identity: bytes,
        gateway_key: bytes | None,
        hello: Hello,
        now: float,
        secret: bytes | None,
        resume: Resume | None,
        suite: Suite,
        ephemeral: bytes | None,
    ) -> None:
        """Choose the pattern and send message one."""
        if gateway_key is None and (secret is not None or resume is not None):
            raise LocalMisuse("gateway_key_missing")
        if secret is not None and len(secret) != SECRET_SIZE:
            raise LocalMisuse("secret_size")
        if gateway_key is None:
            pattern = Pattern.XX
        else:
            pattern = Pattern.IK if secret is None else Pattern.IK_PSK1
        self.suite = suite
        self.status: GatewayStatus | None = None
        """What the gateway last said about itself."""
        self.code: str | None = None
        """The pairing code, once known."""
        self.pattern = pattern
        self._hello = encode_frame(FrameType.HELLO, encode_hello(hello))
        self._share = b""
        self._base = resume.lease if resume else None
        named = b"" if secret is None else secret_id(secret)
        self._preamble = Preamble(pattern, suite, self.datagram, named).encode()
        self._handshake: NoiseHandshake | None = NoiseHandshake(
            pattern,
            suite,
            True,
            identity,
            self._preamble,
            remote_static=gateway_key,
            psk=None if secret is None or gateway_key is None else derive_psk(secret, gateway_key),
            ephemeral=ephemeral,
        )
        self.peer_key = gateway_key
        payload = b""
        if pattern is not Pattern.XX:
            payload = self._hello
            if resume is not None:
                payload += encode_frame(FrameType.RESUME, encode_resume(resume))
        self._deadline = now + HANDSHAKE_TIMEOUT
        self._send_first(self._preamble, self._handshake.write(payload))

    def _send_first(self, preamble: bytes, message: bytes) -> None:
        """The transport's: preamble and message one."""
        raise NotImplementedError

    # --- handshake ---------------------------------------------------------------------------

    def _on_message(self, message: bytes, now: float) -> None:
        """The gateway's message two."""
        handshake = self._handshake
        if handshake is None:
            raise PeerViolation("handshake_message_unexpected")
        payload = handshake.read(message)
        if self.pattern is Pattern.XX:
            if payload:
                raise PeerViolation("payload_unexpected")
            self.peer_key = handshake.remote_static
            self._share = self._rng(NONCE_SIZE)
            commit = encode_frame(FrameType.CODE_COMMIT, code_commitment(self._share))
            self._send_handshake(handshake.write(self._hello + commit))
            self._move(Step.CODE_STARTED)
            self._hash = handshake.hash()
        else:
            self._move(Step.GREETED)
        self._handshake = None
        self._keys_agreed(*handshake.keys(), now)
        assert self.peer_key is not None
        self._event(Handshaken(self.peer_key))
        # A record of ours proves to the gateway that message one was no replay.
        self.ping(now)
        for kind, body in split_frames(payload):
            self._on_frame(kind, body, now)

    def _on_refused(self, body: bytes, now: float) -> None:
        """A clear refusal: nobody vouches for it, but waiting longer helps nobody."""
        if len(body) != 1:
            raise PeerViolation("refusal_size")
        reason = close_reason(body[0])
        self._count(f"handshake__{reason}__refused")
        self._event(PeerClosed(reason, authenticated=False))
        self._over(None)

    # --- frames ------------------------------------------------------------------------------

    def _on_code_nonce(self, body: bytes, now: float) -> None:
        gateway_share = decode_share(body)
        self.code = pairing_code(self._hash, self._share, gateway_share)
        self._send_frame(FrameType.CODE_REVEAL, self._share)
        self._move(Step.CODE_DONE)
        self._event(CodeShown(self.code))

    def _on_auth(self, body: bytes, now: float) -> None:
        status, expires_in = decode_auth(body)
        if self.state is State.CONSENT:
            # Approved or not: so long is our user's yes waited for.
            self._deadline = now + expires_in + APPROVAL_GRACE
            self._deadline_reason = CloseReason.CODE_EXPIRED
        if status == AUTH_PENDING:
            self._move(Step.ASKED)
            if self.state is State.PENDING:
                self._deadline = now + expires_in + APPROVAL_GRACE
                self._deadline_reason = CloseReason.APPROVAL_EXPIRED
            self._event(ApprovalPending(self.code, float(expires_in)))

    def agree(self, now: float) -> None:
        """Our own user says that the gateway shows the same digits: a lease may come now.

        Good as soon as CodeShown has come, before or after the owner's yes. To say no, close with
        `CODE_REFUSED`.
        """
        self._move(Step.AGREED)
        if self._deadline_reason is CloseReason.CODE_EXPIRED:
            self._deadline_reason = CloseReason.APPROVAL_EXPIRED
        self._send_frame(FrameType.CODE_AGREED, b"")
        self._flush(now)

    def _on_config(self, body: bytes, now: float) -> None:
        if self.state in (State.CODE, State.CONSENT):
            # Nothing vouches for who grants this.
            raise PeerViolation("config_before_consent", self.state.name)
        fresh = self.state is not State.OPEN
        lease = decode_config(body, self._base if fresh else self.lease)
        self._move(Step.GRANTED)
        self._deadline = None
        self._base = None
        self._take_lease(lease)
        self._event(LeaseGranted(lease) if fresh else LeaseChanged(lease))

    def _take_lease(self, lease: LeaseConfig) -> None:
        self.lease = lease
        self._widen(lease)

    def _on_status(self, body: bytes, now: float) -> None:
        self.status = decode_status(body)
        self._event(StatusReceived(self.status))


_TALKING = frozenset({State.CONSENT, State.WAITING, State.PENDING, State.OPEN})

ClientRole.handlers = COMMON_HANDLERS | {
    FrameType.AUTH: (
        frozenset({State.CONSENT, State.WAITING, State.PENDING}),
        ClientRole._on_auth,
    ),
    FrameType.CONFIG: (_TALKING | {State.CODE}, ClientRole._on_config),
    FrameType.STATUS: (_TALKING, ClientRole._on_status),
    FrameType.CODE_NONCE: (frozenset({State.CODE}), ClientRole._on_code_nonce),
}
