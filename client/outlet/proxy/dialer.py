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
from typing import TypeVarTuple

from client.outlet.port import Carrier, Intake
from client.outlet.proxy.dial import Dial
from client.outlet.proxy.early import EarlyStream
from client.outlet.proxy.handles import Association, Bound, Dialing, OnOutcome, Query
from client.outlet.proxy.outcome import Outcome
from client.outlet.proxy.outgoing import Outgoing
from client.outlet.proxy.resolver import Resolver, asked_name
from client.outlet.proxy.stack import Stack
from eventloop.poller import EVERYTHING, NEVER, Poller, running_poller
from eventloop.streams import PolledStream
from netstack.addresses import Addresses
from netstack.dns import MalformedMessage
from splice.limits import LinkLimits
from splice.ports import URGENT
from vshp.config import LeaseConfig

ROUNDS = 8
"""Times that the stack is pulled before the loop has its turn."""
MAX_DIALS = 1_024
"""Connections that are being dialled."""

_log = logging.getLogger(__name__)

_Ts = TypeVarTuple("_Ts")


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
        self._hurried = False
        """A program waits for what is about to be sent."""
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
        now = self._poller.clock()
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
        # Not behind what else the batch brings: the program waits for it. A SYN leaves as soon as
        # it is written, a name's two questions together.
        self._hurried = address is not None
        dial.begin(address, name, self._resolver, now)
        if self._hurried or address is None:
            # Also where the stack had something to send before, and has not told again.
            self._hurried = True
            self._woken()
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
            self.call(on_datagram, host, port, payload)

        def error(host: bytes, port: int, outcome: Outcome) -> None:
            self.call(on_error, host, port, outcome)

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
            self.stack.open(addresses, fresh, link.writer, link.offload, now)
            self.settle_soon()
        else:
            self.stack.set_mtu(lease.mtu)
        return Intake(self._packet_taker(link), joined=True, done=self._received)

    def detach(self) -> None:
        """See `client.outlet.port.Port`."""
        if self._link is not None:
            self._link = None
            self._waiting = False
            self.stack.link_lost(self.now())

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
        """The stack has something to send."""
        if self._hurried:
            self._hurried = False
            if self._link is not None and not self._waiting:
                self._link.push()
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

    def call(self, told: Callable[[*_Ts], None], *words: *_Ts) -> bool:
        """Call one of the callers' functions: its fault must not cost the others' packets."""
        try:
            told(*words)
        except Exception:
            _log.exception("whoever was told of a connection failed")
            return False
        return True

    def tell(self, told: OnOutcome, outcome: Outcome, bound: Bound | None) -> bool:
        taken = self.call(told, outcome, bound)
        self.counters[f"proxy__dial__{outcome.label}"] += 1
        return taken

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


def _literal(text: str) -> bytes | None:
    """An address that is written as text, packed."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, text.strip("[]"))
        except OSError:
            continue
    return None
