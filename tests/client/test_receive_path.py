"""From the frames of a record to the NIC: what is looked at, packet by packet, and in which order.

A loop of the link's own takes packets of pairs that passed before; the session takes the rest.
What comes out has to be the same as if there were no such loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from typing import Any, cast

import pytest

from client.driver import LinkOwner
from client.judgement import HostFacts
from client.link import Link
from client.model import TransportEndpoint
from client.outlet.nic.ingress import Ingress
from client.outlet.nic.nic import MemoryTun
from client.outlet.nic.pump import NicPort
from sealing.errors import PeerViolation
from tests.vshp.dialogue import LEASE, connected
from vshp.errors import FrameTruncated
from vshp.frames import FrameType, encode_config

FAR, FAR6 = bytes((192, 0, 2, 1)), bytes.fromhex("20010db8" + "00" * 11 + "01")
HEADER = bytes(10)


class Receiving(Link):
    """Without a socket."""

    def _begin(self) -> None: ...


class Receiver:
    """A client's link with a NIC, and the gateway's session that it hears."""

    def __init__(self, offload: bool, vnet: bool) -> None:
        self.lease = replace(LEASE, offload=offload)
        self.both = connected(self.lease)
        self.nic = MemoryTun(offload=vnet)
        self.kind = FrameType.IP_PACKET_OFFLOAD if offload else FrameType.IP_PACKET
        self.front = HEADER if offload else b""
        """What is before each packet in its frame, and"""
        self.nics_front = HEADER if vnet else b""
        """in what the host gets."""
        self.link = Receiving(cast(LinkOwner, None), TransportEndpoint("tcp", "10.0.0.1", 1),
                              self.both.client, "")  # fmt: skip
        self.link.poller = cast(Any, type("NoPoller", (), {"watch": lambda *_: None})())
        self.ingress = Ingress()
        self.ingress.admit(self.lease, HostFacts())
        self.link.attach(NicPort(self.nic, self.ingress), self.lease)

    def hear(self, *packets: bytes, kind: int | None = None, cut: int = 0) -> list[bytes]:
        """The packets come in one record, less its last bytes; what the host gets of them."""
        writer = self.both.gateway.writer
        for packet in packets:
            writer.frame(self.kind if kind is None else kind, self.front + packet)
        writer._fill -= cut
        writer.flush()
        try:
            self.both.exchange()
        finally:
            self.got = list(self._host())
        return self.got

    def _host(self) -> Iterable[bytes]:
        while True:
            try:
                packet = self.nic.host.recv(70000)
            except BlockingIOError:
                return
            assert packet.startswith(self.nics_front)
            yield packet[len(self.nics_front) :]

    def dropped(self) -> dict[str, int]:
        return {name: n for name, n in self.link.counters.items() if name.endswith("dropped")}


@pytest.fixture(params=["bare", "vnet", "offload"])
async def receiver(request: pytest.FixtureRequest) -> AsyncIterator[Receiver]:
    made = Receiver(request.param == "offload", request.param != "bare")
    yield made
    made.nic.close()
    made.nic.vanish()


def ipv4(text: str, source: bytes = FAR, own: bytes = LEASE.ipv4, first: int = 0x45) -> bytes:
    return bytes((first,)) + bytes(11) + source + own + text.encode()


def ipv6(text: str, source: bytes = FAR6, own: bytes = LEASE.ipv6, first: int = 0x60) -> bytes:
    return bytes((first,)) + bytes(7) + source + own + text.encode()


async def test_both_families_pass_in_their_order_beside_what_does_not(receiver: Receiver) -> None:
    other = bytes((10, 1, 0, 9))
    first = [ipv4("a"), ipv6("b")]
    assert receiver.hear(*first) == first
    again = [ipv4("c"), ipv4("d"), ipv6("e"), ipv6("f", first=0x6F), ipv4("g"), ipv6("h")]
    assert receiver.hear(*again) == again
    mixed = [ipv4("i"), ipv4("to another", own=other), ipv6("j"), ipv4("k", source=bytes((8,) * 4)),
             ipv4("l"), ipv6("to another", own=FAR6), ipv4("m")]  # fmt: skip
    good = [packet for packet in mixed if b"another" not in packet]
    assert receiver.hear(*mixed) == good
    assert receiver.hear(*mixed) == good
    assert receiver.dropped() == {"ingress__destination__dropped": 4}
    assert receiver.link.received_packets_bytes == sum(map(len, (*first, *again, *mixed, *mixed)))


SMUGGLED = {
    "options before the same addresses": ipv4("", first=0x46) + bytes(4),
    "a version that is none": ipv4("", first=0x55),
    "a version that is none, as IPv6": ipv6("", first=0x70),
    "a known IPv4 pair in an IPv6 source": b"\x60" + bytes(11) + FAR + LEASE.ipv4 + bytes(20),
    "a known IPv6 pair behind an IPv4 header": b"\x45" + ipv6("")[1:],
    "IPv4 as if it were IPv6": b"\x45" + bytes(7) + FAR6 + LEASE.ipv6,
    "an IPv6 header that is cut off": ipv6("")[:39],
}


@pytest.mark.parametrize("how", SMUGGLED)
@pytest.mark.parametrize("after", [ipv4("x"), ipv6("x")], ids=["IPv4", "IPv6"])
async def test_a_known_pair_takes_nothing_else_in(
    receiver: Receiver, how: str, after: bytes
) -> None:
    receiver.hear(ipv4("a"), ipv6("b"))
    assert receiver.hear(after, SMUGGLED[how], after) == [after, after]
    assert sum(receiver.dropped().values()) == 1


async def test_nor_does_an_ipv6_header_that_goes_on_in_the_next_frame(receiver: Receiver) -> None:
    known = ipv6("b")
    receiver.hear(known)
    # Its last four bytes are the next frame's header: an address of the lease that fits.
    size = len(receiver.front + known)
    own = LEASE.ipv6[:12] + bytes((receiver.kind, size, 0, 0))
    receiver.ingress.passed.add(FAR6 + own)
    assert receiver.hear(known, ipv6("", own=own)[:36], known) == [known, known]


async def test_what_passed_is_looked_at_anew_when_the_host_changes(receiver: Receiver) -> None:
    packets = [ipv4("a"), ipv6("b")]
    receiver.hear(*packets)
    receiver.ingress.admit(None, HostFacts())
    assert receiver.hear(*packets) == []
    receiver.ingress.admit(receiver.lease, HostFacts())
    assert receiver.hear(*packets) == packets


@pytest.mark.parametrize("cut", [1, 21, 24, 25, 27])
async def test_a_frame_that_is_cut_off_ends_the_session_and_those_before_it_came(
    receiver: Receiver, cut: int
) -> None:
    known = ipv4("abcd")
    receiver.hear(known, known)
    with pytest.raises(FrameTruncated):
        receiver.hear(known, known, cut=cut)
    assert receiver.got == [known]


async def test_a_packet_that_is_too_short_ends_the_session(receiver: Receiver) -> None:
    known = ipv4("a" * 60)
    receiver.hear(known)
    receiver.both.gateway.writer.frame(receiver.kind, receiver.front + known)
    # Whatever the next frame's header says as the end of its address.
    own = bytes((receiver.kind, len(receiver.front + known), 0, 0))
    receiver.ingress.passed.add(int.from_bytes(FAR + own, "little"))
    with pytest.raises(PeerViolation, match="packet_too_short"):
        receiver.hear(known[:16], known)
    assert receiver.got == [known]


async def test_other_frames_are_the_sessions(receiver: Receiver) -> None:
    known = ipv4("a" * 60)
    receiver.hear(known)
    receiver.both.gateway.writer.frame(receiver.kind, receiver.front + known)
    with pytest.raises(PeerViolation, match="frame_misplaced"):
        receiver.hear(known, kind=FrameType.HELLO)
    assert receiver.got == [known]


async def test_the_other_kind_of_packet_is_what_the_lease_says(receiver: Receiver) -> None:
    known = ipv4("a" * 60)
    receiver.hear(known)
    if receiver.lease.offload:
        front, receiver.front = receiver.front, b""
        assert receiver.hear(known, kind=FrameType.IP_PACKET) == [known]
        receiver.front = front
        assert receiver.hear(known) == [known]
        return
    with pytest.raises(PeerViolation, match="offload_not_negotiated"):
        receiver.hear(known, kind=FrameType.IP_PACKET_OFFLOAD)
    assert receiver.got == []


async def test_terms_that_change_hold_before_the_link_has_heard_of_it(receiver: Receiver) -> None:
    known = ipv4("a" * 60)
    receiver.hear(known)
    changed = replace(receiver.lease, offload=not receiver.lease.offload)
    body = encode_config(changed, receiver.lease)
    receiver.both.gateway.writer.frame(FrameType.CONFIG, body)
    receiver.both.gateway.writer.flush()
    if changed.offload:
        # As before: the frame without a header is still one.
        assert receiver.hear(known) == [known]
        return
    with pytest.raises(PeerViolation, match="offload_not_negotiated"):
        receiver.hear(known)
    assert receiver.got == []


async def test_a_packet_longer_than_64_kib_comes_whole(receiver: Receiver) -> None:
    """Its length has a low part that would fit a shorter one."""
    known = ipv4("a")
    receiver.hear(known)
    long = known + bytes(65536 + 30 - len(known))
    receiver.hear(known, long, known)
    assert receiver.got[0] == known and receiver.got[-1] == known
    assert all(len(packet) != 30 for packet in receiver.got)


async def test_a_nic_that_is_full_loses_packets_by_name(receiver: Receiver) -> None:
    known = ipv4("a" * 1400)
    receiver.hear(known)
    writer = receiver.both.gateway.writer
    for _ in range(600):
        writer.frame(FrameType.IP_PACKET, known)
    receiver.hear()
    lost = receiver.dropped()["nic__queue_full__dropped"]
    assert 0 < lost < 600 and len(receiver.got) == 600 - lost
    assert receiver.link.received_packets_bytes == 601 * len(known)


def padded(packet: bytes, size: int) -> bytes:
    return packet + bytes(size - len(packet))


def alike(make: Callable[[str], bytes], count: int, size: int = 100) -> list[bytes]:
    """Packets that differ in what nobody looks at."""
    return [padded(make(f"{n}"), size) for n in range(count)]


@pytest.mark.parametrize("make", [ipv4, ipv6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("how", SMUGGLED)
async def test_nothing_is_smuggled_in_among_packets_that_are_alike(
    receiver: Receiver, make: Callable[[str], bytes], how: str
) -> None:
    receiver.hear(ipv4("a"), ipv6("b"))
    packets = alike(make, 18)
    for _ in range(3):
        assert receiver.hear(*packets) == packets
    bad = SMUGGLED[how]
    if "cut off" not in how:
        bad = padded(bad, 100)
    places = (0, 1, 7, 8, 17)
    for at in places:
        assert receiver.hear(*packets[:at], bad, *packets[at:]) == packets
        others = [*packets[:at], *packets[at + 1 :]]
        assert receiver.hear(*packets[:at], bad, *packets[at + 1 :]) == others
        assert receiver.hear(*packets) == packets
    assert sum(receiver.dropped().values()) == 2 * len(places)


@pytest.mark.parametrize("make", [ipv4, ipv6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(("count", "size"), [(20, 100), (1, 9000)], ids=["many", "one large"])
async def test_packets_that_were_alike_are_looked_at_anew_when_the_host_changes(
    receiver: Receiver, make: Callable[[str], bytes], count: int, size: int
) -> None:
    packets = alike(make, count, size)
    for _ in range(4):
        assert receiver.hear(*packets) == packets
    receiver.ingress.admit(None, HostFacts())
    assert receiver.hear(*packets) == []
    assert receiver.dropped() == {"ingress__destination__dropped": count}
    receiver.ingress.admit(receiver.lease, HostFacts())
    for _ in range(4):
        assert receiver.hear(*packets) == packets


async def test_a_nic_that_is_full_loses_packets_that_are_alike_by_name(receiver: Receiver) -> None:
    packets = alike(ipv4, 60, 1400)
    for _ in range(4):
        assert receiver.hear(*packets) == packets
    for _ in range(10):
        for packet in packets:
            receiver.both.gateway.writer.frame(receiver.kind, receiver.front + packet)
        receiver.both.gateway.writer.flush()
    receiver.hear()
    lost = receiver.dropped()["nic__queue_full__dropped"]
    assert 0 < lost < 600 and len(receiver.got) == 600 - lost
    assert receiver.link.received_packets_bytes == 840 * 1400
