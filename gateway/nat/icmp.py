"""Ping: a client's echo requests, sent by an unprivileged ping socket of the system.

One socket serves one identifier of the client's, whatever hosts it pings. The
system puts an identifier of its own on the wire; replies and errors get the
client's back. Nothing is answered on the far host's behalf: loss, delay and
TTL are the network's. The client's TTL, less the one hop that we are, goes
along, so that the routers' Time Exceeded come back through the error queue
and a traceroute shows them.
"""

from __future__ import annotations

from errno import EAGAIN, EMSGSIZE
from typing import TYPE_CHECKING

from gateway.nat import errors
from gateway.nat.emission import BUFFER
from gateway.nat.flows import NEVER, Flow, FlowInfo
from gateway.nat.outcomes import outcome_of
from gateway.nat.ports import FAILED, ORIGIN_LOCAL, READABLE, EchoSocket, NetworkError
from netstack.checksum import add, finish, pseudo_header
from netstack.icmp import ICMP_HEADER
from netstack.ip import IPV4_HEADER, IPV6_HEADER, PROTO_ICMP, PROTO_ICMP6, pack_ip

if TYPE_CHECKING:
    from gateway.nat.peer import TunnelPeer
    from netstack.out import PacketOut

TIMEOUT = 60.0
"""Seconds without a request after which the socket is closed (RFC 5508 REQ-1: at least 60)."""
MAX_HOSTS = 1024
"""Hosts remembered of one session, for the check of errors; beyond, it starts over."""


class EchoSession(Flow):
    """One identifier of a client's, and its ping socket."""

    __slots__ = ("_fragment", "_hosts", "batched", "client", "ident", "sock")

    def __init__(self, peer: TunnelPeer, client: bytes, ident: int, now: float) -> None:
        Flow.__init__(self, peer, 4 if len(client) == 4 else 6, now)
        self.client = client
        self.ident = ident
        self.sock: EchoSocket | None = None
        self.batched = False
        self._hosts: dict[bytes, object] = {}
        self._fragment: bool | None = None

    def open(self) -> None:
        """Open the socket; OSError when that fails."""
        self.sock = self.peer.nat.outward.open_echo(self.version, self)
        self.peer.opened()

    def from_tunnel(
        self, host: bytes, message: bytes, ttl: int, fragment: bool, quote: bytes, now: float
    ) -> str:
        """Send an echo request; returns what became of it, a counter's name."""
        self.last_used = now
        self.from_tunnel_bytes += len(message) - ICMP_HEADER
        if self.timer == NEVER:
            self.peer.nat.arm(self, now + TIMEOUT)
        for attempt in (0, 1):
            sock = self.sock
            if sock is None:
                break
            address = self._hosts.get(host)
            if address is None:
                if len(self._hosts) >= MAX_HOSTS:
                    self._hosts.clear()
                address = self._hosts[host] = sock.address(host)
            try:
                if fragment is not self._fragment:
                    sock.set_fragmentation(fragment)
                    self._fragment = fragment
                sock.send(message, address, ttl)
                return "icmp__echo__forwarded"
            except OSError as error:
                if error.errno == EAGAIN:
                    return "icmp__socket_full__dropped"
                # As with UDP, the call may have reported an earlier request's error.
                told = self._drain_errors(now)
                if error.errno == EMSGSIZE:
                    return "icmp__too_big__icmp_sent" if told else "icmp__too_big__dropped"
                if not told or attempt:
                    return self.peer.refuse(
                        "icmp__" + outcome_of(error).label,
                        self.version,
                        outcome_of(error).code(self.version),
                        quote,
                        now,
                    )
        return "icmp__session_closed__dropped"

    def end_batch(self, now: float) -> None:
        self.batched = False

    def ready(self, mask: int, now: float) -> None:
        if mask & FAILED:
            self._drain_errors(now)
            self.peer.wake()
        if mask & (READABLE | FAILED):
            self.peer.activate(self)

    def pull_some(self, out: PacketOut, now: float) -> int:
        sock = self.sock
        if sock is None:
            self.peer.queue.idle(self)
            return 0
        nat = self.peer.nat
        try:
            n, host, ttl = sock.recv_into(nat.datagram_view)
        except BlockingIOError:
            self.peer.queue.idle(self)
            return 0
        except OSError:
            self._drain_errors(now)
            return 0
        if n < ICMP_HEADER:
            self.peer.counts["icmp__from_network__truncated"] += 1
            return 1
        self.to_tunnel_bytes += n - ICMP_HEADER
        self.peer.to_tunnel_bytes += n - ICMP_HEADER
        self.peer.counts["icmp__echo_reply__to_tunnel"] += 1
        self._emit(out, nat.datagram_buffer, n, host, max(1, ttl - 1))
        return n

    def _emit(self, out: PacketOut, buf: bytearray, n: int, host: bytes, ttl: int) -> None:
        """Emit the ICMP message `buf[BUFFER:BUFFER + n]` with the client's identifier."""
        header = IPV4_HEADER if self.version == 4 else IPV6_HEADER
        proto = PROTO_ICMP if self.version == 4 else PROTO_ICMP6
        at = BUFFER - header
        pack_ip(buf, at, n, proto, host, self.client, ttl)
        buf[BUFFER + 2 : BUFFER + 6] = b"\0\0" + self.ident.to_bytes(2, "big")
        total = add(buf[BUFFER : BUFFER + n])
        if self.version == 6:
            total += pseudo_header(host, self.client, PROTO_ICMP6, n)
        buf[BUFFER + 2 : BUFFER + 4] = finish(total).to_bytes(2, "big")
        if n + header <= out.mtu:
            out.send_packet(buf, at, BUFFER + n)
        else:
            self.peer.emit(buf[at : BUFFER + n])

    def _drain_errors(self, now: float) -> bool:
        found = False
        while self.sock is not None:
            error = self.sock.recv_error()
            if error is None:
                break
            found = True
            self._report(error, now)
        return found

    def _report(self, error: NetworkError, now: float) -> None:
        peer = self.peer
        quote = errors.quote_echo(self.client, self.ident, error.host, error.payload)
        if error.origin == ORIGIN_LOCAL:
            if error.errno == EMSGSIZE and error.info:
                packet = errors.too_big(peer.gateway(self.version), self.client, error.info, quote)
                peer.send_error(packet, now)
            return
        if error.host not in self._hosts:
            peer.counts["icmp__icmp_error__unknown"] += 1
            return
        peer.counts["icmp__icmp_error__to_tunnel"] += 1
        peer.send_error(errors.relayed(peer.gateway(self.version), self.client, error, quote), now)

    def due(self) -> float:
        return NEVER if self.sock is None else self.last_used + TIMEOUT

    def handle_timer(self, now: float) -> None:
        if self.sock is not None and now >= self.due():
            self.peer.counts["icmp__session__expired"] += 1
            self.shut(now)

    def shut(self, now: float) -> None:
        sock = self.sock
        if sock is None:
            return
        self.sock = None
        self.timer = NEVER
        self.peer.queue.remove(self)
        self.peer.echo.pop((self.version, self.ident), None)
        sock.close()
        self.peer.released()

    def info(self) -> FlowInfo:
        only = next(iter(self._hosts)) if len(self._hosts) == 1 else None
        sock = self.sock
        return FlowInfo(
            self.id, self.peer.id, "icmp", "echo", (self.client, self.ident),
            (only, 0) if only is not None else None,
            self.created, self.last_used, self.from_tunnel_bytes, self.to_tunnel_bytes,
            sock.device if sock is not None else None, sock.local() if sock is not None else None,
        )  # fmt: skip
