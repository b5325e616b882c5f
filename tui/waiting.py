"""Which waiting device the banner shows and `a` and `d` mean, and since when it has been seen.

Pure. A request may be approved only after its name and code have stood on the
screen for a moment: a key that was pressed for one device must not let in the
next, which took its place in that instant.
"""

from __future__ import annotations

from collections.abc import Sequence

from control import schema

SHOWN_BEFORE_APPROVAL = 0.5
"""Seconds that a request's name and code must have been shown before `a` means it."""


class Waiting:
    """The requests of one moment, and the one of them that is shown."""

    def __init__(self) -> None:
        self._requests: Sequence[schema.Request] = ()
        self._selected: str | None = None
        self._shown_since: dict[str, float] = {}

    @property
    def current(self) -> schema.Request | None:
        """The request that is shown: the selected one, or else the first."""
        for request in self._requests:
            if request.id == self._selected:
                return request
        return self._requests[0] if self._requests else None

    def put(self, requests: Sequence[schema.Request], now: float) -> bool:
        """Take the waiting requests as they are now. Whether there is a new one."""
        before = {request.id for request in self._requests}
        self._requests = requests
        waiting = {request.id for request in requests}
        self._shown_since = {id: at for id, at in self._shown_since.items() if id in waiting}
        if (request := self.current) is not None:
            self._shown_since.setdefault(request.id, now)
            self._selected = request.id
        return bool(waiting - before)

    def select(self, id: str, now: float) -> bool:
        """Show another one. Whether that is a change."""
        if id == self._selected:
            return False
        self._selected = id
        self._shown_since[id] = now
        return True

    def approvable(self, now: float) -> schema.Request | None:
        """The request that is shown, once it has been shown for long enough."""
        request = self.current
        since = None if request is None else self._shown_since.get(request.id)
        return request if since is not None and now - since >= SHOWN_BEFORE_APPROVAL else None
