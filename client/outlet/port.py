"""Where a link and an outlet meet: a port takes packets out of the tunnel and puts others in.

Theory of operation. A port outlives links: it is attached to one at a time. From the link it gets
the session's writer and puts packets into it, as many as there is room for; then it says `push`,
and the link seals and sends them. When the queue to the link is used up (`writer.room() <= 0`) the
port takes no more from where its packets come from, and has itself told when there is room again.
What comes out of the tunnel the session hands to the port's own functions (`Intake`), called by
the session itself: the link stands in no packet's way. All of it is on the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from client.reconnect import Ending
from eventloop.poller import Poller
from netstack.out import PacketOut
from vshp.config import LeaseConfig
from vshp.core import PacketHandler, PacketsHandler


class PacketWriter(PacketOut, Protocol):
    """The session's writer: where a port puts packets.

    `offload`, `offload_udp` and `mtu` are the lease's at each moment.
    """

    def read_packets(self, read: Callable[[memoryview], int]) -> int:
        """Queue packets until `read` has no more or the queue is long enough; how many bytes.

        `read` puts a packet at the beginning of the view that it is given and returns its
        length, 0 when there is none. It must not raise, and writes what the link's frames
        carry (see `Carrier.offload`).
        """


class Carrier(Protocol):
    """What a port knows of the link that it is attached to."""

    received_packets_bytes: int
    """Bytes of IP packets taken out of the tunnel: the port counts them. What it puts into it is
    counted by the writer (`packet_bytes`)."""
    offload: bool
    """Whether frames of this kind of link can carry a virtio header (where the lease offloads);
    over datagrams none does."""

    poller: Poller
    """The loop's fast lane, for the port's own descriptors."""

    @property
    def writer(self) -> PacketWriter:
        """The same for as long as the link lasts."""

    def count(self, name: str) -> None:
        """One more of what this counter counts; a counter's name ends in its packet's fate."""

    def push(self) -> None:
        """Seal and send what was put into the writer. The link may end in it, and then detaches
        the port. What is put into the writer while a packet is taken in needs no push."""

    def wait_for_room(self) -> None:
        """Have `Port.room_again` called, once. Only after a `push` that left no room."""

    def end(self, ending: Ending) -> None:
        """The port cannot go on: the link ends so, and detaches it."""


@dataclass(frozen=True, slots=True)
class Intake:
    """What a port does with packets from the tunnel. None of it may raise."""

    packet: PacketHandler
    """Takes each packet that nothing below has taken. The buffer is good for the call; where the
    packet was sent offloaded, its virtio header lies before it (`netstack.out`)."""
    packets: PacketsHandler | None = None
    """Takes what it knows of a record's frames at once (see `vshp.core`)."""
    joined: bool = False
    """Whether `packet` takes TCP segments that a link has joined (`netstack.join`): larger than
    the MTU, with a virtio header before them, whatever the lease offloads."""
    done: Callable[[], None] | None = None
    """Called after the packets of each receive, before what they have put into the writer is
    sent."""


class Port(Protocol):
    """One kind's way of packets."""

    def attach(self, link: Carrier, lease: LeaseConfig) -> Intake:
        """Carry packets between this link and what is behind the port, by this lease, until
        `detach`. Also called again for the same link, when the lease's terms have changed."""

    def detach(self) -> None:
        """The link carries nothing more: no call to it, and nothing into its writer, from now on.
        What is behind the port stays for the next link. Safe to call twice."""

    def room_again(self) -> None:
        """There is room in the writer, after `Carrier.wait_for_room`."""
