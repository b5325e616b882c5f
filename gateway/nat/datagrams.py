"""What UDP mappings and ping sessions share: sending, and the socket's error queue.

The kernel reports the ICMP error of an earlier datagram on the next call on
the socket, whatever that is. A send that is told so has sent nothing. So a
failed send takes the errors off the queue, carries them to the client, and
tries once more; what fails then is this datagram's own failure.

With a speed limit a datagram that exceeds it is dropped, and counted, either
way (`splice/throttle.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EAGAIN, EMSGSIZE
from typing import TYPE_CHECKING

from gateway.nat import errors
from gateway.nat.ports import ORIGIN_LOCAL, NetworkError
from splice.flow import Flow
from splice.outcomes import outcome_of
from splice.ports import FAILED, READABLE
from splice.throttle import Meter
from splice.timers import NEVER

if TYPE_CHECKING:
    from gateway.nat.ports import DatagramSocket, EchoSocket
    from gateway.nat.side import ClientSide


class DatagramFlow(Flow):
    """A flow over an unconnected socket with an error queue."""

    __slots__ = ("batched", "client", "fragmentation", "port", "sock", "used_down", "used_up")

    protocol: str
    """The first part of its counters' names."""
    peer: ClientSide
    sock: DatagramSocket | EchoSocket | None

    def __init__(self, peer: ClientSide, client: bytes, port: int, now: float) -> None:
        Flow.__init__(self, peer, 4 if len(client) == 4 else 6, now)
        self.client = client
        self.port = port
        """The client's UDP port, or its echo identifier."""
        self.sock = None
        self.batched = False
        self.fragmentation: bool | None = None
        """Whether the socket fragments, as last set."""
        self.used_up: Meter | None = None
        """What it has used of the device's speed limit lately, where there is one."""
        self.used_down: Meter | None = None

    def quote(self, host: bytes, port: int, payload: bytes, length: int) -> bytes:
        """The client's datagram of `length` bytes to `host`, as far as `payload` has it."""
        raise NotImplementedError

    def knows(self, host: bytes, port: int) -> bool:
        """Whether the client has sent there: errors about others are not its business."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave the tables."""
        raise NotImplementedError

    def admitted_up(self, count: int, size: int, now: float) -> int:
        """How many of `count` datagrams from the client, packets of `size` bytes, its speed limit
        lets pass. For who has seen that there is one."""
        paced = self.peer.paced_windows
        assert paced is not None
        if self.used_up is None:
            self.used_up = Meter()
        return paced.throttle.admit(self.used_up, count, size, now)

    def admitted_down(self, count: int, size: int, now: float) -> int:
        """Likewise toward the client."""
        throttle = self.peer.throttle_down
        assert throttle is not None
        if self.used_down is None:
            self.used_down = Meter()
        return throttle.admit(self.used_down, count, size, now)

    def allow_fragmentation(self, allowed: bool) -> None:
        """Set whether the socket may fragment what exceeds the path MTU."""
        if allowed is not self.fragmentation and self.sock is not None:
            self.sock.set_fragmentation(allowed)
            self.fragmentation = allowed

    def attempt(
        self,
        send: Callable[[], None],
        host: bytes,
        port: int,
        payload: bytes,
        length: int,
        now: float,
    ) -> str:
        """Call `send`; returns how the datagram's counter's name goes on after the protocol's."""
        for last in (False, True):
            try:
                send()
                return "forwarded"
            except OSError as error:
                number = error.errno
                if number == EAGAIN:
                    return "socket_full__dropped"
                found, mtu = self.drain_errors(now)
                if number == EMSGSIZE:
                    return self._too_big(host, port, payload, length, mtu, now)
                if last or not found:
                    outcome = outcome_of(error)
                    quote = self.quote(host, port, payload, length)
                    code = outcome.code(self.version)
                    return self.peer.refuse(outcome.label, self.version, code, quote, now)
        raise AssertionError("not reached")

    def _too_big(
        self, host: bytes, port: int, payload: bytes, length: int, mtu: int, now: float
    ) -> str:
        """Tell the client the path MTU that the kernel knows."""
        if not mtu:
            return "too_big__dropped"
        packet = errors.too_big(
            self.peer.gateway(self.version),
            self.client,
            mtu,
            self.quote(host, port, payload, length),
        )
        sent = self.peer.send_error(packet, now)
        return "too_big__" + ("icmp_sent" if sent else "dropped")

    def drain_errors(self, now: float) -> tuple[bool, int]:
        """Carry the queue's ICMP errors to the client.

        Returns whether there was any entry, and the path MTU that the
        kernel's own EMSGSIZE named last, or 0. That one names no port and
        quotes nothing, so it is for the caller whose send has failed.
        """
        found = False
        mtu = 0
        while self.sock is not None:
            error = self.sock.recv_error()
            if error is None:
                break
            found = True
            if error.origin == ORIGIN_LOCAL:
                if error.errno == EMSGSIZE:
                    mtu = error.info
            else:
                self._relay(error, now)
        return found, mtu

    def _relay(self, error: NetworkError, now: float) -> None:
        peer = self.peer
        if not self.knows(error.host, error.port):
            peer.counts[f"{self.protocol}__icmp_error__unknown"] += 1
            return
        peer.counts[f"{self.protocol}__icmp_error__to_tunnel"] += 1
        quote = self.quote(error.host, error.port, error.payload, len(error.payload))
        peer.send_error(errors.relayed(peer.gateway(self.version), self.client, error, quote), now)

    def ready(self, mask: int, now: float) -> None:
        if mask & FAILED:
            self.drain_errors(now)
            self.peer.wake()
        if mask & (READABLE | FAILED) and self.sock is not None:
            self.peer.activate_datagrams(self)

    def handle_timer(self, now: float) -> None:
        if self.sock is not None and now >= self.due():
            self.peer.counts[f"{self.protocol}__idle__expired"] += 1
            self.shut(now)

    def shut(self, now: float) -> None:
        sock = self.sock
        if sock is None:
            return
        self.end_batch(now)
        self.sock = None
        self.timer = NEVER
        self.peer.datagrams.remove(self)
        self.close()
        sock.close()
        self.peer.released()
