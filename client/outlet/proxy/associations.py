"""Datagrams of programs: SOCKS's UDP ASSOCIATE (RFC 1928, 7).

Theory of operation. An association is a UDP socket here, at the address that the program's TCP
connection came to, and a UDP port in the tunnel. It lasts as long as the TCP connection does. It
serves one sender: from the TCP connection's address, at the port that the request has named, or
at that of the first datagram; where the kernel tells whose sockets are whose, the sender has to be
the same user's. Everybody else's datagrams are counted and forgotten.

A datagram to a name waits until the name is looked up; its address is remembered for a minute, so
that a flow of datagrams goes to one host. What there is no room for is dropped, as on any network.
"""

from __future__ import annotations

import select
import socket
from collections import OrderedDict
from collections.abc import Callable

from client.outlet.proxy.access import Access, Caller, end_of
from client.outlet.proxy.asking import Destination, Misspoken
from client.outlet.proxy.limits import (
    DATAGRAMS_PER_TURN,
    MAX_DATAGRAM,
    MAX_NAMES,
    MAX_WAITING_DATAGRAMS,
    NAME_TIME,
)
from client.outlet.proxy.outcome import Outcome
from client.outlet.proxy.ports import Association, Dialer, Query
from client.outlet.proxy.socks5 import datagram_header, read_datagram
from eventloop.poller import Poller


class UdpAssociation:
    """One program's UDP port."""

    def __init__(
        self,
        dialer: Dialer,
        poller: Poller,
        access: Access,
        caller: Caller,
        here: tuple[bytes, int],
        there: tuple[bytes, int],
        count: Callable[[str], None],
        now: float,
    ) -> None:
        """`here` and `there` are the TCP connection's ends, but that `there` has the port that
        the request has named, or 0. Raises OSError: nothing was opened."""
        self.from_tunnel_bytes = 0
        self.to_tunnel_bytes = 0
        self.last_used = now
        self.host = b""
        self.state = "active"
        self.rtt: float | None = None
        self.retransmits: int | None = None
        self._dialer = dialer
        self._poller = poller
        self._access = access
        self._caller = caller
        self._there = there
        self._count = count
        self._program: tuple[str, int] | None = None
        self._names: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._waiting: dict[str, list[tuple[int, bytes]]] = {}
        self._queries: dict[str, Query] = {}
        self._waits = 0
        self._tunnel: Association | None = None
        self._buffer = bytearray(MAX_DATAGRAM)
        sock = socket.socket(_family(here[0]), socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.bind((socket.inet_ntop(sock.family, here[0]), 0))
            self._here = end_of(sock.getsockname())
            self._tunnel = dialer.associate(self._from_tunnel, self._failed)
            if self._tunnel is None:
                raise OSError("no port is left in the tunnel")
        except BaseException:
            sock.close()
            raise
        self._sock = sock
        poller.watch(sock.fileno(), self, select.EPOLLIN)

    @property
    def place(self) -> tuple[bytes, int]:
        """Where the program is to send its datagrams."""
        return self._here

    @property
    def local(self) -> tuple[bytes, int] | None:
        """It has no address of its own in the tunnel before it sends."""
        return None

    def close(self) -> None:
        """Let go of both ports. Safe to call twice."""
        if self._tunnel is None:
            return
        self._tunnel.close()
        self._tunnel = None
        for query in self._queries.values():
            query.cancel()
        self._queries.clear()
        self._waiting.clear()
        self._poller.forget(self._sock.fileno())
        self._sock.close()

    # From the program.

    def ready(self, mask: int, now: float) -> None:
        del mask
        for _ in range(DATAGRAMS_PER_TURN):
            if self._tunnel is None:
                return
            try:
                size, address = self._sock.recvfrom_into(self._buffer)
            except OSError:
                # Nothing more; or an ICMP error about an answer, whose program has gone.
                return
            if address != self._program and not self._accept(address):
                self._count("proxy__udp__stranger__dropped")
                continue
            with memoryview(self._buffer)[:size] as data:
                self._from_program(data, now)

    def _accept(self, address: tuple[str, int]) -> bool:
        """Whether this is the program, whose first datagram has come."""
        if self._program is not None:
            return False
        there = end_of(address)
        if there[0] != self._there[0] or self._there[1] not in (0, there[1]):
            return False
        uid = self._caller.uid
        if uid is not None and self._access.sender(there, self._here).uid != uid:
            return False
        self._program = address
        return True

    def _from_program(self, data: memoryview, now: float) -> None:
        try:
            destination, at = read_datagram(data)
        except Misspoken as error:
            self._count(f"proxy__udp__{error.reason}__dropped")
            return
        self.last_used = now
        if isinstance(destination.host, bytes):
            self._send(destination.host, destination.port, data[at:])
        else:
            self._send_by_name(destination, destination.host.lower(), data[at:], now)

    def _send(self, host: bytes, port: int, payload: bytes | memoryview) -> None:
        if self._tunnel is not None and self._tunnel.send(host, port, payload):
            self.to_tunnel_bytes += len(payload)
            self._count("proxy__udp__datagram__forwarded")
        else:
            self._count("proxy__udp__no_room__dropped")

    def _send_by_name(
        self, destination: Destination, name: str, payload: memoryview, now: float
    ) -> None:
        known = self._names.get(name)
        if known is not None and now - known[1] < NAME_TIME:
            self._send(known[0], destination.port, payload)
            return
        if self._waits >= MAX_WAITING_DATAGRAMS:
            self._count("proxy__udp__name_waits__dropped")
            return
        self._waits += 1
        self._waiting.setdefault(name, []).append((destination.port, bytes(payload)))
        if name not in self._queries:
            self._queries[name] = self._dialer.resolve(
                name, lambda outcome, found: self._answered(name, outcome, found)
            )

    def _answered(self, name: str, outcome: Outcome, found: list[bytes]) -> None:
        self._queries.pop(name, None)
        waiting = self._waiting.pop(name, [])
        self._waits -= len(waiting)
        if outcome is not Outcome.OPENED:
            for _ in waiting:
                self._count(f"proxy__udp__{outcome.label}__dropped")
            return
        self._names[name] = found[0], self.last_used
        self._names.move_to_end(name)
        if len(self._names) > MAX_NAMES:
            self._names.popitem(last=False)
        for port, payload in waiting:
            self._send(found[0], port, payload)

    # From the tunnel.

    def _from_tunnel(self, host: bytes, port: int, payload: memoryview) -> None:
        if self._program is None or self._tunnel is None:
            return
        try:
            self._sock.sendmsg((datagram_header(host, port), payload), (), 0, self._program)
        except OSError:
            self._count("proxy__udp__program_busy__dropped")
            return
        self.from_tunnel_bytes += len(payload)

    def _failed(self, host: bytes, port: int, outcome: Outcome) -> None:
        """SOCKS has no word for it: a datagram that did not arrive."""
        self._count(f"proxy__udp__{outcome.label}__told")


def _family(host: bytes) -> int:
    return socket.AF_INET if len(host) == 4 else socket.AF_INET6
