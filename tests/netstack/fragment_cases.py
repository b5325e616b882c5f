"""Datagrams in pieces, and what a host hears of each: for our reassembly and for the kernel's.

Each is a UDP datagram from the second to the first of `ENDS`, to `PORT`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scapy.layers.inet import IP, UDP, IPOption_NOP, IPOption_RR
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.packet import Packet, Raw

from netstack.fragments import cut

ENDS = {4: ("10.99.0.1", "10.99.0.2"), 6: ("fd99::1", "fd99::2")}
PORT = 5353
DATA = bytes(range(256)) * 12
NOT_ECT, ECT_1, ECT_0, CE = range(4)
TTL, TOS = 9, 0x28


class Heard(NamedTuple):
    """A datagram as its receiver has it."""

    data: bytes
    ttl: int = TTL
    tos: int = TOS
    """Or traffic class."""


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    version: int
    packets: list[bytes]
    """In the order in which they come."""
    heard: Heard | None


class Say(NamedTuple):
    """What the headers of one piece say; `proto` None: the truth."""

    ttl: int = TTL
    tos: int = TOS
    proto: int | None = None
    front: Packet | None = None
    """IPv6 extension headers in front of the Fragment header."""
    options: Sequence[Packet] = ()
    """Of IPv4."""


def whole(version: int, data: bytes = DATA, inner: Packet | None = None) -> bytes:
    """A datagram in one packet, behind `inner` headers if any."""
    here, there = ENDS[version]
    udp = UDP(sport=5000, dport=PORT) / Raw(data)
    ip: Packet = (IP if version == 4 else IPv6)(src=there, dst=here)
    return bytes(ip / (udp if inner is None else inner / udp))


def pieces(
    version: int, ident: int, says: Sequence[Say], inner: Packet | None = None
) -> list[bytes]:
    """A datagram in as many pieces as there are in `says`."""
    here, there = ENDS[version]
    packet = whole(version, inner=inner)
    proto, payload = (packet[9], packet[20:]) if version == 4 else (packet[6], packet[40:])
    room = (len(payload) // len(says) + 7) & ~7
    packets: list[bytes] = []
    for (offset, length, more), say in zip(cut(len(payload), room), says, strict=True):
        named = proto if say.proto is None else say.proto
        if version == 4:
            head: Packet = IP(
                src=there, dst=here, id=ident, ttl=say.ttl, tos=say.tos, proto=named,
                frag=offset // 8, flags="MF" * more, options=list(say.options),
            )  # fmt: skip
        else:
            head = IPv6(src=there, dst=here, hlim=say.ttl, tc=say.tos)
            if say.front is not None:
                head = head / say.front.copy()
            head = head / IPv6ExtHdrFragment(id=ident, nh=named, offset=offset // 8, m=int(more))
        packets.append(bytes(head / Raw(payload[offset : offset + length])))
    return packets


def marked(*codepoints: int) -> list[Say]:
    return [Say(tos=TOS | ecn) for ecn in codepoints]


def _of_both(version: int, ident: int) -> list[Case]:
    heard = Heard(DATA)
    says = [Say(), Say(99, 0xB8), Say(1, 0)]
    first, second, third = pieces(version, ident, says)
    duplicates = pieces(version, ident + 1, [Say(), Say(), Say()])
    again = pieces(version, ident + 1, [Say(77, 0xB8), Say(77), Say(77)])
    overlapping = pieces(version, ident + 2, [Say(), Say(), Say()])
    shorter = pieces(version, ident + 2, [Say()] * 4)
    return [
        Case("the first one last", version, [third, second, first], heard),
        Case("in order, and nothing but the first one is true", version,
             pieces(version, ident + 3, says), heard),
        Case("twice, with another header the second time", version,
             [duplicates[2], duplicates[0], again[0], again[2], duplicates[1]], heard),
        Case("overlapping", version, [overlapping[0], shorter[1], *overlapping[1:]], None),
        Case("without the last one", version, pieces(version, ident + 4, [Say()] * 3)[:2], None),
        Case("congestion seen by a later one", version,
             pieces(version, ident + 5, marked(ECT_0, ECT_0, CE)), heard._replace(tos=TOS | CE)),
        Case("congestion seen by the first one", version,
             pieces(version, ident + 6, marked(CE, ECT_1, ECT_1))[::-1],
             heard._replace(tos=TOS | CE)),
        Case("congestion that the sender does not look for", version,
             pieces(version, ident + 7, marked(NOT_ECT, CE, NOT_ECT)), None),
        Case("capable of hearing of congestion", version,
             pieces(version, ident + 8, marked(ECT_1, ECT_1, ECT_1)),
             heard._replace(tos=TOS | ECT_1)),
    ]  # fmt: skip


def _of_ipv4(ident: int) -> list[Case]:
    heard = Heard(DATA)
    record = IPOption_RR(pointer=4, routers=["0.0.0.0"])
    return [
        Case("options in the first one alone", 4,
             pieces(4, ident, [Say(options=[record, IPOption_NOP()]), Say(), Say()])[::-1], heard),
        Case("options in a later one alone", 4,
             pieces(4, ident + 1, [Say(), Say(options=[IPOption_NOP()] * 4)]), heard),
        Case("pieces of two protocols", 4,
             pieces(4, ident + 2, [Say(), Say(proto=6)]), None),
    ]  # fmt: skip


def _of_ipv6(ident: int) -> list[Case]:
    heard = Heard(DATA)
    option, hop = IPv6ExtHdrDestOpt(), IPv6ExtHdrHopByHop()
    cases = [
        Case(f"next header {proto} in a later one, which comes {when}", 6,
             pieces(6, ident + 2 * proto + (step < 0), [Say(), Say(proto=proto)])[::step], heard)
        for proto in (0, 6, 43, 44, 59, 60)
        for when, step in (("last", 1), ("first", -1))
    ]  # fmt: skip
    ident += 1000
    return [
        *cases,
        Case("destination options in what was cut", 6,
             pieces(6, ident, [Say(), Say()], option), heard),
        Case("destination options in front, in all", 6,
             pieces(6, ident + 1, [Say(front=option), Say(front=option)]), heard),
        Case("destination options in front, in the first one", 6,
             pieces(6, ident + 2, [Say(front=option), Say()])[::-1], heard),
        Case("hop-by-hop options in front, in a later one", 6,
             pieces(6, ident + 3, [Say(), Say(front=hop)]), heard),
        Case("both in front and one in what was cut", 6,
             pieces(6, ident + 4, [Say(front=hop / option), Say()], option)[::-1], heard),
        Case("hop-by-hop options in what was cut", 6,
             pieces(6, ident + 5, [Say(), Say()], hop), None),
        Case("a fragment in a fragment", 6,
             pieces(6, ident + 6, [Say(), Say()], IPv6ExtHdrFragment(m=1, id=5)), None),
        Case("an atomic fragment in a fragment", 6,
             pieces(6, ident + 7, [Say(), Say()], IPv6ExtHdrFragment(id=5)), None),
        Case("a route to go on in what was cut", 6,
             pieces(6, ident + 8, [Say(), Say()],
                    IPv6ExtHdrRouting(segleft=1, addresses=["fd99::1"])), None),
    ]  # fmt: skip


CASES = [*_of_both(4, 1000), *_of_ipv4(2000), *_of_both(6, 3000), *_of_ipv6(4000)]
