"""A link over UDP: a raw socket on the poller, runs of datagrams each way.

Theory of operation. The socket is connected: the kernel drops what others send,
and tells by ICMP when nobody listens there. UDP_GRO joins what arrives,
UDP_SEGMENT cuts up what leaves, where the kernel has them. UDP does not push
back; when the socket is full, what was sealed is held, and no more is sealed
until the socket takes it.

Roaming: when the host's address changes, the session moves to a fresh socket
and pings. The gateway knows it by its keys and answers to the new address, so
nothing is handed over and nothing is resumed.

An ICMP "port unreachable" can be forged by anybody near, as can a TCP reset.
One alone ends only an attempt; a session that works ends after several in a row
between which the gateway was not heard.
"""

from __future__ import annotations

import errno
import select
import socket
from collections import deque
from collections.abc import Callable
from time import monotonic

from client.driver import LinkOwner, SessionMaker
from client.link import Link
from client.model import TransportEndpoint
from client.outlet.port import Intake
from client.reconnect import Ending
from eventloop.link_sockets import (
    READ,
    READ_WRITE,
    RECEIVE_SIZE,
    TROUBLE,
    cut_into,
    joined_size,
    tune_datagrams,
)
from netstack.join import SegmentJoiner
from sealing.errors import AuthFailed, ProtocolError
from vshp.datagram_session import DatagramClientSession

CONTROL_SIZE = 64
RUNS_PER_TURN = 4
"""Receives before the port gets its turn: what an ACK waits for."""
MAX_REFUSALS = 3
"""ICMP refusals in a row that end a session that worked."""
_REFUSED = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES})


