"""Names of hosts, asked where they were asked before there was a tunnel.

Theory of operation. While the tunnel stands the system's own resolver is the gateway, so a
gateway whose address is a name could not be found again by it. A name is therefore asked of
the servers that the system had before, by `aiodns`, which speaks DNS with them (search
domains, /etc/hosts, retries, A and AAAA at once). It cannot mark its sockets, and would be
kept in by the very rules that keep the tunnel's traffic in: so it talks to a relay in this
process, on loopback, one port for each server, which passes the datagrams on by a socket
that the caller opens, outside the tunnel. The relay passes on questions about that name
only, and so few of them that nobody else on this machine can make use of it.

Without `aiodns`, or where no server is known, the system is asked (`getaddrinfo`), if the
caller says that its resolver is still the network's own. Names in `.local` go out by mDNS,
with `zeroconf`.

What answers is a stranger: of a long answer the first addresses are taken, of a truncated
one what came (no TCP), and nothing is waited for longer than `ANSWER_SECONDS`. Whether an
address may be dialled is judged by who asks. Sources: RFC 1035, RFC 6762, RFC 8305.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import chain, zip_longest
from typing import Any

from reach import mdns

ANSWER_SECONDS = 2.0
"""For a name, whatever happens."""
RESOLUTION_DELAY = 0.2
"""Seconds for the other family's answer when one is there (RFC 8305 section 3: some 50 ms)."""
TRY_SECONDS = 0.6
"""For one server to answer one try."""
TRIES = 3
MAX_SERVERS = 3
"""Servers asked, as resolv.conf(5) has it."""
MAX_ADDRESSES = 8
"""Of one name; an answer with more is no host's."""
MAX_QUESTIONS = 64
"""Datagrams passed on for one name: two families, some search domains, tries at each server."""
MAX_DATAGRAM = 4096
"""Bytes of an answer: more than any that fits EDNS's usual size (RFC 9715: 1400)."""
RECORD_TYPES = ("TXT", "A", "AAAA")
"""Which records of a name `records` asks for."""
MDNS_DOMAIN = "local"
DNS_PORT = 53
_LOOPBACK = "127.0.0.1"
_HEADER = 12
"""Bytes before the question (RFC 1035 section 4.1.1)."""

LACKS = {
    "name_unknown": (
        "No host has the gateway's name. Is it spelled right, and is this device on the network "
        "where it counts? The gateway's address will do, too."
    ),
    "name_unanswered": (
        "Nobody has answered for the gateway's name. Is this device on a network? The gateway's "
        "address will do, too."
    ),
    "name_unaskable": (
        "The gateway's name cannot be looked up beside the tunnel without a package that is not "
        "installed. The gateway's address will do."
    ),
    "name_refused": (
        "The gateway's name leads where no gateway is. Is it another host's? The gateway's "
        "address will do, too."
    ),
}
"""Why a name leads to no gateway: stable names, and sentences for people."""

Opener = Callable[[str, int], socket.socket]
"""A connected, non-blocking UDP socket to an address and port, outside the tunnel. Raises
OSError."""


class NameProblem(Exception):
    """A name led to no address: `name` is of LACKS, the text says why in a few words."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(why)
        self.name = name


def is_local(host: str) -> bool:
    """Whether the name is of a network's own, which mDNS is asked for (RFC 6762 section 3)."""
    return host.rstrip(".").lower().endswith(f".{MDNS_DOMAIN}")


async def ask(
    host: str,
    servers: Sequence[str],
    open_socket: Opener,
    *,
    links: Sequence[str] = (),
    system: bool = False,
) -> tuple[str, ...]:
    """The name's addresses, both families in turn, at most MAX_ADDRESSES, within ANSWER_SECONDS.

    `servers` are addresses; `links` are own IPv4 addresses on the networks where mDNS is
    asked; `system`: the system's resolver may be asked instead. Raises NameProblem:
    `name_unknown`, `name_unanswered`, or `name_unaskable` for want of a package.
    """
    # Before the time begins that the servers have: how long it takes is not their doing.
    library = None if is_local(host) else await asyncio.to_thread(_load)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            if is_local(host):
                return await _ask_mdns(host, links, system)
            if library is not None and servers:
                return await _ask_servers(library, host, servers[:MAX_SERVERS], open_socket)
            if system:
                return await _ask_system(host)
    except TimeoutError:
        why = f"nobody has answered within {ANSWER_SECONDS:.0f} s"
        raise NameProblem("name_unanswered", why) from None
    if library is None:
        raise NameProblem("name_unaskable", "the package aiodns is not installed")
    raise NameProblem("name_unanswered", "no server of this network's is known")


