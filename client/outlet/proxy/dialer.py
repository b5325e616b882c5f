"""The stack's driver: the clock, the poller, the link; and local sockets on their way into it.

Theory of operation. Packets come in by `port` (the client's link calls it), local sockets by
`connect`. Both only mark that the stack has something to send: it is pulled once, after the
poller's batch or in the loop's next turn, and the link seals and sends all of it together; a first
SYN alone goes out at once, as a program waits for its answer. When the link has no room the stack
waits (`room_again`), so local sockets are not read and their programs feel it. The stack's
deadlines are the poller's alarm: while nothing is open nothing runs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import defaultdict
from collections.abc import Callable
from time import monotonic
from typing import Any

from client.outlet.port import Carrier, Intake
from client.outlet.proxy.counted import CountedOut
from client.outlet.proxy.dial import Dial
from client.outlet.proxy.outcome import Outcome
from client.outlet.proxy.outgoing import Outgoing
from client.outlet.proxy.resolver import Half, Resolver
from client.outlet.proxy.stack import Addresses, Stack
from client.outlet.proxy.udp_port import UdpPort
from eventloop.poller import EVERYTHING, NEVER, Poller, running_poller
from eventloop.streams import PolledStream
from netstack.dns import MalformedMessage, wire_name
from netstack.tcp.states import State
from splice.limits import LinkLimits
from splice.ports import URGENT
from splice.splice import CLOSED, OPEN
from vshp.config import LeaseConfig

ROUNDS = 8
"""Times that the stack is pulled before the loop has its turn."""
MAX_DIALS = 1_024
"""Connections that are being dialled."""

_log = logging.getLogger(__name__)

Bound = tuple[bytes, int]
OnOutcome = Callable[[Outcome, Bound | None], None]


def _ignore() -> None:
    """What nobody waits for."""


class Dialing:
    """A connection that was asked for, from the asking to its end."""

    __slots__ = ("_dial", "_dialer", "_early", "_flow", "_on_outcome", "_sock", "host", "on_over",
                 "port")  # fmt: skip

    def __init__(
        self,
        dialer: Dialer,
        sock: socket.socket,
        host: bytes,
        port: int,
        on_outcome: OnOutcome,
        early: bytes,
    ) -> None:
        self._dialer = dialer
        self._sock: socket.socket | None = sock
        self._on_outcome: OnOutcome | None = on_outcome
        self._early = early
        self._dial: Dial | None = None
        self._flow: Outgoing | None = None
        self.host = host
        """The far host's address; empty until one is chosen."""
        self.port = port
        self.on_over: Callable[[], None] = _ignore
        """Called once when a connection that was opened is over."""

    @property
    def local(self) -> Bound | None:
        """Our own address and port in the tunnel."""
        return self._flow.local if self._flow is not None else None

    @property
    def from_tunnel_bytes(self) -> int:
        """Payload; likewise the other way."""
        return self._flow.from_tunnel_bytes if self._flow is not None else 0

    @property
    def to_tunnel_bytes(self) -> int:
        return self._flow.to_tunnel_bytes if self._flow is not None else 0

    @property
    def last_used(self) -> float:
        """When bytes were last carried, monotonic; 0 before it is open."""
        return self._flow.last_used if self._flow is not None else 0.0

    @property
    def state(self) -> str:
        """`connecting`, `established`, `closing` or `closed`."""
        flow = self._flow
        if flow is None:
            return "connecting" if self._dial is not None else "closed"
        if flow.stage > OPEN:
            return "closing" if flow.sock is not None else "closed"
        return "established" if flow.conn.state == State.ESTABLISHED else "closing"

    @property
    def rtt(self) -> float | None:
        """Seconds to the gateway and back as this connection has measured them, if it has."""
        return self._flow.conn.srtt if self._flow is not None else None

    @property
    def retransmits(self) -> int | None:
        """Not counted for each connection."""
        return None

    def cancel(self) -> None:
        """Whoever asked has gone: nothing is told, and the socket stays the caller's."""
        self._on_outcome = None
        dial, self._dial = self._dial, None
        if dial is not None:
            dial.cancel(self._dialer.now())
            self._dialer.done(self)

    def abort(self) -> None:
        """End it: RST to both sides; while it is dialled, as `cancel`."""
        self.cancel()
        if self._flow is not None and self._flow.stage < CLOSED:
            self._flow.shut(self._dialer.now())
            self._dialer.settle_soon()

    # --- the dialer's side ---------------------------------------------------------------------

    def dial(self, dial: Dial) -> None:
        self._dial = dial

    def dialled(self, outcome: Outcome, flow: Outgoing | None, now: float) -> None:
        """What became of it: tell, and splice."""
        self._dial = None
        self._dialer.done(self)
        sock, self._sock = self._sock, None
        told, self._on_outcome = self._on_outcome, None
        early, self._early = self._early, b""
        if flow is None or told is None or sock is None:
            if flow is not None:
                flow.abandon(now)
            if told is not None:
                self._dialer.tell(told, outcome, None)
            return
        self._flow = flow
        self.host = flow.host
        flow.on_over = self._over
        if not self._dialer.tell(told, outcome, flow.local) or sock.fileno() < 0:
            self._dialer.let_go(sock)
            flow.abandon(now)
            return
        self._dialer.join(flow, sock, early, now)

    def _over(self) -> None:
        over, self.on_over = self.on_over, _ignore
        self._dialer.call(over)


