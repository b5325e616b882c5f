"""Reaching a gateway by any of its endpoints: staggered connects, the first answer goes first.

After RFC 8305 (Happy Eyeballs): attempts start in order of preference, the
next when the last has failed or has had 250 ms. Only the connects are raced.
The handshake is made with one candidate at a time, since a pairing secret and
a resume ticket are good once. A UDP socket connects at once whoever is there,
so UDP endpoints come last among those of a kind.

A quiet race has no hurry, and wakes the machine as seldom as it can: streams begin together, and
a datagram is sent when all of those have failed, to hosts that are there.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from dataclasses import dataclass
from typing import Any

from client.endpoints import Outcome, Tell, tell_nobody
from client.model import ClientError, TransportEndpoint
from eventloop.tasks import cancel, create_task
from reach.cable import CABLE_PATIENCE, LACKS, Cable, CableError, lack

STAGGER = 0.25
"""Seconds an attempt has for itself (RFC 8305 section 8: 250 ms recommended)."""
MAX_ATTEMPTS = 32
"""Endpoints tried in one round."""


class AllUnreachable(Exception):
    """No further endpoint answered; `detail` says why the last did not."""

    def __init__(self, detail: str, reason: str = "unreachable") -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason = reason
        """A reason of `reconnect.REASONS`: the cable's own where nothing else was tried."""


@dataclass(slots=True)
class _Attempt:
    """One endpoint's connect, in loop time."""

    began: float
    answered: float | None = None


class Race:
    """Connects to endpoints in order; hands out connected sockets as they come."""

    def __init__(
        self,
        endpoints: tuple[TransportEndpoint, ...],
        mark: int,
        timeout: float,
        tell: Tell = tell_nobody,
        cable: Cable | None = None,
        quiet: bool = False,
    ) -> None:
        """Starts at once. `mark` (SO_MARK, 0 for none) keeps the socket outside the tunnel.

        `tell` hears of every connect that failed, and of those that came too late;
        what came of a socket that was handed out, its taker knows. `cable` brings streams to
        phones on USB. `quiet` as above.
        """
        self._quiet = quiet
        self._absent: set[str] = set()
        """Hosts that the network says are not there."""
        self._cable = cable
        self._mark = mark
        self._timeout = timeout
        self._tell = tell
        self._now = asyncio.get_running_loop().time
        self._all: dict[TransportEndpoint, _Attempt] = {}
        self._open: set[TransportEndpoint] = set()
        self._ready: asyncio.Queue[tuple[socket.socket, TransportEndpoint] | str] = asyncio.Queue()
        self._over = False
        self._left = min(len(endpoints), MAX_ATTEMPTS)
        self._attempts: list[asyncio.Task[None]] = []
        self._entered = self._left
        self._starters = [create_task(self._start(endpoints[:MAX_ATTEMPTS]), "dial-race")]
        self._last = "no endpoint is known"
        self._reason = "unreachable"
        self._cabled = all(endpoint.transport == "usb" for endpoint in endpoints)

    @property
    def more(self) -> bool:
        """Whether another endpoint may still answer."""
        return self._left > 0

    async def next(self) -> tuple[socket.socket, TransportEndpoint]:
        """The next connected socket (non-blocking); raises AllUnreachable."""
        while self._left:
            result = await self._ready.get()
            self._left -= 1
            if not isinstance(result, str):
                self._open.discard(result[1])
                return result
            self._last = result
        self._over = True
        raise AllUnreachable(self._last, self._reason)

    def add(self, endpoints: tuple[TransportEndpoint, ...]) -> bool:
        """Try these, too, behind those under way; False when the race is over, or full.

        It is not over while the taker of the last socket may come back for another."""
        room = MAX_ATTEMPTS - self._entered
        if self._over or room <= 0:
            return False
        endpoints = endpoints[:room]
        self._entered += len(endpoints)
        self._left += len(endpoints)
        self._starters.append(create_task(self._start(endpoints), "dial-race-more"))
        return True

    def give_up(self) -> None:
        """Have a waiting `next` raise now."""
        self._ready.put_nowait("the network changed")
        self._left = min(self._left, 1)

    def seconds(self, endpoint: TransportEndpoint) -> float:
        """Since the connect to `endpoint` began; 0 when none has."""
        attempt = self._all.get(endpoint)
        return 0.0 if attempt is None else self._now() - attempt.began

    async def close(self, decided: bool = False) -> None:
        """Give up what is under way and close sockets nobody took; `next` then raises.

        `decided`: because one has won, so that the others came too late.
        """
        self._over, self._left = True, 0
        if decided:
            self._tell_late()
        for starter in self._starters:
            await cancel(starter)
        for attempt in self._attempts:
            await cancel(attempt)
        while not self._ready.empty():
            result = self._ready.get_nowait()
            if not isinstance(result, str):
                result[0].close()

    async def _start(self, endpoints: tuple[TransportEndpoint, ...]) -> None:
        if not self._quiet:
            for endpoint in endpoints:
                await asyncio.wait([self._try(endpoint)], timeout=STAGGER)
            return
        streams = [self._try(each) for each in endpoints if each.transport != "udp"]
        if streams:
            await asyncio.wait(streams)
        for endpoint in endpoints:
            if endpoint.transport != "udp":
                continue
            if endpoint.host in self._absent:
                self._lost(endpoint, Outcome.UNREACHABLE, os.strerror(errno.EHOSTUNREACH), None)
            else:
                self._try(endpoint)

    def _try(self, endpoint: TransportEndpoint) -> asyncio.Task[None]:
        self._all[endpoint] = _Attempt(self._now())
        self._open.add(endpoint)
        attempt = create_task(self._attempt(endpoint), f"dial-{endpoint}")
        self._attempts.append(attempt)
        return attempt

    def _lost(
        self, endpoint: TransportEndpoint, outcome: Outcome, why: str, seconds: float | None
    ) -> None:
        self._tell(endpoint, outcome, why, seconds)
        self._ready.put_nowait(f"{endpoint}: {why}")

    async def _attempt(self, endpoint: TransportEndpoint) -> None:
        try:
            sock = await connect(endpoint, self._mark, self._timeout, self._cable)
        except (OSError, ClientError) as error:
            self._open.discard(endpoint)
            if isinstance(error, OSError) and error.errno in _NO_HOST:
                self._absent.add(endpoint.host)
            if self._cabled and isinstance(error, CableError):
                self._reason = error.reason
            self._lost(endpoint, _outcome(error), _why(error), self.seconds(endpoint))
            return
        self._all[endpoint].answered = self._now()
        self._ready.put_nowait((sock, endpoint))

    def _tell_late(self) -> None:
        late, self._open = self._open, set()
        for endpoint in late:
            attempt = self._all[endpoint]
            if endpoint.transport == "udp":
                # A UDP socket connects whoever is there: nobody was asked anything.
                continue
            if attempt.answered is None:
                self._tell(endpoint, Outcome.SLOWER, "no answer so far", None)
            else:
                self._tell(endpoint, Outcome.SLOWER, "", attempt.answered - attempt.began)


