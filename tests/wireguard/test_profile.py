"""Config texts: what is written is read again, by the rules of the strictest app."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireguard.profile import (
    MAX_NAME,
    Profile,
    ProfileError,
    parse_endpoint,
    parse_key,
    parse_profile,
    short_key,
    spell_endpoint,
    spell_key,
    tunnel_name,
)

KEY = bytes(range(32))
PROFILE = Profile(
    private_key=KEY,
    ipv4=bytes((10, 187, 61, 2)),
    ipv6=bytes.fromhex("fd8899aabbccddee0000000000000002"),
    dns=(bytes((10, 187, 61, 1)), bytes.fromhex("fd8899aabbccddee0000000000000001")),
    gateway_key=bytes(reversed(KEY)),
    host="192.168.43.1",
    port=51820,
)
TEXT = """\
[Interface]
PrivateKey=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
Address=10.187.61.2,fd88:99aa:bbcc:ddee::2
DNS=10.187.61.1,fd88:99aa:bbcc:ddee::1
MTU=1420
[Peer]
PublicKey=Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=
AllowedIPs=0.0.0.0/0,::/0
Endpoint=192.168.43.1:51820"""


def test_the_text() -> None:
    assert PROFILE.text() == TEXT
    assert parse_profile(TEXT) == PROFILE


KEYS = st.binary(min_size=32, max_size=32)
HOSTS = st.one_of(
    st.ip_addresses().map(str).filter(lambda host: "%" not in host),
    st.sampled_from(["phone.local", "a", "gw.example.com"]),
)


@given(
    st.builds(
        Profile,
        private_key=st.none() | KEYS,
        ipv4=st.binary(min_size=4, max_size=4),
        ipv6=st.binary(min_size=16, max_size=16),
        dns=st.lists(st.binary(min_size=4, max_size=4), min_size=1, max_size=2).map(tuple),
        gateway_key=KEYS,
        host=HOSTS,
        port=st.integers(1, 65535),
        mtu=st.integers(576, 65535),
        keepalive=st.integers(0, 65535),
        psk=st.none() | KEYS,
    )
)
def test_round_trip(profile: Profile) -> None:
    assert parse_profile(profile.text()) == profile
    assert len(profile.text().splitlines()) == len(set(profile.text().splitlines()))


def test_hands_write_it_otherwise() -> None:
    loose = """
        # my phone
        [interface]
        privatekey = AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
        ADDRESS = 10.187.61.2/32, fd88:99aa:bbcc:ddee::2/128
        DNS = 10.187.61.1 , fd88:99aa:bbcc:ddee::1
        MTU = 1420   # path

        [PEER]
        AllowedIPs = 0.0.0.0/0, ::/0
        Endpoint = 192.168.43.1:51820
        PublicKey = Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=
        """
    assert parse_profile(loose) == PROFILE


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[Peer]", "[Peers]", "no section"),
        ("[Peer]", "[Interface]", "twice"),
        ("MTU=1420\n", "MTU=1420\nMTU=1400\n", "does not belong"),
        ("MTU=1420", "Mtux=1420", "does not belong"),
        ("MTU=1420\n", "", "no mtu"),
        ("MTU=1420", "MTU=575", "no number"),
        ("MTU=1420", "MTU=" + "9" * 5000, "no number"),
        ("[Interface]\n", "", "does not belong"),
        ("[Peer]", "[Peer]\nDNS=1.1.1.1", "does not belong"),
        ("Hh8=", "Hh8", "44 characters"),
        ("Hh8=", "Hh9=", "44 characters"),
        ("PrivateKey=AAEC", "PrivateKey=A!EC", "44 characters"),
        ("Endpoint=192.168.43.1:51820", "Endpoint=https://a:1", "neither"),
        ("Endpoint=192.168.43.1:51820", "Endpoint=192.168.43.1", "no HOST:PORT"),
        ("Endpoint=192.168.43.1:51820", "Endpoint=a:0", "no HOST:PORT"),
        ("Endpoint=192.168.43.1:51820", "Endpoint=[fe80::1%eth0]:5", "zone"),
        ("Endpoint=192.168.43.1:51820", "Endpoint=[nonsense]:5", "no IPv6 address"),
        ("Address=10.187.61.2,", "Address=10.187.61.2,10.187.61.3,", "one of IPv4"),
        ("Address=10.187.61.2,", "Address=10.187.61.2/24,", "no address"),
        ("AllowedIPs=0.0.0.0/0", "AllowedIPs=10.0.0.1/8", "no network"),
    ],
)
def test_what_an_app_would_not_take_is_named(old: str, new: str, said: str) -> None:
    assert old in TEXT
    with pytest.raises(ProfileError, match=said):
        parse_profile(TEXT.replace(old, new, 1))


@given(st.text(max_size=300))
def test_junk_is_refused(junk: str) -> None:
    with pytest.raises(ProfileError):
        parse_profile(junk)


@given(st.integers(0, len(TEXT)), st.integers(0, len(TEXT)), st.text(max_size=10))
def test_damaged_texts_are_read_or_refused(start: int, end: int, junk: str) -> None:
    try:
        parse_profile(TEXT[:start] + junk + TEXT[end:])
    except ProfileError as error:
        assert str(error)


@given(st.text(max_size=60))
def test_every_label_makes_a_name_that_apps_take(label: str) -> None:
    name = tunnel_name(label)
    assert 1 <= len(name) <= MAX_NAME
    assert all(c.isascii() and (c.isalnum() or c in "_=+.-") for c in name)


def test_names_keep_what_they_can() -> None:
    assert tunnel_name("Anna's phone") == "Anna-s-phone"
    assert tunnel_name("living room television") == "living-room-tel"
    assert tunnel_name("телефон") == "vpnshare"


@given(KEYS)
def test_keys(key: bytes) -> None:
    assert parse_key(spell_key(key)) == key
    assert len(spell_key(key)) == 44
    assert len(short_key(key)) == 14


@given(HOSTS, st.integers(1, 65535))
def test_endpoints(host: str, port: int) -> None:
    assert parse_endpoint(spell_endpoint(host, port)) == (host, port)


def test_an_empty_private_key_is_for_people_with_one_of_their_own() -> None:
    own = replace(PROFILE, private_key=None)
    assert "PrivateKey=\n" in own.text()
    assert parse_profile(own.text()) == own
