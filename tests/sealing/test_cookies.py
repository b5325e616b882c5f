"""Cookies: of one address, of one protocol, and for a while."""

from __future__ import annotations

from sealing.cookies import CookieJar


def test_cookies_age() -> None:
    jar = CookieJar(0.0, 120.0, b"protocol")
    cookie = jar.make(b"a", 0.0)
    assert jar.check(cookie, b"a", 119.0)
    assert not jar.check(cookie, b"b", 119.0)
    assert jar.check(cookie, b"a", 121.0)
    assert not jar.check(cookie, b"a", 241.0)
    assert not jar.check(jar.make(b"a", 241.0), b"a", 1000.0)


def test_cookies_of_two_protocols_differ() -> None:
    def rng(n: int) -> bytes:
        return bytes(n)

    one, other = (CookieJar(0.0, 120.0, person, rng) for person in (b"protocol", b"another1"))
    assert one.make(b"a", 0.0) != other.make(b"a", 0.0)
