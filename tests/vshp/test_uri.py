"""The pairing URI: strict, small, and in sentences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import qrcode
from hypothesis import given, settings
from hypothesis import strategies as st

from vshp.endpoints import Endpoint
from vshp.uri import MAX_TEXT, MAX_URI, PairingUri, UriError, is_uri

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


def wrapped(text: str, width: int, end: str) -> str:
    return end.join(text[at : at + width] for at in range(0, len(text), width))


@pytest.mark.parametrize(
    "came",
    [
        lambda text: wrapped(text, 45, "\n"),
        lambda text: wrapped(text, 76, "\r\n> "),
        lambda text: wrapped(text, 20, " \t\u00a0"),
        lambda text: wrapped(text, 40, "\u200b"),
        lambda text: "\ufeff" + wrapped(text, 9, "\u2060\u00ad"),
        lambda text: f'"{text}"',
        lambda text: f"“{text}”.",
        lambda text: f"`{text}`",
        lambda text: f"<{text}>\n",
        lambda text: text.replace(":", "%3A"),
        lambda text: "%22" + wrapped(text.replace(":", "%3a"), 30, "%0D%0A") + "%20",
        lambda text: wrapped(text.lower(), 70, "=\n"),
        lambda text: "\x1b" + text + "\x00",
    ],
)
def test_what_comes_along_with_a_copy_changes_nothing(came: Callable[[str], str]) -> None:
    text = came(URI.encode())
    assert is_uri(text)
    assert PairingUri.decode(text) == URI


def test_a_cut_off_one_is_said_to_be_that() -> None:
    """Wherever it was cut; one with a wrong character is not."""
    for uri in (URI, PairingUri(URI.public_key, URI.secret, "", URI.endpoints[:1])):
        text = uri.encode()
        for cut in range(len("VSHP:"), len(text)):
            with pytest.raises(UriError, match="cut off"):
                PairingUri.decode(text[:cut])
    text = URI.encode()
    with pytest.raises(UriError, match="damaged"):
        PairingUri.decode(text[:20] + ("A" if text[20] != "A" else "B") + text[21:])
    with pytest.raises(UriError, match="'0', which does not belong there"):
        PairingUri.decode(text[:20] + "0" + text[21:])
    with pytest.raises(UriError, match="too long"):
        PairingUri.decode("VSHP:" + " " * MAX_TEXT)


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
