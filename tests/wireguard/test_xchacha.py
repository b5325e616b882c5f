"""XChaCha20-Poly1305: the draft's vectors, and libsodium as oracle."""

from __future__ import annotations

import os

import pytest
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt

from sealing.errors import AuthFailed
from wireguard.xchacha import hchacha20, seal, unseal


def test_hchacha20_of_the_draft() -> None:
    """draft-irtf-cfrg-xchacha-03 section 2.2.1."""
    key = bytes(range(32))
    nonce = bytes.fromhex("000000090000004a0000000031415927")
    assert hchacha20(key, nonce).hex() == (
        "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"
    )


def test_aead_of_the_draft() -> None:
    """draft-irtf-cfrg-xchacha-03 appendix A.3.1."""
    plain = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the "
        b"future, sunscreen would be it."
    )
    ad = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    key = bytes(range(0x80, 0xA0))
    nonce = bytes(range(0x40, 0x58))
    sealed = seal(key, nonce, plain, ad)
    assert sealed[:16].hex() == "bd6d179d3e83d43b9576579493c0e939"
    assert sealed[-16:].hex() == "c0875924c1c7987947deafd8780acf49"
    assert unseal(key, nonce, sealed, ad) == plain


def test_against_libsodium() -> None:
    for size in (0, 1, 16, 63, 64, 65, 300):
        key, nonce, plain, ad = (os.urandom(n) for n in (32, 24, size, 16))
        expected = crypto_aead_xchacha20poly1305_ietf_encrypt(plain, ad, nonce, key)
        assert seal(key, nonce, plain, ad) == expected


def test_damage_is_found() -> None:
    key, nonce, plain, ad = (os.urandom(n) for n in (32, 24, 16, 16))
    sealed = seal(key, nonce, plain, ad)
    for at in range(len(sealed)):
        with pytest.raises(AuthFailed):
            unseal(key, nonce, sealed[:at] + bytes((sealed[at] ^ 1,)) + sealed[at + 1 :], ad)
    with pytest.raises(AuthFailed):
        unseal(key, nonce, sealed, ad[::-1])
