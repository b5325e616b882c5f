"""The questions of a check, put to their servers by a way that the caller has.

Theory of operation. A `Way` opens datagram sockets that lead into the VPN and nowhere else (the
gateway's guarded ones, or those of the client's tunnel), and looks names up as that side does. By
it each STUN server is asked over each family for the address that it sees, and each name for the
address that asks: through whoever is asked for names, and at the name's own server. All at once;
nobody is waited for longer than the transactions last. What comes is judged by
`verdict`, here it is only told apart: an answer that is none is waited past, up to a bound.

Sources: RFC 8489, RFC 1035.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol

from netstack.dns import (
    TYPE_A,
    TYPE_AAAA,
    MalformedMessage,
    address_question,
    wire_name,
)
from netstack.dns_data import TYPE_TXT, answers_question, packed_addresses, texts
from netstack.stun import ID_SIZE, Binding
from services.check.places import Place, Whoami
from services.check.verdict import Address, Asker, Word

MAX_STRANGE = 64
"""Datagrams of one server that answer nothing, before it is given up."""
MAX_SEEN = 8
"""Addresses that one answer may name; one that names more names nobody."""
MAX_DATAGRAM = 4096
QUESTIONS = (0.0, 0.7, 1.4)
"""Seconds at which a name's own server is asked, from the first time on."""
LAST_WAIT = 2.5
"""Seconds from the first question on that it is waited for."""
NAME_SECONDS = 4.0
"""For whoever is asked for names."""
KINDS = (TYPE_TXT, TYPE_A, TYPE_AAAA)
"""Whoami names differ in which type of record holds the address."""

_REFUSED = frozenset((errno.ECONNREFUSED,))


class Unanswered(Exception):
    """No answer; `problem` is of `verdict.PROBLEMS`."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Line:
    """A non-blocking datagram socket, and the only one whom it speaks to."""

    sock: socket.socket
    remote: tuple[str, int]
    connected: bool = True
    """Else who has sent something is looked at here."""

    async def send(self, datagram: bytes) -> None:
        """Raises OSError."""
        loop = asyncio.get_running_loop()
        if self.connected:
            await loop.sock_sendall(self.sock, datagram)
        else:
            await loop.sock_sendto(self.sock, datagram, self.remote)

    async def receive(self) -> bytes:
        """The next datagram from there. Raises OSError."""
        loop = asyncio.get_running_loop()
        if self.connected:
            return await loop.sock_recv(self.sock, MAX_DATAGRAM)
        while True:
            datagram, sender = await loop.sock_recvfrom(self.sock, MAX_DATAGRAM)
            if sender[:2] == self.remote:
                return datagram


class Way(Protocol):
    """How a side asks."""

    def open(self, host: str, port: int) -> Line:
        """To an address, by a socket that leads into the VPN and nowhere else. Raises OSError."""

    async def addresses(self, name: str) -> Sequence[str]:
        """Of a host, as this side looks names up. Raises Unanswered."""

    async def seen_by(self, name: str) -> Sequence[Address]:
        """The addresses that a whoami name's server says it was asked from, when asked as this
        side looks names up. Raises Unanswered."""


async def ask_all(
    way: Way, stun: Sequence[Place], whoami: Sequence[Whoami], families: Sequence[int]
) -> tuple[tuple[Word, ...], tuple[Asker, ...]]:
    """What STUN servers and names' servers say."""
    words = [_words(way, place, families) for place in stun]
    through = [_through(way, each.name) for each in whoami]
    direct = [
        _direct(way, each.name, each.server, families) for each in whoami if each.server is not None
    ]
    said, asked, own = await asyncio.gather(
        asyncio.gather(*words), asyncio.gather(*through), asyncio.gather(*direct)
    )
    return tuple(word for each in said for word in each), (*asked, *own)


# --- STUN -----------------------------------------------------------------------------------------


async def _words(way: Way, place: Place, families: Sequence[int]) -> list[Word]:
    try:
        hosts = await _hosts(way, place)
    except Unanswered as why:
        return [Word(place.text, family, problem=why.problem) for family in families]
    if place.literal:
        families = [family for family in families if family in hosts]
    return list(await asyncio.gather(*(_word(way, place, hosts, each) for each in families)))


async def _hosts(way: Way, place: Place) -> dict[int, str]:
    """By family the first address of the server. Raises Unanswered."""
    found: dict[int, str] = {}
    for host in [place.host] if place.literal else await way.addresses(place.host):
        found.setdefault(ip_address(host).version, host)
    return found


async def _word(way: Way, place: Place, hosts: dict[int, str], family: int) -> Word:
    if family not in hosts:
        return Word(place.text, family, problem="no_address")
    try:
        line = way.open(hosts[family], place.port)
    except OSError as error:
        return Word(place.text, family, problem=_problem(error))
    with contextlib.closing(line.sock):
        try:
            address = await binding(line)
        except Unanswered as why:
            return Word(place.text, family, problem=why.problem)
    if address.version != family:
        return Word(place.text, family, problem="unreadable")
    return Word(place.text, family, address)


