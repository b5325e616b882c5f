"""The proxy with real programs' bytes over real sockets: connections, bounds, ends."""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import socket
import stat
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from client.model import ClientError
from client.outlet.proxy import limits, server
from client.outlet.proxy.outcome import Outcome
from client.outlet.proxy.place import ProxyPlace, parse_place
from client.outlet.proxy.server import ProxyConfig, ProxyServer
from eventloop.poller import NEVER
from tests.client.outlet.proxy.house import connect_request, echo, house, origin
from tests.fakes.kernel_dialer import KernelDialer
from tests.fakes.ports import free_port
from tests.fakes.waiting import settle

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, and another user")


async def test_a_connection_both_ways_and_its_half_closes() -> None:
    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read(-1)
        writer.write(data.upper())

    async with house() as home, origin(upper) as port:
        reader, writer = await home.connect("site.test", port)
        writer.write(b"a question")
        writer.write_eof()
        assert await reader.read(-1) == b"A QUESTION", "the program's FIN, then the host's"
        writer.close()
        await settle(lambda: not len(home.server.flows))
        assert home.counts["proxy__connect__opened"] == 1


async def test_the_host_may_end_first() -> None:
    heard = asyncio.get_running_loop().create_future()

    async def first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"all of it")
        writer.write_eof()
        heard.set_result(await reader.read(-1))

    async with house() as home, origin(first) as port:
        reader, writer = await home.connect("site.test", port)
        assert await reader.read(-1) == b"all of it"
        writer.write(b"thanks")
        writer.write_eof()
        assert await heard == b"thanks"


async def test_what_comes_behind_the_request_is_not_lost() -> None:
    async with house() as home, origin(echo) as port:
        reader, writer = await home.open()
        writer.write(b"\x05\x01\x00" + connect_request("site.test", port) + b"early")
        assert (await reader.readexactly(12))[2:4] == b"\x05\x00"
        writer.write(b" and late")
        assert await reader.readexactly(14) == b"early and late"


async def test_the_far_host_is_asked_in_the_same_turn_and_before_the_program_is_greeted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A far host's round trip is the long one: it begins first."""
    async with house() as home, origin(echo) as port:
        place = home.server.config.place
        asked: list[tuple[bool, int]] = []
        connect = home.dialer.connect
        poller = home.server.poller

        def dial(*words: Any) -> Any:
            asked.append((greeted(), poller.watched() - watched))
            return connect(*words)

        def greeted() -> bool:
            return there(2)

        def there(size: int) -> bool:
            try:
                return len(program.recv(size, socket.MSG_PEEK | socket.MSG_DONTWAIT)) == size
            except BlockingIOError:
                return False

        def taken() -> bool:
            left = fcntl.ioctl(program, termios.TIOCOUTQ, bytes(4))
            return not int.from_bytes(left, sys.byteorder)

        monkeypatch.setattr(home.dialer, "connect", dial)
        listener = home.server._listener
        assert listener is not None
        home.server.poller.unwatch(listener.fileno())
        with socket.create_connection((place.host, place.port)) as program:
            program.sendall(b"\x05\x01\x00" + connect_request("site.test", port))
            await settle(taken)
            watched = poller.watched()
            home.server.ready(select.EPOLLIN, poller.clock())
            assert asked == [(False, 0)], "in the event that says that it has come in"
            assert poller.watched() == watched + 1, "its hanging up is heard from now on"
            home.server.after_batch(poller.clock())
            await settle(greeted)
            await settle(lambda: there(12))
            assert program.recv(12)[:4] == b"\x05\x00\x05\x00"


