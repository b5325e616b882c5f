"""New keys without a pause, by time and by volume, and the AEAD beneath."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from noise.connection import NoiseConnection

from sealing import records
from sealing.errors import AuthFailed, PeerViolation
from sealing.records import Cipher, RecordKey
from tests.vshp.dialogue import connected, drain, events, feed
from vshp import writer
from vshp.config import Suite
from vshp.constants import REKEY_AFTER_SECONDS
from vshp.frames import FrameType


@pytest.mark.parametrize("suite", list(Suite))
def test_successor_is_noises_rekey(suite: Suite) -> None:
    """The library's own REKEY of the same key gives the same next key."""
    name = {1: b"Noise_NN_25519_ChaChaPoly_BLAKE2s", 2: b"Noise_NN_25519_AESGCM_SHA256"}[suite]
    near, far = NoiseConnection.from_name(name), NoiseConnection.from_name(name)
    near.set_as_initiator()
    far.set_as_responder()
    near.start_handshake()
    far.start_handshake()
    far.read_message(bytes(near.write_message()))
    near.read_message(bytes(far.write_message()))
    key = RecordKey(suite.cipher, bytes(near.noise_protocol.cipher_state_encrypt.k))
    near.rekey_outbound_cipher()
    assert key.successor()._key == near.noise_protocol.cipher_state_encrypt.k


def test_both_directions_rekey_independently_and_nothing_is_lost() -> None:
    both = connected()
    for round_ in range(6):
        for session in (both.client, both.gateway):
            session.writer.reserve_packet(40 + round_)
            if (round_ + (session is both.client)) % 2:
                session.writer.rekey()
            session.writer.reserve_packet(60 + round_)
            session.writer.flush()
        both.exchange(step=7)
    assert [len(p) for p in both.at_gateway] == [n + r for r in range(6) for n in (40, 60)]
    assert [len(p) for p in both.at_client] == [n + r for r in range(6) for n in (40, 60)]
    assert both.client.counters["record__rekey__sent"] == 3
    assert both.client.counters["record__rekey__received"] == 3


@pytest.mark.parametrize("limit", ["REKEY_AFTER_BYTES", "REKEY_AFTER_RECORDS"])
def test_rekey_by_volume(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, limit, {"REKEY_AFTER_BYTES": 50_000}.get(limit, 4))
    both = connected()
    for _ in range(20):
        both.client.writer.send_packet(bytearray(64) + os.urandom(9000), 64, 9064)
        both.exchange()
    assert len(both.at_gateway) == 20
    assert both.client.counters["record__rekey__sent"] >= 3
    assert (
        both.client.counters["record__rekey__sent"]
        == both.gateway.counters["record__rekey__received"]
    )


def test_rekey_by_time() -> None:
    both = connected()
    both.client.handle_timer(REKEY_AFTER_SECONDS - 1)
    assert "record__rekey__sent" not in both.client.counters
    both.exchange(REKEY_AFTER_SECONDS - 1)
    both.client.handle_timer(REKEY_AFTER_SECONDS)
    both.exchange(REKEY_AFTER_SECONDS)
    assert both.client.counters["record__rekey__sent"] == 1
    both.client.ping(REKEY_AFTER_SECONDS)
    both.exchange(REKEY_AFTER_SECONDS)
    assert events(both.client)


def test_frames_behind_rekey_in_the_same_record_are_refused() -> None:
    both = connected()
    both.client.writer.frame(FrameType.REKEY)
    both.client.writer.reserve_packet(40)
    both.client.writer.flush()
    with pytest.raises(PeerViolation, match="rekey_not_last"):
        both.exchange()


def test_the_old_key_is_dead_after_rekey() -> None:
    both = connected()
    both.client.writer.rekey()
    old = both.gateway._key
    assert old is not None
    both.exchange()
    assert both.gateway._key is not old
    both.client.writer._use(old)
    both.client.writer.reserve_packet(40)
    both.client.writer.flush()
    with pytest.raises(AuthFailed, match="record_forged"):
        both.exchange()


class OlderChaCha:
    """What `cryptography` before version 50 offers: no writing into a given buffer."""

    def __init__(self, key: bytes) -> None:
        self._aead = ChaCha20Poly1305(key)
        self.encrypt = self._aead.encrypt
        self.decrypt = self._aead.decrypt


def test_older_cryptography_speaks_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    both = connected()
    monkeypatch.setitem(records._CLASSES, Cipher.CHACHAPOLY, OlderChaCha)
    assert both.gateway._key is not None
    both.gateway._use(RecordKey(Suite.CHACHAPOLY_BLAKE2S.cipher, both.gateway._key._key))
    both.client.writer.send_packet(bytearray(64) + bytes(60000), 64, 60064)
    feed(both.gateway, drain(both.client))
    assert both.at_gateway == [bytes(60000)]
    both.client.writer.reserve_packet(40)
    both.client.writer.flush()
    damaged = bytearray(drain(both.client))
    damaged[-1] ^= 1
    with pytest.raises(AuthFailed):
        feed(both.gateway, bytes(damaged))


@pytest.mark.parametrize("suite", list(Suite))
def test_nonces_are_noises(suite: Suite) -> None:
    key = RecordKey(suite.cipher, bytes(range(32)))
    little = suite is Suite.CHACHAPOLY_BLAKE2S
    for counter in (0, 1, 2**40 + 5, 2**64 - 1):
        nonce = bytes(4) + counter.to_bytes(8, "little" if little else "big")
        assert key.nonce(0, counter) == nonce
        out = memoryview(bytearray(5 + 16))
        key.encrypt_into(key.nonce(0, counter), b"hello", None, out)
        oracle = ChaCha20Poly1305 if little else AESGCM
        assert out == oracle(bytes(range(32))).encrypt(nonce, b"hello", None)
