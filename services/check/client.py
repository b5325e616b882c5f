"""The client's way of asking: sockets into its tunnel, and aiodns at the lease's resolver."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from client.client import Client
from client.model import ClientError, ClientSnapshot, ClientState
from client.outlet.outlet import OutletKind
from client.outlet.passage import Passage
from gateway.vpn.snapshot import Interface
from reach import names
from reach.names import NameProblem
from services.check.asking import Line, Unanswered, told
from services.check.gateway import outside
from services.check.verdict import Address, Found

_PROBLEMS = {"name_unaskable": "unaskable", "name_unknown": "unnamed"}
_LOST = "The tunnel is gone."
_CONNECT = "Connect first: vpnshare connect"


class ClientWay:
    """See `asking.Way`."""

    def __init__(self, passage: Passage, resolvers: Sequence[str], system: bool) -> None:
        """`resolvers`: the lease's; `system`: the system's own resolver asks those, too, and may
        be asked where aiodns is not installed."""
        self._passage = passage
        self._resolvers = resolvers
        self._system = system

    def open(self, host: str, port: int) -> Line:
        """See `Way`."""
        return Line(self._passage.open(host, port), (host, port))

    async def addresses(self, name: str) -> Sequence[str]:
        """See `Way`."""
        try:
            return await names.ask(name, self._resolvers, self._passage.open, system=self._system)
        except NameProblem as problem:
            raise Unanswered(_PROBLEMS.get(problem.name, "unnamed")) from None

    async def seen_by(self, name: str) -> Sequence[Address]:
        """See `Way`."""
        try:
            return told(_plain(await names.records(name, self._resolvers, self._passage.open)))
        except NameProblem as problem:
            raise Unanswered(_PROBLEMS.get(problem.name, "silent")) from None


def _plain(said: Sequence[bytes | str]) -> list[str]:
    """Texts and addresses as texts. Four bytes of a text are no packed address."""
    return [each.decode("ascii", "replace") if isinstance(each, bytes) else each for each in said]


def before(
    now: ClientSnapshot,
    routed: bool,
    families: Sequence[int],
    interfaces: Sequence[Interface],
    passage: Passage | None,
) -> Found:
    """What is known before anybody is asked. `absent` says that nobody is to be.

    Args:
        routed: whether this device's programs are meant to use the tunnel (`client.routes`).
        passage: None where it could not be had.
    """
    lease = now.lease
    absent: tuple[str, str] | None = None
    if now.state is not ClientState.CONNECTED or lease is None:
        absent = now.reason or "This device is not connected.", _CONNECT
    elif passage is None:
        absent = _LOST, _CONNECT
    elif now.sharing == "off":
        absent = "The gateway does not share now.", "On the gateway: vpnshare share"
    elif now.sharing == "unavailable":
        absent = "The gateway has no VPN: it forwards nothing.", "Turn the VPN on there."
    carried = frozenset(
        family
        for family in families
        if lease is not None and (lease.ipv4 if family == 4 else lease.ipv6)
    )
    if absent is None and not carried:
        absent = "The lease carries nothing of what was to be looked at.", "vpnshare check"
    leaving: dict[int, str] = {}
    if routed and passage is not None and absent is None and now.outlet == OutletKind.NIC:
        for family in families:
            if source := passage.beside(family):
                leaving[family] = _interface_of(source, interfaces)
    return Found(
        "client",
        absent=absent,
        families=tuple(families),
        carried=carried,
        leaving=leaving,
        outside=outside(interfaces, now.interface),
    )


def _interface_of(address: str, interfaces: Sequence[Interface]) -> str:
    for each in interfaces:
        if any(str(own) == address for own in each.addresses):
            return each.name
    return f"another interface ({address})"


async def passage_of(client: Client) -> Passage | None:
    """The way into the tunnel; None where there is none."""
    with contextlib.suppress(OSError, ClientError):
        return await client.outlet.passage()
    return None
