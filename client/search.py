"""The search for a better way to the gateway, while a link runs that may not be the best.

Theory of operation. A search lives as long as its round. It looks at each news of the
network or of phones on the cable, and without news ever more seldom: from `FIRST` on, with
pauses that double up to `MOST`. News resets the pause, and is waited out for a moment, since
it comes in bursts. A look asks where the gateway may be reached now; what ranks above the
way in use is given to the round, which tries it beside its link.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from client.model import TransportEndpoint
from client.plan import Plan
from client.reconnect import rank
from client.round import Round
from client.system.watch import SETTLE

FIRST = 15.0
MOST = 300.0
"""Seconds between looks without news."""

Ways = Callable[[Plan, bool], Awaitable[tuple[TransportEndpoint, ...]]]
"""Where the gateway may be reached now, the best first; whether there was no news (`Ways.look`)."""


class Search:
    """Looks for better ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways
        self._news = asyncio.Event()

    def hurry(self) -> None:
        """There is news: look soon."""
        self._news.set()

    async def run(self, plan: Plan, current: Round) -> None:
        """Search for this round until cancelled."""
        pause = FIRST
        while True:
            try:
                async with asyncio.timeout(pause):
                    await self._news.wait()
                # What is told from here on asks for another look.
                self._news.clear()
                await asyncio.sleep(SETTLE)
                pause, quiet = FIRST, False
            except TimeoutError:
                pause, quiet = min(2 * pause, MOST), True
            await self._look(plan, current, quiet)

    async def _look(self, plan: Plan, current: Round, quiet: bool) -> None:
        link = current.link
        if link is None or not current.granted:
            return
        ways = await self._ways(plan, quiet)
        here = next((e for e in ways if str(e) == str(link.endpoint)), link.endpoint)
        current.improve(tuple(e for e in ways if rank(e) < rank(here)))
