"""Where clients knock: listening sockets, and what a stranger may cost.

A connection that has not yet been given a lease is a stranger's. It holds one
descriptor and a small buffer until its handshake times out, so strangers are
counted: in all and per address (with IPv6 per /64, see `neighbours`). When the places
are taken, the oldest stranger of the address that holds the most gives way, so that a
flood from one address makes room for a newcomer from another. Handshakes cost the CPU
about a millisecond each, so the rate at which an address may begin them is bounded too.
Of what all may have, some is kept for newcomers: who comes from where nobody has come
lately finds a handshake and a code, however many others come again and again.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from time import thread_time

from eventloop.poller import Poller
from gateway.link import Link
from gateway.nat.counters import Counters
from gateway.neighbours import Visitors, neighbourhood
from gateway.sieve import Budget
from sealing.buckets import Buckets, TokenBucket

MAX_STRANGERS = 256
"""Connections without a lease, in all."""
MAX_STRANGERS_PER_ADDRESS = 32
HANDSHAKES_PER_SECOND = 20.0
"""Handshakes one address may begin, sustained, and in a burst."""
HANDSHAKE_BURST = 40.0
ALL_HANDSHAKES_PER_SECOND = 100.0
"""Handshakes in all; see `sieve` for what else strangers may cost."""
ALL_HANDSHAKE_BURST = 150.0
NEWCOMERS_PER_SECOND = 20.0
"""First handshakes in a while of their addresses, beyond those; and in a burst."""
NEWCOMER_BURST = 40.0
RECENT_SECONDS = 60.0
"""How long an address is no newcomer after a handshake that it began."""
CODES_PER_SECOND = 1 / 60
"""Pairing codes one address may learn, sustained, and in a burst: each is one guess of a man in
the middle, who need not show it to the owner."""
CODE_BURST = 6.0
ALL_CODES_PER_SECOND = 1 / 30
"""Pairing codes in all: 144 guesses in the first hour, against a million codes."""
ALL_CODE_BURST = 24.0
NEWCOMER_CODES_PER_SECOND = 1 / 120
"""First codes in an hour of their addresses, beyond those: 62 more guesses in the first hour."""
NEWCOMER_CODE_BURST = 32.0
CODE_SECONDS = 3600.0
"""How long an address is no newcomer after a code."""
MAX_VISITORS = 1024
"""Addresses remembered as no newcomers; the one seen longest ago is forgotten."""
ACCEPTS_PER_TURN = 16
BACKLOG = 128
MIN_REST = 0.01
"""Seconds for which nobody is let in when strangers have used up their CPU time, at least."""


IP_FREEBIND = 15
IPV6_FREEBIND = 78
"""Linux, ip(7), ipv6(7): an address may be bound before it is there; not in the socket module."""

_FIXES = {
    errno.EADDRINUSE: "Stop what uses it, or choose another port",
    errno.EADDRNOTAVAIL: "Choose an address that this device has, or 0.0.0.0 and [::] for all",
    errno.EACCES: "Ports below 1024 need root: choose a higher one",
    errno.EAFNOSUPPORT: "Leave IPv6 addresses out, since this system has no IPv6",
}
_DEAD = frozenset({errno.EINVAL, errno.EBADF, errno.ENOTSOCK})
"""What accept(2) says of a socket that does not listen any more."""


class ListenError(Exception):
    """A listening socket could not be opened; the text names the fix."""

    in_use: tuple[str, int] | None = None
    """Transport and port, where another program has them."""


def cannot_listen(host: str, port: int, transport: str, error: OSError) -> ListenError:
    """The error for people, with what to do about it."""
    fix = _FIXES.get(error.errno or 0, "Choose another address or port")
    failed = ListenError(
        f"cannot listen on {spell(host, port)} by {transport}: {error.strerror or error}. "
        f"{fix} (--listen, or vpnshare set gateway.listen HOST:PORT)."
    )
    if error.errno == errno.EADDRINUSE:
        failed.in_use = transport, port
    return failed


def bind_early(sock: socket.socket) -> None:
    """Let the socket be bound to an address that is not there at the moment."""
    six = sock.family == socket.AF_INET6
    level, option = (
        (socket.IPPROTO_IPV6, IPV6_FREEBIND) if six else (socket.IPPROTO_IP, IP_FREEBIND)
    )
    try:
        sock.setsockopt(level, option, 1)
    except OSError:
        # IPv6 on kernels before 4.15: the address must be there, then.
        pass


class Doorman:
    """Counts strangers and decides who may knock. Pure but for the closing of the oldest."""

    def __init__(self, counters: Counters, now: float) -> None:
        self.on_refused: Callable[[float], None] = lambda now: None
        """Called when strangers ask for more than they may have."""
        self._counters = counters
        self._waiting: OrderedDict[int, tuple[str, Callable[[], None]]] = OrderedDict()
        self._per_address: Counter[str] = Counter()
        self._buckets = Buckets(HANDSHAKES_PER_SECOND, HANDSHAKE_BURST)
        self._all = TokenBucket(ALL_HANDSHAKES_PER_SECOND, ALL_HANDSHAKE_BURST, now)
        self._codes = Buckets(CODES_PER_SECOND, CODE_BURST)
        self._all_codes = TokenBucket(ALL_CODES_PER_SECOND, ALL_CODE_BURST, now)
        self._lately = Visitors(RECENT_SECONDS, MAX_VISITORS)
        self.budget = Budget(now)
        """CPU time for all that strangers send."""
        self._new = TokenBucket(NEWCOMERS_PER_SECOND, NEWCOMER_BURST, now)
        self._coded = Visitors(CODE_SECONDS, MAX_VISITORS)
        self._new_codes = TokenBucket(NEWCOMER_CODES_PER_SECOND, NEWCOMER_CODE_BURST, now)

    def admit(self, address: str, now: float) -> bool:
        """Whether a connection from `address` may begin a handshake; counts the refusal."""
        address = neighbourhood(address)
        if self._per_address[address] >= MAX_STRANGERS_PER_ADDRESS:
            return self._refuse("address_full", now)
        if not self._buckets.take(address, now):
            return self._refuse("address_rate", now)
        known = self._lately.times(address, now)
        if not self._all.take(now) and (known or not self._new.take(now)):
            return self._refuse("rate", now)
        self._lately.note(address, now)
        return True

    def admit_code(self, address: str, now: float) -> bool:
        """Whether a stranger at `address` may learn the pairing code of his handshake."""
        address = neighbourhood(address)
        # One address alone does not use up what all may have, nor all what is for a newcomer.
        if self._codes.take(address, now) and (
            self._all_codes.take(now)
            or (not self._coded.times(address, now) and self._new_codes.take(now))
        ):
            self._coded.note(address, now)
            return True
        return self._refuse("codes", now)

    def _refuse(self, what: str, now: float) -> bool:
        self._counters.counts[f"listener__{what}__refused"] += 1
        self.on_refused(now)
        return False

    def busy(self, now: float) -> bool:
        """Half of what all strangers may ask for is used up: whoever can prove more, should."""
        return self._all.level(now) < ALL_HANDSHAKE_BURST / 2

    def enter(self, key: int, address: str, evict: Callable[[], None]) -> None:
        """A stranger came in; `evict` closes him, should he have to give way."""
        address = neighbourhood(address)
        if len(self._waiting) >= MAX_STRANGERS:
            crowd, _ = self._per_address.most_common(1)[0]
            oldest = next(k for k, (a, _) in self._waiting.items() if a == crowd)
            _, close = self._waiting[oldest]
            self.leave(oldest)
            self._counters.counts["listener__full__oldest_closed"] += 1
            close()
        self._waiting[key] = (address, evict)
        self._per_address[address] += 1

    def leave(self, key: int) -> None:
        """He has a lease now, or has gone. Unknown keys are no error."""
        entry = self._waiting.pop(key, None)
        if entry is None:
            return
        address = entry[0]
        self._per_address[address] -= 1
        if self._per_address[address] <= 0:
            del self._per_address[address]

    def __len__(self) -> int:
        return len(self._waiting)


class StreamListener:
    """A listening TCP socket on the gateway's poller (Door)."""

    def __init__(
        self,
        host: str,
        port: int,
        poller: Poller,
        accepted: Callable[[socket.socket, tuple[str, int], float], None],
        early: bool = False,
        budget: Budget | None = None,
    ) -> None:
        """Open and listen; with `early` also at an address that is not there just now.

        When the `budget` is used up those who knock wait in the backlog, and the kernel turns
        away who finds it full. Raises ListenError.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._budget = budget
        self._rest: asyncio.TimerHandle | None = None
        self._poller = poller
        self._accepted = accepted
        self.on_dead: Callable[[float], None] = lambda now: None
        """Called when the system has ended the socket (SOCK_DESTROY does); it is closed then."""
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            raise cannot_listen(host, port, "TCP", error) from None
        try:
            # So that links which are still open do not stand in the way.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if early:
                bind_early(sock)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port))
            sock.listen(BACKLOG)
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            raise cannot_listen(host, port, "TCP", error) from None
        self.sock = sock
        name = sock.getsockname()
        self.host: str = name[0]
        self.port: int = name[1]
        poller.watch(sock.fileno(), self, select.EPOLLIN)

    def ready(self, mask: int, now: float) -> None:
        began = thread_time()
        self._accept(now)
        budget = self._budget
        if budget is None or self.closed or budget.charge(thread_time() - began, now):
            return
        self._poller.unwatch(self.sock.fileno())
        rest = max(MIN_REST, budget.wait())
        self._rest = asyncio.get_running_loop().call_later(rest, self._go_on)

    def _go_on(self) -> None:
        self._rest = None
        self._poller.watch(self.sock.fileno(), self, select.EPOLLIN)

    def _accept(self, now: float) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, address = self.sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _DEAD:
                    self.close()
                    self.on_dead(now)
                # Else out of descriptors: those who knock wait in the backlog.
                return
            self._accepted(sock, (address[0], address[1]), now)

    def links(self) -> Sequence[Link]:
        """None: links have sockets of their own (Door)."""
        return ()

    def adopt(self, link: Link) -> bool:
        """No link needs this one (Door)."""
        return False

    @property
    def closed(self) -> bool:
        return self.sock.fileno() < 0

    def close(self) -> None:
        if self.closed:
            return
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        else:
            self._poller.unwatch(self.sock.fileno())
        self.sock.close()


def spell(host: str, port: int) -> str:
    """`host:port`, with brackets around IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def spell_address(address: bytes) -> str:
    """An address of 4 or 16 bytes, for people and for the system."""
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)
