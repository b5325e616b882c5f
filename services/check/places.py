"""Who is asked: STUN servers, and names whose own servers say who has asked, as the settings
`check.stun` and `check.whoami` spell them."""

from __future__ import annotations

from dataclasses import dataclass

from netstack.stun import PORT as STUN_PORT
from vshp.spelling import SpellingError, parse_name, parse_place

DNS_PORT = 53


@dataclass(frozen=True, slots=True)
class Place:
    """A server: a name or an address, and its port."""

    host: str
    port: int
    literal: bool
    """Whether `host` is an address."""
    text: str
    """As it was written."""


@dataclass(frozen=True, slots=True)
class Whoami:
    """A name whose server answers with the address that asked it."""

    name: str
    server: Place | None = None
    """That server, to be asked directly, too."""


def parse_stun(text: str) -> Place:
    """`HOST`, `HOST:PORT`, `ADDRESS` or `[IPV6]:PORT`. Raises ValueError with a sentence's end."""
    return _place(text, STUN_PORT, "a STUN server", "stun.example.com:3478")


def parse_whoami(text: str) -> Whoami:
    """`NAME` or `NAME@SERVER`. Raises ValueError with a sentence's end."""
    name, at, server = text.partition("@")
    found = parse_name(name)
    if found is None or found.port is not None:
        raise ValueError(
            f"{text[:80]!r} is no name to ask; write whoami.example.com@ns.example.com, or the "
            "name alone"
        )
    if not at:
        return Whoami(found.host)
    return Whoami(found.host, _place(server, DNS_PORT, "a name server", "ns.example.com"))


def _place(text: str, port: int, what: str, example: str) -> Place:
    try:
        place = parse_name(text)
        literal = place is None
        if place is None:
            place = parse_place(text)
    except SpellingError as error:
        raise ValueError(f"{str(error).removesuffix('.')}; write {example}") from None
    if place is None or "%" in place.host:
        raise ValueError(f"{text[:80]!r} is no {what.partition(' ')[2]}; write {example}")
    return Place(place.host, place.port or port, literal, text.strip())
