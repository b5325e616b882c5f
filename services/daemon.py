"""What both daemons do alike: one instance a home, logs, control socket, signals, a clean end.

Life: lock, log, build the service, start it, open the control socket, tell the
service manager, sleep. SIGTERM, SIGINT, SIGHUP and the method `shutdown` end
it: the socket disappears first, so nobody new comes in; then the service closes
everything it has opened; those who wait on an open control connection (`vpnshare
down`) see it end last. A second signal does not wait for any of this.

A daemon that nobody uses has no timer of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import resource
import signal
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from control.exits import Exit
from control.output import complain
from control.paths import WHOLE, Paths
from control.paths import find as find_paths
from control.registry import Registry
from control.server import ControlServer, SocketInUse
from eventloop.poller import PolledLoop
from services import logs
from services.config import Config, ConfigError
from services.config import load as load_config
from services.database import StoreError
from services.readiness import notify
from services.room import explain
from storage import own

_log = logging.getLogger(__name__)

STOP_TIMEOUT = 20.0
"""Seconds the service may take to undo everything before we leave anyway."""
_PR_SET_DUMPABLE = 4
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Service(Protocol):
    """A gateway or a client with all that is around it."""

    ready: str
    """A sentence for the log, once it has started."""

    def registry(self) -> Registry: ...

    async def start(self, changed: Callable[[], None]) -> None:
        """Open everything. `changed` is to be called on news for subscribers."""

    async def stop(self, on_purpose: bool) -> None:
        """Close everything, also after a `start` that failed half-way.

        `on_purpose`: somebody has asked for the end; otherwise it is a failure, or the
        terminal has gone away.
        """


class StartError(Exception):
    """The service cannot start: a sentence, and what to do."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


Build = Callable[[Paths, Config, logs.Ring, Callable[[], None]], Service]
"""Makes the service; the last argument is what `shutdown` calls."""


def serve(role: str, build: Build, level: str | None, style: str | None) -> int:
    """Run the service in the foreground until it is told to end; the exit code."""
    paths = find_paths()
    try:
        paths.make()
        config = load_config(paths.config)
        with single_instance(paths, role):
            ring = logs.set_up(
                level or config.text("logs", "level"),
                style or config.text("logs", "format"),
                paths.crash(role),
            )
            raise_descriptor_limit()
            keep_memory_private()
            return _run(role, build, paths, config, ring)
    except AlreadyRunning as exc:
        complain(str(exc), "See it with: vpnshare status; stop it with: vpnshare down")
        return Exit.CONFLICT
    except StartError as exc:
        complain(str(exc), exc.hint)
    except (ConfigError, StoreError, SocketInUse) as exc:
        complain(str(exc))
    except OSError as exc:
        complain(*explain(exc))
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    return Exit.FAILED


def _run(role: str, build: Build, paths: Paths, config: Config, ring: logs.Ring) -> int:
    try:
        with asyncio.Runner(loop_factory=PolledLoop) as runner:
            return runner.run(_main(role, build, paths, config, ring))
    except (StartError, StoreError, SocketInUse, OSError):
        raise
    except Exception as exc:
        _log.critical("the %s service failed", role, exc_info=exc)
        complain(
            f"The {role} service failed unexpectedly ({type(exc).__name__}).",
            f"Details are in {paths.crash(role)}",
        )
        return Exit.FAILED


async def _main(role: str, build: Build, paths: Paths, config: Config, ring: logs.Ring) -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_loop_error)
    ending = asyncio.Event()
    service = build(paths, config, ring, ending.set)
    server = ControlServer(paths.socket(role), service.registry(), group=paths == WHOLE)
    asked = True

    def on_signal(number: int) -> None:
        nonlocal asked
        if ending.is_set():
            _log.warning("a second signal: leaving at once")
            os._exit(128 + number)
        _log.info("%s: stopping", signal.Signals(number).name)
        # A terminal goes away when a link to it breaks, too: that is nobody's wish.
        asked = number != signal.SIGHUP
        ending.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        await service.start(server.changed)
        await server.start()
        _log.info("%s (pid %d, control socket %s)", service.ready, os.getpid(), server.path)
        # What is there now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        notify("READY=1", f"STATUS={service.ready}")
        await ending.wait()
        notify("STOPPING=1")
    finally:
        server.close_door()
        try:
            await asyncio.wait_for(service.stop(ending.is_set() and asked), STOP_TIMEOUT)
        except TimeoutError:
            _log.error("the service did not end within %g s", STOP_TIMEOUT)
        server.hang_up()
    _log.info("stopped")
    return Exit.OK


def _log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    message = str(context.get("message") or "error in the event loop")
    _log.error("%s", message, exc_info=context.get("exception"))


class AlreadyRunning(Exception):
    """Another process serves this home; the text says which."""


@contextlib.contextmanager
def single_instance(paths: Paths, role: str) -> Iterator[None]:
    """Hold the role's lock of this home. Raises `AlreadyRunning`.

    The lock is the kernel's (flock), so none is left over from a crash. The
    file stays: removing it would let two processes lock two files of one name.
    """
    descriptor = own.open_own(paths.lock(role), os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                f"A {role} service runs here already{_holder(descriptor)}."
            ) from None
        with contextlib.suppress(OSError):
            # For people; the lock holds without it, also where there is no room for a number.
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
    return f" (pid {text})" if text.isdigit() else ""


def raise_descriptor_limit() -> None:
    """Take all the descriptors we may have: each flow is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def keep_memory_private() -> None:
    """No core dump, and no look into this process's memory by others of its user: keys are there.

    What is not dumpable is not attached to, either (ptrace(2), PR_SET_DUMPABLE in prctl(2)).
    """
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        import ctypes

        done = ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0
    except (ImportError, OSError, AttributeError, MemoryError):
        done = False
    if not done:
        _log.warning("this process's memory can be read by others of its user")
