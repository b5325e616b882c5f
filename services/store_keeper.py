"""Looks after a service's store: when it tries again, what people are told of it, its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from control.schema import Unwritten
from services.ledger import Ledger
from services.store import Store


class Retries:
    """Has a ledger try again when it is due. No timer while all is written."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Something may have begun to wait, or waits no more."""
        due = self._ledger.due()
        if due is None:
            self.stop()
        elif self._timer is None or self._timer.when() > due:
            self.stop()
            self._timer = asyncio.get_running_loop().call_at(due, self._again)

    def stop(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _again(self) -> None:
        self._timer = None
        self._ledger.retry()
        # Also when nothing was written: what stands beside the ledger may have changed.
        self._ledger.on_change()
        self.look()


class StoreKeeper:
    """Follows the store's ledger: tries again when it is due, and tells what waits."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ledger = store.ledger
        self._retries = Retries(self._ledger)
        self._changed: Callable[[], None] = lambda: None

    def start(self, changed: Callable[[], None]) -> None:
        """Follow from now on; `changed` is called when there is something else to tell."""
        self._changed = changed
        self._ledger.on_change = self._look
        self._look()

    def close(self) -> None:
        """Try a last time, and let go of the files."""
        self._retries.stop()
        self._ledger.on_change = lambda: None
        self._store.close()

    def told(self) -> list[Unwritten]:
        """What is in force and not stored, place by place, and what to do about it."""
        found = [Unwritten(place.sentence, place.fix) for place in self._ledger.unwritten]
        return [Unwritten(text, advice) for text, advice in self._store.alarms()] + found

    def _look(self) -> None:
        self._store.settle()
        self._retries.look()
        self._changed()
