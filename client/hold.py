"""How long a broken link is a pause, which applications sit out, and when they are told.

Theory of operation. Between two links the outlet stays as it is, so applications' connections only
pause. A link that has been away for `HOLD_SECONDS` is no pause any more: the outlet then tells
applications at once that nothing is reachable, until there is a link again.
"""

from __future__ import annotations

import asyncio
import logging

from client.model import ClientError
from client.outlet.outlet import Outlet
from client.standing import Standing
from eventloop.tasks import cancel, create_task

log = logging.getLogger(__name__)

HOLD_SECONDS = 10.0
"""A broken link is a pause for this long; afterwards applications are told."""


class Hold:
    """At most one pause at a time."""

    def __init__(self, outlet: Outlet, standing: Standing) -> None:
        self._outlet = outlet
        self._standing = standing
        self._pause: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """The link broke."""
        self._pause = create_task(self._later(), "client-hold")

    def over(self) -> None:
        """There is a link."""
        pause, self._pause = self._pause, None
        if pause is not None:
            pause.cancel()

    async def end(self) -> None:
        """The run is over: nobody is told anything afterwards."""
        await cancel(self._pause)

    async def _later(self) -> None:
        await asyncio.sleep(HOLD_SECONDS)
        try:
            await self._outlet.hold()
            self._standing.changed()
        except ClientError as error:
            log.warning("traffic still goes to the broken link: %s", error)
