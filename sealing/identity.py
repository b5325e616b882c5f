"""Static Curve25519 key pairs: who a device or a gateway is."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey


def generate_identity() -> bytes:
    """A new static private key."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public_key(identity: bytes) -> bytes:
    """The public key of a static private key."""
    return X25519PrivateKey.from_private_bytes(identity).public_key().public_bytes_raw()
