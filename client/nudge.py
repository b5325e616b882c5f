"""The pause between two rounds, which news of the network cuts short."""

from __future__ import annotations

import asyncio

BREATH = 0.25
"""Seconds of a pause that news does not cut: news comes in bursts, and rounds make some."""


class Nudge:
    """What is told while nobody pauses, during a round say, counts for the next pause."""

    def __init__(self) -> None:
        self._news = asyncio.Event()

    def tell(self) -> None:
        """Something has changed: another attempt may go otherwise."""
        self._news.set()

    async def pause(self, seconds: float) -> None:
        """Wait for so long, or until there is news, which is told after a breath."""
        loop = asyncio.get_running_loop()
        breath = loop.time() + BREATH
        if seconds > BREATH:
            try:
                async with asyncio.timeout(seconds):
                    await self._news.wait()
            except TimeoutError:
                pass
            seconds = breath - loop.time()
        await asyncio.sleep(max(0.0, seconds))
        self._news.clear()
