"""Which name a device asked for when it was told an address: pure.

It says what a device looks at, so it is kept in memory only, and only while the owner lets
it (`privacy.names`). The name is the one that was asked for, whatever aliases led from it to
the address, and it is good from the answer until `GRACE` after the answer's end: programs keep
addresses longer than they should. A connection is called by the name that was good when it
began, so a long one keeps its name, and one that begins to an address of old has none. Many
names have one address: of those, the one that was asked for last before it began. Two at
most are kept of an address, so the connections of the one before the last still have theirs.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from gateway.shares import Shares

MAX_NAMES = 4096
"""Addresses with a name, of all devices together; who has most forgets his oldest first."""
GRACE = 600.0
"""Seconds past its end for which an answer still names a connection that begins."""


@dataclass(slots=True)
class _Told:
    """A name that an address was told for, and between which times of the loop's clock."""

    name: str
    since: float
    until: float
    before: _Told | None = None


class Names:
    """See the module's text."""

    def __init__(self, max_names: int = MAX_NAMES) -> None:
        self._held = Shares(max_names)
        self._clients: dict[str, OrderedDict[bytes, _Told]] = {}

    def __len__(self) -> int:
        return self._held.taken

    def note(self, client: str, address: bytes, name: str, now: float, ttl: float) -> None:
        """A device was told that a name has this address, of 4 or 16 bytes, for `ttl` seconds."""
        known = self._clients.setdefault(client, OrderedDict())
        until = now + max(0.0, ttl) + GRACE
        told = known.get(address)
        if told is None:
            self._held.add(client)
            known[address] = _Told(name, now, until)
        elif told.name == name and now < told.until:
            told.until = max(told.until, until)
        else:
            told.before = None
            known[address] = _Told(name, now, until, told)
        known.move_to_end(address)
        while self._held.taken > self._held.total:
            richest = self._held.richest()
            assert richest is not None
            self._clients[richest].popitem(last=False)
            self._held.remove(richest)
            if not self._clients[richest]:
                del self._clients[richest]

    def of(self, client: str, address: bytes, began: float) -> str:
        """The name by which a device found an address to which it opened a connection then, by
        the loop's clock; empty where it is not known.
        """
        known = self._clients.get(client)
        told = None if known is None else known.get(address)
        while told is not None:
            if told.since <= began:
                return told.name if began < told.until else ""
            told = told.before
        return ""

    def clear(self) -> None:
        """Forget all."""
        self._clients.clear()
        self._held.clear()
