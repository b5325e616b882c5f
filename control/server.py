"""The control socket: who may come in, and how calls are served.

The socket is bound under a umask that leaves it to its owner (mode 0600), and
each connection's uid is checked besides (SO_PEERCRED): only the service's own
user and root are let in. The whole machine's gateway is for a group, too: there
the mode of socket and folder says who comes in (unix(7): connecting takes the
right to write), and it alone, since the service, in a user namespace of its own,
sees everybody else as nobody. A socket file that is left over from a crash is
removed, but only after a probe found nobody behind it.

A connection is a line reader and one job at a time: requests are taken in
order, one is answered before the next is looked at. So a client can make the
service hold one request line, one answer in the making, and the output that
the kernel has not taken; and when output is held up, no further request is
read. Nothing a client does or fails to do makes the service wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
import struct
from pathlib import Path
from typing import cast

from control.codec import (
    MAX_ANSWER,
    MAX_REQUEST,
    BadRequest,
    LineBuffer,
    LineTooLong,
    Request,
    encode_error,
    encode_result,
    parse_request,
    to_json,
)
from control.errors import STOPPING, Code, ControlError
from control.methods import (
    Done,
    Hello,
    HelloParams,
    Permission,
    Subscribed,
    SubscribeParams,
    UnsubscribeParams,
)
from control.readings import Readings
from control.registry import SESSION_METHODS, Registry
from control.schema import API_VERSION
from control.subscriptions import Subscription
from eventloop.tasks import create_task
from storage import own
from storage.sockets import reachable

_log = logging.getLogger(__name__)

OLDEST_API = 1
"""The oldest API version this service still speaks."""
MAX_CONNECTIONS = 32
"""A few consoles and commands at once; a script that leaks connections meets this first."""
MAX_SUBSCRIPTIONS = 8
"""Of one connection: a console has one a screen."""
MAX_OUTPUT = 256 * 1024
"""Bytes that may wait for a slow reader before its requests and snapshots pause."""
_UCRED = struct.Struct("3i")


class SocketInUse(Exception):
    """Another instance serves this socket."""


class ControlServer:
    """Serves a registry on a Unix socket."""

    def __init__(self, path: Path, registry: Registry, group: bool = False) -> None:
        """`group`: the group of the service's user may use it, too."""
        self.path = path
        self.group = group
        self.registry = registry
        self.readings = Readings(registry)
        self.connections: set[_Connection] = set()
        self.closing = False
        self._server: asyncio.Server | None = None
        self._inode: tuple[int, int] | None = None

    async def start(self) -> None:
        """Bind and listen. Raises `SocketInUse` or `OSError`."""
        listener = bind_private(self.path, self.group)
        status = os.stat(self.path)
        self._inode = (status.st_dev, status.st_ino)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Connection(self), sock=listener)

    def close_door(self) -> None:
        """Take no new connections, refuse new calls, and remove the socket if it is ours."""
        self.closing = True
        if self._server is None:
            return
        self._server.close()
        self._server = None
        with contextlib.suppress(OSError):
            status = os.stat(self.path)
            if (status.st_dev, status.st_ino) == self._inode:
                os.unlink(self.path)

    def hang_up(self) -> None:
        """End all connections."""
        for connection in list(self.connections):
            connection.hang_up()

    def changed(self) -> None:
        """The service has news: subscribers may want to look."""
        self.readings.changed()
        for connection in self.connections:
            connection.changed()


def bind_private(path: Path, group: bool = False) -> socket.socket:
    """A listening Unix socket at `path`, mode 0600 (`group`: 0660).

    Raises `SocketInUse` or `OSError`.
    """
    with own.folder(path.parent), reachable(os.fspath(path)) as name:
        _remove_stale(path, name)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o117 if group else 0o177)
        try:
            listener.bind(name)
        except BaseException:
            listener.close()
            raise
        finally:
            os.umask(before)
    listener.setblocking(False)
    return listener


def _remove_stale(path: Path, name: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(name).st_mode):
            raise own.NotOurs(path, "it is there and is no socket", "Move it away.")
    except FileNotFoundError:
        return
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    probe.settimeout(1.0)
    try:
        probe.connect(name)
    except ConnectionRefusedError:
        os.unlink(name)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise SocketInUse(f"{path} is held by something that does not answer: {exc}.") from None
    else:
        raise SocketInUse(f"Another service answers on {path}.")
    finally:
        probe.close()