class Query:
    """A name that is being asked."""

    __slots__ = ("_dialer", "_found", "_halves", "_on_answer", "_outcome")

    def __init__(self, dialer: Dialer, on_answer: Callable[[Outcome, list[bytes]], None]) -> None:
        self._dialer = dialer
        self._on_answer: Callable[[Outcome, list[bytes]], None] | None = on_answer
        self._halves: list[Half] = []
        self._found: dict[int, list[bytes]] = {}
        self._outcome = Outcome.NO_SUCH_NAME

    def begin(self, resolver: Resolver, name: bytes, now: float) -> None:
        for version in (6, 4):
            half = resolver.ask(name, version, self._resolved, now)
            if half is not None:
                self._halves.append(half)
        if not self._halves:
            self._dialer.later(lambda: self._tell(Outcome.BUSY, []))

    def cancel(self) -> None:
        """Nobody wants to know any more."""
        self._on_answer = None
        halves, self._halves = self._halves, []
        for half in halves:
            half.cancel()

    def fail(self, outcome: Outcome) -> None:
        """Not asked at all; told later."""
        self._dialer.later(lambda: self._tell(outcome, []))

    def _resolved(self, version: int, outcome: Outcome, found: list[bytes]) -> None:
        self._halves = [half for half in self._halves if half.version != version]
        self._found[version] = found
        if outcome is Outcome.NAMES_FAILED:
            self._outcome = outcome
        if not self._halves:
            six, four = self._found.get(6, []), self._found.get(4, [])
            mixed = [address for pair in zip(six, four, strict=False) for address in pair]
            shorter = min(len(six), len(four))
            mixed += six[shorter:] + four[shorter:]
            self._tell(Outcome.OPENED if mixed else self._outcome, mixed)

    def _tell(self, outcome: Outcome, found: list[bytes]) -> None:
        told, self._on_answer = self._on_answer, None
        if told is not None:
            self._dialer.call(lambda: told(outcome, found))


