"""The gates of devices: when each may use the tunnel, at every moment.

Theory of operation. A tunnel has a gate from its first link to its end. What holds is judged in
`rules/gate.py`; here it is judged again whenever it may have changed, and carried out:

    the device's rules changed          `rules_changed`, told by the registry
    a time came: an end, hours, a new   the gate's own look, at the latest after LOOK_SECONDS,
    period of a quota; or the wall      since a wall clock that is set tells nobody
    clock was set
    the quota may be spent              `metered`, told by the NAT at a count of bytes

Closed, the NAT shuts the device out (`Nat.shut_out`): its flows end truthfully, what it tries is
answered by ICMP and its questions are refused. Its session stays, so that it can be told why:
by STATUS where it speaks VSHP. The journal tells the owner. Rules are in local time, by the
wall clock and zone of this machine; looks are timed by the monotonic one.

*The meter.* The packet path knows no quota. It compares its count of bytes with a stop, which is
put where the quota could be spent at the earliest: up and down share what is left of a quota for
both, so that each gets half, and then half of what is left then; the last FINE bytes are put at
both stops at once. So a quota ends within FINE and a packet of its figure.

*What is left* is read from the meter when somebody reads a gate (`read`). A device is told by
STATUS, a part of its quota at a time (TOLD_PARTS). While it uses the quota the gate looks every
USE_SECONDS, and the stops are far; while it does not the gate waits, and they are where it will
have used a part. So an idle device costs nothing, the path of packets is not slower for it, and
few of its STATUS are on the way at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from typing import TYPE_CHECKING

from eventloop.clock import Clock
from eventloop.poller import NEVER
from gateway.journal import Journal
from gateway.nat.router import Nat
from gateway.nat.side import ClientSide
from gateway.peers import PeerRegistry
from gateway.zone import LOCAL, LocalZone
from rules.gate import OPEN, Term, Verdict, judge, predicate, quota_left, renewed
from rules.value import NO_RULES, Direction, Quota, Rules
from splice.peer import UNMETERED

if TYPE_CHECKING:
    from gateway.tunnels import Tunnel

LOOK_SECONDS = 60.0
"""How long a wall clock that was set, or a journey to another zone, may go unnoticed."""
FINE = 16 * 1024
"""Bytes of a quota by which it may be exceeded where both ways count."""
TOLD_PARTS = 100
"""Parts of a quota by which its device is told what is left."""
TOLD_LEAST = 64 * 1024
"""Bytes that such a part has at least."""
USE_SECONDS = 2.0
"""How often a gate is looked at while its device uses its quota."""


@dataclass(slots=True)
class Gate:
    """One tunnel's gate. Times are monotonic seconds but for those in the verdict and term."""

    tunnel: Tunnel
    verdict: Verdict = OPEN
    """As of the last look; what is left at this moment, `Gates.read` tells."""
    why: str = ""
    """What is said of the device while it is closed: `is paused by the owner`."""
    term: Term | None = None
    rules: Rules = field(default=NO_RULES)
    """As the term is for them."""
    looks_at: float = NEVER
    told: int | None = None
    """What was left when its device was told last."""
    in_use: bool = False
    """Whether less of its quota was left at the last look than at the one before."""


