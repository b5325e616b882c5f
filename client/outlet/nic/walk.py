"""From a record's frames to the NIC: one loop over packets of pairs that passed before.

Theory of operation. Packets follow others of their kind, so what is looked for is likeness. What
counts of a packet are its frame's header, its first byte and its two addresses (`ingress`). They
are read at once, and where they equal those of the last packet that passed, the packet passes;
else each is looked at by itself. Of a record the loop takes what it knows. The rest is the
session's, and judged there (`on_packet`).

The records of a download are like each other, too: their packets lie at the same places. So when
two records have begun alike, a pattern is made of the beginning: what counted of a block of
packets, which is then read and compared at once, and the views by which they were written. A
large packet is a record by itself and has a pattern of its own. No pattern says who may enter:
whether a pair passes is asked for each record, since what has passed may be forgotten between two.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any, Protocol

from client.outlet.nic.ingress import IPV4_HEAD, IPV4_HEADER, IPV4_START, IPV6_HEAD, IPV6_HEADER
from client.outlet.nic.nic import VNET_HEADER_SIZE
from vshp.constants import FRAME_HEADER_SIZE, SEAL_DIRECTLY_FROM
from vshp.core import PacketsHandler
from vshp.frames import FrameType

BLOCK = 8
"""Packets that are compared at once."""
MAX_BLOCKS = 8
"""Of a record; what lies beyond them is compared packet by packet."""
MAX_LAYOUTS = 8
"""Kept by each link; when there would be more, they are begun anew."""
ZERO_HEADER = bytes(VNET_HEADER_SIZE)
"""A virtio header that asks for nothing: the packet is finished."""

Sight = tuple[Any, ...]
"""What counts of a packet: its frame's header as a number, the first byte, the pair. Or the same of
several, one behind the other."""
Pair = int | bytes | None
"""None, which never passes, while there is none."""
Look = Callable[[memoryview, int], Sight]
"""(buf, at) -> what counts of the frames there."""


class Received(Protocol):
    """What counts the bytes of packets: the link."""

    received_packets_bytes: int


@dataclass(frozen=True, slots=True)
class Family:
    """How frames with packets of one IP version are read."""

    letters: str
    """Of a look, in `struct`'s letters."""
    look: Look
    shortest: int
    """Bytes of the body of a frame that holds a header."""

    @classmethod
    def of(cls, ahead: int, head: str, header: int) -> Family:
        """`ahead`: bytes of a virtio header; `head` as in `ingress`, `header` its bytes."""
        letters = f"I{ahead}x{head}"
        return cls(letters, struct.Struct("<" + letters).unpack_from, ahead + header)


