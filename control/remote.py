"""The control protocol over the standard streams of a command: `ssh HOST vpnshare control`.

The far end (`cli/bridge.py`) first writes `GREETING` on a line of its
own. What a shell's start-up files print before it is passed over. Everything
after it is the protocol as on the Unix socket. What the command says on
standard error is kept, its end at least, to say why it failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence

from control.errors import Code, ControlError, ServiceUnavailable
from control.protocol import GREETING
from eventloop.tasks import create_task

GREETING_SECONDS = 20.0
"""Until the far end must have greeted: a slow link, a slow phone, a name to look up."""
MAX_NOISE = 64 * 1024
"""Bytes that may come before the greeting."""
MAX_SAID = 4096
"""Bytes of standard error that are kept."""
READ_LIMIT = 1 << 20

SSH_FAILED = 255
NOT_FOUND = 127


class Command:
    """A running command whose streams carry the protocol."""

    def __init__(self, process: Process, where: str, role: str) -> None:
        assert process.stdout is not None and process.stdin is not None
        self.reader = process.stdout
        self.writer = process.stdin
        self._process = process
        self._where = where
        self._role = role
        self._said = b""
        self._listening = create_task(self._listen(), "control command's errors")

    @classmethod
    async def start(cls, argv: Sequence[str], where: str, role: str) -> Command:
        """Run it and wait for the greeting. `where` names the far machine, for people.

        Raises `ControlError`.
        """
        try:
            # A session of its own: no terminal that it could ask for a password on.
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True,
                limit=READ_LIMIT,
            )  # fmt: skip
        except OSError as exc:
            raise ControlError(
                Code.FAILED, f"{argv[0]} cannot be run: {exc.strerror}.", f"Install {argv[0]}."
            ) from None
        command = cls(process, where, role)
        try:
            async with asyncio.timeout(GREETING_SECONDS):
                await command._greeted()
        except TimeoutError:
            await command.end()
            raise ServiceUnavailable(f"{where} does not answer.", "Is it awake?") from None
        except BaseException:
            await command.end()
            raise
        return command

    async def _greeted(self) -> None:
        noise = 0
        while noise < MAX_NOISE:
            try:
                line = await self.reader.readline()
            except ValueError:
                break
            if line.strip() == GREETING:
                return
            if not line:
                raise await self.failure()
            noise += len(line)
        raise ServiceUnavailable(
            f"What {self._where} answers is not VPN Share.",
            "Let its shell print nothing when it is not interactive.",
        )

    async def failure(self) -> ControlError:
        """Why the command has ended, or is about to."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), 2.0)
            await asyncio.wait({self._listening}, timeout=1.0)
        return explain(
            self._process.returncode, self._said.decode("utf-8", "replace"), self._where, self._role
        )

    async def end(self) -> None:
        """End it, with all that it started, and wait until it has gone."""
        self.writer.close()
        self._kill(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), 5.0)
        except TimeoutError:
            self._kill(signal.SIGKILL)
            await self._process.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                while await self.reader.read(MAX_NOISE):
                    pass
                await self._listening
        self._listening.cancel()

    def _kill(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(4096):
            self._said = (self._said + data)[-MAX_SAID:]


def explain(status: int | None, said: str | None, where: str, role: str) -> ControlError:
    """A command's exit status and last words as a sentence with its fix.

    None for the words: they went to the person's terminal.
    """
    lines = [line.strip() for line in (said or "").splitlines() if line.strip()]
    ours = next((n for n, line in enumerate(lines) if line.startswith("vpnshare:")), None)
    if ours is not None:
        message = lines[ours].removeprefix("vpnshare:").strip()
        hint = lines[ours + 1] if len(lines) > ours + 1 else None
        return ServiceUnavailable(f"{where}: {message}", hint)
    last = lines[-1] if lines else ""
    if status == SSH_FAILED:
        why = "its reason stands above" if said is None else last or "it gave no reason"
        return ServiceUnavailable(
            f"ssh does not reach {where}: {why}", f"Try it by hand: ssh {where}"
        )
    if status == NOT_FOUND:
        return ServiceUnavailable(
            f"vpnshare is not found on {where}.",
            "Put it where a shell finds it there: ln -s FOLDER/vpnshare ~/.local/bin/vpnshare",
        )
    ended = "ended" if not last else f"ended: {last}"
    return ServiceUnavailable(
        f"The connection to the {role} service on {where} {ended}.", f"Try it by hand: ssh {where}"
    )