_NO_HOST = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN})


def _outcome(error: OSError | ClientError) -> Outcome:
    if isinstance(error, ConnectionRefusedError):
        return Outcome.REFUSED
    late = isinstance(error, OSError) and error.errno == errno.ETIMEDOUT
    return Outcome.TIMED_OUT if late or isinstance(error, TimeoutError) else Outcome.UNREACHABLE


def _why(error: OSError | ClientError) -> str:
    """A few words; asyncio's own text for a failed connect says less than the errno."""
    if isinstance(error, CableError):
        return error.strerror or "the phone on USB cannot be reached"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


async def connect(
    endpoint: TransportEndpoint, mark: int, timeout: float, cable: Cable | None = None
) -> socket.socket:
    """A connected, non-blocking socket. Raises OSError, TimeoutError included."""
    if endpoint.transport == "udp":
        return open_datagram(endpoint, mark)
    try:
        async with asyncio.timeout(timeout):
            if endpoint.transport == "usb":
                if cable is None:
                    raise OSError(errno.ENODEV, "nothing here speaks to phones")
                return await cable.open_stream(endpoint.host, endpoint.port)
            return await _open_stream(endpoint, mark)
    except TimeoutError as error:
        text = f"no answer within {timeout:.0f} s"
        if endpoint.transport == "usb" and cable is not None:
            raise await _silent(endpoint.host, text, cable) from error
        raise TimeoutError(errno.ETIMEDOUT, text) from error


async def _silent(serial: str, text: str, cable: Cable) -> CableError:
    """Why a phone has not answered: its person is asked, perhaps."""
    reason = ""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(CABLE_PATIENCE):
            reason = lack([phone for phone in await cable.phones() if phone.serial == serial])
    return CableError(errno.ETIMEDOUT, LACKS[reason] if reason else text, reason or "phone_offline")


async def _open_stream(endpoint: TransportEndpoint, mark: int) -> socket.socket:
    sock = _socket(endpoint, socket.SOCK_STREAM, mark)
    try:
        await asyncio.get_running_loop().sock_connect(sock, _address(endpoint))
        if sock.getsockname() == sock.getpeername():
            # Nobody listens at that port of ours, and the kernel gave it to this very
            # socket, which then met itself (RFC 9293 3.5, simultaneous open).
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    except BaseException:
        sock.close()
        raise
    return sock


def open_datagram(endpoint: TransportEndpoint, mark: int) -> socket.socket:
    """A connected, non-blocking UDP socket. Raises OSError when there is no route."""
    sock = _socket(endpoint, socket.SOCK_DGRAM, mark)
    try:
        sock.connect(_address(endpoint))
    except BaseException:
        sock.close()
        raise
    return sock


def _socket(endpoint: TransportEndpoint, kind: int, mark: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    if mark:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        except OSError:
            sock.close()
            raise
    return sock


def _address(endpoint: TransportEndpoint) -> Any:
    return _scoped(endpoint) if ":" in endpoint.host else (endpoint.host, endpoint.port)


def _scoped(endpoint: TransportEndpoint) -> tuple[str, int, int, int]:
    """An IPv6 socket address; a link-local one carries its interface after a %."""
    host, _, scope = endpoint.host.partition("%")
    index = 0
    if scope:
        with contextlib.suppress(ValueError):
            index = int(scope)
        if not index:
            index = socket.if_nametoindex(scope)
    return host, endpoint.port, 0, index
