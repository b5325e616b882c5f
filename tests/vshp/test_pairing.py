"""One-time secrets and the arithmetic of the pairing code."""

from __future__ import annotations

import pytest

from sealing.errors import LocalMisuse
from vshp.config import CloseReason
from vshp.constants import MAX_SECRETS, MAX_SPENT_SECRETS, SECRET_LIFETIME
from vshp.errors import Refused
from vshp.pairing import (
    OneTimeSecrets,
    code_commitment,
    commitment_holds,
    derive_psk,
    pairing_code,
    secret_id,
)

KEY = bytes(32)


def refusal(table: OneTimeSecrets, name: bytes, now: float) -> str:
    with pytest.raises(Refused) as caught:
        table.lookup(name, now)
    return caught.value.reason


def test_unknown_used_and_expired_are_told_apart() -> None:
    table = OneTimeSecrets(KEY)
    first, second = table.issue(0), table.issue(0)
    assert table.lookup(secret_id(first), 1) == derive_psk(first, KEY)
    table.consume(secret_id(first), 1)
    assert refusal(table, secret_id(first), 2) == CloseReason.SECRET_USED
    assert refusal(table, bytes(8), 2) == CloseReason.SECRET_UNKNOWN
    assert refusal(table, secret_id(second), SECRET_LIFETIME) == CloseReason.SECRET_EXPIRED
    assert refusal(table, secret_id(first), SECRET_LIFETIME) == CloseReason.SECRET_USED


def test_a_short_lived_secret_expires_behind_a_long_lived_one() -> None:
    table = OneTimeSecrets(KEY)
    assert not table.offered(0)
    long, short = table.issue(0), table.issue(0, lifetime=1.0)
    assert refusal(table, secret_id(short), 1.0) == CloseReason.SECRET_EXPIRED
    assert table.lookup(secret_id(long), 1.0)
    endless = table.issue(0, lifetime=1e9)
    assert refusal(table, secret_id(endless), SECRET_LIFETIME) == CloseReason.SECRET_EXPIRED


def test_consuming_twice_is_refused() -> None:
    table = OneTimeSecrets(KEY)
    name = secret_id(table.issue(0))
    assert table.offered(0)
    table.consume(name, 0)
    assert not table.offered(0)
    with pytest.raises(Refused):
        table.consume(name, 0)


def test_table_is_bounded() -> None:
    table = OneTimeSecrets(KEY)
    secrets = [table.issue(0) for _ in range(MAX_SECRETS + MAX_SPENT_SECRETS + 5)]
    assert table.live == MAX_SECRETS
    assert refusal(table, secret_id(secrets[0]), 0) == CloseReason.SECRET_UNKNOWN
    assert refusal(table, secret_id(secrets[-MAX_SECRETS - 1]), 0) == CloseReason.SECRET_EXPIRED
    table.revoke_all()
    assert refusal(table, secret_id(secrets[-1]), 0) == CloseReason.SECRET_EXPIRED


def test_psk_belongs_to_one_gateway() -> None:
    assert derive_psk(bytes(16), KEY) != derive_psk(bytes(16), b"\x01" * 32)
    with pytest.raises(LocalMisuse):
        OneTimeSecrets(b"short")


def test_code_is_six_digits_and_depends_on_everything() -> None:
    base = (bytes(32), bytes(32), bytes(32))
    codes = {pairing_code(*base)}
    for at in range(3):
        changed = list(base)
        changed[at] = b"\x01" + bytes(31)
        codes.add(pairing_code(*changed))
    assert len(codes) == 4
    assert all(len(code) == 6 and code.isdigit() for code in codes)


def test_commitment_binds() -> None:
    assert commitment_holds(code_commitment(b"a" * 32), b"a" * 32)
    assert not commitment_holds(code_commitment(b"a" * 32), b"b" * 32)