@pytest.mark.parametrize(
    ("words", "gone", "watched"),
    [
        (b"\x05\x01", False, 1),
        (b"", True, 0),
        (b"GET http://site.test:PORT/ HTTP/1.1\r\nHost: site.test\r\n\r\n", False, 0),
    ],
    ids=["speaks", "has gone", "relayed"],
)
async def test_who_comes_in_is_watched_unless_its_first_words_say_otherwise(
    words: bytes, gone: bool, watched: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A relay's socket is the loop's, and one that has gone is closed."""
    async with house() as home, origin(echo) as port:
        place, poller = home.server.config.place, home.server.poller
        listener = home.server._listener
        assert listener is not None
        poller.unwatch(listener.fileno())
        with socket.create_connection((place.host, place.port)) as program:
            program.sendall(words.replace(b"PORT", str(port).encode()))
            if gone:
                program.shutdown(socket.SHUT_WR)
            await settle(lambda: not int.from_bytes(
                fcntl.ioctl(program, termios.TIOCOUTQ, bytes(4)), sys.byteorder))  # fmt: skip
            before = poller.watched()
            home.server.ready(select.EPOLLIN, poller.clock())
            assert poller.watched() - before == watched
            assert home.counts["proxy__connections"] == 1
            assert not caplog.records


async def test_the_flow_table() -> None:
    async with house() as home, origin(echo) as port:
        reader, writer = await home.connect("site.test", port)
        writer.write(b"12345")
        assert await reader.readexactly(5) == b"12345"
        (dialing,) = home.dialer.dialings
        await settle(lambda: dialing.from_tunnel_bytes == 5)
        (flow,) = (await home.server.flows.look()).flows
        assert (flow.protocol, flow.state, flow.counted) == ("tcp", "established", True)
        assert flow.destination == f"127.0.0.1:{port}"
        assert (flow.to_tunnel_bytes, flow.from_tunnel_bytes) == (5, 5)
        assert flow.pid == os.getpid()
        assert await home.server.flows.count() == 1


@pytest.mark.parametrize(
    ("outcome", "reply", "status"),
    [
        (Outcome.REFUSED, 5, 502),
        (Outcome.HOST_UNREACHABLE, 4, 502),
        (Outcome.NET_UNREACHABLE, 3, 502),
        (Outcome.PROHIBITED, 2, 403),
        (Outcome.TIMED_OUT, 6, 504),
        (Outcome.NO_SUCH_NAME, 4, 502),
        (Outcome.NAMES_FAILED, 1, 504),
        (Outcome.AWAY, 3, 503),
        (Outcome.BUSY, 1, 503),
    ],
)
async def test_a_destination_that_is_not_reached(outcome: Outcome, reply: int, status: int) -> None:
    async with house() as home:
        home.dialer.outcomes["far.test", 80] = outcome
        reader, writer = await home.open()
        writer.write(b"\x05\x01\x00" + connect_request("far.test", 80))
        assert await reader.read(-1) == bytes((5, 0, 5, reply, 0, 1)) + bytes(6)
        for request in (b"CONNECT far.test:80", b"GET http://far.test/"):
            reader, writer = await home.open()
            writer.write(request + b" HTTP/1.1\r\nHost: far.test\r\n\r\n")
            answer = await reader.read(-1)
            assert answer.startswith(b"HTTP/1.1 %d " % status), answer
            assert answer.partition(b"\r\n\r\n")[2].startswith(b"far.test:80 ")
        assert home.counts[f"proxy__connect__{outcome.label}"] == 3
        assert not len(home.server.flows)


async def test_what_is_no_proxy_protocol_ends_and_is_counted() -> None:
    async with house() as home:
        for data in (b"\x16\x03\x01", b"\x00\xff", b"\x05\x01\x00\x09", b"G\x00\r\n\r\n"):
            reader, writer = await home.open()
            writer.write(data)
            writer.write_eof()
            await reader.read(-1)
        await settle(lambda: not home.server._visitors)
        assert home.counts["proxy__any__tls_unsupported__refused"] == 1
        assert home.counts["proxy__any__garbage__refused"] == 1
        assert home.counts["proxy__socks__version_unknown__refused"] == 1
        assert home.counts["proxy__http__malformed__refused"] == 1


async def test_whoever_is_unknown_needs_the_password() -> None:
    async with house() as home, origin(echo) as port:
        home.unknown()
        for password, right in ((b"secret", True), (b"wrong", False)):
            reader, writer = await home.open()
            writer.write(b"\x05\x02\x00\x02\x01\x08vpnshare" + bytes((len(password),)) + password)
            assert await reader.readexactly(2) == b"\x05\x02"
            assert await reader.readexactly(2) == (b"\x01\x00" if right else b"\x01\x01")
            if right:
                writer.write(connect_request("site.test", port))
                assert (await reader.readexactly(10))[1] == 0
            else:
                assert await reader.read(-1) == b""
        reader, writer = await home.open()
        writer.write(b"\x05\x01\x00" + connect_request("site.test", port))
        assert await reader.read(-1) == b"\x05\xff"
        reader, writer = await home.open()
        writer.write(b"CONNECT site.test:80 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.read(-1)).startswith(b"HTTP/1.1 407 ")
        assert len(home.dialer.dialings) == 1


_OTHER = """
import os, socket, sys
os.setgroups([]); os.setgid(12345); os.setuid(12345)
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
if sys.argv[2] == "close":
    # The kernel lists a socket without a holder as root's.
    sock.sendall(b"\\x05\\x01\\x00" + bytes.fromhex(sys.argv[3]))
    sock.close()
else:
    sock.sendall(b"\\x05\\x01\\x00")
    print(sock.recv(2).hex())
"""


@root_only
@pytest.mark.parametrize("how", ["stay", "close"])
async def test_another_user_is_not_let_in(how: str) -> None:
    async with house() as home, origin(echo) as port:
        request = connect_request("site.test", port).hex()
        # The proxy sees to the connection only when the other user's program has gone.
        own = home.server._listener
        assert own is not None
        if how == "close":
            home.server.poller.unwatch(own.fileno())
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-c", _OTHER, str(home.server.config.place.port), how, request,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, _ = await process.communicate()
        if how == "close":
            home.server.poller.watch(own.fileno(), home.server)
        else:
            assert said.strip() == b"05ff"
        await settle(lambda: home.counts.get("proxy__socks__password_missing__refused"))
        assert not home.dialer.dialings


@pytest.mark.parametrize(
    ("host", "dialled"), [("0.0.0.0", "127.0.0.2"), ("::", "::1"), ("127.0.0.3", "127.0.0.3")]
)
async def test_whose_a_program_is_is_known_at_each_of_our_addresses(
    host: str, dialled: str
) -> None:
    config = ProxyConfig(ProxyPlace(host, free_port()), "secret", chosen=True)
    served = ProxyServer(KernelDialer(), config)
    served.start()
    try:
        reader, writer = await asyncio.open_connection(dialled, config.place.port)
        writer.write(b"\x05\x01\x00")
        assert await reader.readexactly(2) == b"\x05\x00", "no password is asked for"
        writer.close()
    finally:
        served.close()


async def test_a_unix_socket_is_its_users(tmp_path: Path) -> None:
    path = tmp_path / "proxy"
    async with house(ProxyPlace(path=str(path))) as home, origin(echo) as port:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        reader, writer = await home.connect("site.test", port)
        writer.write(b"abc")
        assert await reader.readexactly(3) == b"abc"
        reader, writer = await home.open()
        writer.write(b"\x05\x01\x00" + connect_request("0", 0, command=3))
        assert (await reader.read(-1))[3] == 7, "datagrams need an address"
        with pytest.raises(ClientError, match="in use"):
            ProxyServer(home.dialer, home.server.config).start()
    assert not path.exists()
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    async with house(ProxyPlace(path=str(path))):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, "one that nobody listens on gives way"
    path.write_text("a file")
    with pytest.raises(ClientError, match="in use"):
        ProxyServer(KernelDialer(), ProxyConfig(ProxyPlace(path=str(path)), "secret")).start()
    assert path.read_text() == "a file"


async def test_others_are_let_in_by_a_password_alone() -> None:
    config = ProxyConfig(ProxyPlace("0.0.0.0", 1080), "secret")
    with pytest.raises(ClientError) as caught:
        ProxyServer(KernelDialer(), config).start()
    assert caught.value.name == "proxy_open"


async def test_who_speaks_slowly_is_closed_in_time() -> None:
    async with house() as home:
        streams = [await home.open() for _ in range(3)]
        for number, (_, writer) in enumerate(streams):
            writer.write(b"\x05" if number else b"GET http://site.test/ HTTP/1.1\r\n")
        await settle(lambda: len(home.server._speaking) == 3)
        assert home.server.alarm_at != NEVER
        for visitor in home.server._speaking:
            assert visitor.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        home.server.alarm(home.server.alarm_at - 1)
        assert len(home.server._speaking) == 3
        # A byte now and then does not help.
        streams[1][1].write(b"\x02")
        await asyncio.sleep(0)
        home.server.alarm(home.server.poller.clock() + limits.SPEAKING_TIME)
        for reader, _ in streams:
            assert await reader.read(-1) == b""
        assert home.counts["proxy__speaking__timed_out"] == 3
        assert not home.server._visitors
        assert home.server.alarm_at == NEVER


async def test_an_answer_that_nobody_takes_is_given_up() -> None:
    async with house() as home:
        _, writer = await home.open()
        writer.write(b"\xff")
        await settle(lambda: home.server._ending)
        home.server.alarm(home.server.poller.clock() + limits.LINGER_TIME)
        assert home.counts["proxy__ending__timed_out"] == 1
        assert not home.server._visitors


async def test_of_many_who_say_nothing_the_oldest_gives_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "MAX_SPEAKING", 4)
    async with house() as home, origin(echo) as port:
        first, _ = await home.open()
        silent = [await home.open() for _ in range(3)]
        await settle(lambda: len(home.server._speaking) == 4)
        reader, writer = await home.connect("site.test", port)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        assert await first.read(-1) == b""
        assert home.counts["proxy__speaking__oldest_closed"] == 1
        assert len(home.server._speaking) == len(silent)


async def test_connections_in_all_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    async with house() as home, origin(echo) as port:
        _, joined = await home.connect("site.test", port)
        await home.open()
        await settle(lambda: len(home.server._speaking) == 1)
        reader, _ = await home.open()
        assert await reader.read(-1) == b""
        assert home.counts["proxy__full__closed"] == 1
        joined.close()
        await settle(lambda: not home.server._joined)
        await home.connect("site.test", port)


async def test_a_program_that_hangs_up_while_dialling() -> None:
    async with house() as home:
        home.dialer.silent.add(9)
        place = home.server.config.place
        sock = socket.create_connection((place.host, place.port))
        sock.sendall(b"\x05\x01\x00" + connect_request("site.test", 9))
        await settle(lambda: home.dialer.dialings)
        (flow,) = (await home.server.flows.look()).flows
        assert (flow.state, flow.destination) == ("connecting", "site.test:9")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()
        await settle(lambda: home.dialer.dialings[0].canceled)
        assert home.counts["proxy__dialling__hung_up__closed"] == 1
        assert not len(home.server.flows)


async def test_two_hundred_at_once() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = await reader.readexactly(4)
        writer.write(number * 8192)

    async def one(number: int) -> None:
        reader, writer = await home.connect("site.test", port)
        writer.write(number.to_bytes(4, "big"))
        assert await reader.read(-1) == number.to_bytes(4, "big") * 8192
        writer.close()

    async with house() as home, origin(serve) as port:
        await asyncio.gather(*map(one, range(200)))
        assert home.counts["proxy__connect__opened"] == 200
        await settle(lambda: not len(home.server.flows))


async def test_no_descriptors_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, listener: socket.socket) -> None:
            self.fileno, self.close = listener.fileno, listener.close
            self.listener = listener
            self.tries = 0

        def accept(self) -> tuple[socket.socket, object]:
            self.tries += 1
            if self.tries == 1:
                raise OSError(24, "Too many open files")
            return self.listener.accept()

    async with house() as home, origin(echo) as port:
        assert home.server._listener is not None
        monkeypatch.setattr(home.server, "_listener", Full(home.server._listener))
        await home.connect("site.test", port)
        assert home.counts["proxy__no_descriptors__waits"] == 1


async def test_closing_ends_all_of_it() -> None:
    async with house() as home, origin(echo) as port:
        home.dialer.silent.add(9)
        joined, _ = await home.connect("site.test", port)
        dialling, writer = await home.open()
        writer.write(b"\x05\x01\x00" + connect_request("site.test", 9))
        await dialling.readexactly(2)
        relayed, writer = await home.open()
        writer.write(b"GET http://site.test:9/ HTTP/1.1\r\nHost: site.test\r\n\r\n")
        await settle(lambda: len(home.dialer.dialings) == 3)
        silent, _ = await home.open()
        home.server.close()
        home.server.close()
        assert home.server.address == ""
        for reader in (joined, dialling, relayed, silent):
            try:
                assert await reader.read(-1) == b""
            except ConnectionResetError:
                assert reader is joined
        await settle(lambda: not len(home.server.flows))
        with pytest.raises(ConnectionRefusedError):
            await home.open()


async def test_curl_has_the_file_for_browsers() -> None:
    async with house() as home:
        place = str(home.server.config.place)
        process = await asyncio.create_subprocess_exec(
            "curl", "-s", "--noproxy", "*", "--max-time", "10", "-D", "-",
            f"http://{place}/proxy.pac", stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, _ = await process.communicate()
        assert b"application/x-ns-proxy-autoconfig" in said
        assert f'return "PROXY {place}; SOCKS5 {place}";'.encode() in said


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "127.0.0.1:1080"),
        ("8080", "127.0.0.1:8080"),
        ("localhost:8080", "127.0.0.1:8080"),
        ("[::1]", "[::1]:1080"),
        ("[::1]:9", "[::1]:9"),
        ("::1", "[::1]:1080"),
        ("192.0.2.7", "192.0.2.7:1080"),
        ("unix:/run/proxy", "unix:/run/proxy"),
    ],
)
def test_places(text: str, place: str) -> None:
    found = parse_place(text)
    assert str(found) == place
    assert parse_place(str(found)) == found
    assert found.loopback == ("192" not in text)


@pytest.mark.parametrize(
    "text", ["0", "65536", "a.test:80", "127.0.0.1:", "[::1", "[::1]9", "unix:here", "unix:",
             "unix:/" + "x" * 200, "127.0.0.1:x", "127.0.0.1:٣"],
)  # fmt: skip
def test_places_that_are_none(text: str) -> None:
    with pytest.raises(ClientError) as caught:
        parse_place(text)
    assert caught.value.hint
