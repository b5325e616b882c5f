"""What the client and a link know of each other, whatever carries the link."""

from __future__ import annotations

from typing import Protocol

from client.model import TransportEndpoint
from client.outlet.port import Port
from client.reconnect import Ending
from vshp.config import CloseReason, LeaseConfig
from vshp.datagram_session import DatagramClientSession
from vshp.events import Event
from vshp.session import ClientSession


class SessionMaker(Protocol):
    """Makes the sessions of one attempt, each with what is known at that moment."""

    def stream(self, now: float, usb: bool) -> ClientSession: ...

    def datagram(self, now: float, address: str) -> DatagramClientSession: ...


class LinkOwner(Protocol):
    """What a link tells the client. None of these may raise."""

    def link_event(self, link: LinkDriver, event: Event) -> None: ...

    def link_timed(self) -> None:
        """The session's timer was due: the device is awake for that anyway."""

    def link_over(self, link: LinkDriver, ending: Ending) -> None:
        """Said once; nothing follows."""


class LinkDriver(Protocol):
    """One session over one transport."""

    endpoint: TransportEndpoint
    received_packets_bytes: int
    """Bytes of IP packets taken out of the tunnel."""

    @property
    def sent_packets_bytes(self) -> int:
        """Bytes of IP packets put into the tunnel: none of those that had no room there."""

    @property
    def counters(self) -> dict[str, int]: ...

    @property
    def local_address(self) -> str:
        """This end's address on the network."""

    def attach(self, port: Port, lease: LeaseConfig) -> None:
        """Carry packets between the port and the session from now on, by this lease. Again for the
        same port when the lease's terms have changed."""

    def detach(self) -> None:
        """Leave the port alone."""

    def ping(self) -> None:
        """Ask for a sign of life now: something about the network has changed."""

    def agree(self, code: str) -> None:
        """This device's user has agreed to these digits; another session's change nothing."""

    def follow(self) -> bool:
        """The host's network has changed: move along; False when this transport cannot."""

    def fail(self, ending: Ending) -> None:
        """End as if the transport had broken; `link_over` is called."""

    def drop(self) -> None:
        """Let the transport go without a word: the gateway keeps the session to be resumed."""

    def close(self, reason: CloseReason) -> None:
        """Say goodbye and let the transport go; `link_over` is not called."""
