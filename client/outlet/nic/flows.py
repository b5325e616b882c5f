"""The flows of the tunnel, by the word of this host's kernel.

Theory of operation. The client has no NAT: it moves packets and knows of no
connection. The kernel does. Each socket that uses the tunnel is bound to one of
the tunnel's addresses, so a dump of these sockets (sock_diag) is the list of
flows, and for TCP it has bytes, round trip and retransmissions besides. The
packet path takes no part in it. Nobody looks, nothing is asked; while somebody
looks, one sample is taken for each look, in steps of about a millisecond
on the client's loop, so that packets go on between them. (A thread would take
the interpreter's lock for 5 ms at a time.)

What is not here: sockets in other network namespaces (containers), what this
host forwards for others, and pings. UDP sockets are listed, but the kernel
does not count their bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence

from client.outlet.flows import FlowSample, TunnelFlow
from client.rates import RateMeter
from client.system.inet_diag import (
    ESTABLISHED,
    LIVE_STATES,
    NETLINK_SOCK_DIAG,
    SYN_RECV,
    SYN_SENT,
    UDP_STATES,
    DiagError,
    DiagSocket,
    parse,
    request,
)
from client.system.owners import Owners
from eventloop.clock import SYSTEM
from eventloop.tasks import create_task

log = logging.getLogger(__name__)

MAX_FLOWS = 2048
"""Flows kept of a sample; how many there were is said in any case."""
PIECE = 16384
"""Bytes of one receive, which is also what the kernel fills at most: some 50 sockets."""
PATIENCE = 5.0
"""Seconds for one sample. The kernel answers at once; other work on the loop may not."""
LEAST_PAUSE = 0.2
"""Seconds between two samples, however many look."""

_TCP, _UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
_DUMPS = (
    (socket.AF_INET, _TCP, LIVE_STATES),
    (socket.AF_INET6, _TCP, LIVE_STATES),
    (socket.AF_INET, _UDP, UDP_STATES),
    (socket.AF_INET6, _UDP, UDP_STATES),
)

Network = Callable[[], contextlib.AbstractAsyncContextManager[socket.socket]]


class _Seen:
    """What is remembered of a flow from sample to sample."""

    __slots__ = ("down", "since", "up")

    def __init__(self, now: float) -> None:
        self.since = now
        self.down, self.up = RateMeter(), RateMeter()


@contextlib.asynccontextmanager
async def own_network() -> AsyncIterator[socket.socket]:
    """A sock_diag socket of this process's network. Raises `OSError`."""
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    with contextlib.closing(socket.socket(socket.AF_NETLINK, kind, NETLINK_SOCK_DIAG)) as sock:
        yield sock


class TunnelFlows:
    """Takes samples when somebody looks."""

    def __init__(
        self,
        addresses: Callable[[], Sequence[str]],
        clock: Callable[[], float] = SYSTEM.now,
        owners: Owners | None = None,
        network: Network = own_network,
    ) -> None:
        """`addresses` are the tunnel's on this host at this moment; none: no flows. `network`
        lends a sock_diag socket of the network in which the sockets are."""
        self.problem: str | None = None
        """Why the last sample could not be taken."""
        self._addresses = addresses
        self._clock = clock
        self._network = network
        self._owners = Owners() if owners is None else owners
        self._seen: dict[int, _Seen] = {}
        self._sample = FlowSample()
        self._running: asyncio.Task[None] | None = None

    async def look(self) -> FlowSample:
        """A sample of this moment, or one that is hardly older."""
        running = self._begin()
        if running is not None:
            await asyncio.wait([running])
        return self._sample

    async def count(self) -> int | None:
        """How many connections there are; None where the kernel does not say."""
        try:
            found = [each async for piece in self._dump(_DUMPS[:2]) for each in piece]
        except (OSError, DiagError):
            return None
        return sum(each.state == ESTABLISHED for each in found)

    async def stop(self) -> None:
        """End a sample that is being taken."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    def _begin(self) -> asyncio.Task[None] | None:
        if self._running is not None and not self._running.done():
            return self._running
        if self._clock() - self._sample.at < LEAST_PAUSE:
            return None
        self._running = create_task(self._take(), "client-flows")
        return self._running

    async def _take(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._gather()
            self.problem = None
        except (OSError, DiagError, TimeoutError) as error:
            if self.problem is None:
                log.info("the tunnel's flows cannot be listed: %s", error)
            self.problem = str(error) or type(error).__name__
            self._sample = FlowSample(self._clock())

    async def _gather(self) -> None:
        sockets: list[DiagSocket] = []
        total = 0
        async for piece in self._dump(_DUMPS):
            total += len(piece)
            sockets += piece[: max(0, MAX_FLOWS - len(sockets))]
        await self._owners.find((each.inode for each in sockets), self._clock())
        now = self._clock()
        before, self._seen = self._seen, {}
        flows = []
        for number, each in enumerate(sockets):
            if number % _TURN == 0:
                await asyncio.sleep(0)
            seen = self._seen[each.cookie] = before.get(each.cookie) or _Seen(now)
            flows.append(self._flow(each, seen, now))
        self._sample = FlowSample(now, flows, total)

    async def _dump(self, dumps: Sequence[tuple[int, int, int]]) -> AsyncIterator[list[DiagSocket]]:
        """The sockets bound to the tunnel's addresses, piece by piece."""
        addresses = [ipaddress.ip_address(text).packed for text in self._addresses()]
        if not addresses:
            return
        loop = asyncio.get_running_loop()
        async with self._network() as sock:
            for family, protocol, states in dumps:
                # An IPv6 socket may hold either kind of address.
                wanted = [a for a in addresses if family == socket.AF_INET6 or len(a) == 4]
                if not wanted:
                    continue
                sock.send(request(family, protocol, states, wanted))
                done = False
                while not done:
                    found, done = parse(await loop.sock_recv(sock, PIECE), protocol)
                    yield found
                    # `sock_recv` does not wait where something is there already.
                    await asyncio.sleep(0)

    def _flow(self, each: DiagSocket, seen: _Seen, now: float) -> TunnelFlow:
        owner = self._owners.known(each.inode)
        flow = TunnelFlow(
            id=each.cookie,
            protocol="tcp" if each.protocol == _TCP else "udp",
            state=_state(each),
            source=_address(each.source, each.source_port),
            destination=_address(each.destination, each.destination_port),
            program="" if owner is None else owner.program,
            pid=None if owner is None else owner.pid,
            seen=seen.since,
            idle=0.0,
        )
        figures = each.figures
        if figures is not None:
            flow.counted = True
            flow.idle = figures.idle
            flow.from_tunnel_bytes, flow.to_tunnel_bytes = figures.received, figures.sent
            flow.from_tunnel_rate = seen.down.sample(figures.received, now)
            flow.to_tunnel_rate = seen.up.sample(figures.sent, now)
            flow.rtt, flow.retransmits = figures.rtt, figures.retransmits
        return flow


_TURN = 64
"""Flows made before the loop gets its turn."""


def _state(each: DiagSocket) -> str:
    if each.protocol == _UDP:
        return "active"
    if each.state == ESTABLISHED:
        return "established"
    return "connecting" if each.state in (SYN_SENT, SYN_RECV) else "closing"


def _address(address: bytes, port: int) -> str:
    if not any(address) and not port:
        return "*"
    if len(address) == 4:
        return f"{socket.inet_ntop(socket.AF_INET, address)}:{port}"
    return f"[{socket.inet_ntop(socket.AF_INET6, address)}]:{port}"
