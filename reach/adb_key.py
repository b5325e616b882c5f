"""The key that phones know this machine by: RSA, 2048 bits, of our own.

It lies in the state folder and is not the one of `~/.android`: that belongs to a
person, and the client's service is root's. A phone asks its owner once, and
remembers a key that was allowed for good for seven days after its last use.

Android's form of a public key is made for a processor without division: the
modulus as words of 32 bits, little-endian, with the inverse of its lowest word
and R^2 for Montgomery multiplication (AOSP, system/core/libcrypto_utils/
android_pubkey.cpp). A signature is PKCS #1 v1.5 (RFC 8017, 8.2), with the
phone's token in the place of a SHA-1 digest (docs/dev/protocol.md).
"""

from __future__ import annotations

import base64
import contextlib
import os
import struct
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils

from storage import own

KEY_FILE = "usb-key.pem"
_BITS = 2048
_SIZE = _BITS // 8
_MAX_FILE = 16 * 1024
_SHA1 = bytes.fromhex("3021300906052b0e03021a05000414")
"""DigestInfo of SHA-1 without the digest (RFC 8017, 9.2, note 1)."""


class KeyUnusable(OSError):
    """The key's file holds something else; the text names it."""


class AdbKey:
    """Signs what phones ask for (a `Signer`)."""

    def __init__(self, private: rsa.RSAPrivateKey, name: str) -> None:
        """`name` is shown to the phone's owner."""
        self._private = private
        self._name = name

    def sign(self, token: bytes) -> bytes:
        scheme = utils.Prehashed(hashes.SHA1())
        try:
            return self._private.sign(token, padding.PKCS1v15(), scheme)
        except UnsupportedAlgorithm:
            # Some systems' OpenSSL makes no signature with SHA-1, whatever it is for.
            return self._sign_plainly(token)

    def _sign_plainly(self, token: bytes) -> bytes:
        info = _SHA1 + token
        padded = b"\0\1" + b"\xff" * (_SIZE - 3 - len(info)) + b"\0" + info
        numbers = self._private.private_numbers()
        signed = pow(int.from_bytes(padded), numbers.d, numbers.public_numbers.n)
        return signed.to_bytes(_SIZE)

    def public_key(self) -> bytes:
        numbers = self._private.public_key().public_numbers()
        n = numbers.n
        raw = (
            struct.pack("<II", _SIZE // 4, -pow(n, -1, 1 << 32) % (1 << 32))
            + n.to_bytes(_SIZE, "little")
            + pow(2, 2 * _BITS, n).to_bytes(_SIZE, "little")
            + struct.pack("<I", numbers.e)
        )
        return base64.b64encode(raw) + b" " + self._name.encode()


def load_key(folder: Path, name: str) -> AdbKey:
    """The key of a state folder, made where there is none.

    Raises OSError, KeyUnusable when the file holds no such key.
    """
    path = folder / KEY_FILE
    try:
        data = own.read(path, _MAX_FILE)
    except FileNotFoundError:
        private = rsa.generate_private_key(public_exponent=65537, key_size=_BITS)
        data = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        own.replace(path, data, own.FILE_MODE)
        return AdbKey(private, name)
    try:
        found = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        found = None
    if not isinstance(found, rsa.RSAPrivateKey) or found.key_size != _BITS:
        raise KeyUnusable(f"{path} holds no key of this program. Make another: vpnshare usb forget")
    return AdbKey(found, name)


def forget_key(folder: Path) -> bool:
    """Remove the key; whether there was one. Raises OSError."""
    with contextlib.suppress(FileNotFoundError), own.folder(folder) as place:
        os.unlink(KEY_FILE, dir_fd=place)
        return True
    return False
