"""Which destinations a device's rules refuse, judged for each new flow and each question.

An owner's list is ordered and the first entry that fits decides. To walk it for each flow would
cost a list of 1,000 entries a quarter of a millisecond, so it is compiled into bit vectors
(T. V. Lakshman and D. Stiliadis, SIGCOMM 1998): every target is a bit, the first one the lowest.
The addresses of each family are cut where a target begins or ends, and so are the ports of each
protocol; every piece keeps the bits of the targets that cover it. A verdict is then two
bisections and the lowest bit that is set on both sides, whatever the list is like, and compiling
takes as many steps as there are ends.

Names are judged apart from addresses: an entry with a name fits questions at the resolver, all
others fit addresses. A name fits with all below it.

An address that only spells another one (NAT64 and such) is for the caller to take apart.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network

from rules.sets import targets
from rules.value import Destination, Protocol, Target, Verdict

ROOT = b"\0"

_Network = IPv4Network | IPv6Network
_FAMILIES = (4, 16)
"""Bytes of an address."""
_PORTS = 1 << 16
_PORTED = (Protocol.TCP, Protocol.UDP)


class AddressRules:
    """What a list says of addresses. Immutable."""

    __slots__ = ("_addresses", "_denied", "_ports")

    def __init__(self, entries: Sequence[tuple[Target, bool]]) -> None:
        """`entries`: targets without a name in the order in which they are tried, and whether
        each is refused."""
        targets = [target for target, _ in entries]
        self._denied = sum(1 << place for place, (_, denied) in enumerate(entries) if denied)
        self._addresses = {size: _address_pieces(targets, size) for size in _FAMILIES}
        self._ports = {protocol.value: _port_pieces(targets, protocol) for protocol in _PORTED}
        pings = (Protocol.ANY, Protocol.ICMP)
        fit = (target.protocol in pings and not target.ports for target in targets)
        self._ports[Protocol.ICMP.value] = [0], [_bits(fit)]

    def refuse(self, host: bytes, protocol: str, port: int) -> bool:
        """Whether nothing may go to `host` (4 or 16 bytes).

        `protocol` is one of `Protocol`'s values but `any`; `port` is 0 for ICMP.
        """
        starts, masks = self._addresses[len(host)]
        fitting = masks[bisect_right(starts, host) - 1]
        ports, port_masks = self._ports[protocol]
        fitting &= port_masks[bisect_right(ports, port) - 1]
        return bool(fitting & -fitting & self._denied)


class NameRules:
    """What a list says of names. Immutable. Names are as on the wire (RFC 1035 3.1)."""

    __slots__ = ("_denied", "_places")

    def __init__(self, entries: Sequence[tuple[str, bool]]) -> None:
        """`entries`: names in the order in which they are tried, and whether each is refused."""
        self._places: dict[bytes, int] = {}
        """The first entry that each name has; a later one cannot decide."""
        for place, (name, _) in enumerate(entries):
            self._places.setdefault(_wire(name), place)
        self._denied = [denied for _, denied in entries]
        # Whatever no entry fits has the place behind the last one, and may be asked for.
        self._denied.append(False)

    def refuse(self, name: bytes) -> bool:
        """Whether a name may not be asked for."""
        return self._denied[self._place(name)]

    def refuse_alias(self, name: bytes, alias: bytes) -> bool:
        """Whether `name`, which may be asked for, must not lead to `alias`.

        It must not if `alias` is refused. But where an entry allows `name`, those behind that
        entry are not asked about `alias` either: what an owner lets a device reach is reached by
        the names of whoever serves it.
        """
        place = self._place(alias)
        return self._denied[place] and place < self._place(name)

    def _place(self, name: bytes) -> int:
        # Length bytes are below 64, so `lower` leaves them alone.
        name = name.lower()
        places = self._places
        found = len(self._denied) - 1
        at = 0
        while True:
            place = places.get(name[at:], found)
            if place < found:
                found = place
            if not name[at]:
                return found
            at += 1 + name[at]


def compile_addresses(destinations: Iterable[Destination]) -> AddressRules | None:
    """What `destinations` say of addresses; None where they refuse none."""
    entries = [(target, denied) for target, denied in _entries(destinations) if not target.name]
    return AddressRules(entries) if any(denied for _, denied in entries) else None


def compile_names(destinations: Iterable[Destination]) -> NameRules | None:
    """What `destinations` say of names; None where they refuse none."""
    entries = [(target.name, denied) for target, denied in _entries(destinations) if target.name]
    return NameRules(entries) if any(denied for _, denied in entries) else None


def _entries(destinations: Iterable[Destination]) -> Iterable[tuple[Target, bool]]:
    """Targets in order, and whether each is refused. The same one again could not decide."""
    seen: set[Target] = set()
    for destination in destinations:
        denied = destination.verdict is Verdict.DENY
        for target in targets(destination):
            if target not in seen:
                seen.add(target)
                yield target, denied


def _bits(fit: Iterable[bool]) -> int:
    return sum(1 << place for place, fits in enumerate(fit) if fits)


def _address_pieces(targets: Sequence[Target], size: int) -> tuple[list[bytes], list[int]]:
    """First addresses, ascending, and the bits of the targets that cover what begins there."""
    everywhere = _bits(target.network is None for target in targets)
    spans = (
        (place, int(network.network_address), int(network.broadcast_address))
        for place, network in enumerate(target.network for target in targets)
        if network is not None and network.max_prefixlen == size * 8
    )
    starts, masks = _pieces(everywhere, spans, 1 << size * 8)
    return [start.to_bytes(size, "big") for start in starts], masks


def _port_pieces(targets: Sequence[Target], protocol: Protocol) -> tuple[list[int], list[int]]:
    fit = [target.protocol in (Protocol.ANY, protocol) for target in targets]
    everywhere = _bits(fits and not target.ports for fits, target in zip(fit, targets, strict=True))
    spans = (
        (place, low, high)
        for place, target in enumerate(targets)
        if fit[place]
        for low, high in target.ports
    )
    return _pieces(everywhere, spans, _PORTS)


def _pieces(
    everywhere: int, spans: Iterable[tuple[int, int, int]], end: int
) -> tuple[list[int], list[int]]:
    """Cut 0 to `end` where a span (its bit's place, first, last) begins or ends.

    The spans of one place do not overlap.
    """
    turns: dict[int, int] = {0: everywhere}
    """The bits that change where a piece begins."""
    for place, first, last in spans:
        turns[first] = turns.get(first, 0) ^ 1 << place
        turns[last + 1] = turns.get(last + 1, 0) ^ 1 << place
    turns.pop(end, None)
    starts = sorted(turns)
    masks: list[int] = []
    mask = 0
    for start in starts:
        mask ^= turns[start]
        masks.append(mask)
    return starts, masks


def _wire(name: str) -> bytes:
    """A name as on the wire, in lower case."""
    labels = [label.encode("ascii") for label in name.lower().split(".") if label]
    return b"".join(bytes((len(label),)) + label for label in labels) + ROOT
