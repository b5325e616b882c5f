"""Addresses as people write them: taken, left to others, or told what is wrong with this one."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vshp.spelling import MAX_NAME_LENGTH, Place, SpellingError, parse_name, parse_place


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.168.1.20", "192.168.1.20", None),
        (" 192.168.1.20:47800 ", "192.168.1.20", 47800),
        ("fd01::1", "fd01::1", None),
        ("::1", "::1", None),
        ("fd00:1:2:3:4:5:6:7", "fd00:1:2:3:4:5:6:7", None),
        ("[fd01::1]", "fd01::1", None),
        ("[fd01::1]:65535", "fd01::1", 65535),
        ("[fe80::1%wlan0]:1", "fe80::1%wlan0", 1),
        ("fe80::1%wlan0", "fe80::1%wlan0", None),
        ("[10.0.0.1]:5", "10.0.0.1", 5),
    ],
)
def test_places(text: str, host: str, port: int | None) -> None:
    assert parse_place(text) == Place(host, port)


@pytest.mark.parametrize(
    "text",
    [
        "phone",
        "Living room",
        "ab:cd:12:34:56:78:9a:bc",
        "abcd1234",
        "Anna's phone: blue",
        "usb",
        "",
    ],
)
def test_names_and_fingerprints_are_no_places(text: str) -> None:
    assert parse_place(text) is None


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("phone:47800", "'phone' is the name of a host", "192.168.1.20:47800"),
        ("gateway.example.org", "'gateway.example.org' is the name of a host", "vpnshare status"),
        (":99999", "names no address, only a port (and 99999 is not one of 1 to 65535)", "192."),
        (":47800", "names no address, only a port.", "192.168.1.20:47800"),
        ("10.1.0.5:99999", "99999 is not one of 1 to 65535", "Write 10.1.0.5:47800."),
        ("10.1.0.5:0", "0 is not one of 1 to 65535", "Write 10.1.0.5:47800."),
        ("10.1.0.5:", "nothing follows the colon", "Write 10.1.0.5:47800."),
        ("10.1.0.5:http", "'http' is no number", "Write 10.1.0.5:47800."),
        ("10.1.0.5:٤٧", "is no number", "Write 10.1.0.5:47800."),
        ("10.1.0.999", "999 is more than 255", ""),
        ("10.1.0", "it has 3 numbers, not four", ""),
        ("10.1.0.5.6:1", "it has 5 numbers, not four", ""),
        ("10.1..5", "a number is missing between its dots", ""),
        ("010.1.0.5", "may not begin with 0", ""),
        ("10.1.0.5/24", "makes it a network", ""),
        ("[::1", "has no closing bracket", "Write [::1]:47800."),
        ("[fd01::1:47800", "has no closing bracket", "Write [fd01::1]:47800."),
        ("[fd01::1]x", "goes on after its bracket with 'x'", "Write [fd01::1]:47800."),
        ("[fd01::1]:70000", "70000 is not one of", "Write [fd01::1]:47800."),
        ("fd01::1:47800", "IPv6 address with a port and no brackets", "Write [fd01::1]:47800."),
        ("fd01::1::2", "two colons in a row stand in it more than once", ""),
        ("fd01::wxyz", "'wxyz' is no group of one to four hexadecimal digits", ""),
        ("fd01:1:2", "it has 3 groups of digits, not eight", ""),
        ("1:2:3:4:5:6:7:8:abc", "more than eight groups", ""),
        ("[]:1", "is no IPv6 address", ""),
        ("http://10.1.0.5:47800/x", "is a URL, not an address", "Write 10.1.0.5:47800."),
    ],
)
def test_what_is_wrong_with_this_one(text: str, says: str, hint: str) -> None:
    with pytest.raises(SpellingError) as caught:
        parse_place(text)
    assert says in str(caught.value) and hint in caught.value.hint
    assert str(caught.value).endswith(".")


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="0123456789abcdefxyz.:[]%/ -", max_size=30) | st.text(max_size=100))
def test_whatever_is_written_is_a_place_or_a_sentence(text: str) -> None:
    try:
        place = parse_place(text)
    except SpellingError as error:
        assert str(error).endswith(".") and len(str(error)) < 400
        return
    if place is not None:
        ipaddress.ip_address(place.host)
        assert place.port is None or 0 < place.port < 65536


LONG = ".".join(["a" * 49] * 5) + ".abc"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("phone.lan", "phone.lan", None),
        (" Phone.Lan.:47800 ", "phone.lan", 47800),
        ("phone:1", "phone", 1),
        ("163.com", "163.com", None),
        ("my_phone.local", "my_phone.local", None),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", None),
        (LONG[:MAX_NAME_LENGTH], LONG[:MAX_NAME_LENGTH], None),
    ],
)
def test_names_of_hosts(text: str, host: str, port: int | None) -> None:
    assert parse_name(text) == Place(host, port)


@pytest.mark.parametrize(
    "text",
    [
        "phone", "", ".", "..", "a..b", "-a.b", "a-.b", "10.0.0.1", "10.0.0.1:1", "[::1]:1",
        "fe80::1", "ab:cd:12:34:56:78:9a:bc", "ab:12", "my phone.lan", "a.b:80:90", "é.example",
        "http://phone.lan", "a.b/c", "a" * 64 + ".b", LONG + "de", "a\nb.c", "a.\x1b[31m",
    ],
)  # fmt: skip
def test_what_is_no_hosts_name(text: str) -> None:
    assert parse_name(text) is None


def test_a_hosts_name_with_a_bad_port_is_told() -> None:
    with pytest.raises(SpellingError, match="99999 is not one of 1 to 65535"):
        parse_name("phone.lan:99999")
