"""Whom a link leads to, as the flows over it see it: their queue, their sums, their turns.

All flows of one link share its room. What the link can take now is `room` of
`out`; `pull` fills that from readable sockets, in the fair order of `queue`, and
no further than `pace` allows, so that what is queued stays short. A small answer
does not even wait for that: the filling ends, so that it is sent, and the next
one follows (`SMALL_EVERY` bounds what that costs). Receive windows come out of one
budget; so do the bytes that are not acknowledged.

With a speed limit (`throttle.py`) sockets of streams are read, and windows
opened, only as fast as it allows; the timer says when to go on. Datagrams then have
an order of their own (`datagrams`) and are read at once, to be dropped beyond it.

What a batch of packets from the tunnel leaves to do (joined pieces, ACKs) is
done at its end. Packets are told apart and judged by the subclass.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

from netstack.emission import emit_fragments
from netstack.out import PacketOut
from netstack.tcp.buffers import CAPACITY, SendBufferPool
from netstack.tcp.config import TcpConfig, mss_for
from splice.flow import Flow
from splice.limits import LinkLimits
from splice.pace import QueuePace
from splice.scheduler import QUANTUM, FairQueue
from splice.splice import Splice
from splice.throttle import Throttle
from splice.timers import NEVER, Timers
from splice.windows import PacedWindows, WindowBudget, first_window, limited

ACK_DELAY = 0.002
"""Seconds that an ACK with no other news waits for an answer to travel with: a host nearby has
answered by then, and a client notices nothing (RFC 9293 section 3.8.6.3 allows half a second)."""
LASTING = 5.0
"""Seconds, at most, for which a connection is half closed before its socket's side is probed."""
MAX_READS = 256
"""Socket reads in one `pull`, so that reads that give nothing to send cannot hold the loop."""
SMALL = 4 * 1024
"""Bytes, at most, of answers that are sent before more is read of others: a SYN, a name, the echo
of a key."""
SMALL_EVERY = 0.001
"""Seconds, at least, between two fillings that end for a small answer: each costs bulk flows a look
at all sockets and a record of its own."""
UNMETERED = 1 << 62
"""A count of bytes that nothing reaches."""
FREE_BUFFERS = 16
"""Send buffers of 64 KiB that a peer keeps for its next reads."""

_TCP = TcpConfig()


def _nobody() -> None:
    """Called where no link carries us."""


