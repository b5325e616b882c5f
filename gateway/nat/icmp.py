"""Ping: a client's echo requests, sent by an unprivileged ping socket of the system.

One socket serves one identifier of the client's, whatever hosts it pings. The
system puts an identifier of its own on the wire; replies and errors get the
client's back. Nothing is answered on the far host's behalf: loss, delay and
TTL are the network's. The client's TTL, less the one hop that we are, goes
along, so that the routers' Time Exceeded come back through the error queue
and a traceroute shows them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.nat import errors
from gateway.nat.datagrams import DatagramFlow
from gateway.nat.ports import EchoSocket
from netstack.checksum import add, finish, pseudo_header
from netstack.emission import BUFFER
from netstack.icmp import ICMP_HEADER
from netstack.ip import IPV4_HEADER, IPV6_HEADER, PROTO_ICMP, PROTO_ICMP6, pack_ip
from splice.flow import FlowInfo
from splice.timers import NEVER

if TYPE_CHECKING:
    from gateway.nat.side import ClientSide
    from netstack.out import PacketOut

TIMEOUT = 60.0
"""Seconds without a request after which the socket is closed (RFC 5508 REQ-1: at least 60)."""
MAX_HOSTS = 1024
"""Hosts remembered of one session, for the check of errors; beyond, the oldest is forgotten."""


Table = dict[tuple[int, int], "EchoSession"]


class EchoSession(DatagramFlow):
    """One identifier of a client's (`port`), and its ping socket."""

    __slots__ = ("_hosts", "_table")

    protocol = "icmp"
    sock: EchoSocket | None

    def __init__(
        self, peer: ClientSide, table: Table, client: bytes, ident: int, now: float
    ) -> None:
        """`table` holds the client's open sessions, by version and identifier; they alone write
        it."""
        DatagramFlow.__init__(self, peer, client, ident, now)
        self._table = table
        self._hosts: dict[bytes, object] = {}

    @property
    def _header(self) -> int:
        return IPV4_HEADER if self.version == 4 else IPV6_HEADER

    @property
    def answered(self) -> bool:
        return self.to_tunnel_bytes > 0

    def open(self) -> None:
        """Open the socket and enter the table; OSError when that fails."""
        self.sock = self.peer.nat.outward.open_echo(self.version, self)
        self.peer.opened()
        self._table[(self.version, self.port)] = self

    def from_tunnel(self, host: bytes, message: bytes, ttl: int, fragment: bool, now: float) -> str:
        """Send an echo request; returns what became of it, a counter's name."""
        sock = self.sock
        if sock is None:
            return "icmp__session_closed__dropped"
        self.last_used = now
        self.from_tunnel_bytes += len(message) - ICMP_HEADER
        if self.timer == NEVER:
            self.peer.timers.arm(self, now + TIMEOUT)
        if self.peer.paced_windows is not None:
            size = len(message) + self._header
            if not self.admitted_up(1, size, now):
                return "icmp__speed_limit__dropped"
        address = self._hosts.get(host)
        if address is None:
            if len(self._hosts) >= MAX_HOSTS:
                del self._hosts[next(iter(self._hosts))]
            address = self._hosts[host] = sock.address(host)
        self.allow_fragmentation(fragment)
        outcome = self.attempt(
            lambda: sock.send(message, address, ttl), host, 0, message, len(message), now
        )
        return "icmp__echo__forwarded" if outcome == "forwarded" else "icmp__" + outcome

    def end_batch(self, now: float) -> None:
        self.batched = False

    def pull_some(self, out: PacketOut, now: float) -> int:
        sock = self.sock
        if sock is None:
            self.peer.datagrams.idle(self)
            return 0
        nat = self.peer.nat
        try:
            n, host, ttl = sock.recv_into(nat.datagram_view)
        except BlockingIOError:
            self.peer.datagrams.idle(self)
            return 0
        except OSError:
            self.drain_errors(now)
            return 0
        if n < ICMP_HEADER:
            self.peer.counts["icmp__from_network__truncated"] += 1
            return 1
        if self.peer.throttle_down is not None and not self.admitted_down(1, n + self._header, now):
            self.peer.counts["icmp__from_network__speed_limit"] += 1
            return n
        self.to_tunnel_bytes += n - ICMP_HEADER
        self.peer.counts["icmp__echo_reply__to_tunnel"] += 1
        self._emit(out, nat.datagram_buffer, n, host, max(1, ttl - 1))
        return n

    def _emit(self, out: PacketOut, buf: bytearray, n: int, host: bytes, ttl: int) -> None:
        """Emit the ICMP message `buf[BUFFER:BUFFER + n]` with the client's identifier."""
        header = self._header
        proto = PROTO_ICMP if self.version == 4 else PROTO_ICMP6
        at = BUFFER - header
        pack_ip(buf, at, n, proto, host, self.client, ttl)
        buf[BUFFER + 2 : BUFFER + 6] = b"\0\0" + self.port.to_bytes(2, "big")
        total = add(buf[BUFFER : BUFFER + n])
        if self.version == 6:
            total += pseudo_header(host, self.client, PROTO_ICMP6, n)
        buf[BUFFER + 2 : BUFFER + 4] = finish(total).to_bytes(2, "big")
        if n + header <= out.mtu:
            out.send_packet(buf, at, BUFFER + n)
        else:
            self.peer.emit(buf[at : BUFFER + n])

    def quote(self, host: bytes, port: int, payload: bytes, length: int) -> bytes:
        return errors.quote_echo(self.client, self.port, host, payload)

    def knows(self, host: bytes, port: int) -> bool:
        return host in self._hosts

    def forget_verdicts(self, allowed: Callable[[bytes], bool]) -> None:
        """What is allowed has changed: drop the hosts that are not."""
        self._hosts = {host: to for host, to in self._hosts.items() if allowed(host)}

    def due(self) -> float:
        return NEVER if self.sock is None else self.last_used + TIMEOUT

    def close(self) -> None:
        self._table.pop((self.version, self.port), None)

    def info(self) -> FlowInfo:
        only = next(iter(self._hosts)) if len(self._hosts) == 1 else None
        sock = self.sock
        return FlowInfo(
            self.id, self.peer.id, "icmp", "echo", (self.client, self.port),
            (only, 0) if only is not None else None,
            self.created, self.last_used, self.from_tunnel_bytes, self.to_tunnel_bytes,
            sock.device if sock is not None else None, sock.local() if sock is not None else None,
        )  # fmt: skip
