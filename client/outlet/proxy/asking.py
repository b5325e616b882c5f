"""What a program asks of the proxy, whichever protocol it speaks, and how it may be wrong.

Pure. A destination comes as an address or as a name; a name is judged before anybody is asked
for it, since it goes into questions, logs and lists: the characters of hosts' names (RFC 1123,
and the underscore that some have), 255 of them at most. Names in other scripts come as the
browser writes them, in Punycode.
"""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from typing import NamedTuple

from sealing.errors import PeerViolation

MAX_NAME = 255
"""Characters of a name (RFC 1928 has one byte for its length, RFC 1035 255 for all of it)."""

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


class Misspoken(PeerViolation):
    """The program broke its protocol; `reason` names how, and is the counter's middle part."""


class Destination(NamedTuple):
    """Where a program wants to go."""

    host: bytes | str
    """An address, 4 or 16 bytes; or a name for the lease's resolver."""
    port: int

    def __str__(self) -> str:
        return spell(self.host, self.port)


def spell(host: bytes | str, port: int) -> str:
    """`host:port`, IPv6 in brackets."""
    if isinstance(host, str):
        return f"{host}:{port}"
    address = ipaddress.ip_address(host)
    return f"{address}:{port}" if len(host) == 4 else f"[{address}]:{port}"


def parse_host(text: str) -> bytes | str:
    """An address in its usual spelling (IPv6 in brackets or not), or a name.

    An IPv6 address that holds an IPv4 one (`::ffff:192.0.2.1`) is that one. Raises Misspoken.
    """
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    with suppress(ValueError):
        return ipaddress.IPv4Address(inner).packed
    if ":" in inner:
        try:
            # A zone (`%eth0`) is this device's, and means nothing beyond the tunnel.
            return unmapped(ipaddress.IPv6Address(inner.partition("%")[0]).packed)
        except ValueError:
            raise Misspoken("address_malformed") from None
    name = text.removesuffix(".")
    if not 0 < len(name) <= MAX_NAME or not all(map(_NAME.fullmatch, name.split("."))):
        raise Misspoken("name_malformed")
    if name.rpartition(".")[2].isdecimal():
        # `127.1`, `0177.0.0.1`: other spellings of addresses are no names (RFC 3696, 2).
        raise Misspoken("address_malformed")
    return name


def unmapped(address: bytes) -> bytes:
    """The IPv4 address in an IPv4-mapped IPv6 address; any other as it is."""
    return address[12:] if address.startswith(_MAPPED) and len(address) == 16 else address


_MAPPED = bytes(10) + b"\xff\xff"