async def records(
    host: str, servers: Sequence[str], open_socket: Opener
) -> tuple[bytes | str, ...]:
    """What the name's TXT, A and AAAA records say, texts and addresses in one, as they came.

    Asked by `aiodns` of `servers` (addresses), within ANSWER_SECONDS. Raises NameProblem as `ask`.
    """
    library = await asyncio.to_thread(_load)
    if library is None:
        raise NameProblem("name_unaskable", "the package aiodns is not installed")
    try:
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            _asking(library, host, servers[:MAX_SERVERS], open_socket) as resolver,
        ):
            answers = await asyncio.gather(*(_of_type(resolver, host, t) for t in RECORD_TYPES))
    except TimeoutError:
        why = f"nobody has answered within {ANSWER_SECONDS:.0f} s"
        raise NameProblem("name_unanswered", why) from None
    found = tuple(chain.from_iterable(said for said, _ in answers))
    problems = [problem for _, problem in answers if problem is not None]
    # A name has seldom all types: that one is not there is a problem only where none is.
    if not found and problems:
        raise next((p for p in problems if p.name == "name_unanswered"), problems[0])
    return found


def _load() -> Any:
    """aiodns, which is native code and not everywhere; None where it is not."""
    try:
        import aiodns
    except ImportError:
        return None
    return aiodns


# --- by aiodns -----------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _asking(
    library: Any, host: str, servers: Sequence[str], open_socket: Opener
) -> AsyncIterator[Any]:
    """A resolver for questions about one name. Raises NameProblem."""
    with contextlib.ExitStack() as open_relays:
        budget = _Budget(host)
        ports = [
            open_relays.enter_context(relay).port
            for relay in (_Relay.to(server, open_socket, budget) for server in servers)
            if relay is not None
        ]
        if not ports:
            raise NameProblem("name_unanswered", "there is no way to the servers of this network")
        import pycares

        # Not `lookups`: pycares 5 hands c-ares a string of it that is freed by then. It looks where
        # /etc/nsswitch.conf says, which is /etc/hosts and DNS.
        resolver = library.DNSResolver(
            nameservers=[f"{_LOOPBACK}:{port}" for port in ports],
            timeout=TRY_SECONDS,
            tries=TRIES,
            flags=pycares.ARES_FLAG_IGNTC | pycares.ARES_FLAG_EDNS,
        )
        try:
            yield resolver
        finally:
            await resolver.close()


async def _ask_servers(
    library: Any, host: str, servers: Sequence[str], open_socket: Opener
) -> tuple[str, ...]:
    async with _asking(library, host, servers, open_socket) as resolver:
        return await _both_families(resolver, host)


async def _both_families(resolver: Any, host: str) -> tuple[str, ...]:
    """A and AAAA at the same time; the later one is not waited for long."""
    asked = {
        family: asyncio.ensure_future(_family(resolver, host, family))
        for family in (socket.AF_INET, socket.AF_INET6)
    }
    waiting = set(asked.values())
    try:
        while waiting and not any(task.done() and task.result()[0] for task in asked.values()):
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if waiting:
            await asyncio.wait(waiting, timeout=RESOLUTION_DELAY)
        answers = [task.result() for task in asked.values() if task.done()]
    finally:
        for task in asked.values():
            task.cancel()
        await asyncio.gather(*asked.values(), return_exceptions=True)
    found = _in_turn([addresses for addresses, _ in answers])
    if found:
        return found
    # That there is no such name weighs more than one server's having failed.
    problems = [problem for _, problem in answers if problem is not None]
    raise next((p for p in problems if p.name == "name_unknown"), problems[0])


async def _family(
    resolver: Any, host: str, family: socket.AddressFamily
) -> tuple[list[str], NameProblem | None]:
    from aiodns.error import DNSError

    try:
        answer = await resolver.getaddrinfo(host, family=family, type=socket.SOCK_STREAM)
    except (DNSError, UnicodeError) as error:
        return [], _problem(error)
    return [_text(node.addr[0]) for node in answer.nodes], None


async def _of_type(
    resolver: Any, host: str, kind: str
) -> tuple[list[bytes | str], NameProblem | None]:
    """The texts or addresses of the records of one type."""
    from aiodns.error import DNSError

    try:
        answer = await resolver.query_dns(host, kind)
    except (DNSError, UnicodeError) as error:
        return [], _problem(error)
    field = "data" if kind == "TXT" else "addr"
    # A CNAME on the way is in the answer, too.
    said = [getattr(each.data, field, None) for each in answer.answer]
    return [each for each in said if isinstance(each, bytes | str)][:MAX_ADDRESSES], None


def _problem(error: Exception) -> NameProblem:
    """What c-ares has to say."""
    import pycares.errno as codes

    code = error.args[0] if error.args else None
    if code in (codes.ARES_ENOTFOUND, codes.ARES_ENODATA):
        return NameProblem("name_unknown", "no host has that name")
    text = _text(codes.strerror(code)) if isinstance(code, int) else type(error).__name__
    return NameProblem("name_unanswered", text[:1].lower() + text[1:])


def _text(address: str | bytes) -> str:
    return address.decode("ascii", "replace") if isinstance(address, bytes) else address


