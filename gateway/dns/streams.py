"""One question over a stream: TCP to a resolver, or a Unix socket to netd.

Driven by the loop's readiness callbacks, no task: connect, send everything,
read until `framing` says that the answer is whole. `done` is called once, with
the answer or None. Reading is bounded by the largest message there is.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

from netstack.dns import MAX_MESSAGE

READ_SIZE = 16_384
MAX_ANSWER = MAX_MESSAGE + 16
"""The longest answer with the framing around it."""

Framing = Callable[[bytearray], bytes | None]
"""Takes what was read; returns the answer, None if more is due; ValueError if it never will."""


def length_prefixed(received: bytearray) -> bytes | None:
    """DNS over TCP: two bytes of length, then the message (RFC 1035 4.2.2)."""
    if len(received) < 2:
        return None
    end = 2 + int.from_bytes(received[:2], "big")
    return bytes(received[2:end]) if len(received) >= end else None


class StreamAttempt:
    """One connection, one question, one answer."""

    def __init__(
        self,
        sock: socket.socket,
        address: Any,
        request: bytes,
        framing: Framing,
        done: Callable[[bytes | None], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock: socket.socket | None = sock
        self._rest = memoryview(request)
        self._received = bytearray()
        self._framing = framing
        self._done = done
        error = sock.connect_ex(address)
        if error not in (0, errno.EINPROGRESS, errno.EAGAIN):
            # The caller is still constructing: tell it from the loop.
            self._loop.call_soon(self._finish, None)
            return
        self._loop.add_writer(sock.fileno(), self._on_writable)

    def close(self) -> None:
        """Give up: `done` will not be called."""
        sock, self._sock = self._sock, None
        if sock is not None:
            self._loop.remove_writer(sock.fileno())
            self._loop.remove_reader(sock.fileno())
            sock.close()

    def _finish(self, answer: bytes | None) -> None:
        if self._sock is None:
            return
        self.close()
        self._done(answer)

    def _on_writable(self) -> None:
        if self._sock is None:
            return
        try:
            sent = self._sock.send(self._rest)
        except BlockingIOError:
            return
        except OSError:
            self._finish(None)
            return
        self._rest = self._rest[sent:]
        if not self._rest:
            self._loop.remove_writer(self._sock.fileno())
            self._loop.add_reader(self._sock.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        if self._sock is None:
            return
        try:
            piece = self._sock.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        self._received += piece
        try:
            answer = self._framing(self._received)
        except ValueError:
            self._finish(None)
            return
        if answer is not None or not piece or len(self._received) > MAX_ANSWER:
            self._finish(answer)
