"""How people write where a gateway is: an address, with a port or without.

    192.168.1.20    192.168.1.20:47800    fd00::1    [fd00::1]:47800    [fe80::1%wlan0]:47800

    phone.lan    phone.lan:47800    phone:47800    phone.local

What was evidently meant as such and is wrong gets a sentence about just that.
Pairs of hexadecimal digits, eight at most, are (the beginning of) a fingerprint,
not an IPv6 address.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

_FINGERPRINT = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){1,7}:?")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HOST_NAME = re.compile(r"(?=[^.]*[A-Za-z_-])[\w-]+(\.[\w-]+)*\.?", re.ASCII)
_LABEL = r"[A-Za-z0-9_](?:[\w-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?=.*[A-Za-z])({_LABEL}(?:\.{_LABEL})*)\.?", re.ASCII)
"""Letters, digits, hyphens (RFC 1123 section 2.1), and the underscores that people use."""
MAX_NAME_LENGTH = 253
"""Characters of a host's name (RFC 1035 section 2.3.4: 255 bytes on the wire)."""
_MAX_SHOWN = 60
EXAMPLES = "192.168.1.20:47800 or [fd00::1]:47800"


class SpellingError(ValueError):
    """Meant as an address, and wrong: a sentence about what, and what to write instead."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Place:
    """An address as it was written (with its scope, if any), and the port, if one was."""

    host: str
    port: int | None


def parse_place(text: str) -> Place | None:
    """The place; None for what is no attempt at one (a name, a fingerprint).

    Raises SpellingError.
    """
    text = text.strip()
    if not text or _FINGERPRINT.fullmatch(text):
        return None
    if url := _URL.match(text):
        rest = text[url.end() :].split("/")[0]
        raise _wrong(text, "is a URL, not an address", f"Write {_shown(rest) or EXAMPLES}.")
    if text.startswith("["):
        return _bracketed(text)
    if _is_ipv6(text):
        return Place(text, None)
    if text.count(":") > 1:
        raise _bad_ipv6(text)
    host, colon, port = text.partition(":")
    if not colon:
        if not re.fullmatch(r"[\d./]*\.[\d./]*", host):
            if "." in host and _HOST_NAME.fullmatch(host):
                raise _host_name(host)
            return None
        return Place(_ipv4(host), None)
    if not host:
        number = f" (and {_port_problem(port)})" if _port_problem(port) else ""
        raise _wrong(text, f"names no address, only a port{number}", f"Write {EXAMPLES}.")
    if not re.fullmatch(r"[\d./]+", host):
        if _HOST_NAME.fullmatch(host) and (not port or port.isdecimal()):
            raise _host_name(host)
        return None
    return Place(_ipv4(host), _port(text, port))


def parse_name(text: str) -> Place | None:
    """The host's name and port that are meant; None for what is no attempt at one.

    A single word without a port is none: it is a gateway's name. Raises SpellingError.
    """
    text = text.strip()
    host, colon, port = text.partition(":")
    found = _NAME.fullmatch(host)
    if found is None or _URL.match(text) or _FINGERPRINT.fullmatch(text):
        return None
    if len(found[1]) > MAX_NAME_LENGTH or not (colon or "." in host) or ":" in port:
        return None
    return Place(found[1].lower(), _port(text, port) if colon else None)


def _bracketed(text: str) -> Place:
    host, bracket, rest = text[1:].partition("]")
    if not bracket:
        whole = host if _is_ipv6(host) else host.rpartition(":")[0]
        raise _wrong(text, "has no closing bracket", f"Write [{_shown(whole) or 'fd00::1'}]:47800.")
    if not _is_ipv6(host):
        try:
            _ipv4(host)
        except SpellingError:
            raise _bad_ipv6(host) from None
    if not rest:
        return Place(host, None)
    if not rest.startswith(":"):
        raise _wrong(
            text, f"goes on after its bracket with {_shown(rest)!r}", f"Write [{host}]:47800."
        )
    return Place(host, _port(text, rest[1:]))


def _port(text: str, port: str) -> int:
    if problem := _port_problem(port):
        host = text[: len(text) - len(port) - 1]
        raise _wrong(text, f"has a bad port: {problem}", f"Write {_shown(host)}:47800.")
    return int(port)


def _port_problem(port: str) -> str:
    if not port:
        return "nothing follows the colon"
    if not (port.isascii() and port.isdecimal()):
        return f"{_shown(port)!r} is no number"
    if len(port) > 5 or not 0 < int(port) < 65536:
        return f"{_shown(port)} is not one of 1 to 65535"
    return ""


def _ipv4(host: str) -> str:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        raise _wrong(
            host, f"is no IPv4 address: {_ipv4_problem(host)}", f"Write {EXAMPLES}."
        ) from None
    return host


def _ipv4_problem(host: str) -> str:
    if "/" in host:
        return "what follows the / makes it a network"
    numbers = host.split(".")
    if len(numbers) != 4:
        return f"it has {len(numbers)} number{'s' * (len(numbers) != 1)}, not four"
    for number in numbers:
        if not number.isdecimal():
            return "a number is missing between its dots"
        if int(number[:9]) > 255:
            return f"{_shown(number)} is more than 255"
    return "its numbers may not begin with 0"


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _bad_ipv6(text: str) -> SpellingError:
    host, _, port = text.rpartition(":")
    if _is_ipv6(host) and port.isdecimal():
        return _wrong(
            text,
            "is an IPv6 address with a port and no brackets",
            f"Write [{host}]:{_shown(port)}.",
        )
    groups = text.partition("%")[0].split(":")
    odd = [g for g in groups if g and not re.fullmatch(r"[0-9a-fA-F]{1,4}", g) and "." not in g]
    if odd:
        why = f"{_shown(odd[0])!r} is no group of one to four hexadecimal digits"
    elif text.count("::") > 1 or ":::" in text:
        why = "two colons in a row stand in it more than once"
    elif "::" not in text and len(groups) < 8:
        why = f"it has {len(groups)} groups of digits, not eight, and no :: for the missing ones"
    elif len(groups) > 8:
        why = "it has more than eight groups of digits"
    else:
        why = "a colon or a group of digits is missing"
    return _wrong(text, f"is no IPv6 address: {why}", f"Write {EXAMPLES}.")


def _host_name(host: str) -> SpellingError:
    return SpellingError(
        f"{_shown(host)!r} is the name of a host; names are not looked up here.",
        "Write the gateway's address, as `vpnshare status` there shows it, say 192.168.1.20:47800.",
    )


def _wrong(text: str, what: str, hint: str) -> SpellingError:
    return SpellingError(f"{_shown(text)!r} {what}.", hint)


def _shown(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"