class DatagramLink(Link):
    """Drives one client session over one connected UDP socket at a time."""

    __slots__ = (
        "_address",
        "_buffer",
        "_dial",
        "_heard",
        "_held",
        "_joiner",
        "_refusals",
        "_segments",
        "_sock",
    )

    offload = False
    session: DatagramClientSession

    def __init__(
        self,
        owner: LinkOwner,
        sock: socket.socket,
        endpoint: TransportEndpoint,
        sessions: SessionMaker,
        dial: Callable[[], socket.socket],
    ) -> None:
        """`sock` is connected and ours from now on; `dial` opens another like it."""
        self._address = str(endpoint)
        self._joiner: SegmentJoiner | None = None
        session = sessions.datagram(monotonic(), self._address)
        super().__init__(owner, endpoint, session, sock.getsockname()[0])
        self._dial = dial
        self._buffer = memoryview(bytearray(RECEIVE_SIZE))
        self._held: deque[tuple[bytes, int]] = deque()
        """Runs that wait for room in the socket: at most what the writer had queued."""
        self._segments = True
        self._refusals = 0
        self._heard = 0
        self._sock = sock
        tune_datagrams(sock)
        self.poller.watch(sock.fileno(), self, READ)

    def follow(self) -> bool:
        """Leave by the address that the host would use now. A session of datagrams can move."""
        try:
            fresh = self._dial()
        except OSError:
            # No way there at present; the next change may bring one, else silence will tell.
            return True
        local = fresh.getsockname()[0]
        if local == self.local_address:
            fresh.close()
            return True
        self._let_go()
        self._held.clear()
        tune_datagrams(fresh)
        self._sock = fresh
        self.local_address = local
        self._refusals = 0
        self.poller.watch(fresh.fileno(), self, READ)
        self.count("link__address__moved")
        return True

    # --- from the gateway --------------------------------------------------------------------

    def ready(self, mask: int, now: float) -> None:
        """See `Link`."""
        if mask & (READ | TROUBLE):
            self._receive(now)
        if mask & select.EPOLLOUT and not self._closed:
            self._send_held()

    def _receive(self, now: float) -> None:
        receive = self._sock.recvmsg_into
        receive_datagrams = self.session.receive_datagrams
        buffer = self._buffer
        buffers = (buffer,)
        ending: Ending | None = None
        for _ in range(RUNS_PER_TURN):
            try:
                n, ancillary, _, _ = receive(buffers, CONTROL_SIZE)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                ending = self._refused(error)
                if ending is not None:
                    break
                continue
            segment = n
            for level, kind, data in ancillary:
                segment = joined_size(level, kind, data) or segment
            if not n:
                continue
            joiner = self._joiner
            if joiner is not None:
                # One datagram alone has nothing to be joined to.
                self.session.on_packet = joiner.take if n > segment else joiner.emit
            try:
                receive_datagrams(buffer[:n], segment, self._address, now)
            except ProtocolError as error:
                ending = Ending(error.reason, error.detail, not isinstance(error, AuthFailed))
                break
            finally:
                if joiner is not None and n > segment:
                    joiner.flush()
        if self._done is not None:
            self._done()
        self._settle(ending)

    def detach(self) -> None:
        """See `LinkDriver`."""
        super().detach()
        self._joiner = self.session.on_row = None

    def _take_in(self, intake: Intake) -> None:
        """Segments that came one by one go to the port in large pieces, if it takes such."""
        super()._take_in(intake)
        self._joiner = self.session.on_row = None
        if intake.joined:
            self._joiner = SegmentJoiner(intake.packet)
            self.session.on_packet = self._joiner.take
            self.session.on_row = self._joiner.take_row

    def _refused(self, error: OSError) -> Ending | None:
        """An ICMP error for something sent earlier, or no route: whether it is the end."""
        self.count("link__icmp_error__received")
        if error.errno not in _REFUSED:
            return None
        if self.session.records == 0:
            return Ending("unreachable", error.strerror or "", authenticated=False)
        if self.session.records != self._heard:
            self._heard = self.session.records
            self._refusals = 0
        self._refusals += error.errno == errno.ECONNREFUSED
        if self._refusals >= MAX_REFUSALS:
            return Ending("link_lost", error.strerror or "", authenticated=False)
        return None

    # --- toward the gateway --------------------------------------------------------------------

    def _send(self) -> None:
        if self._closed:
            return
        self.session.writer.flush()
        if not self._held:
            for data, segment in self.session.datagrams_to_send():
                if self._held:
                    self._held.append((bytes(data), segment))
                elif not self._send_run(data, segment):
                    self._held.append((bytes(data), segment))
                    self.poller.change(self._sock.fileno(), READ_WRITE)
                if self._closed:
                    return
        if self._port_waits:
            self._tell_of_room()

    def _send_held(self) -> None:
        while self._held:
            data, segment = self._held[0]
            if not self._send_run(memoryview(data), segment):
                return
            if self._closed:
                return
            self._held.popleft()
        self.poller.change(self._sock.fileno(), READ)
        self._send()

    def _send_run(self, data: memoryview, segment: int) -> bool:
        """Datagrams of `segment` bytes, the last one less; False when the socket is full."""
        for _ in range(MAX_REFUSALS):
            try:
                self._put(data, segment)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                ending = self._refused(error)
                if ending is not None:
                    self._over(ending)
                elif error.errno == errno.ECONNREFUSED:
                    # The kernel told of an earlier datagram; this one was not sent.
                    continue
                else:
                    # A probe longer than the interface takes, or no route just now.
                    self.count("link__unsendable__dropped")
            return True
        return True

    def _put(self, data: memoryview, segment: int) -> None:
        if len(data) <= segment:
            self._sock.send(data)
            return
        if self._segments:
            try:
                self._sock.sendmsg((data,), (cut_into(segment),))
                return
            except OSError as error:
                if error.errno not in (errno.EIO, errno.EINVAL, errno.EOPNOTSUPP):
                    raise
                # No segmentation on this kernel or interface: cut the run up ourselves.
                self._segments = False
        for at in range(0, len(data), segment):
            self._sock.send(data[at : at + segment])

    def _last_words(self) -> None:
        self.session.writer.flush()
        for data, segment in self.session.datagrams_to_send():
            try:
                self._put(data, segment)
            except OSError:
                return

    def _let_go(self) -> None:
        self.poller.unwatch(self._sock.fileno())
        self._sock.close()
