"""Answers that lead a public name to a private address (DNS rebinding): pure.

Who owns a public name may answer it with an address of the device's own network, and a page
that was loaded under that name then speaks to the router, the printer or the device itself as
if they were its own site. So an answer that holds such an address, in any spelling, is given
to nobody, unless the name that was asked for cannot belong to a stranger or the owner has
exempted it. It is the name asked for that counts, not the record's: a stranger's name may be
an alias of one that is exempt.

What stands beside the answer (the additional section) is left out if it holds one.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from struct import Struct

from gateway.dns.judging import Where
from gateway.spellings import spelled_ipv4
from netstack.dns import TYPE_A, TYPE_AAAA, Answer

PRIVATE = tuple(
    (len(net.network_address.packed), int(net.network_address), int(net.netmask))
    for net in map(
        ip_network,
        (
            "0.0.0.0/8",  # This host (RFC 1122 3.2.1.3): connects reach loopback.
            "10.0.0.0/8",  # Private (RFC 1918).
            "100.64.0.0/10",  # Shared behind a carrier's NAT (RFC 6598).
            "127.0.0.0/8",  # Loopback.
            "169.254.0.0/16",  # Link-local (RFC 3927).
            "172.16.0.0/12",
            "192.168.0.0/16",
            "224.0.0.0/4",  # Multicast.
            "255.255.255.255/32",
            "::/128",
            "::1/128",
            "64:ff9b:1::/48",  # Translation inside a network (RFC 8215).
            "fc00::/7",  # Unique local (RFC 4193).
            "fe80::/10",
            "fec0::/10",
            "ff00::/8",
        ),
    )
)

NOT_PUBLIC = frozenset(
    tuple(reversed(name.encode().split(b".")))
    for name in (
        # Nobody can register these: RFC 6761, 6762, 8375, ICANN's `internal`, and names that
        # are in wide private use and withheld from delegation for that.
        "localhost", "local", "test", "invalid", "example", "home.arpa", "internal",
        "lan", "home", "corp", "mail", "intranet", "private", "localdomain",
    )
)  # fmt: skip

MAX_HINTS = 256
"""Addresses in one SVCB parameter; 64 KiB could hold more, honest ones a handful."""

_PARAMETER = Struct("!HH")
_IPV4_HINT, _IPV6_HINT = 4, 6

Labels = tuple[bytes, ...]


class Exemptions:
    """Names that may have private addresses, each with all below it."""

    __slots__ = ("_longest", "_names")

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = NOT_PUBLIC | {parse_name(name) for name in names}
        self._longest = max(map(len, self._names))

    def cover(self, name: bytes) -> bool:
        """Whether a name, as on the wire, is exempt. One of a single label always is."""
        labels: list[bytes] = []
        offset = 0
        while name[offset]:
            after = offset + 1 + name[offset]
            labels.append(name[offset + 1 : after].lower())
            offset = after
        if len(labels) <= 1:
            return True
        labels.reverse()
        end = min(len(labels), self._longest)
        return any(tuple(labels[:n]) in self._names for n in range(1, end + 1))


def parse_name(text: str) -> Labels:
    """`corp.example` as labels from the right, in lower case. Raises ValueError."""
    try:
        labels = text.strip().rstrip(".").lower().encode("idna").split(b".")
    except UnicodeError:
        labels = [b""]
    if not all(labels) or any(not _plain(label) for label in labels):
        raise ValueError(f"{text[:80]!r} is no name; write corp.example for it and all below it")
    return tuple(reversed(labels))


def _plain(label: bytes) -> bool:
    return len(label) < 64 and all(c in b"-_" or chr(c).isalnum() for c in label)


def is_private(address: bytes) -> bool:
    """Whether 4 or 16 bytes are, or spell, an address that is not of the public Internet."""
    value, size = int.from_bytes(address, "big"), len(address)
    if any(size == wide and value & mask == net for wide, net, mask in PRIVATE):
        return True
    return size == 16 and any(map(is_private, spelled_ipv4(address)))


def judge_addresses(wire: bytes, answer: Answer) -> Where:
    """Look at every address of an answer, hints of SVCB and HTTPS records (RFC 9460) too."""
    where = Where.NOWHERE
    for beside, type_, start, end in answer.addresses:
        try:
            private = any(map(is_private, _addresses(wire[start:end], type_)))
        except (ValueError, IndexError):
            private = True  # Not readable here; another reader may make an address of it.
        if private:
            where = Where.BESIDE
            if not beside:
                return Where.INSIDE
    return where


def _addresses(data: bytes, type_: int) -> list[bytes]:
    if type_ in (TYPE_A, TYPE_AAAA):
        if len(data) != (4 if type_ == TYPE_A else 16):
            raise ValueError("not an address")
        return [data]
    offset = 2  # The priority; then the target's name, not compressed, and the parameters.
    while data[offset]:
        offset += 1 + data[offset]
    offset += 1
    found: list[bytes] = []
    while offset < len(data):
        if offset + 4 > len(data):
            raise ValueError("parameter runs past the end")
        key, length = _PARAMETER.unpack_from(data, offset)
        offset += 4
        value = data[offset : offset + length]
        size = {_IPV4_HINT: 4, _IPV6_HINT: 16}.get(key)
        if size is not None:
            if len(value) != length or length % size or length > MAX_HINTS * size:
                raise ValueError("not a list of addresses")
            found += [value[at : at + size] for at in range(0, length, size)]
        offset += length
    if offset != len(data):
        raise ValueError("parameter runs past the end")
    return found