class Dialer:
    """Implements `client.outlet.port.Port`, and what the proxy's protocols dial by."""

    def __init__(self, limits: LinkLimits | None = None) -> None:
        """On a running `PolledLoop`."""
        self._loop = asyncio.get_running_loop()
        self._poller: Poller = running_poller()
        self.counters: defaultdict[str, int] = defaultdict(int)
        """Names end in their packet's fate, as everywhere."""
        self.stack = Stack(self.counters, os.urandom, self._woken, limits, monotonic())
        self._resolver = Resolver(self.stack, os.urandom)
        self._link: Carrier | None = None
        self._session = b""
        self._dials: set[Dialing] = set()
        self._soon = False
        self._settling = False
        self._waiting = False
        """For room on the link."""
        self.alarm_at = NEVER
        self._closed = False
        self._poller.attach(self)

    # --- dialling ------------------------------------------------------------------------------

    def connect(
        self,
        sock: socket.socket,
        host: bytes | str,
        port: int,
        on_outcome: OnOutcome,
        early: bytes = b"",
    ) -> Dialing:
        """Open a connection through the tunnel for a connected local stream socket.

        Args:
            sock: non-blocking. If the poller watches it, it does so for the dialer from OPENED on.
            host: a packed address, or a name, which is asked at the lease's resolver.
            on_outcome: called once, never from within this call, unless it is cancelled. With
                OPENED it is given our address and port in the tunnel, and may write its reply to
                `sock`; when it returns the socket is the dialer's. Otherwise it stays the caller's.
            early: what was read from `sock` already and belongs to the far host.
        """
        now = self.now()
        dialing = Dialing(self, sock, host if isinstance(host, bytes) else b"", port, on_outcome,
                          early)  # fmt: skip
        if len(self._dials) >= MAX_DIALS or self._closed:
            return self._refuse(dialing, Outcome.AWAY if self._closed else Outcome.BUSY)
        name = b""
        address: bytes | None = None
        if isinstance(host, bytes):
            address = host
        else:
            address = _literal(host)
            if address is None:
                try:
                    name = asked_name(host)
                except MalformedMessage:
                    return self._refuse(dialing, Outcome.NO_SUCH_NAME)
        dial = Dial(self.stack, port, dialing.dialled)
        dialing.dial(dial)
        self._dials.add(dialing)
        dial.begin(address, name, self._resolver, now)
        if self._link is not None and not self._waiting:
            # Not behind what else the batch brings: the program waits for it.
            self._link.push()
        self.settle_soon()
        return dialing

    def _refuse(self, dialing: Dialing, outcome: Outcome) -> Dialing:
        self.later(lambda: dialing.dialled(outcome, None, self.now()))
        return dialing

    def associate(
        self,
        on_datagram: Callable[[bytes, int, memoryview], None],
        on_error: Callable[[bytes, int, Outcome], None],
    ) -> Association | None:
        """A UDP port of the stack's, for both families; None when a bound is reached.

        `on_datagram` is given the sender and a payload that is good for the call.
        """

        def datagram(host: bytes, port: int, payload: memoryview) -> None:
            self.call(lambda: on_datagram(host, port, payload))

        def error(host: bytes, port: int, outcome: Outcome) -> None:
            self.call(lambda: on_error(host, port, outcome))

        udp = self.stack.open_udp(datagram, error)
        return None if udp is None else Association(self, udp)

    def resolve(self, name: str, on_answer: Callable[[Outcome, list[bytes]], None]) -> Query:
        """Ask for all addresses of a name, IPv6 and IPv4 in turn; OPENED says there are some.

        `on_answer` is called once, never from within this call, unless it is cancelled.
        """
        query = Query(self, on_answer)
        try:
            wire = asked_name(name)
        except MalformedMessage:
            query.fail(Outcome.NO_SUCH_NAME)
            return query
        if not self.stack.leased:
            query.fail(Outcome.AWAY)
            return query
        query.begin(self._resolver, wire, self.now())
        self.settle_soon()
        return query

    def available(self) -> bool:
        """Whether there is a lease, with a link or within its grace time."""
        return self.stack.leased

    def close(self) -> None:
        """End everything."""
        if self._closed:
            return
        self._closed = True
        self.lease_over()
        self._poller.detach(self)

    # --- the port ------------------------------------------------------------------------------

    def attach(self, link: Carrier, lease: LeaseConfig) -> Intake:
        """See `client.outlet.port.Port`."""
        addresses = Addresses(lease.ipv4, lease.ipv6, lease.gateway_ipv4, lease.gateway_ipv6)
        now = self.now()
        if link is not self._link or addresses != self.stack.addresses:
            self._link = link
            self._waiting = False
            fresh = not lease.resumed and lease.session_id != self._session
            self._session = lease.session_id
            # Only streams carry virtio headers, and only streams neither lose nor reorder.
            self.stack.open(addresses, fresh, CountedOut(link), link.offload, now)
            self.settle_soon()
        else:
            self.stack.set_mtu(lease.mtu)
        return Intake(self._packet_taker(link), joined=True, done=self._received)

    def detach(self) -> None:
        """See `client.outlet.port.Port`."""
        if self._link is not None:
            self._link = None
            self._waiting = False
            self.stack.set_out(None, self.now())

    def room_again(self) -> None:
        """See `client.outlet.port.Port`."""
        self._waiting = False
        if self._link is not None:
            self.stack.wake()
            self.settle_soon()

    def lease_over(self) -> None:
        """There will be no link for this lease any more: connections are over."""
        self.detach()
        self.stack.end_all(self.now())
        self._session = b""

    def _packet_taker(self, link: Carrier) -> Callable[[memoryview, int, int, bool], None]:
        clock, take = self._poller.clock, self.stack.from_tunnel

        def packet(buf: memoryview, start: int, end: int, offload: bool) -> None:
            link.received_packets_bytes += end - start
            take(buf, start, end, offload, clock())

        return packet

    def _received(self) -> None:
        """What a receive leaves to do goes out with it."""
        self.stack.end_batch(self.stack.timers.now)

    # --- the pump ------------------------------------------------------------------------------

    def now(self) -> float:
        return self._poller.clock()

    def _woken(self) -> None:
        self.settle_soon()

    def settle_soon(self) -> None:
        """Settle after this turn of the loop, unless the poller's batch will do it anyway."""
        if not (self._soon or self._settling or self._poller.in_batch or self._closed):
            self._soon = True
            self._loop.call_soon(self._settle_now)

    def _settle_now(self) -> None:
        self._soon = False
        self.after_batch(self.now())

    def alarm(self, now: float) -> None:
        """The poller's call: the stack's earliest deadline has come."""
        self.stack.pass_time(now)

    def after_batch(self, now: float) -> None:
        """The poller's call: end the batch, send what there is, set the alarm."""
        if self._settling:
            return
        self._settling = True
        again = False
        try:
            self.stack.end_batch(now)
            for _ in range(ROUNDS):
                again = self._pump(now)
                if not again:
                    break
                now = self._poller.look()
                self.stack.end_batch(now)
        finally:
            self._settling = False
        if again:
            self.settle_soon()
        timer = self.stack.get_timer()
        self.alarm_at = NEVER if timer is None else timer

    def _pump(self, now: float) -> bool:
        """Send what there is room for; True if there is more."""
        stack, link = self.stack, self._link
        if link is None or self._waiting:
            return False
        writer = link.writer
        if not (stack.wants_out or writer.waiting):
            return False
        more = stack.pull(now) if stack.wants_out else False
        moved = writer.waiting
        link.push()
        if self._link is not link:
            # It has ended in the push.
            return False
        if writer.waiting or writer.room() <= 0 or (more and not moved):
            # The queue is as long as it may be, by the link's own measure or by the stack's.
            self._waiting = True
            link.wait_for_room()
            return False
        if more:
            stack.wake()
        return more

    # --- what is told --------------------------------------------------------------------------

    def call(self, told: Callable[[], None]) -> bool:
        """Call one of the callers' functions: its fault must not cost the others' packets."""
        try:
            told()
        except Exception:
            _log.exception("whoever was told of a connection failed")
            return False
        return True

    def tell(self, told: OnOutcome, outcome: Outcome, bound: Bound | None) -> bool:
        self.counters[f"proxy__dial__{outcome.label}"] += 1
        return self.call(lambda: told(outcome, bound))

    def later(self, told: Callable[[], None]) -> None:
        self._loop.call_soon(told)

    def done(self, dialing: Dialing) -> None:
        """It is dialled no more."""
        self._dials.discard(dialing)

    def let_go(self, sock: socket.socket) -> None:
        """Nothing of what the socket has to say is heard any more."""
        if sock.fileno() >= 0:
            self._poller.unwatch(sock.fileno())

    def join(self, flow: Outgoing, sock: socket.socket, early: bytes, now: float) -> None:
        """Splice an open connection to the local socket."""
        stream = PolledStream(sock, self._poller) if not early else EarlyStream(
            sock, self._poller, early)  # fmt: skip
        # Of the rest the poller tells, beginning with what is there.
        flow.begin(stream, now, holds=bool(early))
        if flow.sock is stream:
            self._poller.watch_instead(sock.fileno(), flow, EVERYTHING | URGENT)


