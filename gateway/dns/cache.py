"""A bounded cache of answers, positive and negative, by their TTLs: pure.

Kept is the message as the server sent it, less its EDNS record, which belongs
to one hop, with the places of its TTLs; a hit copies it, counts the TTLs down
and writes the asker's ID and spelling of the name in. The key is the client
and the question in its canonical bits.

Each client has a cache of its own. In one that all share, the time that an
answer takes and the age of its TTLs would tell every device what the others
look at. Two devices that ask the same cost one question and one entry more.

Bounds, for all clients together: entries, and bytes. Who holds the most bytes
gives way, by his least recently used entry: a client that asks for thousands
of names forgets his own. TTLs are
capped (RFC 8767 4: a week at most; a day here), negative ones at an hour (RFC
2308 5 advises one to three). With `stale` > 0 an entry is kept that many
seconds past its end, for use when no server answers (RFC 8767).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from struct import Struct

from gateway.shares import Shares
from netstack.dns import (
    EDNS_DO,
    FLAG_AA,
    FLAG_AD,
    FLAG_CD,
    FLAG_RD,
    HEADER_SIZE,
    NXDOMAIN,
    Answer,
    Query,
    edns_record,
    without_edns,
)

MAX_ENTRIES = 10_000
MAX_BYTES = 8 << 20
ENTRY_OVERHEAD = 400
"""Bytes that an entry costs beside its message: key, tuple and objects."""
MAX_TTL = 86_400
MAX_NEGATIVE_TTL = 3_600
STALE_TTL = 30
"""Seconds given out with a stale answer (RFC 8767 4)."""

Key = tuple[str, bytes]
"""Whose answer it is, and the canonical question (`message.canonical_query`) without EDNS's
presence, which changes nothing but the form of an answer."""

_NONE: OrderedDict[bytes, Entry] = OrderedDict()
_U16 = Struct("!H")
_U32 = Struct("!I")
_ID_FLAGS = Struct("!HH")


@dataclass(slots=True)
class Entry:
    """One answer."""

    wire: bytes
    flags: int
    ttls: tuple[int, ...]
    stored: float
    expires: float


class Cache:
    """See the module's text. Times are seconds of any steady clock."""

    def __init__(
        self, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES, stale: float = 0.0
    ) -> None:
        self.stale = stale
        self._max_entries = max_entries
        self._held = Shares(max_bytes)
        self._clients: dict[str, OrderedDict[bytes, Entry]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def size(self) -> int:
        """Bytes that all entries take."""
        return self._held.taken

    def clear(self) -> None:
        self._clients.clear()
        self._held.clear()
        self._count = 0

    def forget(self, client: str) -> None:
        """Drop all answers of one client."""
        for question in list(self._clients.get(client, ())):
            self._drop((client, question))

    def store(self, key: Key, wire: bytes, answer: Answer, now: float) -> bool:
        """Keep an answer if it may be kept; whether it was."""
        negative = answer.rcode == NXDOMAIN or _U16.unpack_from(wire, 6)[0] == 0
        ttl = min(answer.ttl, MAX_NEGATIVE_TTL if negative else MAX_TTL)
        if ttl <= 0:
            return False
        if answer.edns is not None:
            if answer.edns.end != len(wire):
                return False  # Compression pointers may cross it: it cannot be cut out.
            wire = without_edns(wire, answer.edns)
        cost = len(wire) + ENTRY_OVERHEAD
        if cost > self._held.total:
            return False
        self._drop(key)
        client, question = key
        entry = Entry(wire, answer.flags, answer.ttls, now, now + ttl)
        self._clients.setdefault(client, OrderedDict())[question] = entry
        self._count += 1
        self._held.add(client, cost)
        while self._count > self._max_entries or self._held.taken > self._held.total:
            richest = self._held.richest()
            assert richest is not None
            self._drop((richest, next(iter(self._clients[richest]))))
        return True

    def fetch(self, key: Key, query: Query, question: bytes, now: float) -> bytearray | None:
        """The answer for this asker, or None. `question` is spelled as the asker did."""
        entries = self._clients.get(key[0])
        entry = None if entries is None else entries.get(key[1])
        if entries is None or entry is None:
            return None
        if now >= entry.expires:
            if now >= entry.expires + self.stale:
                self._drop(key)
            return None
        entries.move_to_end(key[1])
        return self._render(entry, query, question, int(now - entry.stored), None)

    def fetch_stale(self, key: Key, query: Query, question: bytes, now: float) -> bytearray | None:
        """The answer even past its end, within the bound; None if there is none."""
        entry = self._clients.get(key[0], _NONE).get(key[1])
        if entry is None or now >= entry.expires + self.stale:
            return None
        return self._render(entry, query, question, 0, STALE_TTL)

    def _render(
        self, entry: Entry, query: Query, question: bytes, age: int, ttl: int | None
    ) -> bytearray:
        message = bytearray(entry.wire)
        # The answer is no longer the server's own word: not authoritative.
        flags = entry.flags & ~(FLAG_AA | FLAG_RD | FLAG_CD)
        _ID_FLAGS.pack_into(message, 0, query.id, flags | query.flags & (FLAG_RD | FLAG_CD))
        message[HEADER_SIZE : HEADER_SIZE + len(question)] = question
        for offset in entry.ttls:
            if ttl is None:
                left = _U32.unpack_from(message, offset)[0] - age
                _U32.pack_into(message, offset, left if left > 0 else 0)
            else:
                _U32.pack_into(message, offset, ttl)
        if query.edns is not None:
            message += edns_record(query.edns.flags & EDNS_DO)
            count = _U16.unpack_from(message, 10)[0]
            _U16.pack_into(message, 10, count + 1)
        return message

    def _drop(self, key: Key) -> None:
        client, question = key
        entries = self._clients.get(client)
        entry = None if entries is None else entries.pop(question, None)
        if entries is None or entry is None:
            return
        if not entries:
            del self._clients[client]
        self._count -= 1
        self._held.remove(client, len(entry.wire) + ENTRY_OVERHEAD)


def cache_key(client: str, wire: bytes, query: Query) -> Key:
    """Whose answer, and all that a canonical question holds: as bytes."""
    # Length bytes are below 64, so `lower` leaves them alone; type and class it would not.
    question = wire[HEADER_SIZE : query.name_end].lower()
    question += wire[query.name_end : query.question_end]
    bits = query.flags & (FLAG_RD | FLAG_AD | FLAG_CD)
    edns = query.edns
    if edns is not None:
        bits |= (edns.flags & EDNS_DO) << 16
        if edns.options:
            question += edns.options
    return client, bits.to_bytes(4, "big") + question
