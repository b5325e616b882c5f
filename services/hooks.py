"""A program of the owner's, run for each event: told by JSON on its standard input.

Theory of operation. `tell` puts an event into a short queue and returns; one task takes them
out in order and runs the program for each, one at a time. So a program that is slow, hangs or
fails holds up nothing: not the loop, not the packets, not the service's end. What finds the
queue full is dropped and counted, the oldest first, since news is what matters. A program has
`SECONDS`; then it is killed with all that it has started, by its process group, which is its
own.

What is run, is run with the service's rights: so its path is judged each time (`services.trust`:
absolute, a file that can be executed, and nothing on the way to it that anybody but the user
and root may write), no shell sees any of it, its environment is made of a few names, and what
an event says (a stranger's name among it) travels as JSON and never as an argument.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import stat
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from control.codec import to_json
from control.errors import Code, ControlError
from control.schema import Event
from eventloop.clock import SYSTEM, Clock
from eventloop.tasks import create_task
from services.logs import clean
from services.trust import changeable
from services.version import VERSION

_log = logging.getLogger(__name__)

MAX_WAITING = 32
"""Events that wait for the program; more of them are an evening's, and old by then."""
SECONDS = 10.0
"""How long the program may take for an event."""
COMPLAINTS_PAUSE = 300.0
"""Seconds between two lines in the log about the same failure."""

KEPT = (
    "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY", "PREFIX", "LD_PRELOAD",
    "ANDROID_ROOT", "ANDROID_DATA",
)  # fmt: skip
"""Names of the environment that the program sees, where they are set. Termux's libc needs
`LD_PRELOAD`; whoever could set it for the service could set anything."""
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(slots=True)
class HookState:
    """What became of the events, for the doctor."""

    done: int = 0
    failed: int = 0
    dropped: int = 0
    last: str = ""
    """The last failure, as a sentence; empty after a success."""


def unfit(path: str) -> str | None:
    """Why this path cannot be a hook, as a sentence; None: it can."""
    if not path.startswith("/"):
        return "A hook is named by its absolute path."
    program = Path(path)
    try:
        status = program.stat()
        if not stat.S_ISREG(status.st_mode):
            return f"{path} is not a file."
        if not os.access(program, os.X_OK):
            return f"{path} cannot be executed: chmod +x."
        if status.st_mode & stat.S_IWGRP and status.st_gid != os.getegid():
            return f"{path} can be changed by a group: chmod g-w."
        found = changeable([program], os.geteuid())
    except OSError as error:
        return f"{path}: {error.strerror}."
    if found is None:
        return None
    where, who = found
    return f"{where} can be changed by {who}, who would run programs as this service."


def judged(path: str) -> str:
    """The path of a hook that is to be set. Raises `ControlError` for one that is unfit."""
    why = unfit(path) if path else None
    if why is not None:
        raise ControlError(
            Code.INVALID_PARAMS, why,
            "Name a program that only you (or root) can write, in folders of which that is true.",
        )  # fmt: skip
    return path


class Hook:
    """Runs the program, or none. Made once for a service."""

    def __init__(
        self, role: str, name: str = "", seconds: float = SECONDS, clock: Clock = SYSTEM
    ) -> None:
        """`name`: of the gateway or device, for the program."""
        self.state = HookState()
        self.path = ""
        """Of the program; empty: none is run."""
        self.name = name
        self._role = role
        self._seconds = seconds
        self._clock = clock
        self._waiting: deque[Event] = deque()
        self._task: asyncio.Task[None] | None = None
        self._complained: tuple[str, float] = ("", float("-inf"))

    def tell(self, event: Event) -> None:
        """Have the program told, in its turn. Returns at once."""
        if not self.path:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self.state.dropped += 1
        self._waiting.append(event)
        if self._task is None or self._task.done():
            self._task = create_task(self._run_all(), "hook")

    async def stop(self) -> None:
        """The service ends: what waits is not told any more."""
        self._waiting.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run_all(self) -> None:
        while self._waiting:
            event = self._waiting.popleft()
            path = self.path
            if not path:
                continue
            failure = await asyncio.to_thread(unfit, path)
            if failure is None:
                failure = await self._run(path, event)
            if failure is None:
                self.state.done += 1
                self.state.last = ""
            else:
                self._failed(failure)

    async def _run(self, path: str, event: Event) -> str | None:
        """Run it for an event; why it failed, or None."""
        said = json.dumps(
            {"role": self._role, "name": self.name, "version": VERSION, **to_json(event)}
        )
        try:
            process = await asyncio.create_subprocess_exec(
                path,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                cwd="/",
                env=_environment(event),
                start_new_session=True,
            )
        except OSError as error:
            return f"{path}: {error.strerror}."
        try:
            async with asyncio.timeout(self._seconds):
                await process.communicate(said.encode() + b"\n")
        except TimeoutError:
            _kill(process)
            await process.wait()
            return f"{path} took more than {self._seconds:g} s and was ended."
        except BaseException:
            _kill(process)
            raise
        if process.returncode != 0:
            return f"{path} ended with {process.returncode}."
        return None

    def _failed(self, failure: str) -> None:
        self.state.failed += 1
        self.state.last = clean(failure)
        now = self._clock.now()
        before, at = self._complained
        if failure != before or now - at >= COMPLAINTS_PAUSE:
            self._complained = (failure, now)
            _log.warning("hook: %s", failure)


def _environment(event: Event) -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    prefix = kept.get("PREFIX", "")
    path = f"{prefix}/bin:{SYSTEM_PATH}" if prefix.startswith("/data/") else SYSTEM_PATH
    # Kinds are ours: a script may look at one without reading JSON.
    return {**kept, "PATH": path, "VPNSHARE_EVENT": event.kind}


def _kill(process: asyncio.subprocess.Process) -> None:
    """With all that it has started. Only while it has not been waited for: until then its number
    is that of its group, and of nobody else's."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
