"""What the client and a transport's link know of each other.

TCP's link is in `link`; one for datagrams or USB looks the same from here.
"""

from __future__ import annotations

from typing import Protocol

from client.model import TransportEndpoint
from client.nic import Nic
from client.reconnect import Ending
from vshp.config import CloseReason, LeaseConfig
from vshp.events import Event


class LinkOwner(Protocol):
    """What a link tells the client. None of these may raise."""

    def link_event(self, link: LinkDriver, event: Event) -> None: ...

    def link_over(self, link: LinkDriver, ending: Ending) -> None:
        """Said once; nothing follows."""


class LinkDriver(Protocol):
    """One way of carrying a session: TCP here; datagrams and USB look the same to the client."""

    endpoint: TransportEndpoint
    received_packets_bytes: int
    """Bytes of IP packets taken out of the tunnel; likewise put into it."""
    sent_packets_bytes: int

    @property
    def counters(self) -> dict[str, int]: ...

    @property
    def local_address(self) -> str:
        """This end's address on the network."""

    def attach(self, nic: Nic, lease: LeaseConfig) -> None:
        """Carry packets between the NIC and the session from now on."""

    def detach(self) -> None:
        """Leave the NIC alone."""

    def change(self, lease: LeaseConfig) -> None:
        """The lease's terms have changed."""

    def ping(self) -> None:
        """Ask for a sign of life now: something about the network has changed."""

    def fail(self, ending: Ending) -> None:
        """End as if the transport had broken; `link_over` is called."""

    def close(self, reason: CloseReason) -> None:
        """Say goodbye and let the transport go; `link_over` is not called."""
