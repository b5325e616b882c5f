"""Which name a device asked for when it was told an address: pure.

Kept only while the owner keeps questions (`dns.recent`), since it says what a device
looks at; a flow can then be shown by name. The name is the one that was asked for,
whatever aliases led from it to the address, and the latest where several lead there.
"""

from __future__ import annotations

from collections import OrderedDict

from gateway.shares import Shares

MAX_NAMES = 4096
"""Addresses with a name, of all devices together; who has most forgets his oldest first."""


class Names:
    """See the module's text."""

    def __init__(self, max_names: int = MAX_NAMES) -> None:
        self._held = Shares(max_names)
        self._clients: dict[str, OrderedDict[bytes, str]] = {}

    def __len__(self) -> int:
        return self._held.taken

    def note(self, client: str, address: bytes, name: str) -> None:
        """A device was told that a name has this address, of 4 or 16 bytes."""
        known = self._clients.setdefault(client, OrderedDict())
        if address not in known:
            self._held.add(client)
        known[address] = name
        known.move_to_end(address)
        while self._held.taken > self._held.total:
            richest = self._held.richest()
            assert richest is not None
            self._clients[richest].popitem(last=False)
            self._held.remove(richest)
            if not self._clients[richest]:
                del self._clients[richest]

    def of(self, client: str, address: bytes) -> str:
        """The name by which a device found an address; empty where it is not known."""
        known = self._clients.get(client)
        return "" if known is None else known.get(address, "")

    def clear(self) -> None:
        """Forget all."""
        self._clients.clear()
        self._held.clear()
