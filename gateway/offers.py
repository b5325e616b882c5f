"""The pairing codes that were handed out, and what became of each.

A console that shows a code must know when somebody has used it: a dead code in
a camera's view helps nobody, and the owner wants to see by whom. The names kept
here are those of the secrets (`vshp.pairing.secret_id`), which tell nothing of them.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from vshp.constants import MAX_SECRETS

MAX_OFFERS = MAX_SECRETS
"""Offers remembered: as many as can be good at once; the oldest goes first."""


@dataclass(frozen=True, slots=True)
class OfferRecord:
    """A pairing code. Times are the gateway's monotonic seconds."""

    id: str
    """The secret's name, in hexadecimal digits."""
    expires: float
    used_by: str | None = None
    """The device's label: the owner's name for it, or its own; None while nobody has come."""

    def state(self, now: float) -> str:
        """`open`, `used` or `expired`."""
        if self.used_by is not None:
            return "used"
        return "open" if now < self.expires else "expired"


class OfferBook:
    """The last offers."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, OfferRecord] = OrderedDict()

    def issued(self, secret_id: bytes, expires: float) -> OfferRecord:
        """A code was made."""
        record = self._records[secret_id.hex()] = OfferRecord(secret_id.hex(), expires)
        while len(self._records) > MAX_OFFERS:
            self._records.popitem(last=False)
        return record

    def used(self, secret_id: bytes, label: str) -> None:
        """A device has proven the code's secret."""
        record = self._records.get(secret_id.hex())
        if record is not None:
            self._records[record.id] = replace(record, used_by=label)

    def read(self) -> tuple[OfferRecord, ...]:
        """All that are remembered, the newest first."""
        return tuple(reversed(self._records.values()))
