"""mac1 and mac2 at the end of handshake messages, and cookies (whitepaper 5.3 and 5.4.4).

mac1 shows that the sender knows the receiver's public key: a scanner gets no answer.
Under load the receiver answers with a cookie, sealed, instead of working; mac2 shows
that the sender heard it, so that forged addresses cost no Diffie-Hellman.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable

from sealing.cookies import CookieJar
from wireguard import xchacha
from wireguard.constants import COOKIE_LIFETIME, MAC_SIZE, MACS_SIZE, XNONCE_SIZE
from wireguard.messages import CookieReply

Random = Callable[[int], bytes]
_NO_MAC2 = bytes(MAC_SIZE)
_PERSON = b"WGcookie"


def mac(key: bytes, data: bytes | memoryview) -> bytes:
    return hashlib.blake2s(data, key=key, digest_size=MAC_SIZE).digest()


def add_macs(body: bytes, mac1_key: bytes, cookie: bytes | None) -> bytes:
    """The whole message; `mac1_key` is the receiver's, `cookie` the one he gave us, if any."""
    body += mac(mac1_key, body)
    return body + (_NO_MAC2 if cookie is None else mac(cookie, body))


def mac1_of(message: bytes) -> bytes:
    return message[-MACS_SIZE:-MAC_SIZE]


def mac1_good(message: bytes, mac1_key: bytes) -> bool:
    """Whether the sender knows our public key."""
    return hmac.compare_digest(mac(mac1_key, message[:-MACS_SIZE]), mac1_of(message))


class CookieGuard:
    """The side that hands out cookies and asks for them."""

    __slots__ = ("_jar", "_key", "_rng")

    def __init__(self, cookie_key: bytes, now: float, rng: Random = os.urandom) -> None:
        """`cookie_key` is of our own identity."""
        self._key = cookie_key
        self._rng = rng
        self._jar = CookieJar(now, COOKIE_LIFETIME, _PERSON, rng)

    def mac2_good(self, message: bytes, address: bytes, now: float) -> bool:
        """Whether the sender has heard a cookie of ours at this address."""
        body, mac2 = message[:-MAC_SIZE], message[-MAC_SIZE:]
        return any(
            hmac.compare_digest(mac(cookie, body), mac2) for cookie in self._jar.good(address, now)
        )

    def reply(self, message: bytes, sender: int, address: bytes, now: float) -> bytes:
        """The answer to a message whose mac1 is good and whose mac2 is not."""
        nonce = self._rng(XNONCE_SIZE)
        sealed = xchacha.seal(self._key, nonce, self._jar.make(address, now), mac1_of(message))
        return CookieReply(sender, nonce, sealed).encode()


def open_cookie(reply: CookieReply, cookie_key: bytes, mac1: bytes) -> bytes:
    """The cookie; the key is of its sender's identity, `mac1` what we sent. Raises AuthFailed."""
    return xchacha.unseal(cookie_key, reply.nonce, reply.cookie, mac1)
