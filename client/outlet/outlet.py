"""Where packets leave the tunnel on this device: what the client's run asks of it.

Theory of operation. An outlet is a NIC that the whole host uses, a NIC in a network namespace of
its own, or a proxy. The run knows of it what is in `Outlet`, its links what is in `Port`, and
neither which kind it is. An outlet is told the user's wish and how it fares (`wish`, `broken`,
`hold`, `refuse`, `open`) and keeps what was promised by its own means; what a kind has no part
in, it does nothing for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from client.guard import Guards
from client.judgement import HostFacts
from client.model import TransportEndpoint
from client.outlet.flows import Flows
from client.outlet.passage import Passage
from client.outlet.port import Port
from vshp.config import LeaseConfig

MIN_MTU = 1280
"""The least that IPv6 runs over (RFC 8200 section 5)."""
MAX_MTU = 65535


class OutletKind(StrEnum):
    """What an outlet is."""

    NIC = "nic"
    """A virtual NIC that this host's programs use, by its routes."""
    NAMESPACE = "namespace"
    """A virtual NIC in a network namespace: the programs in there use it, and only it."""
    PROXY = "proxy"
    """A place on this host that programs connect to."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the outlet can take, for the gateway to lease by."""

    offload: bool = False
    """TCP segments larger than the MTU, with checksums left to it; and UDP likewise."""
    offload_udp: bool = False
    mtu: int = MAX_MTU
    """The most that the lease's MTU may be, in bytes; MIN_MTU or more."""


class Outlet(Protocol):
    """One kind of outlet. Coroutines that are asked for are carried out in order, to their end
    even where the caller was cancelled; what was asked for last is what there is in the end.
    All is called on the loop."""

    kind: OutletKind
    facts: HostFacts
    """What the host was at the last `look`."""
    mark: int
    """The firewall mark for sockets of links, so that they go beside the tunnel; 0 for none."""
    flows: Flows

    @property
    def name(self) -> str:
        """The interface's name, or the proxy's address; empty while there is none."""

    @property
    def terms(self) -> Terms:
        """As `prepare` found them."""

    @property
    def counters(self) -> Mapping[str, int]:
        """What the outlet itself counts; the names are no link's."""

    @property
    def guards(self) -> Guards:
        """What keeps traffic from leaving outside the tunnel at this moment."""

    @property
    def promised(self) -> bool:
        """Whether there is a wish that outlives this process: it is pursued until somebody who
        may says no."""

    @property
    def open_on_failure(self) -> bool:
        """Whether this wish has the weaker promise."""

    @property
    def port(self) -> Port | None:
        """What links are attached to; another after `renew`, None while there is none."""

    async def start(self) -> None:
        """Before all else. Nothing is changed by it."""

    async def found(self) -> bool:
        """Whether what an earlier run has closed is closed still."""

    async def look(self) -> HostFacts:
        """Look at what the host is now, but for the outlet itself; it is `facts` afterwards."""

    # --- the wish -------------------------------------------------------------------------------

    async def wish(self, known: bool, open_on_failure: bool) -> None:
        """The user wishes to be connected, to a gateway that is `known` or to a stranger.

        Returns when what that promises is in force. Raises ClientError; the
        wish holds all the same, so that the caller decides what it becomes.
        """

    async def broken(self) -> None:
        """The attempt or the link ended by something that will pass."""

    async def hold(self) -> None:
        """... and has been for long: programs are to be told. Raises ClientError."""

    async def refuse(self) -> None:
        """It ended by something final. Never raises: what is closed already stays."""

    async def open(self) -> None:
        """The wish is taken back: undo everything. Never raises."""

    async def keep(self) -> None:
        """Try again what the host did not take before, if anything. Raises ClientError."""

    async def follow(self) -> None:
        """The host has changed: make it have what is needed. Raises ClientError."""

    async def reach(self, endpoints: Sequence[TransportEndpoint]) -> None:
        """Links to these are about to be tried. Raises ClientError."""

    # --- the lease ------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Make what can be made without a lease, so that what cannot work fails before a secret
        is spent; what there is already stays. Raises ClientError."""

    def admit(self, lease: LeaseConfig | None, facts: HostFacts) -> None:
        """From now on packets of this lease may come in, on a host like this; None: none."""

    def fits(self, lease: LeaseConfig) -> bool:
        """Whether `apply` has been done for the lease's addresses: then a link may be attached
        at once."""

    async def apply(self, lease: LeaseConfig) -> Port:
        """Use `lease`, whatever was used before; the port is for the link that it came over.
        Raises ClientError; what is closed stays closed."""

    async def renew(self) -> None:
        """The port ended (`Carrier.end`): another takes its place. Raises ClientError."""

    async def passage(self) -> Passage:
        """A way into the tunnel for a few datagrams of this process's own, while there is a lease.
        Raises OSError, ClientError."""

    async def stop(self) -> None:
        """No more calls. What is in force stays."""