class EarlyStream(PolledStream):
    """A local socket of which the first bytes were read already."""

    __slots__ = ("_early", "_receive")

    def __init__(self, sock: socket.socket, poller: Poller, early: bytes) -> None:
        super().__init__(sock, poller)
        self._early = early
        self._receive = sock.recv_into
        self.recv_into = self._recv_early

    def _recv_early(self, buffer: Any, nbytes: int = 0, flags: int = 0, /) -> int:
        """First those; and what is in the socket, as a short read says that it is empty."""
        early = self._early
        if not early:
            return self._receive(buffer, nbytes)
        view = memoryview(buffer)
        limit = nbytes or len(view)
        n = min(limit, len(early))
        view[:n] = early[:n]
        self._early = early[n:]
        if n == limit:
            return n
        try:
            return n + self._receive(view[n:], limit - n)
        except OSError:
            # None, or an error, which stays with the socket and is told by the poller.
            return n


class Association:
    """A UDP port of the stack's, in the hands of one of the proxy's visitors."""

    __slots__ = ("_dialer", "_udp")

    def __init__(self, dialer: Dialer, udp: UdpPort) -> None:
        self._dialer = dialer
        self._udp = udp

    @property
    def port(self) -> int:
        return self._udp.port

    @property
    def from_tunnel_bytes(self) -> int:
        """Payload; likewise the other way."""
        return self._udp.from_tunnel_bytes

    @property
    def to_tunnel_bytes(self) -> int:
        return self._udp.to_tunnel_bytes

    def send(self, host: bytes, port: int, payload: bytes | bytearray | memoryview) -> bool:
        """Send a datagram; False if it was dropped: no lease, no room, too large."""
        sent = self._udp.send(host, port, payload)
        self._dialer.settle_soon()
        return sent

    def close(self) -> None:
        """Safe to call twice."""
        self._udp.close()


def asked_name(text: str) -> bytes:
    """A name as it is asked. Raises MalformedMessage for one that is none or is never asked.

    `localhost` and what ends in it is this host (RFC 6761, 6.3), which is not beyond the tunnel.
    """
    name = wire_name(text)
    if name.lower().endswith(b"\x09localhost\0"):
        raise MalformedMessage("localhost is not beyond the tunnel")
    return name


def _literal(text: str) -> bytes | None:
    """An address that is written as text, packed."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, text.strip("[]"))
        except OSError:
            continue
    return None
