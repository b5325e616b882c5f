"""The handshake wrapper against the published Noise vectors, and against bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sealing.errors import AuthFailed, LocalMisuse, PeerViolation
from sealing.identity import generate_identity, public_key
from sealing.records import RecordKey
from vshp.config import Pattern, Suite
from vshp.constants import MAX_HANDSHAKE_MESSAGE
from vshp.handshake import NoiseHandshake, protocol_name

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "noise.json").read_text()
)
CASES = [(pattern, suite) for pattern in Pattern for suite in Suite]
IDS = [protocol_name(pattern, suite) for pattern, suite in CASES]


def sides(pattern: Pattern, suite: Suite, prologue: bytes = b"p") -> list[NoiseHandshake]:
    """Initiator and responder with fresh keys."""
    near, far = generate_identity(), generate_identity()
    psk = bytes(32) if pattern is Pattern.IK_PSK1 else None
    known = None if pattern is Pattern.XX else public_key(far)
    return [
        NoiseHandshake(pattern, suite, True, near, prologue, remote_static=known, psk=psk),
        NoiseHandshake(pattern, suite, False, far, prologue, psk=psk),
    ]


def messages(pattern: Pattern) -> int:
    return 3 if pattern is Pattern.XX else 2


@pytest.mark.parametrize(("pattern", "suite"), CASES, ids=IDS)
def test_published_vectors(pattern: Pattern, suite: Suite) -> None:
    """Every byte of the handshake, its hash, and the records under the split keys."""
    vector = VECTORS["vectors"][protocol_name(pattern, suite)]
    raw = {name: bytes.fromhex(value) for name, value in VECTORS.items() if isinstance(value, str)
           and name != "source"}  # fmt: skip
    psk = raw["psk"] if pattern is Pattern.IK_PSK1 else None
    known = None if pattern is Pattern.XX else public_key(raw["resp_static"])
    both = [
        NoiseHandshake(
            pattern, suite, True, raw["init_static"], raw["prologue"], remote_static=known,
            psk=psk, ephemeral=raw["init_ephemeral"],
        ),
        NoiseHandshake(
            pattern, suite, False, raw["resp_static"], raw["prologue"], psk=psk,
            ephemeral=raw["resp_ephemeral"],
        ),
    ]  # fmt: skip
    payloads = [bytes.fromhex(text) for text in VECTORS["payloads"]]
    sealed = [bytes.fromhex(text) for text in vector["ciphertexts"]]
    count = messages(pattern)
    for n in range(count):
        assert both[n % 2].write(payloads[n]) == sealed[n]
        assert both[1 - n % 2].read(sealed[n]) == payloads[n]
    assert both[0].finished
    assert both[1].finished
    assert both[0].hash() == both[1].hash()
    if "handshake_hash" in vector:
        assert both[0].hash().hex() == vector["handshake_hash"]
    assert both[1].remote_static == public_key(raw["init_static"])
    counters = [0, 0]
    for n in range(count, len(payloads)):
        # The records: the same keys in our own AEAD objects, nonces counted per direction.
        tx, rx = both[n % 2].keys()[0], both[1 - n % 2].keys()[1]
        assert tx == rx
        key, counter = RecordKey(suite.cipher, tx), counters[n % 2]
        counters[n % 2] += 1
        out = memoryview(bytearray(len(sealed[n])))
        key.encrypt_into(key.nonce(0, counter), payloads[n], None, out)
        assert out == sealed[n]
        back = memoryview(bytearray(len(payloads[n])))
        key.decrypt_into(key.nonce(0, counter), sealed[n], None, back)
        assert back == payloads[n]


@pytest.mark.parametrize(("pattern", "suite"), CASES, ids=IDS)
def test_every_flipped_bit_and_every_truncation_fails_by_name(
    pattern: Pattern, suite: Suite
) -> None:
    for which in range(messages(pattern)):
        probe = sides(pattern, suite)
        for n in range(which):
            probe[1 - n % 2].read(probe[n % 2].write(b"x"))
        length = len(probe[which % 2].write(b"payload"))
        for offset in range(0, length, 5):
            for cut in (False, True):
                both = sides(pattern, suite)
                for n in range(which):
                    both[1 - n % 2].read(both[n % 2].write(b"x"))
                message = bytearray(both[which % 2].write(b"payload"))
                reader = both[1 - which % 2]
                if cut:
                    del message[offset:]
                else:
                    message[offset] ^= 0x40
                if pattern is Pattern.XX and which == 0 and not (cut and offset < 32):
                    # Message one of XX is clear; what was changed shows up in message two.
                    reader.read(bytes(message))
                    with pytest.raises(AuthFailed):
                        both[0].read(reader.write(b""))
                    continue
                with pytest.raises(AuthFailed, match="handshake_failed"):
                    reader.read(bytes(message))
                with pytest.raises(LocalMisuse, match="handshake_over"):
                    reader.write(b"")


@pytest.mark.parametrize(("pattern", "suite"), CASES, ids=IDS)
def test_a_changed_prologue_fails(pattern: Pattern, suite: Suite) -> None:
    """Whoever talks the preamble down breaks the handshake."""
    near = sides(pattern, suite, b"strong")[0]
    psk = bytes(32) if pattern is Pattern.IK_PSK1 else None
    far = NoiseHandshake(pattern, suite, False, generate_identity(), b"weak", psk=psk)
    with pytest.raises(AuthFailed):
        far.read(near.write(b""))
        near.read(far.write(b""))


def test_low_order_points_fail_by_name() -> None:
    for point in (bytes(32), b"\x01" + bytes(31)):
        far = NoiseHandshake(Pattern.IK, Suite.CHACHAPOLY_BLAKE2S, False, generate_identity(), b"")
        with pytest.raises(AuthFailed):
            far.read(point + bytes(64))
    far = NoiseHandshake(Pattern.XX, Suite.CHACHAPOLY_BLAKE2S, False, generate_identity(), b"")
    far.read(bytes(32))
    with pytest.raises(AuthFailed):
        far.write(b"")


def test_sizes_are_bounded() -> None:
    near, far = sides(Pattern.IK, Suite.CHACHAPOLY_BLAKE2S)
    with pytest.raises(LocalMisuse, match="too_long"):
        near.write(bytes(MAX_HANDSHAKE_MESSAGE))
    with pytest.raises(PeerViolation, match="too_long"):
        far.read(bytes(MAX_HANDSHAKE_MESSAGE + 1))


def test_missing_keys_are_misuse() -> None:
    key = generate_identity()
    with pytest.raises(LocalMisuse):
        NoiseHandshake(Pattern.IK, Suite.AESGCM_SHA256, True, key, b"")
    with pytest.raises(LocalMisuse):
        NoiseHandshake(Pattern.IK_PSK1, Suite.AESGCM_SHA256, False, key, b"")
    with pytest.raises(LocalMisuse):
        sides(Pattern.IK, Suite.AESGCM_SHA256)[0].keys()
