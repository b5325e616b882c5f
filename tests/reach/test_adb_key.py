"""The key that phones know this machine by."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from reach.adb_key import KEY_FILE, AdbKey, KeyUnusable, forget_key, load_key
from tests.fakes.adbd import decode_android_key


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state")
    load_key(folder, "vpnshare@laptop")
    return folder


@pytest.fixture
def key(folder: Path) -> AdbKey:
    return load_key(folder, "vpnshare@laptop")


def test_the_key_is_made_once_and_nobody_else_may_read_it(folder: Path, key: AdbKey) -> None:
    assert load_key(folder, "vpnshare@laptop").public_key() == key.public_key()
    assert stat.S_IMODE((folder / KEY_FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("plainly", [False, True], ids=["by_the_library", "by_its_numbers"])
def test_a_phone_takes_the_signature_by_the_key_that_it_was_offered(
    key: AdbKey, plainly: bool
) -> None:
    """The double's reading of the key checks both of the numbers that Android computes with."""
    token = bytes(range(20))
    signed = key._sign_plainly(token) if plainly else key.sign(token)
    public = decode_android_key(key.public_key())
    public.verify(signed, token, padding.PKCS1v15(), utils.Prehashed(hashes.SHA1()))
    assert key.public_key().endswith(b" vpnshare@laptop")


def _pem(private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nxx\n"])
def test_a_file_that_holds_no_key_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / KEY_FILE).write_bytes(content)
    with pytest.raises(KeyUnusable, match="vpnshare usb forget"):
        load_key(tmp_path, "x")


def test_a_key_of_another_kind_is_not_used(tmp_path: Path) -> None:
    for private in (ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 1024)):
        (tmp_path / KEY_FILE).write_bytes(_pem(private))
        with pytest.raises(KeyUnusable):
            load_key(tmp_path, "x")


def test_a_link_in_the_keys_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("x")
    (tmp_path / KEY_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="link"):
        load_key(tmp_path, "x")


def test_a_key_that_is_forgotten_is_another_afterwards(tmp_path: Path) -> None:
    assert forget_key(tmp_path) is False
    before = load_key(tmp_path, "x").public_key()
    assert forget_key(tmp_path) is True
    assert load_key(tmp_path, "x").public_key() != before
