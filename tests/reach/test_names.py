"""Names asked of servers on loopback: what they say, what they hold back, and who may ask them."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from reach import names
from reach.names import MAX_ADDRESSES, MAX_QUESTIONS, NameProblem
from tests.netstack.wires import AAAA, TXT, A, question, record, reply

pytest.importorskip("aiodns")

Script = Callable[[bytes], list[bytes]]
V4, V6 = bytes([192, 0, 2, 7]), bytes.fromhex("20010db8000000000000000000000007")


def type_of(wire: bytes) -> int:
    end = 12
    while wire[end]:
        end += 1 + wire[end]
    return int.from_bytes(wire[end + 1 : end + 3], "big")


def both(wire: bytes) -> list[bytes]:
    """A host with an address of each family."""
    kind = type_of(wire)
    return [reply(wire, [record(kind, V4 if kind == A else V6)])]


def silent(wire: bytes) -> list[bytes]:
    return []


class Server(asyncio.DatagramProtocol):
    """A DNS server that answers by a script."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.heard: list[bytes] = []
        self.opened = 0

        self.transport: asyncio.DatagramTransport | None = None

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.heard.append(data)
        assert self.transport is not None
        for answer in self.script(data):
            self.transport.sendto(answer, addr)

    def open(self, host: str, port: int) -> socket.socket:
        """As a link's socket would be opened to it."""
        assert port == 53
        self.opened += 1
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        assert self.transport is not None
        sock.connect(self.transport.get_extra_info("sockname"))
        return sock


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[Server]:
    server = Server(script)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: server, local_addr=("127.0.0.1", 0))
    server.transport = transport
    try:
        yield server
    finally:
        transport.close()


async def problem(host: str, server: Server, system: bool = False) -> tuple[str, str]:
    with pytest.raises(NameProblem) as caught:
        await names.ask(host, ["192.0.2.53"], server.open, system=system)
    return caught.value.name, str(caught.value)


async def test_both_families_are_asked_for_and_come_in_turn() -> None:
    async with serving(both) as server:
        found = await names.ask("phone.lan", ["192.0.2.53"], server.open)
    assert found == ("192.0.2.7", "2001:db8::7")
    assert {type_of(wire) for wire in server.heard} == {A, AAAA}


async def test_the_library_is_given_no_text_that_it_frees_too_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """pycares 5 keeps neither text until c-ares has read it: now and then no way of looking a name
    up was left, and a name that is there could not be found."""
    import aiodns

    given: dict[str, object] = {}

    class Resolver(aiodns.DNSResolver):
        def __init__(self, **options: Any) -> None:
            given.update(options)
            super().__init__(**options)

    monkeypatch.setattr(aiodns, "DNSResolver", Resolver)
    async with serving(both) as server:
        await names.ask("phone.lan", ["192.0.2.53"], server.open)
    assert given and not {"lookups", "resolvconf_path"} & given.keys()


async def test_the_time_that_loading_takes_is_not_the_servers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load_late() -> object:
        time.sleep(1.2)
        return load()

    load = names._load
    monkeypatch.setattr(names, "_load", load_late)
    monkeypatch.setattr(names, "ANSWER_SECONDS", 1.0)
    async with serving(both) as server:
        assert await names.ask("phone.lan", ["192.0.2.53"], server.open)


async def test_one_familys_silence_does_not_hold_up_the_other() -> None:
    async with serving(lambda wire: both(wire) if type_of(wire) == A else []) as server:
        assert await names.ask("phone.lan", ["192.0.2.53"], server.open) == ("192.0.2.7",)


async def test_a_name_that_is_not_there_and_one_that_has_no_address() -> None:
    async with serving(lambda wire: [reply(wire, rcode=3)]) as server:
        assert (await problem("no.such", server))[0] == "name_unknown"
    async with serving(lambda wire: [reply(wire)]) as server:
        assert (await problem("no.address", server))[0] == "name_unknown"


