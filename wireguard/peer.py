"""One peer: its keys, its sessions, where it is, and when something has to be sent.

Theory of operation. Datagrams reach a peer through `device`, which knows whose they
are. Packets toward it go into its `writer`; the driver asks `ready` before it lets
anything be put there, and `take`s what was sealed. `ready` begins a handshake where
there is no session, so the peer is woken by the first packet and not before.

Sessions come about in two ways (`keypairs` has the table): the peer begins, is
answered, and confirms by its first datagram; or we begin, are answered, and confirm by
a keepalive. The two may cross. What is not authenticated changes nothing, and an
answered initiation changes nothing but `next`, for it may be a replay: the endpoint
follows the newest authenticated datagram only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from sealing.errors import AuthFailed, PeerViolation
from wireguard.constants import (
    COOKIE_LIFETIME,
    KEEPALIVE_TIMEOUT,
    MAX_ATTEMPTS,
    MIN_INITIATION_INTERVAL,
    REJECT_AFTER_TIME,
    REKEY_AFTER_MESSAGES,
    REKEY_AFTER_TIME,
    REKEY_TIMEOUT,
)
from wireguard.keypairs import KeyPair, KeyPairs
from wireguard.macs import add_macs, mac1_of, open_cookie
from wireguard.messages import CookieReply, Initiation, Response
from wireguard.noise import (
    Accepted,
    Initiated,
    PeerKeys,
    ephemeral,
    finish,
    initiate,
    respond,
)
from wireguard.timers import NEVER, Due, Timers
from wireguard.timestamps import NEVER as NO_TIMESTAMP
from wireguard.timestamps import later, seconds_of, tai64n
from wireguard.writer import TunnelWriter

if TYPE_CHECKING:
    from wireguard.device import Device

Where = Any
"""Where a datagram came from: the driver's own value, compared by `==`."""
PacketSink = Callable[[memoryview, int, int], None]
"""(buffer, start, end): one IP packet; the buffer is good during the call only."""
RowSink = Callable[[memoryview, int, int, int, int], None]
"""(buffer, start, size, stride, count): IP packets of one size, the first of them at `start`, each
`stride` bytes behind the one before; the buffer is good during the call only."""

LATE_REKEY_AGE = REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT


def drop_packet(buf: memoryview, start: int, end: int) -> None:
    """For peers whose packets nobody wants."""


class Outdated(PeerViolation):
    """An initiation that is no later than one that was answered."""

    def __init__(self, seconds: float) -> None:
        super().__init__("initiation_outdated" if seconds else "initiation_replayed")
        self.seconds = seconds
        """By how much it is earlier."""


class Pending(NamedTuple):
    """An initiation of ours that waits for its response."""

    ours: int
    """Our index."""
    state: Initiated
    mac1: bytes


