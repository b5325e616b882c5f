"""The gateway's half of the dialogue, whatever carries it.

It reads the client's proof and HELLO, hands both to its own side, and waits for
the decision: `pending`, `approve` or `deny`. With IK and IKpsk1 the decision
travels in message two, so a known device is connected after one round trip.
Until then nothing large is allocated and nothing but this dialogue is accepted.

With XX the device's own user decides, too: a lease before CODE_AGREED breaks the
protocol, so what the owner grants earlier is said (`approved`) and given later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from sealing.errors import LocalMisuse, PeerViolation
from vshp.config import CloseReason, GatewayStatus, Hello, LeaseConfig, Pattern, Resume
from vshp.constants import DECISION_TIMEOUT, HANDSHAKE_TIMEOUT, MAX_HANDSHAKE_MESSAGE, NONCE_SIZE
from vshp.core import COMMON_HANDLERS, Handler, SessionCore
from vshp.errors import FrameInvalid, FrameMisplaced
from vshp.events import CodeAgreed, Confirmed, HelloReceived
from vshp.frames import (
    AUTH_APPROVED,
    AUTH_PENDING,
    FrameType,
    decode_hello,
    decode_resume,
    decode_share,
    encode_auth,
    encode_close,
    encode_config,
    encode_frame,
    encode_status,
    require_known,
    split_frames,
)
from vshp.handshake import NoiseHandshake
from vshp.pairing import commitment_holds, pairing_code
from vshp.preamble import Preamble
from vshp.states import Role, State, Step

SecretLookup = Callable[[bytes], bytes]
"""8-byte secret id -> 32-byte PSK; raises Refused, as `OneTimeSecrets.lookup` does."""

TOO_MANY_CODES = "many codes were shown lately: wait a minute, or use a pairing URI: it needs none"
"""Told with BUSY; how many codes there are, and how soon, is the listener's."""

_MESSAGE_TWO_OVERHEAD = 48
"""Ephemeral key and tag of IK's and IKpsk1's message two."""
_PROOFS = {Pattern.IK: "known", Pattern.IK_PSK1: "secret", Pattern.XX: "none"}