@dataclass(frozen=True, slots=True)
class Layout:
    """Frames of one size from the beginning of a buffer on, in blocks."""

    of: memoryview
    look: Look
    """At the packets of a block."""
    span: int
    """A block's bytes."""
    blocks: tuple[tuple[Any, ...], ...]
    """Of each what is written to the NIC."""

    @classmethod
    def made(cls, buf: memoryview, family: Family, size: int, bare: bool) -> Layout:
        """`size`: bytes of each frame's body."""
        stride = FRAME_HEADER_SIZE + size
        rest = stride - struct.calcsize("<" + family.letters)
        span = BLOCK * stride
        blocks = (
            tuple(
                _written(buf[start + FRAME_HEADER_SIZE : start + stride], bare)
                for start in range(at, at + span, stride)
            )
            for at in range(0, min(len(buf) // span, MAX_BLOCKS) * span, span)
        )
        look = struct.Struct("<" + f"{family.letters}{rest}x" * BLOCK).unpack_from
        return cls(buf, look, span, tuple(blocks))


def known_into_nic(
    link: Received,
    count: Callable[[str], None],
    fd: int,
    passed: Set[int | bytes],
    offload: bool,
    bare: bool,
) -> PacketsHandler:
    """What writes packets of pairs in `passed` to the NIC `fd`, as far as a record has them.

    `offload`: frames carry a virtio header, as the NIC wants it; `bare`: only the NIC wants one.
    `count` is told the name of each packet's fate that the NIC did not take.
    """
    put: Callable[[int, Any], int] = os.writev if bare else os.write
    packet_kind = int(FrameType.IP_PACKET_OFFLOAD if offload else FrameType.IP_PACKET)
    ahead = VNET_HEADER_SIZE if offload else 0
    ipv4 = Family.of(ahead, IPV4_HEAD, IPV4_HEADER)
    ipv6 = Family.of(ahead, IPV6_HEAD, IPV6_HEADER)
    nowhere = memoryview(b"")

    # How frames are read, as their packets' first byte wants it.
    look, shortest, usual = ipv4.look, ipv4.shortest, IPV4_START
    # The last packet that passed: what counted of it, its frame's bytes, its pair.
    like: Sight = ()
    stride = 0
    last: Pair = None
    # What counted of each packet at the beginning of the last record that was worth a pattern.
    begins: Sight = ()
    # Blocks of packets: their places, what counts of each block, a block's bytes, the pair.
    layouts: dict[tuple[int, bool], Layout] = {}
    layout = Layout(nowhere, look, 0, ())
    block: Sight = ()
    span = sys.maxsize
    laid: Pair = None
    # A record's only packet: what counts of it, how it is read, its pair, where the record was
    # opened, its end, and what is written of it.
    whole: Sight = ()
    whole_look = look
    whole_pair: Pair = None
    whole_of = nowhere
    whole_end = 0
    whole_packet: Any = None

    def lose(error: OSError) -> None:
        full = isinstance(error, BlockingIOError)
        count("nic__queue_full__dropped" if full else "nic__write_refused__dropped")

    def learn(buf: memoryview, sight: Sight, upto: int, end: int) -> None:
        """A record began like the one before it, and has only such packets up to there."""
        nonlocal block, laid, layout, span
        nonlocal whole, whole_end, whole_look, whole_of, whole_packet, whole_pair
        word, first, pair = sight
        size = word >> 8
        family = ipv4 if first == IPV4_START else ipv6
        if end == FRAME_HEADER_SIZE + size:
            whole, whole_look, whole_pair = sight, family.look, pair
            whole_of, whole_end = buf, end
            whole_packet = _written(buf[FRAME_HEADER_SIZE:end], bare)
        elif upto >= BLOCK * (FRAME_HEADER_SIZE + size):
            key = size, family is ipv4
            found = layouts.get(key)
            if found is None or found.of is not buf:
                if len(layouts) >= MAX_LAYOUTS:
                    layouts.clear()
                found = layouts[key] = Layout.made(buf, family, size, bare)
            layout, span, block, laid = found, found.span, sight * BLOCK, pair

    def packets(buf: memoryview, at: int, end: int) -> int:
        nonlocal begins, last, like, look, shortest, stride, usual
        if (
            end == whole_end
            and at == 0
            and buf is whole_of
            and whole_look(buf, 0) == whole
            and whole_pair in passed
        ):
            try:
                put(fd, whole_packet)
            except OSError as error:
                lose(error)
            link.received_packets_bytes += end - FRAME_HEADER_SIZE - ahead
            return end
        frames, began = 0, at
        if end >= span and at == 0 and buf is layout.of and laid in passed:
            look_at_all = layout.look
            for these in layout.blocks:
                if at + span > end or look_at_all(buf, at) != block:
                    break
                for packet in these:
                    try:
                        put(fd, packet)
                    except OSError as error:
                        lose(error)
                at += span
                frames += BLOCK
        if last not in passed:
            like, last = (), None
        patterned, begin, upto = frames, like, 0
        while at < end:
            sight = look(buf, at)
            if sight != like:
                word, first, pair = sight
                if first != usual:
                    if first == IPV4_START:
                        look, shortest = ipv4.look, ipv4.shortest
                    elif first >> 4 == 6:
                        look, shortest = ipv6.look, ipv6.shortest
                    else:
                        break
                    usual = first
                    continue
                if pair != last and pair not in passed:
                    break
                size = word >> 8
                if word & 0xFF != packet_kind or size < shortest:
                    break
                if at and not upto:
                    begin, upto = like, at
                # Together: what is like this one passes because its pair did.
                like, last = sight, pair
                stride = size + FRAME_HEADER_SIZE
            tail = at + stride
            if tail > end:
                break
            packet = buf[at + FRAME_HEADER_SIZE : tail]
            try:
                put(fd, (ZERO_HEADER, packet) if bare else packet)
            except OSError as error:
                lose(error)
            frames += 1
            at = tail
        if not patterned and (frames >= BLOCK or at >= SEAL_DIRECTLY_FROM):
            if not upto:
                begin, upto = like, at
            if begin == begins:
                learn(buf, begin, upto, end)
            begins = begin
        link.received_packets_bytes += at - began - frames * (FRAME_HEADER_SIZE + ahead)
        return at

    return packets


def _written(packet: memoryview, bare: bool) -> Any:
    """What is written to the NIC of a packet."""
    return (ZERO_HEADER, packet) if bare else packet
