"""The AEAD under records and datagrams, one object per key.

Noise's rules hold: nonce = 32 zero bits and the 64-bit counter, little-endian
for ChaChaPoly and big-endian for AES-GCM (Noise section 12); a record of a
stream has empty associated data. `encrypt_into` and `decrypt_into` write into a
buffer of exactly the right size; older versions of `cryptography` lack them and
pay a copy.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import Enum
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

Buffer = bytes | bytearray | memoryview
Transform = Callable[[bytes, Buffer, Buffer | None, memoryview], Any]
"""(nonce, input, associated data, output of exactly the right size); raises InvalidTag."""
NonceMaker = Callable[[int, int], bytes]
"""(0, counter) -> 12 bytes. The zero is passed so that it is one C call."""

KEY_SIZE = 32
"""Every symmetric key, and a Curve25519 key, public or private."""
TAG_SIZE = 16
"""What either cipher adds to the plaintext."""


class Cipher(Enum):
    """An AEAD of Noise (sections 12.3 and 12.4)."""

    CHACHAPOLY = "ChaChaPoly"
    AESGCM = "AESGCM"


_CLASSES = {Cipher.CHACHAPOLY: ChaCha20Poly1305, Cipher.AESGCM: AESGCM}
_NONCES = {
    Cipher.CHACHAPOLY: struct.Struct("<IQ").pack,
    Cipher.AESGCM: struct.Struct(">IQ").pack,
}
_REKEY_COUNTER = 2**64 - 1


class RecordKey:
    """One direction's key: bound functions for the packet path, made once."""

    __slots__ = ("_cipher", "_key", "decrypt_into", "encrypt_into", "nonce")

    encrypt_into: Transform
    decrypt_into: Transform
    nonce: NonceMaker

    def __init__(self, cipher: Cipher, key: bytes) -> None:
        self._cipher = cipher
        self._key = key
        aead: Any = _CLASSES[cipher](key)
        self.nonce = _NONCES[cipher]
        if hasattr(aead, "encrypt_into"):
            self.encrypt_into = aead.encrypt_into
            self.decrypt_into = aead.decrypt_into
        else:
            self.encrypt_into, self.decrypt_into = _copying(aead)

    def successor(self) -> RecordKey:
        """The next key: Noise's REKEY (section 4.2), ENCRYPT(k, 2^64-1, "", zeros) cut to 32."""
        aead: Any = _CLASSES[self._cipher](self._key)
        sealed: bytes = aead.encrypt(self.nonce(0, _REKEY_COUNTER), bytes(KEY_SIZE), None)
        return RecordKey(self._cipher, sealed[:KEY_SIZE])


def _copying(aead: Any) -> tuple[Transform, Transform]:
    """`encrypt_into` and `decrypt_into` for an AEAD object that only returns new bytes."""

    def encrypt_into(nonce: bytes, data: Buffer, ad: Buffer | None, out: memoryview) -> None:
        out[:] = aead.encrypt(nonce, data, ad)

    def decrypt_into(nonce: bytes, data: Buffer, ad: Buffer | None, out: memoryview) -> None:
        out[:] = aead.decrypt(nonce, data, ad)

    return encrypt_into, decrypt_into
