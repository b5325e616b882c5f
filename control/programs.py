"""Running a program of the system that may hang, fail, or not be there."""

from __future__ import annotations

import asyncio
import contextlib

TIMEOUT = 10.0
"""Seconds a program may take. Termux's hang where the Termux:API app is missing."""
MAX_OUTPUT = 64 * 1024


async def run(*command: str, timeout: float | None = None) -> None:
    """Run a program to its end, its output unheard. Raises OSError, TimeoutError."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        code = await asyncio.wait_for(process.wait(), TIMEOUT if timeout is None else timeout)
    except BaseException:
        await _kill(process)
        raise
    if code != 0:
        raise OSError(f"{command[0]} ended with {code}")


async def ask(*command: str, timeout: float | None = None) -> str:
    """Run a program and read what it says. Raises OSError, TimeoutError."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(TIMEOUT if timeout is None else timeout):
            said = b""
            while len(said) < MAX_OUTPUT and (data := await process.stdout.read(MAX_OUTPUT)):
                said += data
            code = await process.wait()
    except BaseException:
        await _kill(process)
        raise
    if code != 0:
        raise OSError(f"{command[0]} ended with {code}")
    return said.decode("utf-8", "replace")


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
