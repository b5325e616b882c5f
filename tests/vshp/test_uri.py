"""The pairing URI: strict, small, and in sentences."""

from __future__ import annotations

import pytest
import qrcode
from hypothesis import given, settings
from hypothesis import strategies as st

from vshp.uri import MAX_URI, Endpoint, PairingUri, UriError

URI = PairingUri(
    bytes(range(32)),
    bytes(range(100, 116)),
    "phone",
    (
        Endpoint.of("any", "192.168.1.7", 47800),
        Endpoint.of("tcp", "10.0.0.1", 47800),
        Endpoint.of("udp", "fd00::1", 65535),
    ),
)


def test_round_trip_in_any_case_with_blanks_around() -> None:
    text = URI.encode()
    assert PairingUri.decode(text) == URI
    assert PairingUri.decode(f"\n {text.lower()} ") == URI
    assert URI.endpoints[2].host == "fd00::1"


def test_fits_a_45_column_terminal() -> None:
    """Version 6: 41 modules and a border of two on each side."""
    full = PairingUri(
        b"\xff" * 32,
        b"\xff" * 16,
        "m" * 30,
        tuple(Endpoint.of("any", f"192.168.100.{n}", 47800) for n in range(3)),
    )
    code = qrcode.QRCode(error_correction=qrcode.constants.ERROR_CORRECT_L, border=2)
    code.add_data(full.encode(), optimize=0)
    code.make(fit=True)
    assert code.version <= 6
    assert len(code.get_matrix()) <= 45
    assert {data.mode for data in code.data_list} == {2}, "alphanumeric mode throughout"


def test_every_truncation_and_every_changed_character_is_refused() -> None:
    text = URI.encode()
    for cut in range(len(text)):
        with pytest.raises(UriError):
            PairingUri.decode(text[:cut])
    for at in range(len(text)):
        other = "A" if text[at] != "A" else "B"
        with pytest.raises(UriError):
            PairingUri.decode(text[:at] + other + text[at + 1 :])
    with pytest.raises(UriError):
        PairingUri.decode(text + "A")


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.text(max_size=80), st.binary(max_size=120).map(lambda b: b.hex())))
def test_junk_gets_a_sentence(text: str) -> None:
    for attempt in (text, "VSHP:" + text):
        with pytest.raises(UriError) as caught:
            PairingUri.decode(attempt)
        assert str(caught.value)[0].isupper()
        assert str(caught.value)[-1] in ".:"


@settings(deadline=None, max_examples=200)
@given(st.binary(min_size=1, max_size=200))
def test_junk_under_a_right_checksum(body: bytes) -> None:
    """The structure is judged too, not only the sum."""
    import base64

    from vshp.uri import _checksum

    body = b"\x01" + body
    text = "VSHP:" + base64.b32encode(body + _checksum(body)).decode().rstrip("=")
    try:
        uri = PairingUri.decode(text)
    except UriError:
        return
    assert PairingUri.decode(uri.encode()) == uri


def test_limits() -> None:
    with pytest.raises(UriError, match="too long"):
        PairingUri.decode("VSHP:" + "A" * MAX_URI)
    with pytest.raises(ValueError, match="endpoints"):
        PairingUri(URI.public_key, URI.secret, "", ()).encode()
    with pytest.raises(ValueError, match="size"):
        PairingUri(b"short", URI.secret, "", URI.endpoints).encode()
