"""What news of the host's network does: nobody waits for a time-out that can be foreseen.

Theory of operation. `NetworkWatch` tells that something has changed, not what. What keeps traffic
in is made to fit the host as it is now (`Outlet.follow`), again and again until it does. A run's
next attempt and next look for a better way come at once; a round that looks where this device is
no more begins anew, and what the gateway named is judged again, for it may be this host's own by
now. A link moves along where its transport can, and else ends at once; whether it still works is
asked of the gateway, which learns a new address from what comes from it.
"""

from __future__ import annotations

import asyncio
import logging

from client.model import ClientError
from client.parts import Parts
from client.pursuit import Pursuit
from client.reconnect import Ending
from eventloop.tasks import cancel, create_task

PING_PAUSE = 1.0
"""Seconds between pings for news of the network, however much of it there is."""
FOLLOW_PAUSE = 1.0
"""Seconds until what keeps traffic in is tried again, where the host did not take it."""


class HostNews:
    """Told by the watch; `close` before the client ends."""

    def __init__(self, parts: Parts, pursuit: Pursuit) -> None:
        self._parts = parts
        self._pursuit = pursuit
        self._changed = False
        """Whether the host has changed since the outlet followed it."""
        self._following: asyncio.Task[None] | None = None
        self._look_due = False
        self._looking: asyncio.Task[None] | None = None
        self._pinged = 0.0

    def told(self) -> None:
        """Something about the host's network has changed."""
        pursuit = self._pursuit
        self._changed = True
        pursuit.ways.news()
        if self._following is None or self._following.done():
            self._following = create_task(self._follow(), "client-follow")
        pursuit.hurry()
        self._look_due = True
        if pursuit.begun and (self._looking is None or self._looking.done()):
            self._looking = pursuit.beside(self._look_at_host(), "client-look-at-host")
        if pursuit.round is None:
            return
        pursuit.round.look_again()
        link = pursuit.round.link
        if link is None:
            return
        now = self._parts.clock.now()
        before = link.local_address
        if not link.follow():
            link.fail(Ending("link_lost", "this device's address has changed", False))
        elif link.local_address != before or now - self._pinged >= PING_PAUSE:
            self._pinged = now
            link.ping()

    async def close(self) -> None:
        """No more is done."""
        await cancel(self._following)

    async def _look_at_host(self) -> None:
        """What the gateway named may be this host's own by now."""
        while self._look_due:
            self._look_due = False
            refused = await self._parts.trust.look_again()
            self._round_elsewhere()
            link = self._pursuit.round.link if self._pursuit.round is not None else None
            if refused is not None and link is not None:
                link.fail(refused)

    def _round_elsewhere(self) -> None:
        """A round that looks where this device is no more is of no use. One that pairs goes on,
        for its secret may be spent."""
        plan, current = self._pursuit.plan, self._pursuit.round
        elsewhere = self._pursuit.ways.changed()
        if current is not None and plan is not None and plan.promised and elsewhere:
            current.begin_anew()

    async def _follow(self) -> None:
        """What keeps traffic in follows what the host becomes."""
        standing = self._parts.standing
        while self._changed:
            self._changed = False
            try:
                await self._parts.outlet.follow()
            except ClientError as error:
                standing.say(logging.WARNING, f"{error} {error.hint}")
                self._changed = True
                await asyncio.sleep(FOLLOW_PAUSE)
        standing.changed()
