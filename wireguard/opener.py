"""Opens datagrams that carry data, and hands over the packets inside.

Theory of operation. A datagram is found by its index, checked against the replay window,
opened, and only then anything changes: the window, the peer's endpoint, its key pairs. The
packet inside must be of the peer's own address (cryptokey routing) and no longer than what
was sealed. `datagram` does that for one.

`row` does it for the many that make up bulk traffic: of one size, under one peer's present
keys, each newer than all before it, from where the peer is known to be. They are opened side
by side, before the first is looked into, and handed over together; at anything else the row
ends, and `datagram` goes on. What is handed over is the same.
"""

from __future__ import annotations

from struct import Struct

from cryptography.exceptions import InvalidTag

from sealing.replay import NO_COUNTER
from sealing.slots import HEADROOM, Slots
from wireguard.constants import DATA, DATA_HEADER_SIZE, DATA_OVERHEAD, REJECT_AFTER_TIME
from wireguard.keypairs import KeyPair
from wireguard.messages import data_words, unpack_data_header
from wireguard.peer import Peer, Where

LEAST_PACKET = 20

_inner_v4 = Struct("!I8x4s").unpack_from
_inner_v6 = Struct("!IH2x16s").unpack_from
"""Of an IP header: version, length and source are in it, and what lies between."""


class Opener:
    """What a device's datagrams go through."""

    __slots__ = ("_counters", "_pairs", "_plain", "_slots")

    def __init__(self, pairs: dict[int, KeyPair], counters: dict[str, int]) -> None:
        """`pairs` are all key pairs, by our index; both stay the owner's."""
        self._pairs = pairs
        self._counters = counters
        self._slots = Slots()
        self._plain = self._slots.view

    def datagram(self, data: memoryview, where: Where, now: float, heard: dict[Peer, bool]) -> bool:
        """Open one; False when it does not carry data.

        Whose it was is noted in `heard`, with whether there was a packet inside.
        """
        size = len(data) - DATA_OVERHEAD
        kind = index = counter = 0
        if size >= 0:
            kind, index, counter = unpack_data_header(data)
        if kind != DATA:
            return False
        pair = self._pairs.get(index)
        if pair is None:
            self._count("data__unknown_index__dropped")
            return True
        reason = pair.window.check(counter)
        if reason is None and now - pair.born >= REJECT_AFTER_TIME:
            reason = "expired"
        if reason is not None:
            self._count(f"data__{reason}__dropped")
            return True
        plain, end = self._plain, HEADROOM + size
        try:
            pair.decrypt_into(
                pair.nonce(0, counter), data[DATA_HEADER_SIZE:], None, plain[HEADROOM:end]
            )
        except InvalidTag:
            self._count("data__forged__dropped")
            return True
        newest = pair.window.commit(counter)
        peer = pair.peer
        peer.received_bytes += len(data)
        if pair is peer.pairs.next:
            peer.confirm(pair, where, now)
        elif newest and where != peer.endpoint and pair is peer.pairs.current:
            peer.move(where, now)
        if size == 0:
            heard.setdefault(peer, False)
            return True
        heard[peer] = True
        length = self._inner(HEADROOM, size, peer)
        if length:
            peer.on_packet(plain, HEADROOM, HEADROOM + length)
        return True

    def row(
        self,
        data: memoryview,
        at: int,
        segment: int,
        where: Where,
        now: float,
        heard: dict[Peer, bool],
    ) -> int:
        """Open the datagrams of `segment` bytes that lie behind each other from `at` on.

        Returns the offset of the first that `datagram` has to look at: perhaps `at` itself.
        """
        size = segment - DATA_OVERHEAD
        if size < LEAST_PACKET:
            return at
        head, counter = data_words(data, at)
        pair = self._pairs.get(head >> 32)
        if pair is None or head & 0xFFFFFFFF != DATA:
            return at
        peer, newest = pair.peer, pair.window.newest
        if (
            pair is not peer.pairs.current
            or where != peer.endpoint
            or now - pair.born >= REJECT_AFTER_TIME
        ):
            return at
        decrypt, nonce = pair.decrypt_into, pair.nonce
        counters: list[int] = []
        begin, last = at, len(data) - segment
        forged = False
        try:
            for slot in self._slots.of(size):
                if at > last:
                    break
                word, counter = data_words(data, at)
                if word != head or not newest < counter < NO_COUNTER:
                    break
                decrypt(nonce(0, counter), data[at + DATA_HEADER_SIZE : at + segment], None, slot)
                counters.append(counter)
                newest = counter
                at += segment
        except InvalidTag:
            forged = True
        if counters:
            pair.window.commit_row(counters)
            peer.received_bytes += at - begin
            heard[peer] = True
            self._hand_over(peer, size, len(counters))
        if forged:
            self._count("data__forged__dropped")
            at += segment
        return at

    def _hand_over(self, peer: Peer, size: int, count: int) -> None:
        """What lies in the first `count` slots of that size."""
        plain, on_row = self._plain, peer.on_row
        stride = HEADROOM + size
        at, end = HEADROOM, HEADROOM + count * stride
        while at < end:
            length = self._inner(at, size, peer)
            following = at + stride
            if length and on_row is not None:
                # Those whose headers begin as this one's pass with it.
                unpack = _inner_v4 if plain[at] >> 4 == 4 else _inner_v6
                inner = unpack(plain, at)
                while following < end and unpack(plain, following) == inner:
                    following += stride
                on_row(plain, at, length, stride, (following - at) // stride)
            elif length:
                peer.on_packet(plain, at, at + length)
            at = following

    def _inner(self, at: int, size: int, peer: Peer) -> int:
        """The length of the packet at `at`, in front of the padding; 0 when it may not pass."""
        plain = self._plain
        version = plain[at] >> 4
        if version == 4 and size >= 20:
            length = plain[at + 2] << 8 | plain[at + 3]
            source, own = plain[at + 12 : at + 16], peer.ipv4
            least = 20
        elif version == 6 and size >= 40:
            length = 40 + (plain[at + 4] << 8 | plain[at + 5])
            source, own = plain[at + 8 : at + 24], peer.ipv6
            least = 40
        else:
            self._count("data__not_ip__dropped")
            return 0
        if not least <= length <= size:
            self._count("data__inner_length__dropped")
            return 0
        if source != own:
            self._count("data__inner_source__dropped")
            return 0
        return length

    def _count(self, name: str) -> None:
        self._counters[name] = self._counters.get(name, 0) + 1