class LinkPeer:
    """The other end of a link, and the flows that share the way to it.

    A subclass numbers its flows and fragments, and tells packets from the tunnel apart.
    """

    __slots__ = (
        "_carried",
        "_carried_before",
        "_dirty",
        "_lasting",
        "_lasts_at",
        "_pace",
        "_pulls_at",
        "_rests",
        "_small_at",
        "_tcp_config",
        "_tcp_configs",
        "_wake",
        "batch",
        "buffers",
        "counts",
        "datagrams",
        "down_stop",
        "draining",
        "hasty",
        "held",
        "held_until",
        "id",
        "in_flight",
        "limits",
        "mtu",
        "out",
        "paced_windows",
        "queue",
        "read_size",
        "reliable",
        "removed",
        "resending",
        "sockets",
        "tcp",
        "throttle_down",
        "timer",
        "timers",
        "windows",
    )

    limits: LinkLimits

    def __init__(
        self,
        peer_id: str,
        timers: Timers,
        counts: defaultdict[str, int],
        limits: LinkLimits,
        mtu: int,
        tcp: TcpConfig = _TCP,
    ) -> None:
        """`tcp` is what connections are like in all that the link and its room do not say. No link
        carries us yet (`set_out`)."""
        self.id = peer_id
        self.timers = timers
        self.counts = counts
        self.limits = limits
        self.mtu = mtu
        self.out: PacketOut | None = None
        """The link's queue; None while there is no link."""
        self._wake = _nobody
        self.reliable = True
        """Whether the link neither loses nor reorders (a stream)."""
        self.removed = False
        self._carried = 0
        """Bytes of packets that links took before this one; and how many this one had taken when
        it became ours."""
        self._carried_before = 0
        self.tcp: dict[bytes, Splice] = {}
        """Connections by their key."""
        self.draining: set[Splice] = set()
        self.down_stop = UNMETERED
        """The `to_tunnel_bytes` beyond which nothing is pulled before `meter` was asked."""
        self.queue = FairQueue()
        self.datagrams = self.queue
        """The same queue while there is no speed limit toward the peer; then one of their own."""
        self.throttle_down: Throttle | None = None
        """The speed limit toward the peer."""
        self.paced_windows: PacedWindows | None = None
        """Those of its uploads, with the speed limit from it."""
        self.buffers = SendBufferPool(FREE_BUFFERS)
        self.windows = WindowBudget(limits)
        self.batch: list[Flow] = []
        """Flows with something to do at the end of the batch."""
        self.held: dict[Splice, None] = {}
        """Connections whose ACK waits, until `held_until`, for data to travel with."""
        self.held_until = NEVER
        self._lasting: dict[Splice, None] = {}
        """Connections that the tunnel's side has closed lately; looked at again `_lasts_at`."""
        self._lasts_at = NEVER
        self.resending: dict[Splice, None] = {}
        """Connections with retransmissions that wait for room on the link."""
        self.sockets = 0
        self.in_flight = 0
        """Bytes sent into the tunnel and not acknowledged, of all connections. Each adds what has
        changed of its own (`Splice.settle`): it happens with every packet, and a call would cost
        more than the sum."""
        self.timer = NEVER
        self.read_size = CAPACITY
        """The largest piece that a connection reads from its socket now."""
        self._dirty = False
        self._pace = QueuePace()
        self._rests = False
        """Nothing was to be read when `pull` last looked."""
        self.hasty = False
        """What was put into the queue by others than `pull` is small, and somebody waits for it.
        Who puts it there sets it."""
        self._small_at = 0.0
        """When a filling may end for a small answer again."""
        self._pulls_at = NEVER
        """When the speed limit lets streams be read again that wait for it."""
        self._tcp_config = tcp
        self._tcp_configs: dict[tuple[int, int], TcpConfig] = {}

    # What a subclass has to say.

    def meter(self, allowance: int, now: float) -> int:
        """How much of the allowance may be pulled now that the stop is near: all but the last
        piece, whose size is then that of what is left."""
        left = self.down_stop - self.to_tunnel_bytes
        if left > CAPACITY:
            left -= CAPACITY
        return max(0, min(allowance, left))

    def next_flow_id(self) -> int:
        raise NotImplementedError

    def next_ident(self) -> int:
        """A fragment identification, 32 bits."""
        raise NotImplementedError

    def end_batch(self, now: float) -> None:
        """After a batch of `from_tunnel` calls: joined pieces, ACKs, gathered datagrams."""
        self.timers.now = now
        batch = self.batch
        if batch:
            self.batch = []
            for flow in batch:
                flow.end_batch(now)
        if self.paced_windows is not None:
            self.paced_windows.release(now)
            self.set_timer()
        out = self.out
        if out is not None and (out.waiting or self.queue.waiting or self.resending):
            self.wake()

    # To the tunnel.

    def pull(self, now: float) -> bool:
        """Fill the link's queue from readable sockets, fairly; True if more is ready.

        The queue is filled as far as the link has room, no further than its pace allows, and
        not behind a small answer.
        """
        self._dirty = False
        out = self.out
        if out is None:
            return False
        self.timers.now = now
        if self.queue.waiting or self.resending:
            room = out.room()
            if self._rests:
                self._rests = False
                self._pace.resume(room, now)
        elif self.throttle_down is None and self.down_stop is UNMETERED:
            # Nothing to fill the queue with, as with each ACK of an upload: no news, and it says
            # nothing of how fast the link is.
            self._rests = True
            return False
        else:
            room = out.room()
        allowance = self._pace.allowance(room, now)
        metered = (
            self.down_stop is not UNMETERED and self.to_tunnel_bytes + allowance > self.down_stop
        )
        if metered:
            allowance = self.meter(allowance, now)
        if self.throttle_down is None:
            more = self._fill(out, room - allowance, allowance, now)
        else:
            more = self._fill_limited(out, self.throttle_down, room - allowance, allowance, now)
        self._pace.filled(out.room())
        if metered:
            self.meter(0, now)
        return more

    def _fill(self, out: PacketOut, least_room: int, allowance: int, now: float) -> bool:
        """Emit until no more than `least_room` is left; True if more is ready."""
        room = out.room
        if self.resending and not self._resend(out, now):
            return True
        queue = self.queue
        bound = self.limits.unacknowledged_per_peer
        self.read_size = self._pace.read_size(allowance)
        small = SMALL if now >= self._small_at else 0
        taken = 1 if self.hasty and out.waiting else 0
        self.hasty = False
        for _ in range(MAX_READS):
            if room() <= least_room:
                return queue.waiting > 0
            member = queue.next()
            if member is None:
                return False
            if 0 < taken <= small and not queue.is_new(member):
                self._small_at = now + SMALL_EVERY
                return True
            if self.in_flight >= bound:
                self.counts["tcp__unacknowledged__bound_reached"] += 1
                return False
            assert isinstance(member, Flow)
            used = member.pull_some(out, now)
            queue.charge(member, used)
            taken += used
        return queue.waiting > 0

    def _resend(self, out: PacketOut, now: float) -> bool:
        """Go on with retransmissions; False if there is no room for all of them."""
        for flow in list(self.resending):
            if out.room() <= 0:
                return False
            if flow.conn.output_pending:
                flow.conn.output(now)
            if not flow.conn.output_pending:
                self.resending.pop(flow, None)
            flow.settle(now)
        return True

    def _fill_limited(
        self, out: PacketOut, throttle: Throttle, least_room: int, allowance: int, now: float
    ) -> bool:
        """`_fill` with a speed limit. Streams that wait for it are no reason to come back soon."""
        room = out.room
        if self.resending and not self._resend(out, now):
            return True
        datagrams, queue = self.datagrams, self.queue
        for _ in range(MAX_READS):
            if room() <= least_room:
                return datagrams.waiting > 0 or queue.waiting > 0
            member = datagrams.next()
            if member is None:
                break
            assert isinstance(member, Flow)
            datagrams.charge(member, member.pull_some(out, now))
        bound = self.limits.unacknowledged_per_peer
        self.read_size = min(self._pace.read_size(allowance), throttle.read_size(self.mtu))
        for _ in range(MAX_READS):
            if room() <= least_room:
                return datagrams.waiting > 0 or queue.waiting > 0
            if throttle.streams(now):
                member = queue.next()
            else:
                member = queue.newcomer() if throttle.newcomers else None
            if member is None:
                break
            if self.in_flight >= bound:
                self.counts["tcp__unacknowledged__bound_reached"] += 1
                return datagrams.waiting > 0
            assert isinstance(member, Splice)
            n = member.pull_some(out, now)
            if n:
                queue.charge(member, n)
                throttle.charge(member.conn.packet_bytes(n))
        if queue.waiting:
            self._pulls_at = now + throttle.delay()
            self.set_timer()
        return datagrams.waiting > 0

    # Speed limits.

    def set_speed_limits(self, up: int | None, down: int | None, now: float) -> None:
        """Bound what comes from the peer and what goes to it, in bits a second; None is not at all.

        It holds for running flows as well, and may be called at any time.
        """
        self.timers.now = now
        before = self.paced_windows
        if up != (None if before is None else before.throttle.bits):
            self._limit_up(up, now)
        throttle = self.throttle_down
        if down != (None if throttle is None else throttle.bits):
            self._limit_down(down, now)
        if self.out is not None:
            self.wake()

    def _limit_up(self, bits: int | None, now: float) -> None:
        before = self.paced_windows
        flows = [*self.tcp.values(), *self.draining]
        self._tcp_configs.clear()
        if bits is None:
            self.paced_windows = None
            self.windows.set_limits(self.limits, flows)
        else:
            self.paced_windows = PacedWindows(Throttle(bits, now))
            self._fit_windows(self.paced_windows)
        if before is not None:
            before.end(flows, now)
        if self.paced_windows is not None:
            for flow in flows:
                self.paced_windows.begin(flow)

    def _fit_windows(self, paced: PacedWindows) -> None:
        limits = limited(self.limits, paced.throttle.rate, mss_for(self.mtu, 4))
        self.windows.set_limits(limits, [*self.tcp.values(), *self.draining])

    def _limit_down(self, bits: int | None, now: float) -> None:
        queue, before = self.queue, self.datagrams
        queue.prompt = bits is not None
        self._pulls_at = NEVER
        if bits is None:
            self.throttle_down = None
            queue.quantum = QUANTUM
            self.datagrams = queue
        else:
            self.throttle_down = Throttle(bits, now)
            queue.quantum = self.throttle_down.turn
            if before is queue:
                self.datagrams = FairQueue()
        if self.datagrams is not before:
            self._sort_datagrams(before)

    def _sort_datagrams(self, before: FairQueue) -> None:
        """Flows of datagrams move from the queue `before` to the one that is theirs now."""

    # The link.

    def set_out(
        self, out: PacketOut, wake: Callable[[], None], now: float, reliable: bool = True
    ) -> None:
        """A link carries us from now on: TCP sends on it what is unacknowledged. `wake` has it
        call `pull`; it is called when there is something, and not again before that was done."""
        self.timers.now = now
        self._take(out, wake)
        self.reliable = reliable
        self.set_mtu(out.mtu)
        self.send_again(now)

    def send_again(self, now: float) -> None:
        """What went by the link lately went nowhere: TCP sends it anew, and feels its way."""
        out = self.out
        if out is None:
            return
        self.timers.now = now
        self._pace = QueuePace()
        self._rests = False
        for flow in list(self.tcp.values()):
            flow.conn.link_resumed(out, now, self.reliable)
            flow.settle(now)
        self.wake()

    def link_lost(self, now: float) -> None:
        """No link carries us: what there is to send waits for one."""
        self.timers.now = now
        self._take(None, _nobody)
        for flow in self.tcp.values():
            flow.conn.out = None

    def _take(self, out: PacketOut | None, wake: Callable[[], None]) -> None:
        self._carried = self.to_tunnel_bytes
        self._carried_before = 0 if out is None else out.packet_bytes
        self.out = out
        self._wake = wake
        self._dirty = False

    @property
    def to_tunnel_bytes(self) -> int:
        """Bytes of the IP packets that were put into the tunnel, as many as segments are cut into
        on the way; what the way then lost, and what is sent for it again, included."""
        out = self.out
        if out is None:
            return self._carried
        return self._carried + out.packet_bytes - self._carried_before

    def set_mtu(self, mtu: int) -> None:
        """The lease's MTU changed: connections from now on offer the MSS that fits it."""
        self.mtu = mtu
        self._tcp_configs.clear()
        if self.paced_windows is not None:
            self._fit_windows(self.paced_windows)

    @property
    def wants_out(self) -> bool:
        """Whether something was to be sent since the last `pull`."""
        return self._dirty

    def wake(self) -> None:
        """There is something to send, or to read and send: have `pull` called.

        Once is enough until then: `_dirty` is set. Nothing is due while there is no link.
        """
        if not self._dirty and self.out is not None:
            self._dirty = True
            self._wake()

    def activate(self, flow: Flow) -> None:
        """The flow has something to be read and may emit it."""
        self.queue.add(flow)
        if not self._dirty:
            self.wake()

    def activate_datagrams(self, flow: Flow) -> None:
        """Likewise for a flow of datagrams."""
        self.datagrams.add(flow)
        if not self._dirty:
            self.wake()

    def emit(self, packet: bytearray) -> None:
        """Emit a whole packet of our own making, in fragments if it exceeds the MTU."""
        out = self.out
        if out is None:
            return
        if len(packet) <= SMALL:
            self.hasty = True
        if len(packet) <= out.mtu:
            at = out.reserve_packet(len(packet))
            out.buffer[at : at + len(packet)] = packet
            return
        emit_fragments(out, packet, self.next_ident())

    # What flows use.

    def tcp_config(self, version: int) -> TcpConfig:
        """The settings of a new connection. Few different ones exist, and they are shared."""
        mss = mss_for(self.mtu, version)
        limits = self.windows.limits
        window = first_window(limits, len(self.tcp) + 1)
        key = (mss, window if window == limits.receive_window_min else window & ~0xFFF)
        config = self._tcp_configs.get(key)
        if config is None:
            config = self._tcp_configs[key] = replace(
                self._tcp_config,
                mss=mss,
                receive_window=key[1],
                max_receive_window=self.limits.receive_window_max,
                reliable=self.reliable,
                count=self._count,
            )
        return config

    def _count(self, name: str) -> None:
        """A connection's own counter. What it drops was counted as handed to it already."""
        if name.endswith("__dropped"):
            name += "_by_connection"
        self.counts[name] += 1

    def opened(self) -> None:
        """A flow has got a socket."""
        self.sockets += 1

    def released(self) -> None:
        self.sockets -= 1

    def uploads(self, flow: Splice, now: float) -> None:
        """The flow is one that uploads: it gets its share of the windows."""
        self.windows.admit(flow, now)
        self.set_timer()

    def passed_on(self, flow: Splice, n: int, now: float) -> None:
        """With a speed limit from the peer: the flow's socket has taken `n` bytes."""
        assert self.paced_windows is not None
        self.paced_windows.passed(flow, n, now)
        self.set_timer()

    def leave(self, flow: Splice) -> None:
        """A connection is over: out of the tables that find it."""
        if self.tcp.get(flow.key) is flow:
            del self.tcp[flow.key]
        self.resending.pop(flow, None)
        self.held.pop(flow, None)
        self._lasting.pop(flow, None)
        self.queue.remove(flow)
        self.windows.forget(flow)

    def hold_ack(self, flow: Splice, now: float) -> None:
        """The flow's ACK may wait a little: an answer of the socket's may be on its way."""
        first = not self.held
        self.held[flow] = None
        if first:
            self.held_until = due = now + ACK_DELAY
            if due < self.timer:
                self.timers.arm(self, due)

    def half_closed(self, flow: Splice, now: float) -> None:
        """The tunnel's side has closed, and the socket's may go on for hours. Nearly all close at
        once, so who has is asked a little later, of all together (`Splice.keep_half_closed`)."""
        first = not self._lasting
        self._lasting[flow] = None
        if first:
            self._lasts_at = due = now + LASTING
            if due < self.timer:
                self.timers.arm(self, due)

    # Timers: the peer is in the heap like a flow.

    def set_timer(self) -> None:
        due = self.due()
        if due < self.timer:
            self.timers.arm(self, due)

    def due(self) -> float:
        if self.removed:
            return NEVER
        due = min(self.windows.due(), self.held_until if self.held else NEVER, self._pulls_at)
        if self._lasting and self._lasts_at < due:
            due = self._lasts_at
        paced = self.paced_windows
        return due if paced is None else min(due, paced.due())

    def handle_timer(self, now: float) -> None:
        self.windows.handle_timer(now)
        if self.paced_windows is not None and now >= self.paced_windows.due():
            self.paced_windows.release(now)
            self.wake()
        if now >= self._pulls_at:
            self._pulls_at = NEVER
            self.wake()
        if self._lasting and now >= self._lasts_at:
            lasting, self._lasting = self._lasting, {}
            for flow in lasting:
                flow.keep_half_closed()
        if self.held and now >= self.held_until:
            held, self.held = self.held, {}
            for flow in held:
                flow.flush_ack(now)
            self.wake()

    # Closing.

    def close_all(self, now: float) -> None:
        """The other end has gone for good: not a word to it, RST to the sockets."""
        self._take(None, _nobody)
        for tcp in [*self.tcp.values(), *self.draining]:
            tcp.vanish()
        self.batch.clear()
        self.held.clear()
        self._lasting.clear()
        self.removed = True
        self.timer = NEVER
