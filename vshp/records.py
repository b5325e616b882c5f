"""The AEAD under a session's records, one object per key.

Noise's rules hold: nonce = 32 zero bits and the 64-bit counter, little-endian
for ChaChaPoly and big-endian for AES-GCM (Noise section 12); a record of a
stream has empty associated data. `encrypt_into` and `decrypt_into` write into a
buffer of exactly the right size; older versions of `cryptography` lack them and
pay a copy.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from vshp.config import Suite
from vshp.constants import KEY_SIZE

Buffer = bytes | bytearray | memoryview
Transform = Callable[[bytes, Buffer, Buffer | None, memoryview], Any]
"""(nonce, input, associated data, output of exactly the right size); raises InvalidTag."""
NonceMaker = Callable[[int, int], bytes]
"""(0, counter) -> 12 bytes. The zero is passed so that it is one C call."""

_CLASSES = {Suite.CHACHAPOLY_BLAKE2S: ChaCha20Poly1305, Suite.AESGCM_SHA256: AESGCM}
_NONCES = {
    Suite.CHACHAPOLY_BLAKE2S: struct.Struct("<IQ").pack,
    Suite.AESGCM_SHA256: struct.Struct(">IQ").pack,
}
_REKEY_COUNTER = 2**64 - 1


class RecordKey:
    """One direction's key: bound functions for the packet path, made once."""

    __slots__ = ("_key", "decrypt_into", "encrypt_into", "nonce", "suite")

    encrypt_into: Transform
    decrypt_into: Transform
    nonce: NonceMaker

    def __init__(self, suite: Suite, key: bytes) -> None:
        self.suite = suite
        self._key = key
        aead: Any = _CLASSES[suite](key)
        self.nonce = _NONCES[suite]
        if hasattr(aead, "encrypt_into"):
            self.encrypt_into = aead.encrypt_into
            self.decrypt_into = aead.decrypt_into
        else:
            self.encrypt_into, self.decrypt_into = _copying(aead)

    def successor(self) -> RecordKey:
        """The next key: Noise's REKEY (section 4.2), ENCRYPT(k, 2^64-1, "", zeros) cut to 32."""
        aead: Any = _CLASSES[self.suite](self._key)
        sealed: bytes = aead.encrypt(self.nonce(0, _REKEY_COUNTER), bytes(KEY_SIZE), None)
        return RecordKey(self.suite, sealed[:KEY_SIZE])


def _copying(aead: Any) -> tuple[Transform, Transform]:
    """`encrypt_into` and `decrypt_into` for an AEAD object that only returns new bytes."""

    def encrypt_into(nonce: bytes, data: Buffer, ad: Buffer | None, out: memoryview) -> None:
        out[:] = aead.encrypt(nonce, data, ad)

    def decrypt_into(nonce: bytes, data: Buffer, ad: Buffer | None, out: memoryview) -> None:
        out[:] = aead.decrypt(nonce, data, ad)

    return encrypt_into, decrypt_into