def _in_turn(families: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """One of each family after the other (RFC 8305 section 4), each once, what is an address."""
    found: dict[str, None] = {}
    for address in chain.from_iterable(zip_longest(*families)):
        with contextlib.suppress(ValueError):
            if address is not None:
                found.setdefault(str(ipaddress.ip_address(address)))
    return tuple(found)[:MAX_ADDRESSES]


# --- the relay -----------------------------------------------------------------------------------


class _Budget:
    """Which datagrams the relays pass on: questions about one name, and not many."""

    def __init__(self, host: str) -> None:
        self._question = b"".join(
            bytes((len(label),)) + label.lower().encode("ascii", "replace")
            for label in host.rstrip(".").split(".")
        )
        self._left = MAX_QUESTIONS

    def about(self, datagram: bytes) -> bool:
        """Whether it is about the name; search domains may stand behind it."""
        return datagram[_HEADER:].lower().startswith(self._question)

    def take(self, datagram: bytes) -> bool:
        """Whether this one may go to a server."""
        if not self._left or not self.about(datagram):
            return False
        self._left -= 1
        return True


class _Relay:
    """Passes one server's datagrams on, between aiodns and a socket outside the tunnel."""

    def __init__(self, here: socket.socket, there: socket.socket, budget: _Budget) -> None:
        self.port: int = here.getsockname()[1]
        self._here, self._there, self._budget = here, there, budget
        self._asker: dict[bytes, Any] = {}
        """Who has asked with which id; the budget bounds it."""

    @classmethod
    def to(cls, server: str, open_socket: Opener, budget: _Budget) -> _Relay | None:
        """A relay to a server's address; None when there is no way to it."""
        try:
            there = open_socket(server, DNS_PORT)
        except OSError:
            return None
        here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        here.setblocking(False)
        here.bind((_LOOPBACK, 0))
        return cls(here, there, budget)

    def __enter__(self) -> _Relay:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._here, self._question)
        loop.add_reader(self._there, self._answer)
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for sock in (self._here, self._there):
            loop.remove_reader(sock)
            sock.close()

    def _question(self) -> None:
        with contextlib.suppress(OSError):
            datagram, asker = self._here.recvfrom(MAX_DATAGRAM)
            if self._budget.take(datagram):
                self._asker[datagram[:2]] = asker
                self._there.send(datagram)

    def _answer(self) -> None:
        # An error is the server's host saying that nobody listens; aiodns tries the next.
        with contextlib.suppress(OSError):
            datagram = self._there.recv(MAX_DATAGRAM)
            asker = self._asker.get(datagram[:2])
            # One that is malformed would end aiodns's waiting for the one that is not.
            if asker is not None and self._budget.about(datagram):
                self._here.sendto(datagram, asker)


# --- by mDNS, and by the system ------------------------------------------------------------------


async def _ask_mdns(host: str, links: Sequence[str], system: bool) -> tuple[str, ...]:
    """RFC 6762: whoever has the name says so on the link. Raises NameProblem."""
    try:
        asyncio_part, core = await asyncio.to_thread(mdns.load)
    except mdns.DiscoveryUnavailable:
        if system:
            return await _ask_system(host)
        raise NameProblem("name_unaskable", "the package zeroconf is not installed") from None
    if not links:
        raise NameProblem("name_unanswered", "this device is on no local network")
    try:
        zeroconf = asyncio_part.AsyncZeroconf(
            interfaces=sorted(links), ip_version=core.IPVersion.V4Only
        )
    except OSError as error:
        raise NameProblem("name_unanswered", f"mDNS cannot be used here: {error}") from error
    try:
        info = core.AddressResolver(f"{host.rstrip('.')}.")
        wait = (ANSWER_SECONDS - RESOLUTION_DELAY) * 1000
        if not await info.async_request(zeroconf.zeroconf, wait):
            raise NameProblem("name_unknown", "no host on this network has that name")
        addresses = info.parsed_addresses()
    finally:
        await zeroconf.async_close()
    return _in_turn([[a for a in addresses if (":" in a) is six] for six in (False, True)])


async def _ask_system(host: str) -> tuple[str, ...]:
    """`getaddrinfo` on a thread of its own, which cannot be stopped and holds up nobody."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Any]] = loop.create_future()

    def settle(result: list[Any] | OSError) -> None:
        if answer.done():
            return
        if isinstance(result, OSError):
            answer.set_exception(result)
        else:
            answer.set_result(result)

    def work() -> None:
        result: list[Any] | OSError
        try:
            result = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            result = error
        except UnicodeError:
            result = OSError(errno.EINVAL, "no host's name")
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result)

    threading.Thread(target=work, name="vpnshare-name", daemon=True).start()
    try:
        found = await answer
    except socket.gaierror as error:
        again = error.errno in (socket.EAI_AGAIN, socket.EAI_FAIL)
        name = "name_unanswered" if again else "name_unknown"
        raise NameProblem(name, str(error.strerror).lower()) from error
    except OSError as error:
        raise NameProblem("name_unanswered", str(error.strerror).lower()) from error
    families = (socket.AF_INET, socket.AF_INET6)
    return _in_turn([[str(each[4][0]) for each in found if each[0] == f] for f in families])
