"""XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), for cookie replies only.

`cryptography` has the cipher with the short nonce. HChaCha20 turns key and the first
16 bytes of the long nonce into a key for it; here that is plain Python, 50 us a call,
on a path that carries at most as many messages as strangers may send.
"""

from __future__ import annotations

import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from sealing.errors import AuthFailed

_WORDS8 = struct.Struct("<8I")
_WORDS4 = struct.Struct("<4I")
_SIGMA = _WORDS4.unpack(b"expand 32-byte k")
_MASK = 0xFFFFFFFF
_COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
_DIAGONALS = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
_ROUND = _COLUMNS + _DIAGONALS


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """32 bytes of key from 32 bytes of key and 16 of nonce (section 2.2)."""
    x = [*_SIGMA, *_WORDS8.unpack(key), *_WORDS4.unpack(nonce)]
    for _ in range(10):
        for a, b, c, d in _ROUND:
            xa, xb, xc, xd = x[a], x[b], x[c], x[d]
            xa = xa + xb & _MASK
            xd ^= xa
            xd = (xd << 16 | xd >> 16) & _MASK
            xc = xc + xd & _MASK
            xb ^= xc
            xb = (xb << 12 | xb >> 20) & _MASK
            xa = xa + xb & _MASK
            xd ^= xa
            xd = (xd << 8 | xd >> 24) & _MASK
            xc = xc + xd & _MASK
            xb ^= xc
            x[a], x[b], x[c], x[d] = xa, (xb << 7 | xb >> 25) & _MASK, xc, xd
    return _WORDS8.pack(*x[:4], *x[12:])


def seal(key: bytes, nonce: bytes, plain: bytes, ad: bytes) -> bytes:
    """AEAD with a nonce of 24 bytes (section 2.3)."""
    short = bytes(4) + nonce[16:]
    return ChaCha20Poly1305(hchacha20(key, nonce[:16])).encrypt(short, plain, ad)


def unseal(key: bytes, nonce: bytes, sealed: bytes, ad: bytes) -> bytes:
    """The reverse of `seal`. Raises AuthFailed."""
    short = bytes(4) + nonce[16:]
    try:
        return ChaCha20Poly1305(hchacha20(key, nonce[:16])).decrypt(short, sealed, ad)
    except InvalidTag:
        raise AuthFailed("cookie_forged") from None
