"""The notification while sharing: how many devices are connected, and a button that stops it.

`show` only notes what should be seen. One task makes it so: it runs at most
one program at a time, at least `INTERVAL` apart, and always shows the newest
text, so a burst of events costs one process (Android kills apps whose children
are many). Every program has a time limit, as Termux's hang where the Termux:API
app is missing. A backend that fails is not tried again.
"""

from __future__ import annotations

import asyncio
import html
import logging
import os
import shlex
import shutil
from collections.abc import Callable
from typing import Protocol

from control.paths import is_termux
from control.programs import TIMEOUT, run
from eventloop.tasks import create_task
from services.start import own_command

_log = logging.getLogger(__name__)

TITLE = "VPN Share is sharing"
ALARM_TITLE = "VPN Share has stopped sharing"
REQUEST_TITLE = "A device asks to use your VPN"
INTERVAL = 2.0
"""Seconds between two changes of the notification."""


class Backend(Protocol):
    """Shows one notification. Raises OSError, TimeoutError when it cannot."""

    async def show(self, text: str, on_stop: Callable[[], None]) -> None: ...

    async def remove(self) -> None: ...

    async def alert(self, text: str) -> None:
        """Another notification, which stays until somebody has seen it."""

    async def ask(self, text: str) -> None:
        """Another one, which says that a device waits for an answer."""


def find_backend() -> Backend | None:
    """The way of this system to show a notification, if there is one."""
    if is_termux():
        return TermuxBackend() if shutil.which("termux-notification") else None
    desktop = os.environ.get("DBUS_SESSION_BUS_ADDRESS") and (
        os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY")
    )
    return DesktopBackend() if desktop and shutil.which("notify-send") else None


class TermuxBackend:
    """Termux:API. The button runs a command in an empty environment."""

    _ID = "vpnshare"

    async def show(self, text: str, on_stop: Callable[[], None]) -> None:
        stop = _stop_command()
        await run(
            "termux-notification", "--id", self._ID, "--ongoing", "--alert-once",
            "--title", TITLE, "--content", text,
            "--button1", "Stop", "--button1-action", stop,
        )  # fmt: skip

    async def remove(self) -> None:
        await run("termux-notification-remove", self._ID)

    async def alert(self, text: str) -> None:
        await run(
            "termux-notification", "--id", f"{self._ID}-alarm", "--priority", "max",
            "--title", ALARM_TITLE, "--content", text,
        )  # fmt: skip

    async def ask(self, text: str) -> None:
        await run(
            "termux-notification", "--id", f"{self._ID}-request", "--priority", "high",
            "--title", REQUEST_TITLE, "--content", text,
        )  # fmt: skip


class DesktopBackend:
    """notify-send. The one that shows the button stays until the button is pressed."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._process: asyncio.subprocess.Process | None = None

    async def show(self, text: str, on_stop: Callable[[], None]) -> None:
        await self._end()
        process = await asyncio.create_subprocess_exec(
            *self._command(), "--action=stop=Stop", "--expire-time=0", TITLE, text,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout is not None
        self._process = process
        first = await asyncio.wait_for(process.stdout.readline(), TIMEOUT)
        if not first.strip().isdigit():
            raise OSError("notify-send gave no id")
        self._id = first.strip().decode()
        create_task(self._listen(process, process.stdout, on_stop), "notification button")

    async def remove(self) -> None:
        await self._end()
        if self._id is not None:
            # There is no command to close one; its successor goes by itself.
            await run(*self._command(), "--expire-time=1", "VPN Share", "Sharing has stopped.")
            self._id = None

    async def alert(self, text: str) -> None:
        await run("notify-send", "--app-name=VPN Share", "--urgency=critical", ALARM_TITLE, text)

    async def ask(self, text: str) -> None:
        # The body is markup (Desktop Notifications Specification), and holds a stranger's name.
        await run("notify-send", "--app-name=VPN Share", "--", REQUEST_TITLE, html.escape(text))

    def _command(self) -> list[str]:
        command = ["notify-send", "--app-name=VPN Share", "--print-id"]
        return command if self._id is None else [*command, f"--replace-id={self._id}"]

    async def _listen(
        self,
        process: asyncio.subprocess.Process,
        output: asyncio.StreamReader,
        on_stop: Callable[[], None],
    ) -> None:
        pressed = await output.readline()
        await process.wait()
        if pressed.strip() == b"stop":
            on_stop()

    async def _end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()
        self._process = None


class Notifier:
    """Keeps the notification equal to what `show` said last."""

    def __init__(self, backend: Backend | None) -> None:
        self.on_stop: Callable[[], None] = lambda: None
        self._backend = backend
        self._enabled = True
        self._text: str | None = None
        self._wanted: str | None = None
        self._shown: str | None = None
        self._task: asyncio.Task[None] | None = None
        self.requests = True
        """The owner's setting: whether `ask` is heard."""
        self._question: str | None = None
        self._asking: asyncio.Task[None] | None = None

    def show(self, text: str | None) -> None:
        """What is to be seen from now on; None: nothing."""
        self._text = text
        self._wanted = text if self._enabled else None
        if self._backend is not None and self._task is None and self._wanted != self._shown:
            self._task = create_task(self._follow(), "notification")

    def enable(self, enabled: bool) -> None:
        """The owner's setting: whether there is a notification at all."""
        self._enabled = enabled
        self.show(self._text)

    def ask(self, text: str) -> None:
        """Tell the owner that a device waits. Of several within `INTERVAL`, the newest."""
        if self._backend is None or not self.requests:
            return
        self._question = text
        if self._asking is None or self._asking.done():
            self._asking = create_task(self._ask_all(self._backend), "request notification")

    async def _ask_all(self, backend: Backend) -> None:
        while self._question is not None:
            text, self._question = self._question, None
            try:
                await backend.ask(text)
            except (OSError, TimeoutError) as exc:
                _log.info("no notification of a request: %s", str(exc) or "no answer")
            await asyncio.sleep(INTERVAL)

    def alert(self, text: str) -> None:
        """Tell the owner something that must not be missed, whatever the setting says."""
        if self._backend is not None:
            create_task(self._alert(self._backend, text), "alarm notification")

    async def _alert(self, backend: Backend, text: str) -> None:
        try:
            await backend.alert(text)
        except (OSError, TimeoutError) as exc:
            _log.warning("no notification of the alarm: %s", str(exc) or "no answer")

    async def stop(self) -> None:
        """Remove the notification."""
        self._wanted = None
        tasks = [task for task in (self._task, self._asking) if task is not None]
        self._task = self._asking = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._backend is not None and self._shown is not None:
            await self._apply(None)

    async def _follow(self) -> None:
        while self._backend is not None and self._wanted != self._shown:
            await self._apply(self._wanted)
            await asyncio.sleep(INTERVAL)
        self._task = None

    async def _apply(self, text: str | None) -> None:
        assert self._backend is not None
        before, self._shown = self._shown, text
        try:
            if text is None:
                await self._backend.remove()
            else:
                await self._backend.show(text, self.on_stop)
        except (OSError, TimeoutError) as exc:
            _log.info("no notification: %s", str(exc) or "the program does not answer")
            self._backend = None
        except asyncio.CancelledError:
            self._shown = text if text is not None else before
            raise


def _stop_command() -> str:
    """A shell command that stops sharing on this instance, in an empty environment."""
    kept = ("VPNSHARE_HOME", "PREFIX", "HOME", "PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "TMPDIR")
    values = [f"{name}={os.environ[name]}" for name in kept if name in os.environ]
    return shlex.join(["env", *values, *own_command(), "unshare"])
