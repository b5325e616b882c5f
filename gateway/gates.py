"""The gates of devices: when each may use the tunnel, at every moment.

Theory of operation. A tunnel has a gate from its first link to its end. What holds is judged in
`rules/gate.py`; here it is judged again whenever it may have changed, and carried out:

    the device's rules changed          `rules_changed`, told by the registry
    a time came: an end, hours, a new   the gate's own look, at the latest after LOOK_SECONDS,
    period of a quota; or the wall      since a wall clock that is set tells nobody
    clock was set

Closed, the NAT shuts the device out (`Nat.shut_out`): its flows end truthfully, what it tries is
answered by ICMP and its questions are refused. Its session stays, so that it can be told why:
by STATUS where it speaks VSHP. The journal tells the owner. Rules are in local time, by the
wall clock and zone of this machine; looks are timed by the monotonic one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import tzinfo
from typing import TYPE_CHECKING

from eventloop.poller import NEVER
from gateway.journal import Journal
from gateway.nat.router import Nat
from gateway.peers import PeerRegistry
from gateway.zone import LOCAL, LocalZone
from rules.gate import OPEN, Verdict, judge, predicate
from rules.value import Rules

if TYPE_CHECKING:
    from gateway.tunnels import Tunnel

LOOK_SECONDS = 60.0
"""How long a wall clock that was set, or a journey to another zone, may go unnoticed."""


@dataclass(slots=True)
class Gate:
    """One tunnel's gate. Times are monotonic seconds but for those in the verdict."""

    tunnel: Tunnel
    verdict: Verdict = OPEN
    why: str = ""
    """What is said of the device while it is closed: `is paused by the owner`."""
    looks_at: float = NEVER


class Gates:
    """All gates. `on_change(tunnel, now)` is called when its device is to be told something."""

    def __init__(
        self,
        nat: Nat,
        registry: PeerRegistry,
        journal: Journal,
        wall: Callable[[], float] = time.time,
        zone: tzinfo = LOCAL,
    ) -> None:
        """`wall` tells Unix time, and `zone` is the one that rules are written in."""
        self.on_change: Callable[[Tunnel, float], None] = lambda tunnel, now: None
        self._nat = nat
        self._registry = registry
        self._journal = journal
        self.wall = wall
        self.zone = zone
        self._gates: dict[int, Gate] = {}
        """By the id of the tunnel's side of the NAT."""
        self._looks_at = NEVER

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

    def rules_changed(self, public_key: bytes, now: float) -> None:
        """The device's rules are others from now on."""
        for gate in list(self._gates.values()):
            if gate.tunnel.peer.public_key == public_key:
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
        wall = self.wall()
        key = gate.tunnel.peer.public_key
        # A quota is given to nobody as long as nothing counts for it (`gateway/enforced.py`).
        rules = replace(self._registry.rules(key), quota=None)
        before, why = gate.verdict, gate.why
        gate.verdict = verdict = judge(rules, (0, 0), None, wall, self.zone)
        said = predicate(verdict, rules, wall, self.zone)
        gate.why = "" if verdict.open else said
        self._time(gate, rules, wall, now)
        if verdict.state is not before.state:
            self._carry_out(gate, before, said, now)
        if gate.why != why or verdict.left != before.left:
            self.on_change(gate.tunnel, now)

    def _time(self, gate: Gate, rules: Rules, wall: float, now: float) -> None:
        """When to look again."""
        changes = gate.verdict.changes
        gate.looks_at = NEVER
        if rules.hours or rules.until is not None:
            gate.looks_at = now + LOOK_SECONDS
        if changes is not None:
            gate.looks_at = min(gate.looks_at, now + max(changes - wall, 0.01))
        self._looks_at = min(self._looks_at, gate.looks_at)

    def _carry_out(self, gate: Gate, before: Verdict, said: str, now: float) -> None:
        verdict, tunnel = gate.verdict, gate.tunnel
        if verdict.open:
            self._nat.let_in(tunnel.nat_peer)
        elif before.open:
            self._nat.shut_out(tunnel.nat_peer, now)
        self._journal.gate(tunnel.peer, verdict.open, said, now)
