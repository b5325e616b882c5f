"""First contact: one-time secrets from a QR code, and the pairing code without one.

A one-time secret travels in the pairing URI. Both sides derive from it a name
(shown in the clear preamble) and a pre-shared key that the handshake proves. It
is good once and for two minutes.

Without a QR code, the two screens show six digits. They are a hash of the
handshake hash and one random share from each side; the client has committed to
its share before it learns the gateway's, so whoever sits in the middle with two
handshakes of his own cannot search for keys or shares that make the digits
agree: he has one guess in a million, and the owner sees the attempt.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections import OrderedDict
from collections.abc import Callable

from sealing.errors import LocalMisuse
from sealing.records import KEY_SIZE
from vshp.config import CloseReason
from vshp.constants import (
    CODE_DIGITS,
    COMMIT_SIZE,
    MAX_SECRETS,
    MAX_SPENT_SECRETS,
    SECRET_ID_SIZE,
    SECRET_LIFETIME,
    SECRET_SIZE,
)
from vshp.errors import Refused


def secret_id(secret: bytes) -> bytes:
    """The 8-byte name of a one-time secret; says nothing about it."""
    return hashlib.blake2s(key=secret, digest_size=SECRET_ID_SIZE, person=b"VSHPsid1").digest()


def derive_psk(secret: bytes, gateway_key: bytes) -> bytes:
    """The pre-shared key of a one-time secret, tied to the gateway's public key."""
    return hashlib.blake2s(
        gateway_key, key=secret, digest_size=KEY_SIZE, person=b"VSHPpsk1"
    ).digest()


def code_commitment(share: bytes) -> bytes:
    """What the client sends before it learns the gateway's share."""
    return hashlib.blake2s(share, digest_size=COMMIT_SIZE, person=b"VSHPcmt1").digest()


def commitment_holds(commitment: bytes, share: bytes) -> bool:
    return hmac.compare_digest(commitment, code_commitment(share))


def pairing_code(handshake_hash: bytes, client_share: bytes, gateway_share: bytes) -> str:
    """The six digits both sides show."""
    digest = hashlib.blake2s(
        handshake_hash + client_share + gateway_share, digest_size=16, person=b"VSHPcod1"
    ).digest()
    # 128 bits over 10^6: the bias of the remainder is below 2^-108.
    return str(int.from_bytes(digest, "little") % 10**CODE_DIGITS).zfill(CODE_DIGITS)


class OneTimeSecrets:
    """The gateway's table of one-time secrets: bounded, unknown, used and expired told apart."""

    def __init__(self, gateway_key: bytes, rng: Callable[[int], bytes] = os.urandom) -> None:
        """`gateway_key` is the public key."""
        if len(gateway_key) != KEY_SIZE:
            raise LocalMisuse("key_size")
        self._gateway_key = gateway_key
        self._rng = rng
        self._live: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        """Id -> (expiry, PSK), oldest first."""
        self._spent: OrderedDict[bytes, CloseReason] = OrderedDict()
        """Id -> why it is no good any more, oldest first."""

    @property
    def live(self) -> int:
        """How many secrets are good, as of the last call that knew the time."""
        return len(self._live)

    def offered(self, now: float) -> bool:
        """Whether any secret is good now."""
        self._expire(now)
        return bool(self._live)

    def issue(self, now: float, lifetime: float = SECRET_LIFETIME) -> bytes:
        """A new secret for a URI, good for so many seconds, `SECRET_LIFETIME` at most."""
        self._expire(now)
        while len(self._live) >= MAX_SECRETS:
            self._spend(next(iter(self._live)), CloseReason.SECRET_EXPIRED)
        secret = self._rng(SECRET_SIZE)
        self._live[secret_id(secret)] = (
            now + min(lifetime, SECRET_LIFETIME),
            derive_psk(secret, self._gateway_key),
        )
        return secret

    def lookup(self, name: bytes, now: float) -> bytes:
        """The PSK. Raises Refused (`secret_unknown`, `secret_used`, `secret_expired`)."""
        self._expire(now)
        entry = self._live.get(name)
        if entry is None:
            raise Refused(self._spent.get(name, CloseReason.SECRET_UNKNOWN))
        return entry[1]

    def consume(self, name: bytes, now: float) -> None:
        """Its holder has proven it: it is good no more. Raises as `lookup` does."""
        self.lookup(name, now)
        self._spend(name, CloseReason.SECRET_USED)

    def revoke_all(self) -> None:
        """None of the secrets handed out is good any more (the owner closed the QR code)."""
        for name in list(self._live):
            self._spend(name, CloseReason.SECRET_EXPIRED)

    def _expire(self, now: float) -> None:
        for name in [name for name, (expires, _) in self._live.items() if expires <= now]:
            self._spend(name, CloseReason.SECRET_EXPIRED)

    def _spend(self, name: bytes, reason: CloseReason) -> None:
        del self._live[name]
        self._spent[name] = reason
        while len(self._spent) > MAX_SPENT_SECRETS:
            self._spent.popitem(last=False)
