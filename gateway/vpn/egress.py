"""Egress proof: that what we sent did go into the VPN, told from two sides.

Per flow: the kernel is asked back which device a socket is tied to and which
address it sends from (`tie`). Over time: the VPN interface's own byte counters
are held against what the NAT says it sent and received (`EgressMeter`, pure).
Others use the VPN as well, so the interface may count more than we do, but
never less: bytes that we received and it did not, came by another way.

What must be allowed for:

- Bytes given to a TCP socket may still wait in its buffer: the caller says how
  many (`unsent`), or how many flows there are times their buffer.
- Datagrams may be lost in the queue before the device, which counts only what
  it sends: so datagrams are not held against the sent counter at all. Those
  received are.
- The two counters are not read in the same instant: `SLACK`.

An alarm needs `STRIKES` looks in a row that disagree, which counts no packet
twice: each look compares totals since the VPN came up.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from gateway.vpn.ties import bound_device, unicast_device

SLACK = 256 * 1024
"""Bytes that may be on their way between the two counters."""
STRIKES = 3

ALARM_SENT = "egress__sent_outside_vpn"
ALARM_RECEIVED = "egress__received_outside_vpn"


@dataclass(frozen=True, slots=True)
class Tie:
    """What holds a socket, by the kernel's word."""

    device: str | None
    """The interface that it is tied to; None when only an address holds it, or nothing."""
    address: str | None
    """The local address, once the socket has one."""
    port: int


def tie(sock: socket.socket) -> Tie:
    """Ask the kernel what holds this socket. A closed socket is held by nothing."""
    try:
        name = sock.getsockname()
        device = bound_device(sock) or unicast_device(sock)
    except OSError:
        return Tie(None, None, 0)
    unset = name[0] in ("0.0.0.0", "::")
    return Tie(device, None if unset else name[0], name[1])


@dataclass(frozen=True, slots=True)
class Totals:
    """Bytes since any fixed moment; the interface's count headers too, ours need not."""

    interface_sent: int
    interface_received: int
    stream_sent: int
    """Bytes that the NAT gave to TCP sockets."""
    received: int
    """Bytes that it took from sockets of any kind."""
    unsent: int = 0
    """At most this many of `stream_sent` still wait in sockets' buffers."""


class EgressMeter:
    """Compares totals look by look; `alarms` are those that stand."""

    def __init__(self, slack: int = SLACK, strikes: int = STRIKES) -> None:
        self.alarms: tuple[str, ...] = ()
        self.interface_sent = 0
        """Since the VPN came up, as of the last look; likewise the other three."""
        self.interface_received = 0
        self.stream_sent = 0
        self.received = 0
        self._slack = slack
        self._strikes_needed = strikes
        self._strikes = {ALARM_SENT: 0, ALARM_RECEIVED: 0}
        self._generation: int | None = None
        self._first: Totals | None = None

    def observe(self, totals: Totals, generation: int) -> tuple[str, ...]:
        """Take a look; the alarms that stand. A new `generation` begins afresh.

        An alarm stands until `acknowledge`.
        """
        first = self._first
        if (
            first is None
            or generation != self._generation
            or totals.interface_sent < first.interface_sent
            or totals.interface_received < first.interface_received
        ):
            self._first, self._generation = totals, generation
            self._strikes = dict.fromkeys(self._strikes, 0)
            self.interface_sent = self.interface_received = self.stream_sent = self.received = 0
            return self.alarms
        self.interface_sent = totals.interface_sent - first.interface_sent
        self.interface_received = totals.interface_received - first.interface_received
        # What waited at the first look is sent after it, without being counted after it.
        self.stream_sent = totals.stream_sent - first.stream_sent
        self.received = totals.received - first.received
        must_have_left = self.stream_sent - totals.unsent
        self._judge(ALARM_SENT, must_have_left > self.interface_sent + self._slack)
        self._judge(ALARM_RECEIVED, self.received > self.interface_received + self._slack)
        return self.alarms

    @property
    def suspicious(self) -> bool:
        """The last look disagreed, but not often enough yet for an alarm."""
        return any(n and name not in self.alarms for name, n in self._strikes.items())

    def acknowledge(self) -> None:
        """The owner has seen the alarms: measure afresh."""
        self.alarms = ()
        self._first = None

    def _judge(self, alarm: str, outside: bool) -> None:
        self._strikes[alarm] = self._strikes[alarm] + 1 if outside else 0
        if self._strikes[alarm] >= self._strikes_needed and alarm not in self.alarms:
            self.alarms = (*self.alarms, alarm)
