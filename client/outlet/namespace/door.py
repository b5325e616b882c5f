"""Where programs get into the network: a Unix socket that hands the two namespaces over.

Theory of operation. Who comes in becomes part of the network by itself (`enter`): it gets the
descriptors, enters, and replaces itself by the command. So the command is a child of the user's
own shell, with its terminal, its signals and its exit status, and this process is not between.
Only processes of the same user are answered, as the kernel names them.

A visitor may also `stay`: then this side watches the process, which is the command in the end,
and tells when the last of those is gone. That is how a service ends that was started for them.

Lines from a visitor: `stay`, `enter`. The answer to each is one line of JSON; with the second it
has `problem`, or comes with the descriptors.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

MAX_VISITORS = 64
"""Connections at a time; each is of a command that is about to begin."""
MAX_LINE = 64
_UCRED = struct.Struct("3i")


class Door:
    """Serves a listening socket on the loop."""

    def __init__(
        self,
        listener: socket.socket,
        namespaces: Callable[[], tuple[int, int] | None],
        resolver: Path,
        on_unused: Callable[[], None] = lambda: None,
    ) -> None:
        """`namespaces` are those of now, `resolver` the file that is to be resolv.conf inside;
        `on_unused` is called when the last process that stayed has ended."""
        self._listener = listener
        self._namespaces = namespaces
        self._resolver = resolver
        self._on_unused = on_unused
        self._visitors: set[socket.socket] = set()
        self._staying: dict[int, int] = {}
        """Processes by the descriptor that tells of their end."""

    def open(self) -> None:
        """Begin to answer."""
        self._listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._knock)

    def expect(self, seconds: float) -> None:
        """Somebody is to come, and stay: it is unused if nobody has after so long."""
        asyncio.get_running_loop().call_later(seconds, self._look_for_use)

    def _look_for_use(self) -> None:
        if not self._staying and self._listener.fileno() >= 0:
            self._on_unused()

    def close(self) -> None:
        """Answer nobody any more. Who is inside stays inside. Safe to call twice."""
        if self._listener.fileno() < 0:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener.fileno())
        self._listener.close()
        for visitor in list(self._visitors):
            self._see_off(visitor)
        for descriptor in list(self._staying):
            self._forget(descriptor)

    def _knock(self) -> None:
        try:
            visitor, _ = self._listener.accept()
        except OSError:
            return
        visitor.setblocking(False)
        credentials = visitor.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, _ = _UCRED.unpack(credentials)
        if uid != os.geteuid() or len(self._visitors) >= MAX_VISITORS:
            visitor.close()
            return
        self._visitors.add(visitor)
        loop = asyncio.get_running_loop()
        loop.add_reader(visitor.fileno(), self._asked, visitor, pid)

    def _asked(self, visitor: socket.socket, pid: int) -> None:
        try:
            words = visitor.recv(MAX_LINE).split()
            if not words:
                self._see_off(visitor)
            for word in words:
                if word == b"stay":
                    self._stay(pid)
                    visitor.send(b"{}\n")
                elif word == b"enter":
                    self._let_in(visitor)
                else:
                    self._see_off(visitor)
                    return
        except OSError:
            self._see_off(visitor)

    def _let_in(self, visitor: socket.socket) -> None:
        namespaces = self._namespaces()
        if namespaces is None:
            visitor.send(json.dumps({"problem": "There is no network yet."}).encode() + b"\n")
            return
        answer = json.dumps({"resolver": os.fspath(self._resolver)}).encode() + b"\n"
        socket.send_fds(visitor, [answer], namespaces)

    def _stay(self, pid: int) -> None:
        if pid in self._staying.values():
            return
        try:
            descriptor = os.pidfd_open(pid)
        except OSError as error:
            log.info("process %d cannot be watched: %s", pid, error)
            return
        self._staying[descriptor] = pid
        asyncio.get_running_loop().add_reader(descriptor, self._ended, descriptor)

    def _ended(self, descriptor: int) -> None:
        self._forget(descriptor)
        if not self._staying:
            self._on_unused()

    def _forget(self, descriptor: int) -> None:
        asyncio.get_running_loop().remove_reader(descriptor)
        del self._staying[descriptor]
        os.close(descriptor)

    def _see_off(self, visitor: socket.socket) -> None:
        if visitor in self._visitors:
            asyncio.get_running_loop().remove_reader(visitor.fileno())
            self._visitors.discard(visitor)
            with contextlib.suppress(OSError):
                visitor.close()
