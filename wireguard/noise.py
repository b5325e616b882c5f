"""The handshake: Noise IKpsk2 with WireGuard's payloads (whitepaper 5.4.2 to 5.4.5).

The first message is read in two steps, so that between them the reader can look up
whose key it is: an unknown one costs no more, and with a known one the product of the
two static keys, which never changes, is at hand. No function here keeps anything: what
one step leaves for the next is a value.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from sealing.errors import AuthFailed, LocalMisuse
from wireguard.constants import CONSTRUCTION, IDENTIFIER, LABEL_COOKIE, LABEL_MAC1, NO_PSK
from wireguard.messages import Initiation, Response

_ZERO_NONCE = bytes(12)
_hmac = hmac.digest


def blake2s(*parts: bytes) -> bytes:
    """The hash of all parts, one behind the other."""
    return hashlib.blake2s(b"".join(parts)).digest()


_CHAIN = blake2s(CONSTRUCTION)
_HASH = blake2s(_CHAIN, IDENTIFIER)


class Identity:
    """Our static key pair, and what of the handshake depends on it alone."""

    __slots__ = ("_private", "cookie_key", "hash", "mac1_key", "public")

    def __init__(self, private: bytes) -> None:
        self._private = X25519PrivateKey.from_private_bytes(private)
        self.public = self._private.public_key().public_bytes_raw()
        self.mac1_key = blake2s(LABEL_MAC1, self.public)
        self.cookie_key = blake2s(LABEL_COOKIE, self.public)
        self.hash = blake2s(_HASH, self.public)
        """Where the hash of handshakes toward us begins."""

    def exchange(self, public: bytes) -> bytes:
        """Diffie-Hellman. Raises AuthFailed for a point of low order."""
        return _exchange(self._private, public)


class PeerKeys:
    """A peer's static key, the preshared key, and what depends on them and our identity."""

    __slots__ = ("cookie_key", "hash", "mac1_key", "psk", "public", "static_static")

    def __init__(self, identity: Identity, public: bytes, psk: bytes = NO_PSK) -> None:
        """Raises LocalMisuse when the key is no usable one."""
        self.public = public
        self.psk = psk
        try:
            self.static_static = identity.exchange(public)
        except AuthFailed as error:
            raise LocalMisuse("public_key_unusable") from error
        self.mac1_key = blake2s(LABEL_MAC1, public)
        self.cookie_key = blake2s(LABEL_COOKIE, public)
        self.hash = blake2s(_HASH, public)


class Ephemeral(NamedTuple):
    """A key pair of one handshake."""

    private: X25519PrivateKey
    public: bytes


class Initiated(NamedTuple):
    """What an initiator keeps until the response comes."""

    chain: bytes
    hash: bytes
    ephemeral: Ephemeral


class Opened(NamedTuple):
    """The first message up to its static key."""

    chain: bytes
    hash: bytes
    static: bytes
    """The initiator's public key: it is not proven before the timestamp is opened."""


class Accepted(NamedTuple):
    """The first message, proven."""

    chain: bytes
    hash: bytes
    timestamp: bytes


class TransportKeys(NamedTuple):
    """One key for each direction."""

    send: bytes
    receive: bytes


def ephemeral(private: bytes | None = None) -> Ephemeral:
    """A fresh key pair; `private` is given by test vectors only."""
    key = (
        X25519PrivateKey.generate()
        if private is None
        else X25519PrivateKey.from_private_bytes(private)
    )
    return Ephemeral(key, key.public_key().public_bytes_raw())


def initiate(
    identity: Identity, peer: PeerKeys, sender: int, timestamp: bytes, own: Ephemeral
) -> tuple[Initiation, Initiated]:
    """The first message. Raises AuthFailed when the peer's key is of low order."""
    h = blake2s(peer.hash, own.public)
    chain = _kdf1(_CHAIN, own.public)
    chain, key = _kdf2(chain, _exchange(own.private, peer.public))
    static = _seal(key, identity.public, h)
    h = blake2s(h, static)
    chain, key = _kdf2(chain, peer.static_static)
    stamp = _seal(key, timestamp, h)
    h = blake2s(h, stamp)
    return Initiation(sender, own.public, static, stamp), Initiated(chain, h, own)


