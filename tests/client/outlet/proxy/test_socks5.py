"""SOCKS 5 as programs speak it, byte by byte, and as nobody should.

`captured/proxy_programs.json` holds what curl 7.88 and PySocks 1.7 sent to this proxy, read by
read.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.outlet.proxy.asking import Destination, Misspoken, parse_host
from client.outlet.proxy.outcome import Outcome
from client.outlet.proxy.socks5 import (
    REPLIES,
    Command,
    Reply,
    Request,
    SocksServer,
    State,
    datagram_header,
    read_datagram,
)

CAPTURED = json.loads((Path(__file__).parents[2] / "captured" / "proxy_programs.json").read_text())
V4, V6 = socket.inet_aton("192.0.2.7"), socket.inet_pton(socket.AF_INET6, "2001:db8::7")
Feed = Callable[[SocksServer, bytes], Request | None]
CONNECT = b"\x05\x01\x00\x01" + V4 + b"\x00\x50"


def right(name: bytes, password: bytes) -> bool:
    return (name, password) == (b"vpnshare", b"secret")


def sent(name: str) -> bytes:
    return b"".join(bytes.fromhex(text) for text in CAPTURED[name])


def whole(server: SocksServer, data: bytes) -> Request | None:
    return server.receive(data)


def bytewise(server: SocksServer, data: bytes) -> Request | None:
    asked = None
    for at in range(len(data)):
        asked = server.receive(data[at : at + 1]) or asked
    return asked


PROGRAMS = {
    "curl socks5": (Command.CONNECT, socket.inet_aton("127.0.0.1"), b"\x05\x00", b"GET / "),
    "curl socks5h": (Command.CONNECT, "site.test", b"\x05\x00", b"GET / "),
    "curl socks5h password": (Command.CONNECT, "site.test", b"\x05\x00", b"GET / "),
    "curl socks5 ipv6": (Command.CONNECT, bytes(15) + b"\1", b"\x05\x00", b""),
    "PySocks": (Command.CONNECT, "site.test", b"\x05\x00", b"GET / "),
    "PySocks udp": (Command.ASSOCIATE, bytes(4), b"\x05\x00", b""),
}


@pytest.mark.parametrize("feed", [whole, bytewise], ids=["whole", "bytewise"])
@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_a_program_that_is_known(name: str, feed: Feed) -> None:
    command, host, answer, rest = PROGRAMS[name]
    server = SocksServer(True, right)
    asked = feed(server, sent(name))
    assert asked is not None
    assert (asked.command, asked.destination.host) == (command, host)
    assert asked.destination.port == int.from_bytes(bytes.fromhex(CAPTURED[name][1])[-2:], "big")
    assert (server.output, server.state) == (answer, State.ASKED)
    assert server.early.startswith(rest)
    assert bool(server.early) == bool(rest)


@pytest.mark.parametrize("feed", [whole, bytewise], ids=["whole", "bytewise"])
def test_the_password(feed: Feed) -> None:
    spoken = b"\x05\x02\x00\x02" + b"\x01\x08vpnshare\x06secret" + CONNECT + b"early"
    server = SocksServer(False, right)
    asked = feed(server, spoken)
    assert asked == Request(Command.CONNECT, Destination(V4, 80))
    assert server.output == b"\x05\x02\x01\x00"
    assert server.early == b"early"


WRONG = {
    "version_unknown": (True, b"\x06\x01\x00", b""),
    "socks4_unsupported": (True, sent("curl socks4a"), b"\x00\x5b" + bytes(6)),
    "password_missing": (False, b"\x05\x01\x00", b"\x05\xff"),
    "password_version_unknown": (False, b"\x05\x01\x02\x02", b"\x05\x02\x01\x01"),
    "password_wrong": (False, b"\x05\x01\x02\x01\x01a\x01b", b"\x05\x02\x01\x01"),
    "address_type_unknown": (True, b"\x05\x01\x00\x05\x01\x00\x02ab",
                             b"\x05\x00\x05\x08\0\1" + bytes(6)),
    "command_unsupported": (True, b"\x05\x01\x00\x05\x02\x00\x01\1\2\3\4\0\x50",
                            b"\x05\x00\x05\x07\0\1" + bytes(6)),
    "name_malformed": (True, b"\x05\x01\x00\x05\x01\x00\x03\x03a\nb\0\x50",
                       b"\x05\x00\x05\x01\0\1" + bytes(6)),
    "address_malformed": (True, b"\x05\x01\x00\x05\x01\x00\x03\x05127.1\0\x50",
                          b"\x05\x00\x05\x01\0\1" + bytes(6)),
    "port_zero": (True, b"\x05\x01\x00\x05\x01\x00\x01\1\2\3\4\0\0",
                  b"\x05\x00\x05\x01\0\1" + bytes(6)),
}  # fmt: skip


@pytest.mark.parametrize("reason", sorted(WRONG))
@pytest.mark.parametrize("feed", [whole, bytewise], ids=["whole", "bytewise"])
def test_what_is_wrong_has_a_name_and_an_answer(reason: str, feed: Feed) -> None:
    known, data, answer = WRONG[reason]
    server = SocksServer(known, right)
    with pytest.raises(Misspoken) as caught:
        feed(server, data)
    assert caught.value.reason == reason
    assert (server.output, server.state, server.early) == (answer, State.OVER, b"")


def test_nobody_who_is_unknown_gets_in_without_a_password() -> None:
    server = SocksServer(False, right)
    assert server.receive(b"\x05\x02\x00\x02") is None
    assert (server.output, server.state) == (b"\x05\x02", State.PASSWORD)
    with pytest.raises(Misspoken, match="password_version_unknown"):
        server.receive(CONNECT)


def test_every_outcome_has_a_reply_and_only_one_is_success() -> None:
    assert set(REPLIES) == set(Outcome)
    assert [each for each in Outcome if REPLIES[each] is Reply.SUCCEEDED] == [Outcome.OPENED]


def test_answers_by_their_bytes() -> None:
    server = SocksServer(True, right)
    server.receive(b"\x05\x01\x00" + CONNECT)
    assert server.answer(Reply.SUCCEEDED, V4, 4660) == b"\x05\x00\x00\x01" + V4 + b"\x12\x34"
    assert server.answer(Reply.SUCCEEDED, V6, 1) == b"\x05\x00\x00\x04" + V6 + b"\x00\x01"
    assert server.state == State.OVER
    assert server.receive(b"more") is None


@given(st.lists(st.binary(max_size=40), max_size=12), st.booleans())
def test_junk_is_refused_or_waited_for(pieces: list[bytes], known: bool) -> None:
    server = SocksServer(known, right)
    for piece in pieces:
        try:
            if server.receive(piece) is not None:
                assert known, "without a password nothing is asked for"
                return
        except Misspoken as error:
            assert error.reason.replace("_", "").replace("4", "").isalpha()
            assert server.state == State.OVER
            return


HOSTS = st.one_of(
    st.binary(min_size=4, max_size=4),
    st.binary(min_size=16, max_size=16).filter(lambda a: not a.startswith(bytes(10) + b"\xff\xff")),
    st.from_regex(r"[a-z][a-z0-9]{0,20}(\.[a-z]{2,6}){1,3}", fullmatch=True),
)


def encoded(host: bytes | str, port: int) -> bytes:
    if isinstance(host, str):
        return b"\x03" + bytes((len(host),)) + host.encode() + struct.pack("!H", port)
    return (b"\x01" if len(host) == 4 else b"\x04") + host + struct.pack("!H", port)


@given(HOSTS, st.integers(1, 65535), st.binary(max_size=64))
def test_a_request_goes_round(host: bytes | str, port: int, rest: bytes) -> None:
    server = SocksServer(True, right)
    asked = server.receive(b"\x05\x01\x00\x05\x01\x00" + encoded(host, port) + rest)
    assert asked == Request(Command.CONNECT, Destination(host, port))
    assert server.early == rest


@given(HOSTS, st.integers(1, 65535), st.binary(max_size=64))
def test_a_datagram_goes_round_and_is_never_taken_in_part(
    host: bytes | str, port: int, payload: bytes
) -> None:
    data = bytes(3) + encoded(host, port) + payload
    destination, at = read_datagram(data)
    assert (destination, data[at:]) == (Destination(host, port), payload)
    if isinstance(host, bytes):
        assert datagram_header(host, port) == data[:at]
    for size in range(at):
        with pytest.raises(Misspoken, match="datagram_truncated"):
            read_datagram(data[:size])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\0\1\0\1" + V4 + b"\0\x50", "datagram_reserved"),
        (b"\0\0\1\1" + V4 + b"\0\x50", "datagram_fragment"),
        (b"\0\0\0\7" + V4 + b"\0\x50", "datagram_address_type_unknown"),
        (b"\0\0\0\1" + V4 + b"\0\0", "datagram_port_zero"),
    ],
)
def test_datagrams_that_are_wrong(data: bytes, reason: str) -> None:
    with pytest.raises(Misspoken, match=reason):
        read_datagram(data)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("192.0.2.7", V4),
        ("[2001:db8::7]", V6),
        ("2001:db8::7", V6),
        ("::ffff:192.0.2.7", V4),
        ("site.test.", "site.test"),
        ("_dns.site.test", "_dns.site.test"),
        ("nas", "nas"),
    ],
)
def test_hosts(text: str, host: bytes | str) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize(
    "text", ["", ".", "a..b", "-a.test", "a-.test", "a b", "a\x1b[0m", "0x7f.1", "127.1", "1::2::3",
             "x" * 64, ".".join(["x" * 60] * 5), "[site.test", "münchen.test"],
)  # fmt: skip
def test_hosts_that_are_none(text: str) -> None:
    with pytest.raises(Misspoken):
        parse_host(text)
