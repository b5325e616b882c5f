"""A record's frames to the NIC: the loop takes what is known, in any order, and no more.

The oracle is the rule by itself: of a record, the frames up to the first that is not a whole one
of the right kind with a packet of a pair that passed.
"""

from __future__ import annotations

import gc
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from client.outlet.nic.walk import BLOCK, MAX_BLOCKS, MAX_LAYOUTS, Layout, known_into_nic
from vshp.constants import MAX_PEEK
from vshp.frames import FrameType

OWN, FAR, ELSEWHERE = b"\x0a\x01\x00\x02", b"\xc0\x00\x02\x01", b"\xc6\x33\x64\x07"
PLAIN, OFFLOAD = FrameType.IP_PACKET.value, FrameType.IP_PACKET_OFFLOAD.value
HEADER = bytes(10)
FAR_PAIR = int.from_bytes(FAR + OWN, "little")
KINDS = ((False, False), (False, True), (True, True))
"""(offload, whether the NIC has a virtio header)."""


def six(address: bytes) -> bytes:
    return b"\x20\x01" + bytes(10) + address


def pair_of(packet: bytes) -> int | bytes | None:
    """As `Ingress.passed` has it, of a packet that has a header without options."""
    if packet[0] == 0x45 and len(packet) >= 20:
        return int.from_bytes(packet[12:20], "little")
    if packet[0] >> 4 == 6 and len(packet) >= 40:
        return packet[8:40]
    return None


@dataclass(frozen=True)
class Template:
    """Packets of one kind; what nobody looks at differs from one to the next."""

    first: int = 0x45
    source: bytes = FAR
    size: int = 60
    kind: int | None = None
    """Of the frame, when it is not the right one."""

    def packet(self, number: int) -> bytes:
        own, free = number.to_bytes(2, "big"), bytes(64)
        if self.first >> 4 == 6:
            packet = bytes((self.first,)) + own + free[:5] + six(self.source) + six(OWN)
        else:
            packet = bytes((self.first,)) + own + free[:9] + self.source + OWN
        return (packet + own + free + bytes(self.size))[: self.size]


TEMPLATES = (
    Template(),
    Template(source=ELSEWHERE),
    Template(size=61),
    Template(first=0x60),
    Template(first=0x60, source=ELSEWHERE),
    Template(first=0x6F, size=61),
    Template(size=5000),
    Template(size=5000, source=ELSEWHERE),
    Template(first=0x60, size=5000),
    Template(first=0x46),
    Template(first=0x55),
    Template(first=0x70),
    Template(size=19),
    Template(first=0x60, size=39),
    Template(kind=FrameType.PADDING.value),
)
COUNTS = [1, 1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 1]
Run = tuple[Template, int]
Record = tuple[list[Run], int, int, str, int]
RUN = st.one_of(
    st.tuples(st.sampled_from([t for t in TEMPLATES if t.size < 4096]), st.sampled_from(COUNTS)),
    st.tuples(st.sampled_from([t for t in TEMPLATES if t.size > 4096]), st.sampled_from([1, 2])),
)
MIXED = st.lists(RUN, min_size=1, max_size=3)
RECORDS = st.lists(
    st.tuples(
        MIXED,
        st.sampled_from([1, 2, 3]),  # times in a row
        st.sampled_from([0, 0, 0, 1, 30]),  # bytes that are cut off
        st.sampled_from(["as before", "as before", "forgotten", "known", "half known"]),
        st.sampled_from([0, 0, 0, 1]),  # the buffer
    ),
    min_size=1,
    max_size=8,
)


class Nic:
    """One that keeps what is written to it, and the link that counts."""

    def __init__(self, offload: bool, vnet: bool) -> None:
        self.offload, self.vnet = offload, vnet
        self.received_packets_bytes = 0
        self.lost: list[str] = []
        self.passed: set[int | bytes] = set()
        self.ours, self._host = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._host.setblocking(False)
        self.ours.setblocking(False)
        self.buffers = [memoryview(bytearray(128 * 1024 + MAX_PEEK)) for _ in range(2)]
        self.take = known_into_nic(
            self, self.lost.append, self.ours.fileno(), self.passed, offload, vnet and not offload
        )

    def frames(self, packets: list[tuple[bytes, int | None]]) -> bytes:
        ahead = HEADER if self.offload else b""
        usual = OFFLOAD if self.offload else PLAIN
        return b"".join(
            bytes((usual if kind is None else kind,))
            + (len(ahead) + len(packet)).to_bytes(3, "little") + ahead + packet
            for packet, kind in packets
        )  # fmt: skip

    def hear(self, record: bytes, buffer: int = 0) -> int:
        buf = self.buffers[buffer]
        buf[: len(record)] = record
        return self.take(buf, 0, len(record))

    def got(self) -> list[bytes]:
        found: list[bytes] = []
        while True:
            try:
                packet = self._host.recv(70000)
            except BlockingIOError:
                return found
            assert not self.vnet or packet.startswith(HEADER)
            found.append(packet[len(HEADER) :] if self.vnet else packet)

    def close(self) -> None:
        self.ours.close()
        self._host.close()


@contextmanager
def a_nic(kind: tuple[bool, bool]) -> Iterator[Nic]:
    nic = Nic(*kind)
    try:
        yield nic
    finally:
        nic.close()