class GatewayRole(SessionCore):
    """Listen, judge, grant."""

    role = Role.GATEWAY
    handlers: ClassVar[dict[int, Handler]]

    def _listen(
        self,
        identity: bytes,
        secrets: SecretLookup,
        now: float,
        transport: str,
        ephemeral: bytes | None,
    ) -> None:
        self.transport = transport
        self.on_confirmed: Callable[[], None] | None = None
        """Called when Confirmed has been queued, before the packets in and behind that record.

        A driver that takes the event here, and sets `on_packet`, loses none of them. It may
        close the session; it must not raise.
        """
        self.admit_code: Callable[[float], bool] = lambda now: True
        """Asked before our share of a pairing code is told (`XX`), since whoever has it knows the
        code, and may break off and try another one without the owner seeing anything."""
        self.preamble: Preamble | None = None
        """What the client said first, once read."""
        self._identity = identity
        self._secrets = secrets
        self._ephemeral = ephemeral
        self._handshake: NoiseHandshake | None = None
        self._hello: Hello | None = None
        self._resume: Resume | None = None
        self._commitment = b""
        self._share = b""
        self._hash = b""
        self.agreed = True
        """The device's user vouches for the digits, or something better does (not `XX`)."""
        self._deadline = now + HANDSHAKE_TIMEOUT

    # --- handshake ---------------------------------------------------------------------------

    def _on_preamble(self, preamble: Preamble) -> None:
        """Raises Refused when the secret is no good."""
        if preamble.datagram != self.datagram:
            raise PeerViolation("preamble_flags")
        psk = None
        if preamble.pattern is Pattern.IK_PSK1:
            psk = self._secrets(preamble.secret_id)
        self._move(Step.PREAMBLE_READ)
        self.preamble = preamble
        self.suite = preamble.suite
        self._handshake = NoiseHandshake(
            preamble.pattern,
            preamble.suite,
            False,
            self._identity,
            preamble.encode(),
            psk=psk,
            ephemeral=self._ephemeral,
        )

    def _on_message(self, message: bytes, now: float) -> None:
        """The client's message one or three."""
        handshake, preamble = self._handshake, self.preamble
        if handshake is None or preamble is None or self.state is not State.HANDSHAKE:
            raise PeerViolation("handshake_message_unexpected")
        payload = handshake.read(message)
        if preamble.pattern is not Pattern.XX:
            self._read_hello(payload)
            self.peer_key = handshake.remote_static
            self._move(Step.GREETED)
            self._ask(now)
        elif not handshake.finished:
            if payload:
                raise PeerViolation("payload_unexpected")
            self._send_handshake(handshake.write(b""))
            self._count("handshake__key__shown")
        else:
            self._read_hello(payload)
            self.peer_key = handshake.remote_static
            self._hash = handshake.hash()
            self._share = self._rng(NONCE_SIZE)
            self._handshake = None
            self.agreed = False
            self._move(Step.CODE_STARTED)
            self._keys_agreed(*handshake.keys(), now)
            if not self.admit_code(now):
                self._count("pairing__code__refused")
                self.close(CloseReason.BUSY, now, TOO_MANY_CODES)
                return
            self._send_frame(FrameType.CODE_NONCE, self._share)
            self._flush(now)

    def _read_hello(self, payload: bytes) -> None:
        """HELLO first, then RESUME (IK only) or CODE_COMMIT (XX only)."""
        assert self.preamble is not None
        pattern = self.preamble.pattern
        hello: Hello | None = None
        for kind, body in split_frames(payload):
            if kind == FrameType.HELLO and hello is None:
                hello = decode_hello(body)
            elif kind == FrameType.RESUME and pattern is Pattern.IK and self._resume is None:
                self._resume = decode_resume(body)
            elif kind == FrameType.CODE_COMMIT and pattern is Pattern.XX and not self._commitment:
                self._commitment = decode_share(body)
            elif require_known(kind):
                raise FrameMisplaced("frame_misplaced", f"{FrameType(kind).name} in a handshake")
            else:
                self._count("frame__unknown_optional__skipped")
        if hello is None:
            raise PeerViolation("hello_missing")
        if pattern is Pattern.XX and not self._commitment:
            raise PeerViolation("code_commit_missing")
        self._hello = hello

    def _on_code_reveal(self, body: bytes, now: float) -> None:
        share = decode_share(body)
        if not commitment_holds(self._commitment, share):
            raise PeerViolation("code_commit_mismatch")
        self._move(Step.CODE_DONE)
        self._ask(now, pairing_code(self._hash, share, self._share))

    def _on_code_agreed(self, body: bytes, now: float) -> None:
        if body:
            raise FrameInvalid("field_size")
        if self.agreed:
            raise FrameMisplaced("frame_misplaced", "CODE_AGREED")
        self.agreed = True
        self._event(CodeAgreed())

    def _ask(self, now: float, code: str | None = None) -> None:
        """Our own side decides."""
        hello, preamble = self._hello, self.preamble
        assert hello is not None and preamble is not None and self.peer_key is not None
        self._deadline = now + DECISION_TIMEOUT
        self._event(
            HelloReceived(
                public_key=self.peer_key,
                label=hello.label,
                platform=hello.platform,
                capabilities=hello.capabilities,
                mtu=hello.mtu,
                carrier=hello.carrier,
                networks=hello.networks,
                proof=_PROOFS[preamble.pattern],
                code=code,
                resume=self._resume,
                transport=self.transport,
                secret_id=preamble.secret_id or None,
            )
        )
        if preamble.pattern is Pattern.XX:
            # Message three answered ours: no replay could.
            self._event(Confirmed())

    def _first_record(self) -> None:
        """A record authenticated: the client has our message two, so it is there and now."""
        if self.preamble is not None and self.preamble.pattern is not Pattern.XX:
            self._event(Confirmed())
            if self.on_confirmed is not None:
                self.on_confirmed()

    # --- the decision ------------------------------------------------------------------------

    def pending(self, expires_in: float, now: float) -> None:
        """The owner is being asked, for so many seconds; the client is told."""
        self._move(Step.ASKED)
        self._deadline = now + expires_in
        self._deadline_reason = CloseReason.APPROVAL_EXPIRED
        self._answer([(FrameType.AUTH, encode_auth(AUTH_PENDING, expires_in))], now)

    def approved(self, expires_in: float, now: float) -> None:
        """The owner said yes; the device's own user has so many seconds left for his."""
        self._move(Step.ASKED)
        self._deadline = now + expires_in
        self._deadline_reason = CloseReason.CODE_EXPIRED
        self._answer([(FrameType.AUTH, encode_auth(AUTH_APPROVED, expires_in))], now)

    def approve(self, lease: LeaseConfig, now: float, base: LeaseConfig | None = None) -> None:
        """Grant the lease. With `base`, the lease as the client has it, a delta is sent.

        Raises LocalMisuse `not_agreed` on first contact before CodeAgreed.
        """
        if not self.agreed:
            raise LocalMisuse("not_agreed")
        config = encode_config(lease, base)
        self._move(Step.GRANTED)
        self._deadline = None
        self.lease = lease
        auth = encode_auth(AUTH_APPROVED)
        self._answer([(FrameType.AUTH, auth), (FrameType.CONFIG, config)], now)
        self._widen(lease)

    def deny(self, reason: CloseReason, now: float, detail: str = "") -> None:
        """No; the session ends with that reason."""
        if self.state not in (State.DECIDING, State.PENDING):
            raise LocalMisuse("state", f"deny in {self.state.name}")
        self.close(reason, now, detail)

    def change(self, lease: LeaseConfig, now: float) -> None:
        """A running lease becomes this one; the client is sent what differs."""
        if self.lease is None:
            raise LocalMisuse("state", f"change in {self.state.name}")
        body = encode_config(lease, self.lease)
        self._move(Step.GRANTED)
        self.lease = lease
        self._send_frame(FrameType.CONFIG, body)
        self._flush(now)
        self._widen(lease)

    def status(self, status: GatewayStatus, now: float) -> None:
        """Tell the client how the gateway is; it may also be told while it waits."""
        if self.state not in (State.PENDING, State.OPEN):
            raise LocalMisuse("state", f"status in {self.state.name}")
        self._send_frame(FrameType.STATUS, encode_status(status))
        self._flush(now)

    def close(self, reason: CloseReason, now: float, detail: str = "") -> None:
        """Say why and end; idempotent. A client that waits for message two is told in it."""
        if self.state is State.DECIDING and self._handshake is not None:
            self._finish([(FrameType.CLOSE, encode_close(reason, detail))], now)
            self._over(None)
        else:
            super().close(reason, now, detail)

    def _answer(self, frames: list[tuple[FrameType, bytes]], now: float) -> None:
        """In message two when that is still to come, else in a record."""
        if self._handshake is not None:
            frames = self._finish(frames, now)
        for kind, body in frames:
            self._send_frame(kind, body)
        self._flush(now)

    def _finish(
        self, frames: list[tuple[FrameType, bytes]], now: float
    ) -> list[tuple[FrameType, bytes]]:
        """Message two with as many of the frames as fit; returns the rest."""
        handshake = self._handshake
        assert handshake is not None
        payload = b""
        rest = list(frames)
        while rest:
            frame = encode_frame(*rest[0])
            if len(payload) + len(frame) + _MESSAGE_TWO_OVERHEAD > MAX_HANDSHAKE_MESSAGE:
                break
            payload += frame
            del rest[0]
        self._send_handshake(handshake.write(payload))
        self._handshake = None
        self._keys_agreed(*handshake.keys(), now)
        return rest


GatewayRole.handlers = COMMON_HANDLERS | {
    FrameType.CODE_REVEAL: (frozenset({State.CODE}), GatewayRole._on_code_reveal),
    FrameType.CODE_AGREED: (
        frozenset({State.DECIDING, State.PENDING}),
        GatewayRole._on_code_agreed,
    ),
}
