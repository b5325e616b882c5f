"""A UDP port of the stack's: what is sent from it and what comes to it, of both families.

A datagram that fits the link goes as one packet, a larger one in fragments. What a router on the
way does not carry whole (ICMP) is from then on sent so that it may be fragmented, as a system
does for programs that did not ask for anything else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from client.outlet.proxy.outcome import Outcome
from netstack.emission import BUFFER, emit_fragments, emit_udp
from netstack.ip import IPV6_MIN_MTU, PROTO_UDP, pack_ipv4
from netstack.udp import MAX_PAYLOAD_V4, MAX_PAYLOAD_V6, UdpPath

if TYPE_CHECKING:
    from client.outlet.proxy.stack import Stack

MAX_REMOTES = 256
"""Destinations whose headers are kept at hand; the oldest gives way."""
MAX_PATHS = 64
"""Hosts of which it is remembered that the path to them is narrow; the oldest gives way."""
LEAST_MTU_V4 = 68
"""What every IPv4 link carries (RFC 791)."""


class UdpPort:
    """One port. Its owner is called from within the stack, and may call back."""

    __slots__ = (
        "_narrow",
        "_on_datagram",
        "_on_error",
        "_paths",
        "_stack",
        "from_tunnel_bytes",
        "port",
        "to_tunnel_bytes",
    )

    def __init__(
        self,
        stack: Stack,
        port: int,
        on_datagram: Callable[[bytes, int, memoryview], None],
        on_error: Callable[[bytes, int, Outcome], None],
    ) -> None:
        self._stack = stack
        self.port = port
        self._on_datagram = on_datagram
        self._on_error = on_error
        self._paths: dict[tuple[bytes, int], UdpPath] = {}
        self._narrow: dict[bytes, int] = {}
        """Path MTU to hosts where it is below the link's (RFC 1191, RFC 8201)."""
        self.from_tunnel_bytes = 0
        """Payload; likewise the other way."""
        self.to_tunnel_bytes = 0

    def send(self, host: bytes, port: int, payload: bytes | bytearray | memoryview) -> bool:
        """Send a datagram; False if it was dropped: no link, no room, too large."""
        stack = self._stack
        out = stack.out
        counts = stack.counts
        n = len(payload)
        if stack.udp.get(self.port) is not self or out is None or not port:
            counts["udp__to_tunnel__no_link"] += 1
            return False
        version = 4 if len(host) == 4 else 6
        if n > (MAX_PAYLOAD_V4 if version == 4 else MAX_PAYLOAD_V6):
            counts["udp__to_tunnel__too_large"] += 1
            return False
        if out.room() <= 0:
            counts["udp__to_tunnel__no_room"] += 1
            stack.wake()
            return False
        path = self._paths.get((host, port))
        if path is None:
            if len(self._paths) >= MAX_REMOTES:
                del self._paths[next(iter(self._paths))]
            own = stack.addresses.own(version)
            path = self._paths[host, port] = UdpPath(own, self.port, host, port)
        buf = bytearray(BUFFER + n)
        buf[BUFFER:] = payload
        narrow = self._narrow.get(host)
        if narrow is not None and n + path.header > narrow and n + path.header <= out.mtu:
            self._send_divisible(path, buf, n)
        else:
            emit_udp(stack, out, path, buf, BUFFER, n, 0)
        self.to_tunnel_bytes += n
        counts["udp__to_tunnel__datagrams"] += 1
        stack.wake()
        return True

    def _send_divisible(self, path: UdpPath, buf: bytearray, n: int) -> None:
        """One packet that may be fragmented on the way: no DF, or IPv6 fragments of our own."""
        out = self._stack.out
        assert out is not None
        at = BUFFER - path.header
        path.pack_whole(buf, at, n)
        packet = buf[at:]
        ident = self._stack.next_ident()
        if path.version == 4:
            own, host = bytes(packet[12:16]), bytes(packet[16:20])
            pack_ipv4(packet, 0, len(packet), PROTO_UDP, own, host, ident=ident & 0xFFFF, frag=0)
            self._stack.emit(packet)
        else:
            emit_fragments(out, packet, ident)

    def close(self) -> None:
        """Nothing comes and goes any more. Safe to call twice."""
        if self._stack.udp.get(self.port) is self:
            del self._stack.udp[self.port]

    # --- the stack's side ----------------------------------------------------------------------

    def arrived(self, host: bytes, port: int, payload: memoryview) -> None:
        """A datagram has come; `payload` is good for the call."""
        self.from_tunnel_bytes += len(payload)
        self._stack.counts["udp__from_tunnel__datagrams"] += 1
        self._on_datagram(host, port, payload)

    def failed(self, host: bytes, port: int, outcome: Outcome) -> None:
        """An ICMP error about what was sent there."""
        self._stack.counts[f"udp__icmp_error__{outcome.label}"] += 1
        self._on_error(host, port, outcome)

    def too_big(self, host: bytes, mtu: int) -> None:
        """A datagram to `host` did not fit the way there."""
        least = LEAST_MTU_V4 if len(host) == 4 else IPV6_MIN_MTU
        if host not in self._narrow and len(self._narrow) >= MAX_PATHS:
            del self._narrow[next(iter(self._narrow))]
        self._narrow[host] = max(least, min(mtu, self._narrow.get(host, 65535)))
        self._stack.counts["udp__icmp_error__too_big"] += 1

    def lease_over(self) -> None:
        """Our address is another from now on; the port stays."""
        self._paths.clear()
        self._narrow.clear()