def open_static(identity: Identity, message: Initiation) -> Opened:
    """Whose message it says it is. Raises AuthFailed."""
    h = blake2s(identity.hash, message.ephemeral)
    chain = _kdf1(_CHAIN, message.ephemeral)
    chain, key = _kdf2(chain, identity.exchange(message.ephemeral))
    static = _open(key, message.static, h)
    return Opened(chain, blake2s(h, message.static), static)


def open_timestamp(opened: Opened, message: Initiation, static_static: bytes) -> Accepted:
    """The timestamp, which only the owner of the static key can have sealed. Raises AuthFailed."""
    chain, key = _kdf2(opened.chain, static_static)
    timestamp = _open(key, message.timestamp, opened.hash)
    return Accepted(chain, blake2s(opened.hash, message.timestamp), timestamp)


def respond(
    accepted: Accepted, message: Initiation, peer: PeerKeys, sender: int, own: Ephemeral
) -> tuple[Response, TransportKeys]:
    """The second message, and the keys. Raises AuthFailed for keys of low order."""
    h = blake2s(accepted.hash, own.public)
    chain = _kdf1(accepted.chain, own.public)
    chain = _kdf1(chain, _exchange(own.private, message.ephemeral))
    chain = _kdf1(chain, _exchange(own.private, peer.public))
    chain, tau, key = _kdf3(chain, peer.psk)
    empty = _seal(key, b"", blake2s(h, tau))
    receive, send = _kdf2(chain, b"")
    return Response(sender, message.sender, own.public, empty), TransportKeys(send, receive)


def finish(
    identity: Identity, initiated: Initiated, message: Response, peer: PeerKeys
) -> TransportKeys:
    """The keys, if the response is proven. Raises AuthFailed."""
    h = blake2s(initiated.hash, message.ephemeral)
    chain = _kdf1(initiated.chain, message.ephemeral)
    chain = _kdf1(chain, _exchange(initiated.ephemeral.private, message.ephemeral))
    chain = _kdf1(chain, identity.exchange(message.ephemeral))
    chain, tau, key = _kdf3(chain, peer.psk)
    _open(key, message.empty, blake2s(h, tau))
    send, receive = _kdf2(chain, b"")
    return TransportKeys(send, receive)


def _exchange(private: X25519PrivateKey, public: bytes) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise AuthFailed("handshake_failed", "low order") from None


def _seal(key: bytes, plain: bytes, ad: bytes) -> bytes:
    return ChaCha20Poly1305(key).encrypt(_ZERO_NONCE, plain, ad)


def _open(key: bytes, sealed: bytes, ad: bytes) -> bytes:
    try:
        return ChaCha20Poly1305(key).decrypt(_ZERO_NONCE, sealed, ad)
    except InvalidTag:
        raise AuthFailed("handshake_failed") from None


# Noise's HKDF (section 4.3).


def _kdf1(chain: bytes, data: bytes) -> bytes:
    return _hmac(_hmac(chain, data, "blake2s"), b"\x01", "blake2s")


def _kdf2(chain: bytes, data: bytes) -> tuple[bytes, bytes]:
    secret = _hmac(chain, data, "blake2s")
    first = _hmac(secret, b"\x01", "blake2s")
    return first, _hmac(secret, first + b"\x02", "blake2s")


def _kdf3(chain: bytes, data: bytes) -> tuple[bytes, bytes, bytes]:
    secret = _hmac(chain, data, "blake2s")
    first = _hmac(secret, b"\x01", "blake2s")
    second = _hmac(secret, first + b"\x02", "blake2s")
    return first, second, _hmac(secret, second + b"\x03", "blake2s")
