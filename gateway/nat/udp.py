"""UDP: one socket for each port that a client sends from (RFC 4787).

Theory of operation.

*Mapping* is endpoint-independent: all that a client sends from one of its
ports, to whatever host, leaves by one socket, hence by one port. *Filtering*
is address-dependent: a host may send to the port once the client has sent to
that host, from whichever of its ports. Endpoint-independent, where the owner
wants that, lets anybody in. A mapping is refreshed by what the client sends,
not by what arrives, so that nobody outside can hold one open. Its time-out
depends on what it has been seen to do: nothing but questions to port 53,
traffic one way, traffic both ways. That the client's system says "port
unreachable" about one host ends what that host may, not the mapping.

*From the tunnel* equal-sized datagrams to one destination, one after the
other, are gathered until the batch of packets ends and leave by one system
call (UDP GSO). Where that fails they leave one by one, and each that fails is
answered by the ICMP error that fits.

*From the network* a read may return several datagrams joined (UDP GRO). A
client with UDP offload gets them as one packet, others get them cut.

*Errors.* The sockets have error queues: ICMP errors of the network are carried
to the client, quoting its own datagram as it wrote it. The kernel's EMSGSIZE,
for a datagram that must not be fragmented, becomes Packet Too Big.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gateway.nat import errors
from gateway.nat.datagrams import DatagramFlow
from gateway.nat.ports import Address, DatagramSocket
from gateway.nat.verdicts import forbidden
from netstack.emission import BUFFER, emit_udp
from netstack.ip import DEFAULT_TTL
from netstack.udp import UdpPath
from splice.flow import FlowInfo
from splice.timers import NEVER

if TYPE_CHECKING:
    from gateway.nat.side import ClientSide
    from netstack.out import PacketOut

DNS_PORT = 53
DNS_TIMEOUT = 20.0
"""Seconds a mapping lives that has asked port 53 and nothing else (RFC 4787 REQ-5 a)."""
NEW_TIMEOUT = 120.0
"""One that has had no answer yet: RFC 4787 REQ-5 allows no less than two minutes."""
STABLE_TIMEOUT = 300.0
"""One with traffic both ways: the five minutes that REQ-5 recommends."""

MAX_SEGMENTS = 64
"""Datagrams in one GSO send: the bound of all kernels but the newest (128)."""
MAX_PIECES = 128
"""Datagrams in one packet from the tunnel: what the newest kernels join at most
(UDP_MAX_SEGMENTS). A packet of more was not made by one."""
MAX_GATHERED = 65_000
"""Bytes in one GSO send."""

LOW_TTL = 48
"""A TTL below it was chosen by the program (traceroute) and is passed on; a client's own
default, 64 or 128, is replaced by ours."""


class Remote:
    """A destination of a mapping: what it takes to send there and to pack what comes back."""

    __slots__ = ("address", "host", "key", "mapping", "path", "port")

    def __init__(
        self, mapping: UdpMapping, key: bytes, host: bytes, port: int, address: Address
    ) -> None:
        self.mapping = mapping
        self.key = key
        self.host = host
        self.port = port
        self.address = address
        self.path = UdpPath(host, port, mapping.client, mapping.port)


class Tables:
    """A client's mappings, by version and port, and their destinations by the packets' key
    (addresses and ports, as they lie in a packet). Mappings are their only writers."""

    __slots__ = ("mappings", "remotes")

    def __init__(self) -> None:
        self.mappings: dict[tuple[int, int], UdpMapping] = {}
        self.remotes: dict[bytes, Remote] = {}


class UdpMapping(DatagramFlow):
    """A client's port, and the socket it is mapped to."""

    __slots__ = (
        "_both_ways",
        "_count",
        "_hosts",
        "_only_dns",
        "_pending",
        "_pending_remote",
        "_pending_size",
        "_tables",
        "remotes",
    )

    protocol = "udp"
    sock: DatagramSocket | None

    def __init__(
        self, peer: ClientSide, tables: Tables, client: bytes, client_port: int, now: float
    ) -> None:
        DatagramFlow.__init__(self, peer, client, client_port, now)
        self._tables = tables
        self.remotes: dict[Address, Remote] = {}
        self._hosts: dict[bytes, int] = {}
        """Hosts that the client has sent to, and how many of `remotes` each has."""
        self._pending = bytearray()
        self._pending_remote: Remote | None = None
        self._pending_size = 0
        self._count = 0
        self._only_dns = True
        self._both_ways = False

    @property
    def answered(self) -> bool:
        return self._both_ways

    def open(self) -> None:
        """Open the socket and enter the table; OSError when that fails."""
        self.sock = self.peer.nat.outward.open_datagram(self.version, self)
        self.peer.opened()
        self._tables.mappings[(self.version, self.port)] = self
        self.peer.timers.arm(self, self.due())

    # From the tunnel.

    def remote(self, key: bytes, host: bytes, port: int) -> Remote:
        """The record of a destination that policy allows, made and entered in the tables."""
        if len(self.remotes) >= self.peer.limits.remotes_per_mapping:
            self.peer.counts["udp__remotes__oldest_forgotten"] += 1
            self.forget(next(iter(self.remotes.values())))
        assert self.sock is not None
        address = self.sock.address(host, port)
        remote = Remote(self, key, host, port, address)
        self.remotes[address] = remote
        self._tables.remotes[key] = remote
        self._hosts[host] = self._hosts.get(host, 0) + 1
        if port != DNS_PORT:
            self._only_dns = False
        return remote

    def from_tunnel(
        self,
        remote: Remote,
        buf: bytearray | memoryview,
        start: int,
        end: int,
        ttl: int,
        fragment: bool,
        now: float,
    ) -> None:
        """Send the payload `buf[start:end]`, or gather it. It is counted when it is sent."""
        size = end - start
        self.last_used = now
        self.from_tunnel_bytes += size
        if ttl < LOW_TTL or fragment is not self.fragmentation or not size:
            self.flush(now)
            self._send_alone(remote, buf[start:end], ttl, fragment, now)
            return
        if self._count:
            if (
                remote is self._pending_remote
                and size <= self._pending_size
                and self._count < MAX_SEGMENTS
                and len(self._pending) + size <= MAX_GATHERED
            ):
                self._pending += buf[start:end]
                self._count += 1
                if size < self._pending_size:
                    self.flush(now)
                return
            self.flush(now)
        self._pending += buf[start:end]
        self._pending_remote = remote
        self._pending_size = size
        self._count = 1
        if not self.batched:
            self.batched = True
            self.peer.batch.append(self)

    def segments_from_tunnel(
        self,
        remote: Remote,
        buf: bytearray | memoryview,
        start: int,
        end: int,
        size: int,
        ttl: int,
        now: float,
    ) -> None:
        """Send `buf[start:end]` as datagrams of `size` bytes: a packet with UDP offload."""
        length = end - start
        if length > size * MAX_PIECES:
            self.peer.counts["offload__too_many_segments__dropped"] += 1
            return
        if self._count:
            self.flush(now)
        self.last_used = now
        self.from_tunnel_bytes += length
        whole = memoryview(buf)[start:end]
        if self.fragmentation is not False:
            self.allow_fragmentation(False)
        if self.peer.paced_windows is not None:
            count = -(-length // size)
            admitted = self.admitted_up(count, size + remote.path.header, now)
            self.peer.counts["udp__segments__speed_limit"] += count - admitted
            if not admitted:
                self.peer.counts["udp__speed_limit__dropped"] += 1
                return
            whole = whole[: admitted * size]
            length = len(whole)
        if length <= MAX_GATHERED and length <= size * MAX_SEGMENTS:
            failed = self._send_segments(remote, whole, size, ttl, now)
        else:
            failed = ""
            step = size * min(MAX_SEGMENTS, max(1, MAX_GATHERED // size))
            for at in range(0, length, step):
                piece = whole[at : at + step]
                failed = self._send_segments(remote, piece, size, ttl, now) or failed
        # Counted as one packet from the tunnel, so as one forwarded.
        self.peer.counts[failed or "udp__segments__forwarded"] += 1

    def end_batch(self, now: float) -> None:
        self.batched = False
        self.flush(now)
        due = self.due()
        if due < self.timer:
            self.peer.timers.arm(self, due)

    def flush(self, now: float) -> None:
        """Send what is gathered."""
        count = self._count
        if not count:
            return
        remote = self._pending_remote
        assert remote is not None
        pending = self._pending
        self._pending = bytearray()
        self._pending_remote = None
        self._count = 0
        counts = self.peer.counts
        if self.sock is None:
            counts["udp__mapping_closed__dropped"] += count
            return
        size = self._pending_size
        if self.peer.paced_windows is not None:
            admitted = self.admitted_up(count, size + remote.path.header, now)
            if admitted < count:
                counts["udp__speed_limit__dropped"] += count - admitted
                if not admitted:
                    return
                count = admitted
                del pending[count * size :]
        if count == 1:
            counts[self._send_one(remote, pending, DEFAULT_TTL, now)] += 1
            return
        try:
            self.sock.send_segments(pending, size, remote.address)
        except OSError:
            for at in range(0, len(pending), size):
                name = self._send_one(remote, pending[at : at + size], DEFAULT_TTL, now)
                counts[name] += 1
            return
        counts["udp__datagram__forwarded"] += count

    def _send_segments(
        self, remote: Remote, piece: memoryview, size: int, ttl: int, now: float
    ) -> str:
        """Send joined datagrams; the name of the last failure, or an empty string."""
        if self.sock is None:
            return "udp__mapping_closed__dropped"
        if ttl >= LOW_TTL and len(piece) > size:
            try:
                self.sock.send_segments(piece, size, remote.address)
                return ""
            except OSError:
                pass
        failed = ""
        for at in range(0, len(piece), size):
            name = self._send_one(remote, piece[at : at + size], ttl, now)
            if name != "udp__datagram__forwarded":
                failed = name
        return failed

    def _send_alone(self, remote: Remote, data: Any, ttl: int, fragment: bool, now: float) -> None:
        limited = self.peer.paced_windows is not None
        if limited and not self.admitted_up(1, len(data) + remote.path.header, now):
            self.peer.counts["udp__speed_limit__dropped"] += 1
        else:
            self.allow_fragmentation(fragment)
            self.peer.counts[self._send_one(remote, data, ttl, now)] += 1
        due = self.due()
        if due < self.timer:
            self.peer.timers.arm(self, due)

    def _send_one(self, remote: Remote, data: Any, ttl: int, now: float) -> str:
        """Send a datagram; returns what became of it, a counter's name."""
        sock = self.sock
        if sock is None:
            return "udp__mapping_closed__dropped"
        try:
            if ttl < LOW_TTL:
                sock.send_with_ttl(data, remote.address, ttl)
            else:
                sock.send(data, remote.address)
            return "udp__datagram__forwarded"
        except OSError as error:
            return self._send_again(sock, remote, data, ttl, error, now)

    def _send_again(
        self,
        sock: DatagramSocket,
        remote: Remote,
        data: Any,
        ttl: int,
        error: OSError | None,
        now: float,
    ) -> str:
        """Deal with a failed send, whose `error` counts as the first attempt's."""

        def send() -> None:
            nonlocal error
            if error is not None:
                first, error = error, None
                raise first
            if ttl < LOW_TTL:
                sock.send_with_ttl(data, remote.address, ttl)
            else:
                sock.send(data, remote.address)

        payload = bytes(data[: errors.QUOTE])
        outcome = self.attempt(send, remote.host, remote.port, payload, len(data), now)
        return "udp__datagram__forwarded" if outcome == "forwarded" else "udp__" + outcome

    # From the network.

    def pull_some(self, out: PacketOut, now: float) -> int:
        sock = self.sock
        peer = self.peer
        if sock is None:
            peer.datagrams.idle(self)
            return 0
        nat = peer.nat
        try:
            n, size, address = sock.recv_into(nat.datagram_view)
        except BlockingIOError:
            peer.datagrams.idle(self)
            return 0
        except OSError:
            self.drain_errors(now)
            return 0
        remote = self.remotes.get(address)
        counts = peer.counts
        if remote is None:
            host, port = sock.host(address)
            rules = peer.destinations
            if rules is not None and forbidden(rules, host, "udp", port):
                counts["udp__from_network__refused_rules"] += 1
                return 0
            if nat.config.address_dependent_filtering and host not in self._hosts:
                counts["udp__from_network__filtered"] += 1
                return 0
            path = UdpPath(host, port, self.client, self.port)
        else:
            path = remote.path
            self._both_ways = True
        if peer.throttle_down is not None:
            n = self._limited(n, size, path.header, now)
            if n < 0:
                return 1
        self.to_tunnel_bytes += n
        emit_udp(peer, out, path, nat.datagram_buffer, BUFFER, n, size)
        if 0 < size < n:
            counts["udp__to_tunnel__datagrams"] += -(-n // size)
        else:
            counts["udp__to_tunnel__datagrams"] += 1
        return n or 1

    def _limited(self, n: int, size: int, header: int, now: float) -> int:
        """How many of the `n` bytes read, in datagrams of `size`, the speed limit lets pass; -1:
        not even one datagram."""
        if not 0 < size < n:
            count, size = 1, n
        else:
            count = -(-n // size)
        admitted = self.admitted_down(count, size + header, now)
        if admitted < count:
            self.peer.counts["udp__from_network__speed_limit"] += count - admitted
        return min(n, admitted * size) if admitted else -1

    # Life.

    def due(self) -> float:
        if self.sock is None:
            return NEVER
        if self._both_ways and not self._only_dns:
            return self.last_used + STABLE_TIMEOUT
        return self.last_used + (DNS_TIMEOUT if self._only_dns else NEW_TIMEOUT)

    def quote(self, host: bytes, port: int, payload: bytes, length: int) -> bytes:
        return errors.quote_udp(self.client, self.port, host, port, payload, length)

    def knows(self, host: bytes, port: int) -> bool:
        return self.sock is not None and self.sock.address(host, port) in self.remotes

    def close(self) -> None:
        by_key = self._tables.remotes
        for remote in self.remotes.values():
            by_key.pop(remote.key, None)
        self.remotes.clear()
        self._hosts.clear()
        self._tables.mappings.pop((self.version, self.port), None)

    def forget(self, remote: Remote) -> None:
        """Drop a destination; its host is a stranger again, if it was the last of that host."""
        del self.remotes[remote.address]
        self._tables.remotes.pop(remote.key, None)
        left = self._hosts[remote.host] - 1
        if left:
            self._hosts[remote.host] = left
        else:
            del self._hosts[remote.host]

    def forget_verdicts(self, allowed: Callable[[bytes, int], bool]) -> int:
        """What is allowed has changed: drop the destinations (host, port) that are not, and say
        how many they were."""
        refused = [r for r in self.remotes.values() if not allowed(r.host, r.port)]
        for remote in refused:
            self.forget(remote)
        return len(refused)

    def info(self) -> FlowInfo:
        only = next(iter(self.remotes.values())) if len(self.remotes) == 1 else None
        sock = self.sock
        state = "dns" if self._only_dns else "stable" if self._both_ways else "new"
        return FlowInfo(
            self.id, self.peer.id, "udp", state, (self.client, self.port),
            (only.host, only.port) if only is not None else None,
            self.created, self.last_used, self.from_tunnel_bytes, self.to_tunnel_bytes,
            sock.device if sock is not None else None, sock.local() if sock is not None else None,
        )  # fmt: skip