async def binding(line: Line) -> Address:
    """The address that the server sees. Raises Unanswered."""
    loop = asyncio.get_running_loop()
    transaction = Binding(os.urandom(ID_SIZE))
    try:
        while not transaction.over:
            now = loop.time()
            if (request := transaction.send(now)) is not None:
                await line.send(request)
            elif transaction.lost(now):
                raise Unanswered("unreadable" if transaction.strange else "silent")
            elif transaction.strange > MAX_STRANGE:
                raise Unanswered("unreadable")
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(transaction.due):
                        transaction.take(await line.receive())
    except OSError as error:
        raise Unanswered(_problem(error)) from None
    if transaction.mapped is None:
        raise Unanswered("error")
    return transaction.mapped[0]


def _problem(error: OSError) -> str:
    return "refused" if error.errno in _REFUSED else "unreachable"


# --- who asks names -------------------------------------------------------------------------------


async def _through(way: Way, name: str) -> Asker:
    try:
        seen = tuple(await way.seen_by(name))
    except Unanswered as why:
        return Asker(name, problem=why.problem)
    return Asker(name, addresses=seen, problem="" if seen else "untold")


async def _direct(way: Way, name: str, server: Place, families: Sequence[int]) -> Asker:
    try:
        hosts = await _hosts(way, server)
    except Unanswered as why:
        return Asker(name, server.text, problem=why.problem)
    family = next((each for each in families if each in hosts), None)
    if family is None:
        return Asker(name, server.text, problem="no_address")
    try:
        line = way.open(hosts[family], server.port)
    except OSError as error:
        return Asker(name, server.text, family, problem=_problem(error))
    with contextlib.closing(line.sock):
        try:
            seen = tuple(await whoami(line, name))
        except Unanswered as why:
            return Asker(name, server.text, family, problem=why.problem)
    return Asker(name, server.text, family, seen, "" if seen else "untold")


async def whoami(line: Line, name: str) -> Sequence[Address]:
    """The addresses that a name server says it is asked from. Raises Unanswered."""
    questions = {kind: question(name, kind) for kind in KINDS}
    answers: dict[int, bytes] = {}
    loop = asyncio.get_running_loop()
    began = loop.time()
    strange = 0
    waits = (*QUESTIONS[1:], LAST_WAIT)
    try:
        for wait in waits:
            for kind in questions.keys() - answers.keys():
                await line.send(questions[kind])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(began + wait):
                    while len(answers) < len(questions):
                        datagram = await line.receive()
                        answered = _answered(datagram, questions)
                        if answered is not None:
                            answers.setdefault(answered, datagram)
                        elif (strange := strange + 1) > MAX_STRANGE:
                            raise Unanswered("unreadable")
            if len(answers) == len(questions):
                break
    except OSError as error:
        if not answers:
            raise Unanswered(_problem(error)) from None
    if not answers:
        raise Unanswered("unreadable" if strange else "silent")
    return seen_in(answers)


def question(name: str, kind: int) -> bytes:
    """A question of our own, with a random ID."""
    return address_question(int.from_bytes(os.urandom(2), "big"), wire_name(name), kind)


def _answered(datagram: bytes, questions: dict[int, bytes]) -> int | None:
    return next((k for k, wire in questions.items() if answers_question(datagram, wire)), None)


def seen_in(answers: dict[int, bytes]) -> Sequence[Address]:
    """The addresses in answers by their type; an answer that is malformed has none."""
    found: list[bytes | str] = []
    for kind, wire in answers.items():
        with contextlib.suppress(MalformedMessage):
            if kind == TYPE_TXT:
                found += [text.decode("ascii", "replace") for text in texts(wire)]
            else:
                found += packed_addresses(wire, kind)
    return told(found)


def told(found: Iterable[bytes | str]) -> Sequence[Address]:
    """Those that are addresses, each once; none where there are more than anybody asks from."""
    seen: dict[Address, None] = {}
    for each in found:
        with contextlib.suppress(ValueError):
            address = ip_address(each)
            if not address.is_unspecified:
                seen.setdefault(address)
    return list(seen) if len(seen) <= MAX_SEEN else []


Resolve = Callable[[bytes, Callable[[bytes], None]], None]
"""Puts a question to the leases' resolver, which calls back once."""


async def resolved(resolve: Resolve, wire: bytes) -> bytes:
    """The resolver's answer. Raises Unanswered."""
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def reply(message: bytes) -> None:
        if not answer.done():
            answer.set_result(message)

    resolve(wire, reply)
    try:
        async with asyncio.timeout(NAME_SECONDS):
            return await answer
    except TimeoutError:
        raise Unanswered("silent") from None