class Gates:
    """All gates. `on_change(tunnel, now)` is called when its device is to be told something."""

    def __init__(
        self,
        nat: Nat,
        registry: PeerRegistry,
        journal: Journal,
        clock: Clock,
        zone: tzinfo = LOCAL,
    ) -> None:
        """`zone` is the one that rules are written in."""
        self.on_change: Callable[[Tunnel, float], None] = lambda tunnel, now: None
        self.wake_by: Callable[[float], None] = lambda at: None
        """Called with a moment at which `handle_timer` is to be called at the latest."""
        self._nat = nat
        self._registry = registry
        self._journal = journal
        self._clock = clock
        self.zone = zone
        self._gates: dict[int, Gate] = {}
        """By the id of the tunnel's side of the NAT."""
        self._looks_at = NEVER
        nat.on_metered = self.metered

    def enter(self, tunnel: Tunnel, now: float) -> None:
        """A tunnel begins: its gate is in force when this returns."""
        gate = self._gates[id(tunnel.nat_peer)] = Gate(tunnel)
        self._look(gate, now)

    def leave(self, tunnel: Tunnel) -> None:
        """The tunnel has ended. Nothing happens if it has no gate."""
        self._gates.pop(id(tunnel.nat_peer), None)

    def of(self, tunnel: Tunnel) -> Gate:
        """The gate of a running tunnel; one that is open, if it has none yet."""
        return self._gates.get(id(tunnel.nat_peer)) or Gate(tunnel)

    def read(self, tunnel: Tunnel) -> tuple[Verdict, str]:
        """What holds for a running tunnel, with what is left of its quota at this moment, and what
        is said of its device while its gate is closed: empty while it is open."""
        gate = self.of(tunnel)
        quota, term = gate.rules.quota, gate.term
        if quota is None or term is None:
            return gate.verdict, gate.why
        used = self._registry.books.used(tunnel.public_key, int(term.since), self._clock.wall())
        return replace(gate.verdict, left=quota_left(quota, used)), gate.why

    def away(self, public_key: bytes) -> tuple[Verdict, str]:
        """What holds for a device that has no tunnel, and what is said of it while its gate is
        closed: empty while it is open."""
        rules = self._registry.rules(public_key)
        if rules == NO_RULES:
            return OPEN, ""
        wall, used, ends = self._clock.wall(), (0, 0), None
        if rules.quota is not None:
            term = renewed(None, rules.quota, wall, self.zone)
            used, ends = self._registry.books.used(public_key, int(term.since), wall), term.ends
        verdict = judge(rules, used, ends, wall, self.zone)
        return verdict, "" if verdict.open else predicate(verdict, rules, wall, self.zone)

    def rules_changed(self, public_key: bytes, now: float) -> None:
        """The device's rules are others from now on."""
        for gate in list(self._gates.values()):
            if gate.tunnel.public_key == public_key:
                self._look(gate, now)

    def metered(self, nat_peer: ClientSide, now: float) -> None:
        """The peer has come to a stop (`Nat.on_metered`)."""
        gate = self._gates.get(id(nat_peer))
        if gate is not None:
            self._look(gate, now)

    def get_timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        return None if self._looks_at == NEVER else self._looks_at

    def handle_timer(self, now: float) -> None:
        """Look at those that are due."""
        if self._looks_at > now:
            return
        if isinstance(self.zone, LocalZone):
            self.zone.follow()
        for gate in list(self._gates.values()):
            if gate.looks_at <= now:
                self._look(gate, now)
        self._looks_at = min((gate.looks_at for gate in self._gates.values()), default=NEVER)

    # --- one look ----------------------------------------------------------------------------

    def _look(self, gate: Gate, now: float) -> None:
        wall = self._clock.wall()
        key = gate.tunnel.public_key
        rules = self._registry.rules(key)
        used = self._used(gate, rules, wall)
        ends = None if gate.term is None else gate.term.ends
        before, why = gate.verdict, gate.why
        gate.verdict = verdict = judge(rules, used, ends, wall, self.zone)
        said = predicate(verdict, rules, wall, self.zone)
        gate.why = "" if verdict.open else said
        if verdict.state is not before.state:
            self._carry_out(gate, before, said, now)
        left, former = verdict.left, before.left
        gate.in_use = left is not None and former is not None and left < former
        self._set_stops(gate, rules)
        if gate.why != why or _is_news(gate):
            gate.told = left
            self.on_change(gate.tunnel, now)
        self._time(gate, rules, wall, now)

    def _used(self, gate: Gate, rules: Rules, wall: float) -> tuple[int, int]:
        """Bytes of the term that runs, which is another one if it is over, or the quota is."""
        quota, former = rules.quota, gate.rules.quota
        gate.rules = rules
        if quota is None:
            gate.term = None
            return 0, 0
        if former is None or (quota.period, quota.begins, quota.weekday, quota.day) != (
            former.period, former.begins, former.weekday, former.day,
        ):  # fmt: skip
            gate.term = None
        before, books, key = gate.term, self._registry.books, gate.tunnel.public_key
        gate.term = renewed(before, quota, wall, self.zone)
        since = int(gate.term.since)
        if before is not None and before.since != gate.term.since:
            books.begin(key, since)
        return books.used(key, since, wall)

    def _time(self, gate: Gate, rules: Rules, wall: float, now: float) -> None:
        """When to look again."""
        changes = gate.verdict.changes
        gate.looks_at = NEVER
        if rules.quota is not None or rules.hours or rules.until is not None:
            gate.looks_at = now + LOOK_SECONDS
        if gate.in_use:
            # The same moment for all gates: the gateway wakes up once for them.
            gate.looks_at = min(gate.looks_at, (now // USE_SECONDS + 1) * USE_SECONDS)
        if changes is not None:
            gate.looks_at = min(gate.looks_at, now + max(changes - wall, 0.01))
        if gate.looks_at < self._looks_at:
            self._looks_at = gate.looks_at
            self.wake_by(gate.looks_at)

    def _carry_out(self, gate: Gate, before: Verdict, said: str, now: float) -> None:
        verdict, tunnel = gate.verdict, gate.tunnel
        if verdict.open:
            self._nat.let_in(tunnel.nat_peer)
        elif before.open:
            self._nat.shut_out(tunnel.nat_peer, now)
        device = self._registry.device(tunnel.public_key)
        self._journal.gate(device, verdict.open, said, now)

    def _set_stops(self, gate: Gate, rules: Rules) -> None:
        """Where the quota can be spent at the earliest, or so much of it that it is to be told."""
        peer, quota, left = gate.tunnel.nat_peer, rules.quota, gate.verdict.left
        peer.up_stop = peer.down_stop = UNMETERED
        if quota is None or not gate.verdict.open or left is None:
            return
        if quota.direction is Direction.BOTH:
            left = left if left <= FINE else left // 2
        if not gate.in_use:
            left = min(left, _part(quota))
        if quota.direction is not Direction.DOWN:
            peer.up_stop = peer.from_tunnel_bytes + left
        if quota.direction is not Direction.UP:
            peer.down_stop = peer.to_tunnel_bytes + left


def _part(quota: Quota) -> int:
    """Bytes of it that are worth telling of."""
    return max(quota.bytes // TOLD_PARTS, TOLD_LEAST)


def _is_news(gate: Gate) -> bool:
    """Whether what is left is other than what its device was told, and worth telling."""
    told, left, quota = gate.told, gate.verdict.left, gate.rules.quota
    if told is None or left is None or quota is None or left > told:
        return left != told
    return told - left >= _part(quota)
