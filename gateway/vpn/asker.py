"""Questions to the kernel's routing tables over a netlink socket that is never bound.

Binding is what Android refuses its apps; a socket that only asks needs no bind,
the kernel gives it an address at the first request. The kernel answers before
`send` returns, so asking does not wait.
"""

from __future__ import annotations

import errno
import socket

from gateway.vpn import rtnetlink as rt

SOL_NETLINK = 270
NETLINK_GET_STRICT_CHK = 12
RECEIVE_SIZE = 1 << 16
ANSWER_TIMEOUT = 2.0
"""Seconds for the kernel's answer, which is ready when the request returns."""
MAX_MESSAGES = 50_000
"""Of one answer; only an unfiltered dump of routes (kernels before 4.20) comes near."""


class Asker:
    """One socket for all questions, opened at the first."""

    def __init__(self) -> None:
        self._sock: socket.socket | None = None
        self._seq = 0

    def next(self) -> int:
        """The sequence number of the request that is built now."""
        self._seq = (self._seq + 1) & 0xFFFFFFFF
        return self._seq

    def ask(self, request: bytes) -> list[rt.Message]:
        """Send the request built last, collect its answer. Raises NetlinkError, OSError."""
        seq = self._seq
        if self._sock is None:
            self._sock = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
            )
            self._sock.settimeout(ANSWER_TIMEOUT)
            try:
                self._sock.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
            except OSError:
                pass  # Before 4.20: dumps come unfiltered and are filtered by who asked.
        try:
            self._sock.send(request)
            return self._answer(self._sock, seq)
        except rt.NetlinkError:
            raise
        except OSError:
            # A half-read answer would be taken for the next one.
            self.close()
            raise

    def close(self) -> None:
        """Let the socket go; the next question opens another."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _answer(self, sock: socket.socket, seq: int) -> list[rt.Message]:
        dump = False
        collected: list[rt.Message] = []
        while True:
            datagram = memoryview(sock.recv(RECEIVE_SIZE))
            for message in rt.messages(datagram):
                if message.seq != seq:
                    continue
                if message.type == rt.NLMSG_DONE:
                    return collected
                if message.type == rt.NLMSG_ERROR:
                    number = rt.error_of(message)
                    if number:
                        raise rt.NetlinkError(number, f"netlink error {number}")
                    return collected
                collected.append(message)
                dump = dump or bool(message.flags & rt.NLM_F_MULTI)
            if len(collected) > MAX_MESSAGES:
                raise OSError(errno.EMSGSIZE, "the kernel's table is too long")
            if collected and not dump:
                return collected
