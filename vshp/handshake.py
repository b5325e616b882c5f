"""The Noise handshake: a wrapper that bounds sizes and gives every failure one name.

The library signals a bad message by any of InvalidTag, NoiseValueError,
ValueError (low-order points) or TypeError, and its state has moved on by then.
So here every failure is AuthFailed, and a handshake that failed refuses to go on.
"""

from __future__ import annotations

from typing import Any

from cryptography.exceptions import InvalidTag
from noise.connection import Keypair, NoiseConnection
from noise.exceptions import (
    NoiseHandshakeError,
    NoiseInvalidMessage,
    NoiseMaxNonceError,
    NoisePSKError,
    NoiseValueError,
)

from sealing.errors import AuthFailed, LocalMisuse, PeerViolation
from sealing.records import KEY_SIZE
from vshp.config import Pattern, Suite
from vshp.constants import MAX_HANDSHAKE_MESSAGE

_FAILURES = (
    InvalidTag,
    NoiseHandshakeError,
    NoiseInvalidMessage,
    NoiseMaxNonceError,
    NoisePSKError,
    NoiseValueError,
    ValueError,
    TypeError,
)
_PATTERNS = {Pattern.IK: "IK", Pattern.IK_PSK1: "IKpsk1", Pattern.XX: "XX"}
_SUITES = {
    Suite.CHACHAPOLY_BLAKE2S: "25519_ChaChaPoly_BLAKE2s",
    Suite.AESGCM_SHA256: "25519_AESGCM_SHA256",
}


def protocol_name(pattern: Pattern, suite: Suite) -> str:
    """The Noise protocol name, for example `Noise_IKpsk1_25519_ChaChaPoly_BLAKE2s`."""
    return f"Noise_{_PATTERNS[pattern]}_{_SUITES[suite]}"


class NoiseHandshake:
    """One handshake, one side. Write and read alternate as the pattern says."""

    def __init__(
        self,
        pattern: Pattern,
        suite: Suite,
        initiator: bool,
        static: bytes,
        prologue: bytes,
        *,
        remote_static: bytes | None = None,
        psk: bytes | None = None,
        ephemeral: bytes | None = None,
    ) -> None:
        """`static` and `ephemeral` are private keys; the latter is given by test vectors only.

        Raises LocalMisuse when the pattern lacks a key it needs or a key is unusable.
        """
        noise: Any = NoiseConnection.from_name(protocol_name(pattern, suite).encode())
        if initiator:
            noise.set_as_initiator()
        else:
            noise.set_as_responder()
        try:
            noise.set_keypair_from_private_bytes(Keypair.STATIC, static)
            if remote_static is not None:
                noise.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, remote_static)
            noise.set_prologue(prologue)
            if psk is not None:
                noise.set_psks(psk)
            noise.start_handshake()
        except Exception as error:
            # The library has no common base for what it raises here.
            raise LocalMisuse("handshake_keys", type(error).__name__) from error
        # The library deletes its own reference when the handshake ends.
        self._state: Any = noise.noise_protocol.handshake_state
        if ephemeral is not None:
            self._state.e = noise.noise_protocol.dh_fn.klass.from_private_bytes(ephemeral)
        self._noise: Any = noise
        self._failed = False

    def __del__(self) -> None:
        """Untie the library's rings of references, so that the keys go now, not at some
        later garbage collection: a flood of handshakes would pile them up."""
        noise = getattr(self, "_noise", None)
        if noise is not None:
            vars(noise.noise_protocol).clear()
            vars(noise).clear()

    @property
    def finished(self) -> bool:
        return bool(self._noise.handshake_finished)

    @property
    def remote_static(self) -> bytes | None:
        """The peer's static public key once it is known."""
        pair = self._state.rs
        key = getattr(pair, "public_bytes", None)
        return bytes(key) if key is not None else None

    def write(self, payload: bytes) -> bytes:
        """The next message. Raises LocalMisuse when it would be too long or is not our turn."""
        if self._failed:
            raise LocalMisuse("handshake_over")
        try:
            message = bytes(self._noise.write_message(payload))
        except _FAILURES as error:
            # A peer's low-order key makes our own Diffie-Hellman fail.
            self._failed = True
            raise AuthFailed("handshake_failed", type(error).__name__) from error
        if len(message) > MAX_HANDSHAKE_MESSAGE:
            self._failed = True
            raise LocalMisuse("handshake_message_too_long", str(len(message)))
        return message

    def read(self, message: bytes) -> bytes:
        """The payload of the peer's next message. Raises PeerViolation or AuthFailed."""
        if self._failed:
            raise LocalMisuse("handshake_over")
        if len(message) > MAX_HANDSHAKE_MESSAGE:
            self._failed = True
            raise PeerViolation("handshake_message_too_long", str(len(message)))
        try:
            return bytes(self._noise.read_message(message))
        except _FAILURES as error:
            self._failed = True
            raise AuthFailed("handshake_failed", type(error).__name__) from error

    def keys(self) -> tuple[bytes, bytes]:
        """(sending key, receiving key) after the last message."""
        protocol = self._noise.noise_protocol
        if not self.finished:
            raise LocalMisuse("handshake_unfinished")
        tx, rx = protocol.cipher_state_encrypt.k, protocol.cipher_state_decrypt.k
        assert len(tx) == len(rx) == KEY_SIZE
        return bytes(tx), bytes(rx)

    def hash(self) -> bytes:
        """The handshake hash after the last message: 32 bytes that name this session."""
        if not self.finished:
            raise LocalMisuse("handshake_unfinished")
        return bytes(self._noise.get_handshake_hash())