def count_layouts() -> int:
    gc.collect()
    return sum(isinstance(each, Layout) for each in gc.get_objects())


EVEN: Record = ([(TEMPLATES[0], 17)], 3, 0, "as before", 0)
OTHERS: Record = ([(TEMPLATES[7], 1)], 1, 0, "as before", 0)
SHORT: Record = ([(TEMPLATES[12], 1)], 1, 0, "as before", 0)
"""A frame too short for a packet, with the two addresses of one that passes."""
LARGE: Record = ([(TEMPLATES[6], 1)], 3, 0, "half known", 0)


@given(st.sampled_from(KINDS), RECORDS)
@example(KINDS[0], [EVEN, ([(TEMPLATES[0], 8), (TEMPLATES[1], 9)], 2, 0, "half known", 0)])
@example(KINDS[1], [EVEN, ([(TEMPLATES[0], 17)], 2, 0, "as before", 1)])
@example(KINDS[2], [EVEN, ([(TEMPLATES[0], 17)], 1, 0, "forgotten", 0)])
@example(KINDS[2], [EVEN, ([(TEMPLATES[3], 17)], 3, 0, "as before", 0), EVEN])
@example(KINDS[0], [EVEN, ([(TEMPLATES[0], 17)], 3, 0, "as before", 1)])
@example(KINDS[0], [LARGE, ([(TEMPLATES[6], 1)], 1, 0, "as before", 1)])
@example(KINDS[0], [LARGE, ([(TEMPLATES[7], 1)], 1, 0, "as before", 0)])
@example(KINDS[0], [OTHERS, SHORT, ([(TEMPLATES[7], 1)], 1, 0, "half known", 0)])
@settings(max_examples=150, deadline=None)
def test_what_is_known_passes_up_to_what_is_not(
    kind: tuple[bool, bool], records: list[Record]
) -> None:
    everybody = {pair_of(template.packet(0)) for template in TEMPLATES} - {None}
    friends = {pair_of(template.packet(0)) for template in TEMPLATES if template.source == FAR}
    number = carried = 0
    with a_nic(kind) as nic:
        nic.passed.update(pair for pair in everybody if pair is not None)
        for runs, times, cut, news, buffer in records:
            if news != "as before":
                nic.passed.clear()
                known = {"forgotten": set(), "known": everybody, "half known": friends}[news]
                nic.passed.update(pair for pair in known if pair is not None)
            for _ in range(times):
                packets = []
                for template, count in runs:
                    packets += [(template.packet(number + n), template.kind) for n in range(count)]
                    number += count
                record = nic.frames(packets)
                end = max(0, len(record) - cut)
                at, passing = 0, []
                for packet, wrong_kind in packets:
                    tail = at + len(nic.frames([(packet, wrong_kind)]))
                    if tail > end or wrong_kind is not None or pair_of(packet) not in nic.passed:
                        break
                    passing.append(packet)
                    at = tail
                assert nic.hear(record[:end], buffer) == at
                assert nic.got() == passing
                carried += sum(map(len, passing))
        assert nic.received_packets_bytes == carried
        assert nic.lost == []


@pytest.mark.parametrize("kind", KINDS, ids=["bare", "vnet", "offload"])
def test_records_longer_than_their_pattern_come_whole(kind: tuple[bool, bool]) -> None:
    template = TEMPLATES[0]
    packets = [template.packet(n) for n in range(BLOCK * MAX_BLOCKS + BLOCK + 3)]
    with a_nic(kind) as nic:
        nic.passed.add(FAR_PAIR)
        record = nic.frames([(packet, None) for packet in packets])
        for _ in range(4):
            assert nic.hear(record) == len(record)
            assert nic.got() == packets
        assert nic.received_packets_bytes == 4 * sum(map(len, packets))


@pytest.mark.parametrize("kind", KINDS, ids=["bare", "vnet", "offload"])
def test_many_sizes_come_whole_and_the_last_are_kept(kind: tuple[bool, bool]) -> None:
    """More than there are layouts for, and again after that."""
    before = count_layouts()
    with a_nic(kind) as nic:
        nic.passed.add(FAR_PAIR)
        for size in [*range(60, 60 + 2 * MAX_LAYOUTS)] * 2:
            packets = [Template(size=size).packet(n) for n in range(BLOCK + 1)]
            record = nic.frames([(packet, None) for packet in packets])
            for _ in range(3):
                assert nic.hear(record) == len(record)
                assert nic.got() == packets
        # The one in use may be no longer among them.
        assert 0 < count_layouts() - before <= MAX_LAYOUTS + 1


@pytest.mark.parametrize("size", [60, 5000])
def test_what_the_nic_refuses_is_lost_by_name(size: int) -> None:
    packets = [Template(size=size).packet(n) for n in range(BLOCK if size == 60 else 1)]
    with a_nic(KINDS[0]) as nic:
        nic.passed.add(FAR_PAIR)
        record = nic.frames([(packet, None) for packet in packets])
        for _ in range(3):
            nic.hear(record)
        assert nic.got() == packets * 3
        nic._host.close()
        assert nic.hear(record) == len(record)
        assert nic.lost == ["nic__write_refused__dropped"] * len(packets)
