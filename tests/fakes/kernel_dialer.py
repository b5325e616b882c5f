"""A dialler whose tunnel is this machine's own loopback: real sockets, joined as a splice does."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import time
from collections.abc import Callable

from client.outlet.proxy.outcome import Outcome
from eventloop.poller import running_poller

_LINGER_NONE = struct.pack("ii", 1, 0)
_OUTCOMES = {
    errno.ECONNREFUSED: Outcome.REFUSED,
    errno.EHOSTUNREACH: Outcome.HOST_UNREACHABLE,
    errno.ENETUNREACH: Outcome.NET_UNREACHABLE,
    errno.ETIMEDOUT: Outcome.TIMED_OUT,
}


def family(host: bytes) -> int:
    return socket.AF_INET if len(host) == 4 else socket.AF_INET6


class KernelDialing:
    def __init__(self, port: int) -> None:
        self.host = b""
        self.port = port
        self.local: tuple[bytes, int] | None = None
        self.from_tunnel_bytes = self.to_tunnel_bytes = 0
        self.last_used = time.monotonic()
        self.on_over: Callable[[], None] = lambda: None
        self.state = "connecting"
        self.rtt: float | None = None
        self.retransmits: int | None = None
        self.task: asyncio.Task[None] | None = None
        self.canceled = False
        self.ended: set[str] = set()
        """Directions in which there was an end of the stream, by their counters."""

    def cancel(self) -> None:
        self.canceled = True
        assert self.task is not None
        self.task.cancel()

    def abort(self) -> None:
        assert self.task is not None
        self.task.cancel()


class KernelQuery:
    def __init__(self, handle: asyncio.Handle) -> None:
        self._handle = handle

    def cancel(self) -> None:
        self._handle.cancel()


class KernelAssociation(asyncio.DatagramProtocol):
    def __init__(self, on_datagram: Callable[[bytes, int, memoryview], None]) -> None:
        self._on_datagram = on_datagram
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        self._sock.bind(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._sock, self._read)
        self.closed = False

    def _read(self) -> None:
        data, (host, port) = self._sock.recvfrom(65535)
        self._on_datagram(socket.inet_aton(host), port, memoryview(data))

    def send(self, host: bytes, port: int, payload: bytes | memoryview) -> bool:
        self._sock.sendto(payload, (socket.inet_ntop(family(host), host), port))
        return True

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._sock)
        self._sock.close()
        self.closed = True


class KernelDialer:
    """Implements `Dialer`; `names` is its resolver, `answers` what it says instead of dialling."""

    def __init__(self) -> None:
        self.names: dict[str, list[bytes]] = {}
        self.outcomes: dict[tuple[bytes | str, int], Outcome] = {}
        self.silent: set[int] = set()
        """Ports whose connects have no outcome."""
        self.dialings: list[KernelDialing] = []
        self.associations: list[KernelAssociation] = []
        self.ports_left = True

    def available(self) -> bool:
        return True

    def connect(
        self, sock: socket.socket, host: bytes | str, port: int,
        on_outcome: Callable[[Outcome, tuple[bytes, int] | None], None], early: bytes = b"",
    ) -> KernelDialing:  # fmt: skip
        dialing = KernelDialing(port)
        self.dialings.append(dialing)
        work = self._dial(dialing, sock, host, port, on_outcome, early)
        dialing.task = asyncio.get_running_loop().create_task(work)
        return dialing

    def associate(
        self, on_datagram: Callable[[bytes, int, memoryview], None],
        on_error: Callable[[bytes, int, Outcome], None],
    ) -> KernelAssociation | None:  # fmt: skip
        if not self.ports_left:
            return None
        self.associations.append(KernelAssociation(on_datagram))
        return self.associations[-1]

    def resolve(self, name: str, on_answer: Callable[[Outcome, list[bytes]], None]) -> KernelQuery:
        found = self.names.get(name, [])
        outcome = Outcome.OPENED if found else Outcome.NO_SUCH_NAME
        return KernelQuery(asyncio.get_running_loop().call_soon(on_answer, outcome, found))

    async def _dial(
        self, dialing: KernelDialing, sock: socket.socket, host: bytes | str, port: int,
        on_outcome: Callable[[Outcome, tuple[bytes, int] | None], None], early: bytes,
    ) -> None:  # fmt: skip
        loop = asyncio.get_running_loop()
        if port in self.silent:
            await loop.create_future()
        if (host, port) in self.outcomes:
            on_outcome(self.outcomes[host, port], None)
            return
        if isinstance(host, str):
            if host not in self.names:
                on_outcome(Outcome.NO_SUCH_NAME, None)
                return
            host = self.names[host][0]
        dialing.host = host
        far = socket.socket(family(host), socket.SOCK_STREAM)
        far.setblocking(False)
        try:
            await loop.sock_connect(far, (socket.inet_ntop(far.family, host), port))
        except OSError as error:
            far.close()
            on_outcome(_OUTCOMES[error.errno or 0], None)
            return
        own = far.getsockname()
        dialing.local = socket.inet_pton(far.family, own[0]), own[1]
        dialing.state = "established"
        on_outcome(Outcome.OPENED, dialing.local)
        running_poller().unwatch(sock.fileno())
        try:
            await loop.sock_sendall(far, early)
            dialing.to_tunnel_bytes += len(early)
            up = loop.create_task(self._pump(sock, far, dialing, "to_tunnel_bytes"))
            down = loop.create_task(self._pump(far, sock, dialing, "from_tunnel_bytes"))
            try:
                await asyncio.gather(up, down)
            finally:
                up.cancel()
                down.cancel()
                await asyncio.wait([up, down])
        except (OSError, asyncio.CancelledError):
            for each in (sock, far):
                with contextlib.suppress(OSError):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
        finally:
            sock.close()
            far.close()
            dialing.state = "closing"
            dialing.on_over()

    async def _pump(
        self, source: socket.socket, target: socket.socket, dialing: KernelDialing, counted: str
    ) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(source, 65536):
            dialing.last_used = time.monotonic()
            setattr(dialing, counted, getattr(dialing, counted) + len(data))
            await loop.sock_sendall(target, data)
        target.shutdown(socket.SHUT_WR)
        dialing.ended.add(counted)
