"""Sharing: the owner's wish, the VPN, and what may be forwarded for the two of them.

Theory of operation. Sharing is a wish of the owner; forwarding is the wish and a VPN.
Without either the NAT answers every packet with an ICMP error, the leases' resolver
refuses, and clients are told by STATUS. Every change of one of them ends in `_apply`.

Flows end with what they were opened for: all of them when the wish is withdrawn, when the
VPN that they went into is gone (the detector's generation counts those), and when bypass
is set or unset, since either way their sockets are not where they ought to be now.

The egress proof judges what was forwarded. When it fails, whatever the reason, the wish
is withdrawn; only the owner can wish again.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.dns.forwarder import DnsForwarder
from gateway.dns.shared import SharedResolver
from gateway.journal import Journal
from gateway.model import VpnNetwork
from gateway.nat.counters import Counters
from gateway.nat.router import Nat
from gateway.proof import HURRY, EgressProof, EgressReport, sentence
from gateway.vpn.detector import VpnDetector
from gateway.vpn.guard import EgressGuard
from vshp.config import GatewayStatus


class Sharing:
    """Decides what is forwarded now, and has everybody follow.

    `on_change(now)` is called after each change: clients are to be told `client_status()`.
    `on_alarm(sentence)` is called when the egress proof failed and sharing was stopped.
    """

    def __init__(
        self,
        wanted: bool,
        detector: VpnDetector,
        guard: EgressGuard,
        proof: EgressProof,
        nat: Nat,
        dns: DnsForwarder,
        resolver: SharedResolver,
        counters: Counters,
        journal: Journal,
        clock: Callable[[], float],
    ) -> None:
        self.on_change: Callable[[float], None] = lambda now: None
        self.on_alarm: Callable[[str], None] = lambda text: None
        self._wanted = wanted
        self._detector = detector
        self._guard = guard
        self._proof = proof
        self._nat = nat
        self._dns = dns
        self._resolver = resolver
        self._counters = counters
        self._journal = journal
        self._usable = False
        self._clock = clock
        self._generation = 0

    def start(self) -> None:
        """Follow the detector from now on, and apply the wish."""
        self._generation = self._detector.generation
        self._detector.on_change = self._vpn_changed
        self._proof.on_alarm = self._alarm
        self._detector.attend(self._wanted)
        if self._wanted:
            self._journal.sharing(True)
        self._usable = self._detector.network.usable
        if self._usable:
            self._journal.vpn(self._detector.network)
        self._apply(self._clock())

    # --- what there is to see ----------------------------------------------------------------

    @property
    def state(self) -> str:
        """`off`, `on`, or `unavailable`: wanted, but there is no VPN."""
        if not self._wanted:
            return "off"
        return "on" if self._guard.network.usable else "unavailable"

    def client_status(self) -> GatewayStatus:
        """What clients are told."""
        network = self._guard.network
        return GatewayStatus(
            vpn_up=network.usable, sharing=self._wanted, ipv6_internet=network.ipv6
        )

    def alarms(self) -> list[str]:
        """What the owner must know: that something leaves outside the VPN, or seems to."""
        reason = self._guard.network.reason
        found = [reason] if self._guard.bypass and reason else []
        return found + [sentence(name) for name in self._proof.report.alarms]

    @property
    def egress(self) -> EgressReport:
        """The egress proof's last look."""
        return self._proof.report

    # --- what changes it ---------------------------------------------------------------------

    def want(self, wanted: bool) -> None:
        """The owner's wish; a new one also acknowledges the alarms."""
        if self._wanted is wanted:
            return
        now = self._clock()
        self._wanted = wanted
        self._journal.sharing(wanted)
        self._detector.attend(wanted)
        if wanted:
            self._proof.acknowledge()
        else:
            self._nat.close_flows("sharing_off", now)
        self._apply(now)

    def bypass(self, bypass: bool) -> None:
        """Let traffic leave outside the VPN, or no longer."""
        now = self._clock()
        self._guard.bypass = bypass
        self._proof.acknowledge()
        self._nat.close_flows("bypass_changed", now)
        self._apply(now)

    def prove(self, now: float) -> float | None:
        """Look at the egress proof. Seconds until it must be looked at again; None: no hurry."""
        if self._guard.bypass:
            return None
        self._proof.look(now)
        return HURRY if self._proof.suspicious else None

    def _vpn_changed(self, network: VpnNetwork) -> None:
        now = self._clock()
        if network.usable is not self._usable:
            self._usable = network.usable
            self._journal.vpn(network)
        if self._detector.generation != self._generation:
            self._generation = self._detector.generation
            if not self._guard.bypass:
                self._nat.close_flows("vpn_lost", now)
        self._dns.vpn_changed()
        self._apply(now)

    def _alarm(self, name: str) -> None:
        """What we sent did not go into the VPN: whatever the reason, no more of it."""
        self._counters.counts[name] += 1
        self.want(False)
        self._journal.alarm(sentence(name))
        self.on_alarm(sentence(name))

    def _apply(self, now: float) -> None:
        """Tell the NAT, the resolver and the clients what may be forwarded now."""
        network = self._guard.network
        on = self._wanted and network.usable
        self._nat.set_available(on and network.ipv4, on and network.ipv6)
        self._resolver.open = on
        if on and not self._guard.bypass:
            self._proof.look(now)
        self.on_change(now)
