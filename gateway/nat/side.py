"""A client's side of the NAT, in the words of those who work on it.

What a packet brings about is spread over files, one for each protocol and each question; all
of them work on one client's state. `TunnelPeer` (`peer.py`) is that state. These are the
terms on which flows, bounds and verdicts know it, and the NAT around it: they know neither
who calls them nor what else there is, so each can be read, and changed, alone.

Of the tables each has one writer: a flow enters its own when it opens and leaves when it
closes (`Tables` in `udp.py`, the sessions of `icmp.py`, the connections of `splice`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from gateway.nat.limits import Limits, NatConfig
from gateway.nat.policy import EgressPolicy
from gateway.nat.ports import DnsPort, Outward
from rules.destinations import AddressRules
from splice.flow import Flow
from splice.peer import LinkPeer
from splice.splice import Splice

Buffer = bytearray | memoryview
"""Where a packet lies."""


class Surroundings(Protocol):
    """What all clients share: the NAT, as one of them sees it."""

    config: NatConfig
    outward: Outward
    dns: DnsPort
    policy: EgressPolicy
    sockets: int
    """Open sockets of all clients."""
    datagram_buffer: bytearray
    """Scratch: the datagram being read from a socket, with room for its headers in front."""
    datagram_view: memoryview

    @property
    def peers(self) -> Mapping[str, ClientSide]: ...

    def share(self) -> int:
        """Sockets that one client may have now."""

    def available(self, version: int) -> bool:
        """Whether the family has a way out."""

    def initial_sequence(self) -> int:
        """A random number of 32 bits (RFC 9293, 3.4.1)."""


class Spare(Protocol):
    """Which of a client's flows would be missed least (`shares.py`)."""

    def take(self, now: float, idle: float = 0.0) -> Flow | None: ...


class Asked(Protocol):
    """How many questions a client has in the resolver's hands (`dns.py`)."""

    def take(self, now: float) -> int | None: ...

    def done(self, place: int) -> bool: ...


class ClientSide(LinkPeer):
    """One client: its addresses, what it is allowed, its answers. Made as `TunnelPeer` only, which
    answers all that is only named here: a class and no Protocol, because flows know it as their
    `LinkPeer`, too."""

    __slots__ = ()

    nat: Surroundings
    limits: Limits
    ipv4: bytes
    ipv6: bytes
    gateway_ipv4: bytes
    gateway_ipv6: bytes
    from_tunnel_bytes: int
    """Bytes of the IP packets from the client, whatever became of them: of as many as it sent,
    where several came joined, or as many as a network card would have cut."""
    destinations: AddressRules | None
    """What the device's rules say of what it may reach; None: no more than the policy. Set,
    like the next one, by `Nat.set_rules`."""
    max_flows: int | None
    """Sockets that the owner allows it at a time; None: as many as there are."""
    shut_out: bool
    """Nothing of it may go anywhere: its gate is closed (`Nat.shut_out`)."""
    spares: Spare
    questions: Asked

    def gateway(self, version: int) -> bytes:
        """Our address in its lease."""
        raise NotImplementedError

    def client(self, version: int) -> bytes:
        """Its own."""
        raise NotImplementedError

    def send_error(self, packet: bytearray, now: float) -> bool:
        """Emit an ICMP error or a reset, if the rate allows; False if it was not sent."""
        raise NotImplementedError

    def refuse(self, name: str, version: int, code: int, quote: bytes, now: float) -> str:
        """Answer a packet by Destination Unreachable; returns the counter's name."""
        raise NotImplementedError

    def ask(self, wire: bytes, over_tcp: bool, reply: Callable[[bytes], None]) -> None:
        """Have a DNS question of the client's answered; refused, if it is shut out by then."""
        raise NotImplementedError

    def connected(self, flow: Splice) -> None:
        """A connect that was under way has come to its end."""
        raise NotImplementedError
