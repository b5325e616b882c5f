"""The hosts' names that stand in a plan, and the addresses that they lead to now.

Theory of operation. A name is asked again for each round (`reach.names` says of whom), and
its last addresses stay until others come: what answers for it may be out of reach for as
long as the gateway is. A round that has other ways waits for names a moment only; what comes
later is told (`late`), and joins it. Where a name leads is judged like what a gateway tells
(`client/trust.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

from client.dial import open_datagram
from client.model import ClientError, TransportEndpoint
from client.outlet.outlet import Outlet, OutletKind
from eventloop.tasks import cancel, create_task
from reach import names
from reach.names import NameProblem, Opener

MAX_NAMES = 4
"""Names of one gateway."""
FRESH = 1.0
"""Seconds for which an answer is not asked for again."""
MOMENT = 0.3
"""Seconds for names, where there are other ways than by name: most answers need some 10 ms."""


class Ask(Protocol):
    """`reach.names.ask`, or a test's."""

    def __call__(
        self,
        host: str,
        servers: tuple[str, ...],
        open_socket: Opener,
        *,
        links: tuple[str, ...],
        system: bool,
    ) -> Awaitable[tuple[str, ...]]: ...


class HostNames:
    """What is known of names."""

    def __init__(
        self, outlet: Outlet, ask: Ask = names.ask, late: Callable[[], None] = lambda: None
    ) -> None:
        """`late` is called when a name that was not waited for has led to other addresses than
        before; `found` has them."""
        self._outlet = outlet
        self._ask = ask
        self._late = late
        self._left: set[str] = set()
        """Names that the last look has not waited for any longer."""
        self._found: dict[str, tuple[str, ...]] = {}
        self._problems: dict[str, NameProblem] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._at: dict[str, float] = {}
        """When a name was asked last, in loop time."""

    async def look(
        self, endpoints: Iterable[TransportEndpoint], lonely: bool
    ) -> Mapping[str, tuple[str, ...]]:
        """Ask for the names among these endpoints; the addresses of each that has any.

        `lonely`: there is no other way, so the answers are waited for.
        """
        hosts = list(dict.fromkeys(e.host for e in endpoints if e.named))[:MAX_NAMES]
        for learnt in (self._found, self._problems, self._at):
            for host in learnt.keys() - set(hosts):
                del learnt[host]
        now = asyncio.get_running_loop().time()
        for host in hosts:
            if host not in self._asking and now - self._at.get(host, -FRESH) >= FRESH:
                self._asking[host] = create_task(self._learn(host), "client-host-name")
        waiting = [self._asking[host] for host in hosts if host in self._asking]
        if waiting:
            await asyncio.wait(waiting, timeout=None if lonely else MOMENT)
        self._left = {host for host in hosts if host in self._asking}
        return self.found(hosts)

    def found(self, hosts: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
        """The addresses of each of these hosts that has any, as they are known now."""
        return {host: self._found[host] for host in hosts if host in self._found}

    def problem(self, host: str) -> NameProblem | None:
        """Why the name led nowhere when it was asked last, if it did not."""
        return self._problems.get(host)

    async def close(self) -> None:
        """Give up what is being asked."""
        for task in list(self._asking.values()):
            await cancel(task)

    async def _learn(self, host: str) -> None:
        """Ask once; takes `names.ANSWER_SECONDS` at most."""
        outlet = self._outlet
        servers = tuple(str(address) for address in outlet.facts.resolvers)
        links = tuple(str(a) for a in outlet.facts.own if a.version == 4 and not a.is_link_local)
        mark = outlet.mark
        self._at[host] = asyncio.get_running_loop().time()
        try:
            addresses = await self._ask(
                host,
                servers,
                lambda server, port: open_datagram(TransportEndpoint("udp", server, port), mark),
                links=links,
                # Once something is promised, a NIC's host may have the gateway as its resolver.
                system=not outlet.promised or outlet.kind is not OutletKind.NIC,
            )
            before = self._found.get(host)
            self._found[host] = addresses
            self._problems.pop(host, None)
            if host in self._left and addresses != before:
                self._late()
        except NameProblem as problem:
            self._problems[host] = problem
            if problem.name == "name_unknown":
                self._found.pop(host, None)
        finally:
            self._asking.pop(host, None)
            self._left.discard(host)


def explain(host: str, name: str, why: str) -> ClientError:
    """What is wrong with a name, for whoever has typed it."""
    hint = "Look at its spelling and at this device's network, or give the gateway's address."
    if name == "name_unaskable":
        hint = "Give the gateway's address, or disconnect first: vpnshare disconnect"
    return ClientError(name, f"{host} leads to no gateway: {why}.", hint)