class Peer:
    """A device that may talk to us."""

    __slots__ = (
        "_attempts",
        "_cookie",
        "_cookie_at",
        "_device",
        "_initiated_at",
        "_late_rekey",
        "_pending",
        "_sent_at",
        "_stamped",
        "_timestamp",
        "answered",
        "endpoint",
        "handshake_at",
        "heard_at",
        "ipv4",
        "ipv6",
        "keys",
        "on_packet",
        "on_row",
        "pairs",
        "received_bytes",
        "sent_bytes",
        "timers",
        "unconfirmed",
        "writer",
    )

    def __init__(self, device: Device, keys: PeerKeys, ipv4: bytes, ipv6: bytes, mtu: int) -> None:
        self._device = device
        self.keys = keys
        self.ipv4 = ipv4
        self.ipv6 = ipv6
        """Its inner addresses: packets from others are dropped (cryptokey routing)."""
        self.on_packet: PacketSink = drop_packet
        self.on_row: RowSink | None = None
        """Takes packets that came in a row and look alike; without it `on_packet` takes each."""
        self.writer = TunnelWriter(mtu, device.counters)
        self.pairs = KeyPairs(device.forget_pair)
        self.timers = Timers()
        self.endpoint: Where | None = None
        """Where it was heard last, authenticated."""
        self.handshake_at: float | None = None
        """When the newest session was confirmed."""
        self.heard_at: float | None = None
        self.received_bytes = 0
        self.sent_bytes = 0
        """Datagrams, without UDP's and IP's headers, as `wg show` counts."""
        self.unconfirmed = 0
        """Answers to initiations since the last one that was confirmed."""
        self.answered: tuple[Where, float] | None = None
        """Where the last of them went, and when."""
        self._timestamp = NO_TIMESTAMP
        self._initiated_at = -NEVER
        self._stamped = NO_TIMESTAMP
        self._sent_at = -NEVER
        self._pending: Pending | None = None
        self._attempts = 0
        self._cookie: bytes | None = None
        self._cookie_at = -NEVER
        self._late_rekey = False

    # --- sending -----------------------------------------------------------------------------

    def usable(self, now: float) -> bool:
        """Whether packets may be put into the writer."""
        pair = self.pairs.current
        if pair is not None and pair.usable(now):
            return True
        self.writer.pair = None
        return False

    def ready(self, now: float) -> bool:
        """Whether packets may be put into the writer; begins a handshake where they may not."""
        if self.usable(now):
            return True
        self.begin(now)
        return False

    def take(self, now: float) -> list[tuple[memoryview, int]]:
        """Seals what is in the writer; what is to be sent to `endpoint`, as runs."""
        writer = self.writer
        writer.flush()
        runs = writer.output()
        if runs:
            self._sent(True, sum(len(run) for run, _ in runs), now)
        return runs

    def begin(self, now: float) -> None:
        """Begin a handshake, unless one was begun within `REKEY_TIMEOUT` or nobody knows where."""
        if self.endpoint is not None and now - self._sent_at >= REKEY_TIMEOUT:
            self._attempts = 0
            self._initiate(now)

    # --- handshakes --------------------------------------------------------------------------

    def answer(self, message: Initiation, accepted: Accepted, where: Where, now: float) -> None:
        """An initiation of this peer's is proven: answer it.

        Raises PeerViolation, and has changed nothing, when it is no later than another one
        or too soon after it.
        """
        if accepted.timestamp <= self._timestamp:
            raise Outdated(seconds_of(self._timestamp) - seconds_of(accepted.timestamp))
        if now - self._initiated_at < MIN_INITIATION_INTERVAL:
            raise PeerViolation("initiation_too_soon")
        device = self._device
        index = device.fresh_index()
        response, keys = respond(accepted, message, self.keys, index, ephemeral())
        self._timestamp = accepted.timestamp
        self._initiated_at = now
        pair = KeyPair(self, index, message.sender, keys, False, now)
        device.pairs[index] = pair
        self.pairs.respond(pair)
        self.timers.derived(now)
        self.unconfirmed += 1
        self.answered = where, now
        device.send(add_macs(response.encode(), self.keys.mac1_key, self._fresh_cookie(now)), where)
        self._arm()

    def complete(self, message: Response, where: Where, now: float) -> None:
        """The response to our initiation. Raises AuthFailed, and has changed nothing, if forged."""
        pending = self._pending
        if pending is None or pending.ours != message.receiver:
            raise AuthFailed("response_unasked")
        device = self._device
        keys = finish(device.identity, pending.state, message, self.keys)
        self._drop_pending()
        pair = KeyPair(self, pending.ours, message.sender, keys, True, now)
        device.pairs[pair.index] = pair
        self.pairs.complete(pair)
        self.timers.derived(now)
        self._use(pair, where, now)
        # The other side may not send under these keys before it has heard something.
        self._keepalive(now)

    def confirm(self, pair: KeyPair, where: Where, now: float) -> None:
        """The peer speaks under a session that it began. Raises LocalMisuse unless `next`."""
        self.pairs.confirm(pair)
        self._drop_pending()
        self._use(pair, where, now)

    def cookie_came(self, reply: CookieReply, now: float) -> None:
        """The peer is under load; the cookie counts from the next message on. Raises AuthFailed."""
        pending = self._pending
        if pending is None or pending.ours != reply.receiver:
            raise AuthFailed("cookie_unasked")
        self._cookie = open_cookie(reply, self.keys.cookie_key, pending.mac1)
        self._cookie_at = now

    # --- receiving ---------------------------------------------------------------------------

    def heard(self, data: bool, now: float) -> None:
        """Datagrams of this peer's have authenticated, some of them with a packet or none."""
        self.heard_at = now
        self.timers.heard(data, now)
        pair = self.pairs.current
        if (
            pair is not None
            and pair.initiator
            and not self._late_rekey
            and now - pair.born > LATE_REKEY_AGE
        ):
            self._late_rekey = True
            self.begin(now)
        self._arm()

    def move(self, where: Where, now: float) -> None:
        """The newest authenticated datagram came from there."""
        self.endpoint = where
        self._device.owner.moved(self, now)

    # --- time --------------------------------------------------------------------------------

    def handle_timer(self, now: float) -> None:
        for due in self.timers.due(now):
            match due:
                case Due.KEEPALIVE:
                    self._keepalive(now)
                case Due.SILENCE:
                    self.begin(now)
                case Due.RETRY if self._attempts < MAX_ATTEMPTS:
                    self._attempts += 1
                    self._initiate(now)
                case Due.RETRY:
                    self._drop_pending()
                    self.timers.gave_up(now)
                    self._device.owner.silent(self, now)
                case Due.EXPIRE:
                    self.writer.pair = None
                case Due.FORGET:
                    self.wipe()
        self._arm()

    def wipe(self) -> None:
        """Forget all keys of all sessions."""
        self._drop_pending()
        self.pairs.clear()
        self.writer.pair = None
        self.timers.clear()

    # --- inside ------------------------------------------------------------------------------

    def _use(self, pair: KeyPair, where: Where, now: float) -> None:
        """The pair is `current`, and the peer is known to have it."""
        self.writer.pair = pair
        self.timers.confirmed(pair.born)
        self.unconfirmed = 0
        self.handshake_at = now
        self._late_rekey = False
        self._attempts = 0
        if where != self.endpoint:
            self.endpoint = where
        self._device.owner.confirmed(self, now)
        self._arm()

    def _initiate(self, now: float) -> None:
        device = self._device
        self._drop_pending()
        index = device.fresh_index()
        self._stamped = stamp = later(tai64n(device.epoch + now), self._stamped)
        try:
            message, state = initiate(device.identity, self.keys, index, stamp, ephemeral())
        except AuthFailed:
            # `PeerKeys` was made of this key, so it is none of low order.
            raise AssertionError("unusable key") from None
        wire = add_macs(message.encode(), self.keys.mac1_key, self._fresh_cookie(now))
        self._pending = Pending(index, state, mac1_of(wire))
        device.pending[index] = self
        self._sent_at = now
        self.timers.initiated(now, device.jitter())
        device.count("initiation__sent")
        device.send(wire, self.endpoint)
        self._arm()

    def _keepalive(self, now: float) -> None:
        pair = self.pairs.current
        if pair is None or not pair.usable(now):
            return
        # What waits goes first: it says the same.
        runs = self.take(now)
        if not runs:
            self.writer.keepalive()
            runs = self.writer.output()
            self._sent(False, sum(len(run) for run, _ in runs), now)
        for run, segment in runs:
            for at in range(0, len(run), segment):
                self._device.send(bytes(run[at : at + segment]), self.endpoint)

    def _sent(self, data: bool, size: int, now: float) -> None:
        self.sent_bytes += size
        self.timers.sent(data, now, self._device.jitter() if data else 0.0)
        pair = self.pairs.current
        if pair is not None and (
            pair.sealing.counter > REKEY_AFTER_MESSAGES
            or (pair.initiator and now - pair.born > REKEY_AFTER_TIME)
        ):
            self.begin(now)
        self._arm()

    def _fresh_cookie(self, now: float) -> bytes | None:
        return self._cookie if now - self._cookie_at < COOKIE_LIFETIME else None

    def _drop_pending(self) -> None:
        if self._pending is not None:
            del self._device.pending[self._pending.ours]
            self._pending = None

    def _arm(self) -> None:
        device = self._device
        earliest = self.timers.earliest
        if earliest < device.alarm:
            device.alarm = earliest
