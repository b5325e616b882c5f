"""Egress proof: the VPN interface's byte counters against the kernel's counts of our sockets.

`vpn/egress.py` compares totals; here they are collected. For TCP they are what
the kernel's own TCP says was acknowledged and received (TCP_INFO), so nothing
is assumed about what happened to bytes after they were given to a socket; for
datagrams and pings, what was received. Sockets that have been closed left their
share in the tally.

A look costs a system call for each open TCP connection, so looks come with the
usage timer, which runs only while somebody is connected, and sooner (`HURRY`)
while one look has disagreed and others must confirm it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.sockets import Tally
from gateway.vpn.detector import VpnDetector
from gateway.vpn.egress import ALARM_RECEIVED, ALARM_SENT, EgressMeter, Totals

HURRY = 2.0
"""Seconds until the next look after one that disagreed."""

SENTENCES = {
    ALARM_SENT: "more was sent than the VPN's interface carried",
    ALARM_RECEIVED: "more was received than the VPN's interface carried",
}


@dataclass(frozen=True, slots=True)
class EgressReport:
    """The last look, for the control API. Bytes since the VPN came up."""

    looks: int = 0
    at: float | None = None
    """The loop's clock; None before the first look, or where the counters cannot be read."""
    interface_sent: int = 0
    interface_received: int = 0
    sent: int = 0
    """Bytes of TCP that hosts acknowledged."""
    received: int = 0
    alarms: tuple[str, ...] = ()


class EgressProof:
    """Looks, and remembers what it saw. `on_alarm` is told each alarm's name once."""

    def __init__(self, detector: VpnDetector, tally: Tally) -> None:
        self.on_alarm: Callable[[str], None] = lambda name: None
        self.report = EgressReport()
        self._detector = detector
        self._tally = tally
        self._meter = EgressMeter()

    @property
    def suspicious(self) -> bool:
        """The last look disagreed, but no alarm stands yet."""
        return self._meter.suspicious

    def look(self, now: float) -> None:
        """Compare now. Where the interface's counters cannot be read, nothing is said."""
        counters = self._detector.counters()
        if counters is None:
            return
        sent, received, in_flight = self._tally.totals()
        totals = Totals(counters[0], counters[1], sent + in_flight, received, in_flight)
        before = self._meter.alarms
        alarms = self._meter.observe(totals, self._detector.generation)
        meter = self._meter
        self.report = EgressReport(
            self.report.looks + 1,
            now,
            meter.interface_sent,
            meter.interface_received,
            max(0, meter.stream_sent - in_flight),
            meter.received,
            alarms,
        )
        for name in alarms:
            if name not in before:
                self.on_alarm(name)

    def acknowledge(self) -> None:
        """The owner shares again in spite of the alarms: measure afresh."""
        self._meter.acknowledge()
        self.report = EgressReport()


def sentence(alarm: str) -> str:
    """An alarm for people: its name, what it means, what was done."""
    return f"{alarm}: {SENTENCES[alarm]}; sharing was stopped"