class _Connection(asyncio.Protocol):
    """One client: its requests in order, its subscriptions, its output."""

    def __init__(self, server: ControlServer) -> None:
        self._server = server
        self._registry = server.registry
        self._lines = LineBuffer(MAX_REQUEST)
        self._permission = Permission.WRITE
        self._subscriptions: dict[int, Subscription] = {}
        self._last_number = 0
        self._transport: asyncio.Transport
        self._busy: asyncio.Task[None] | None = None
        self._paused = False
        self._ending = False
        self._lost = False

    # What asyncio tells us

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=MAX_OUTPUT)
        refusal = self._refusal(self._transport.get_extra_info("socket"))
        if refusal is not None:
            self._farewell(refusal)
            return
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._ending:
            return
        self._lines.feed(data)
        self._work()

    def eof_received(self) -> bool:
        """The client has asked all it wants; answer what is in hand, then close."""
        if self._busy is None and not self._paused:
            return False
        self._ending = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = self._ending = True
        self._server.connections.discard(self)
        for subscription in self._subscriptions.values():
            subscription.stop()
        self._subscriptions.clear()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        for subscription in self._subscriptions.values():
            subscription.resume()
        self._work()

    # What the server tells us

    def hang_up(self) -> None:
        self._ending = True
        self._transport.close()

    def changed(self) -> None:
        for subscription in list(self._subscriptions.values()):
            subscription.changed()

    # Requests

    def _work(self) -> None:
        """Serve requests until there is none, output is held up, or one takes time."""
        while self._busy is None and not self._paused and not self._lost:
            try:
                line = self._lines.next_line()
            except LineTooLong:
                self._farewell(
                    ControlError(
                        Code.INVALID_REQUEST, f"A request is at most {MAX_REQUEST} bytes long."
                    )
                )
                return
            if line is None:
                break
            if line.strip():
                self._serve(line)
        held_up = self._busy is not None or self._paused
        if self._lost or self._transport.is_closing():
            return
        if held_up:
            self._transport.pause_reading()
        elif self._ending:
            self._transport.close()
        else:
            self._transport.resume_reading()

    def _serve(self, line: bytes) -> None:
        try:
            request = parse_request(line)
        except BadRequest as exc:
            self._send(encode_error(exc.id, exc.error))
            return
        self._busy = create_task(self._answer(request), f"control {request.method[:40]}")

    async def _answer(self, request: Request) -> None:
        try:
            if self._server.closing:
                sentence = f"The {self._registry.role} service is stopping."
                raise ControlError(Code.FAILED, sentence, name=STOPPING)
            method = self._registry.find(request.method, self._permission)
            params = self._registry.params(method, request.params)
            if method.name in SESSION_METHODS:
                result, then = self._session_method(params)
            else:
                result, then = await self._registry.call(method, params), None
                if method.permission is Permission.WRITE:
                    self._server.readings.changed()
            answer = encode_result(request.id, result)
            if len(answer) > MAX_ANSWER:
                raise ControlError(Code.FAILED, "The answer is too long.", "Ask for fewer rows.")
        except ControlError as exc:
            answer, then = encode_error(request.id, exc), None
        except Exception as exc:  # a result that is no JSON: NaN, for one
            error = self._registry.internal_error(request.method[:60], exc)
            answer, then = encode_error(request.id, error), None
        finally:
            self._busy = None
        if self._lost:
            if then is not None:
                then.stop()
            return
        if not request.notification:
            self._send(answer)
        if then is not None:
            then.start()
        self._work()

    def _session_method(self, params: object) -> tuple[object, Subscription | None]:
        """Methods about this connection: the result, and a subscription to be started."""
        if isinstance(params, HelloParams):
            return to_json(self._hello(params)), None
        if isinstance(params, SubscribeParams):
            subscription = self._subscribe(params)
            return to_json(Subscribed(subscription.number)), subscription
        assert isinstance(params, UnsubscribeParams)
        found = self._subscriptions.pop(params.subscription, None)
        if found is None:
            raise ControlError(Code.NOT_FOUND, f"There is no subscription {params.subscription}.")
        found.stop()
        return to_json(Done()), None

    def _hello(self, params: HelloParams) -> Hello:
        api = min(params.api, API_VERSION)
        if api < OLDEST_API or api < params.api_min:
            raise ControlError(
                Code.UNSUPPORTED_API,
                f"The service speaks control API {OLDEST_API} to {API_VERSION}, "
                f"the client {params.api_min} to {params.api}.",
                "Restart the service, so that both are of one version.",
            )
        if params.read_only:
            self._permission = Permission.READ
        registry = self._registry
        return Hello(api, registry.version, registry.role, os.getpid(), self._permission.value)

    def _subscribe(self, params: SubscribeParams) -> Subscription:
        if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            raise ControlError(
                Code.BUSY, f"A connection has at most {MAX_SUBSCRIPTIONS} subscriptions."
            )
        topics = [
            self._registry.topic(name, params.params.get(name, {}))
            for name in dict.fromkeys(params.topics)
        ]
        self._last_number += 1
        subscription = Subscription(
            self._last_number,
            self._server.readings,
            topics,
            params.interval,
            self._send,
            lambda: not (self._paused or self._ending or self._server.closing),
        )
        self._subscriptions[self._last_number] = subscription
        return subscription

    # Output and refusal

    def _send(self, line: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(line)

    def _farewell(self, error: ControlError) -> None:
        """Say why, and hang up."""
        self._ending = True
        self._send(encode_error(None, error))
        self._transport.close()

    def _refusal(self, sock: socket.socket) -> ControlError | None:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        _pid, uid, _gid = _UCRED.unpack(raw)
        if uid not in (0, os.geteuid()) and not self._server.group:
            _log.warning("control socket: refused a connection of uid %d", uid)
            return ControlError(
                Code.REFUSED,
                f"The {self._registry.role} service belongs to another user.",
                "Run the command as the user who started it.",
            )
        if len(self._server.connections) >= MAX_CONNECTIONS:
            return ControlError(
                Code.BUSY, f"{MAX_CONNECTIONS} control connections are open already."
            )
        return None
