"""Waiting, on the loop, for what a test expects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def settle(condition: Callable[[], object]) -> None:
    """Give everybody their turns until `condition()` holds; TimeoutError after ten seconds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)