async def test_servers_that_fail_or_say_nothing_are_told_apart_from_no_such_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(lambda wire: [reply(wire, rcode=2)]) as server:
        assert (await problem("phone.lan", server))[0] == "name_unanswered"
    monkeypatch.setattr(names, "ANSWER_SECONDS", 0.2)
    async with serving(silent) as server:
        name, why = await problem("phone.lan", server)
    assert (name, why) == ("name_unanswered", "nobody has answered within 0 s")


async def test_of_a_long_answer_the_first_addresses_are_taken() -> None:
    def many(wire: bytes) -> list[bytes]:
        kind = type_of(wire)
        packed = [bytes([10, 0, n, 1]) if kind == A else V6[:-1] + bytes([n]) for n in range(90)]
        return [reply(wire, [record(kind, each) for each in packed])]

    async with serving(many) as server:
        found = await names.ask("phone.lan", ["192.0.2.53"], server.open)
    assert len(found) == MAX_ADDRESSES
    assert [":" in address for address in found] == [False, True] * (MAX_ADDRESSES // 2)


@pytest.mark.parametrize(
    "forged",
    [
        lambda wire: [bytes(4096)],
        lambda wire: [wire[:20]],
        lambda wire: [reply(question("other.lan", type_of(wire), int.from_bytes(wire[:2], "big")))],
        lambda wire: [bytes([wire[0] ^ 1]) + reply(wire, [record(A, bytes(4))])[1:]],
        lambda wire: [wire[:2]],
        lambda wire: [b""],
    ],
    ids=["zeros", "cut", "another name", "another id", "an id", "nothing"],
)
async def test_what_is_no_answer_is_passed_over_and_the_true_one_taken(forged: Script) -> None:
    async with serving(lambda wire: forged(wire) + both(wire)) as server:
        assert "192.0.2.7" in await names.ask("phone.lan", ["192.0.2.53"], server.open)


async def test_a_truncated_answer_is_taken_as_it_is_without_tcp() -> None:
    async with serving(
        lambda wire: [reply(wire, [record(A, V4)] if type_of(wire) == A else [], flags=0x8380)]
    ) as server:
        assert await names.ask("phone.lan", ["192.0.2.53"], server.open) == ("192.0.2.7",)


async def test_the_next_server_is_asked_where_the_first_is_silent() -> None:
    async with serving(silent) as dead, serving(both) as alive:
        place = {"192.0.2.1": dead, "192.0.2.2": alive}
        found = await names.ask(
            "phone.lan", list(place), lambda host, port: place[host].open(host, port)
        )
    assert "192.0.2.7" in found and dead.heard


async def test_where_there_is_no_way_to_a_server_the_others_do() -> None:
    async with serving(both) as server:

        def unreachable(host: str, port: int) -> socket.socket:
            if host == "192.0.2.1":
                raise OSError("no route")
            return server.open(host, port)

        assert await names.ask("phone.lan", ["192.0.2.1", "192.0.2.2"], unreachable)
        assert (await problem_without_way())[0] == "name_unanswered"


async def problem_without_way() -> tuple[str, str]:
    def unreachable(host: str, port: int) -> socket.socket:
        raise OSError("no route")

    with pytest.raises(NameProblem) as caught:
        await names.ask("phone.lan", ["192.0.2.1"], unreachable)
    return caught.value.name, str(caught.value)


@contextmanager
def relay(server: Server, host: str) -> Iterator[names._Relay]:
    found = names._Relay.to("192.0.2.53", server.open, names._Budget(host))
    assert found is not None
    with found:
        yield found


async def test_nobody_else_here_gets_anything_past_the_tunnel_by_the_relay() -> None:
    async with serving(both) as server:
        with relay(server, "phone.lan") as open_relay:
            stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with stranger:
                stranger.connect(("127.0.0.1", open_relay.port))
                for datagram in (question("secret.example"), bytes(12), b"", bytes(40)):
                    stranger.send(datagram)
                for _ in range(MAX_QUESTIONS + 10):
                    stranger.send(question("Phone.LAN"))
                    await asyncio.sleep(0)
                async with asyncio.timeout(10):
                    while len(server.heard) < MAX_QUESTIONS:
                        await asyncio.sleep(0.005)
                    # What was sent last has been read, too, once the queue is empty.
                    while open_relay._budget._left:
                        await asyncio.sleep(0.005)
        assert server.heard == [question("Phone.LAN")] * MAX_QUESTIONS


async def test_without_aiodns_the_system_is_asked_if_it_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "aiodns", None)
    asked: list[str] = []

    def lookup(host: str, *args: object, **kwargs: object) -> list[object]:
        asked.append(host)
        if host == "no.such":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET6, 1, 6, "", ("fe80::1%eth0", 0, 0, 2)),
            (socket.AF_INET, 1, 6, "", ("192.0.2.7", 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    async with serving(both) as server:
        found = await names.ask("phone.lan", ["192.0.2.53"], server.open, system=True)
        assert found == ("192.0.2.7", "fe80::1%eth0")
        assert (await problem("no.such", server, True))[0] == "name_unknown"
        name, why = await problem("phone.lan", server)
        assert name == "name_unaskable" and "aiodns" in why
        assert asked == ["phone.lan", "no.such"] and not server.heard


async def test_a_system_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiodns", None)
    monkeypatch.setattr(names, "ANSWER_SECONDS", 0.1)
    over = threading.Event()

    def hangs(*args: object, **kwargs: object) -> list[object]:
        over.wait(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    try:
        async with serving(silent) as server:
            assert (await problem("phone.lan", server, True))[0] == "name_unanswered"
    finally:
        over.set()


async def test_local_names_need_zeroconf_and_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(both) as server:
        assert (await problem("phone.local", server))[0] == "name_unanswered"
        monkeypatch.setitem(sys.modules, "zeroconf", None)
        name, why = await problem("phone.local.", server)
        assert name == "name_unaskable" and "zeroconf" in why
        assert not server.heard, "RFC 6762: never asked of a server"


def whoami(wire: bytes) -> list[bytes]:
    """A name with a TXT and an A record, and no AAAA."""
    kind = type_of(wire)
    if kind == A:
        return [reply(wire, [record(A, V4)])]
    if kind == TXT:
        return [reply(wire, [record(TXT, b"\x07198.x.y"), record(TXT, b"\x041.2.")])]
    return [reply(wire)]


async def test_records_are_texts_and_addresses_as_they_came() -> None:
    async with serving(whoami) as server:
        found = await names.records("whoami.test", ["192.0.2.53"], server.open)
    assert set(found) == {b"198.x.y", b"1.2.", "192.0.2.7"}
    assert {type_of(wire) for wire in server.heard} == {A, AAAA, TXT}


async def test_records_that_nobody_has_or_tells() -> None:
    async def why(script: Script) -> str:
        async with serving(script) as server:
            with pytest.raises(NameProblem) as caught:
                await names.records("whoami.test", ["192.0.2.53"], server.open)
        return caught.value.name

    assert await why(lambda wire: [reply(wire)]) == "name_unknown"
    assert await why(lambda wire: [reply(wire, rcode=3)]) == "name_unknown"
    assert await why(lambda wire: [reply(wire, rcode=5)]) == "name_unanswered"
    # One type that is refused says more than others that are not there.
    assert await why(lambda w: [reply(w, rcode=2 * (type_of(w) == TXT))]) == "name_unanswered"


async def test_records_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_load", lambda: None)
    async with serving(whoami) as server:
        with pytest.raises(NameProblem) as caught:
            await names.records("whoami.test", ["192.0.2.53"], server.open)
        assert caught.value.name == "name_unaskable" and not server.heard
