"""A UDP socket at the gateway's entrance, whatever protocol its datagrams are of.

Theory of operation. The socket receives runs of datagrams (UDP_GRO joins neighbours of
equal size) and sends runs (UDP_SEGMENT cuts them), where the kernel has that.

An answer must leave by the interface that the question came in by, to the
address it came from, from the address it was sent to; the system's routes would
send it into the VPN. So every datagram is received with IP_PKTINFO, and *where
the client is* (its address, our interface, our address) is one value that a
session keeps for its newest authenticated datagram.

UDP does not push back. A full socket buffer is waited out; what is lost beyond
it is the business of the TCP inside, which treats such a link as lossy.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from eventloop.link_sockets import RECEIVE_SIZE, cut_into, joined_size, tune_datagrams
from eventloop.poller import Poller
from gateway.listeners import bind_early, cannot_listen
from gateway.nat.counters import Counters

IP_PKTINFO = 8
CONTROL_SIZE = 128
RUNS_PER_TURN = 16
"""System calls for one socket before the others get their turn: what a small flow waits for."""
MAX_HELD = 256
"""Runs of datagrams that wait for room in the socket; beyond that links are not pumped at all."""

_PKTINFO4 = struct.Struct("=i4s4s")
_PKTINFO6 = struct.Struct("=16si")

Ancillary = list[tuple[int, int, bytes]]


class Where(NamedTuple):
    """Where a client is: its socket address, and the interface and address it reached us by."""

    address: Any
    interface: int
    local: bytes

    @property
    def host(self) -> str:
        host: str = self.address[0]
        return host

    @property
    def port(self) -> int:
        port: int = self.address[1]
        return port

    def control(self) -> Ancillary:
        """The ancillary data that sends an answer back the same way."""
        if len(self.local) == 4:
            info = _PKTINFO4.pack(self.interface, self.local, bytes(4))
            return [(socket.IPPROTO_IP, IP_PKTINFO, info)]
        info = _PKTINFO6.pack(self.local, self.interface)
        return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info)]


class DatagramSocket:
    """A listening UDP socket on the gateway's poller."""

    def __init__(
        self, host: str, port: int, poller: Poller, counters: Counters, early: bool = False
    ) -> None:
        """Open and bind; with `early` also to an address that is not there just now.

        Raises ListenError.
        """
        self.on_dead: Callable[[float], None] = lambda now: None
        """Never called: what ends TCP's listeners leaves UDP's sockets alone."""
        self._poller = poller
        self._counts = counters.counts
        self._held: list[tuple[bytes, int, Any, Ancillary]] = []
        self._buffer = bytearray(RECEIVE_SIZE)
        self._view = memoryview(self._buffer)
        self._segments = True
        self._address: Any = None
        self._ancillary: Ancillary = []
        self._segment = 0
        self._where = Where(None, 0, b"")
        """Of the last run."""
        six = ":" in host
        try:
            sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
        except OSError as error:
            raise cannot_listen(host, port, "UDP", error) from None
        try:
            self._options(sock, six)
            if early:
                bind_early(sock)
            sock.bind((host, port))
        except OSError as error:
            sock.close()
            raise cannot_listen(host, port, "UDP", error) from None
        self.sock = sock
        name = sock.getsockname()
        self.host: str = name[0]
        self.port: int = name[1]
        poller.watch(sock.fileno(), self, select.EPOLLIN)

    @property
    def full(self) -> bool:
        """The socket takes no more for now."""
        return bool(self._held)

    def ready(self, mask: int, now: float) -> None:
        if mask & select.EPOLLOUT:
            self._send_held(now)
        self._take_runs(RUNS_PER_TURN, RUNS_PER_TURN * RECEIVE_SIZE)

    def _take_runs(self, most: int, most_bytes: int) -> int:
        """Receive up to `most` runs, none of them after so many bytes; how many there were."""
        receive = self.sock.recvmsg_into
        buffers = [self._view]
        for taken in range(most):
            try:
                n, ancillary, _flags, address = receive(buffers, CONTROL_SIZE)
            except (BlockingIOError, InterruptedError):
                return taken
            except OSError:
                # An ICMP error for something sent earlier; the session notices silence itself.
                self._counts["link__udp__icmp_error"] += 1
                continue
            if n:
                # The time of each run: what is sent meanwhile may be acknowledged meanwhile.
                self._run(n, ancillary, address, self._poller.clock())
                most_bytes -= n
                if most_bytes <= 0:
                    return taken + 1
        return most

    def send(self, data: memoryview | bytes, segment: int, address: Any, path: Ancillary) -> None:
        """Send a run of datagrams of `segment` bytes (the last one less), or hold it."""
        if self._held:
            if len(self._held) < MAX_HELD:
                self._held.append((bytes(data), segment, address, path))
            else:
                self._counts["link__udp__queue_full__dropped"] += 1
            return
        try:
            self._send(data, segment, address, path)
        except (BlockingIOError, InterruptedError):
            self._held.append((bytes(data), segment, address, path))
            self._poller.change(self.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
        except OSError:
            # The interface or the route is gone, or a probe was too long: the session will tell.
            self._counts["link__udp__unsendable__dropped"] += 1

    @property
    def closed(self) -> bool:
        return self.sock.fileno() < 0

    def close(self) -> None:
        """Give the socket up; the links are the owner's to move or to close."""
        if not self.closed:
            self._poller.unwatch(self.sock.fileno())
            self.sock.close()

    def _received(self, data: memoryview, segment: int, where: Where, now: float) -> None:
        """Datagrams of one sender, of `segment` bytes each, the last one less."""
        raise NotImplementedError

    def _drained(self, now: float) -> None:
        """The socket was full and has room again."""
        raise NotImplementedError

    def _options(self, sock: socket.socket, six: bool) -> None:
        tune_datagrams(sock)
        if six:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)

    def _run(self, n: int, ancillary: Ancillary, address: Any, now: float) -> None:
        """One receive: a datagram, or several of one sender joined."""
        if address != self._address or ancillary != self._ancillary:
            self._learn(ancillary, address)
        self._received(self._view[:n], self._segment or n, self._where, now)

    def _learn(self, ancillary: Ancillary, address: Any) -> None:
        """Where runs like this one come from: mostly the next one as well."""
        segment, interface, local = 0, 0, b""
        for level, kind, data in ancillary:
            if level == socket.IPPROTO_UDP:
                segment = joined_size(level, kind, data) or segment
            elif level == socket.IPPROTO_IP and kind == IP_PKTINFO:
                interface, _, local = _PKTINFO4.unpack_from(data)
            elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
                local, interface = _PKTINFO6.unpack_from(data)
        self._address, self._ancillary, self._segment = address, ancillary, segment
        where = Where(address, interface, local)
        if where != self._where:
            self._where = where

    def _send(self, data: memoryview | bytes, segment: int, address: Any, path: Ancillary) -> None:
        if len(data) <= segment:
            self.sock.sendmsg([data], path, 0, address)
            return
        if self._segments:
            size = cut_into(segment)
            try:
                self.sock.sendmsg([data], [*path, size], 0, address)
                return
            except BlockingIOError:
                raise
            except OSError:
                # No segmentation on this kernel or this interface: cut the run up ourselves.
                self._segments = False
        for at in range(0, len(data), segment):
            self.sock.sendmsg([data[at : at + segment]], path, 0, address)

    def _send_held(self, now: float) -> None:
        held, self._held = self._held, []
        for at, (data, segment, address, path) in enumerate(held):
            try:
                self._send(data, segment, address, path)
            except (BlockingIOError, InterruptedError):
                self._held = held[at:]
                return
            except OSError:
                self._counts["link__udp__unsendable__dropped"] += 1
        self._poller.change(self.sock.fileno(), select.EPOLLIN)
        self._drained(now)
