"""Requests to an HTTP proxy: what they ask for, what is passed on, what is refused."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.outlet.proxy.asking import Destination, Misspoken
from client.outlet.proxy.http1 import ANSWERS, MAX_HEAD, Asked, HttpServer, Wish
from client.outlet.proxy.outcome import Outcome

CAPTURED = json.loads((Path(__file__).parents[2] / "captured" / "proxy_programs.json").read_text())
LOCAL = socket.inet_aton("192.0.2.7")


def right(name: bytes, password: bytes) -> bool:
    return (name, password) == (b"vpnshare", b"secret")


def sent(name: str) -> bytes:
    return b"".join(bytes.fromhex(text) for text in CAPTURED[name])


def ask(data: bytes, known: bool = True) -> Asked:
    asked = HttpServer(known, right).receive(data)
    assert asked is not None
    return asked


def request(target: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", *headers, "", ""]).encode()


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize("name", ["curl http", "curl post", "curl connect"])
def test_what_curl_asks(name: str, bytewise: bool) -> None:
    data = sent(name)
    server = HttpServer(True, right)
    asked = None
    for at in range(0, len(data), 1 if bytewise else len(data)):
        asked = server.receive(data[at : at + 1] if bytewise else data)
        if asked is not None:
            break
    assert asked is not None and asked.destination is not None
    assert asked.destination.host == "site.test"
    port = asked.destination.port
    assert b"site.test:%d" % port in data
    if name == "curl connect":
        assert asked.wish is Wish.STREAM
        assert server.accept_stream() == b"HTTP/1.1 200 Connection established\r\n\r\n"
        assert bytewise or server.early.startswith(b"GET / ")
        return
    assert asked.wish is Wish.ONWARD and asked.onward is not None
    assert asked.onward.target == (b"/page?x=1" if name == "curl http" else b"/")
    fields = dict(asked.onward.headers)
    assert fields[b"host"] == b"site.test:%d" % port
    assert b"proxy-connection" not in fields
    assert (b"content-length" in fields) == (name == "curl post")


def test_the_password() -> None:
    assert ask(sent("curl http password"), known=False).wish is Wish.ONWARD
    for known, field, reason in (
        (False, "X: y", "password_missing"),
        (False, "Proxy-Authorization: Basic dnBuc2hhcmU6d3Jvbmc=", "password_wrong"),
        (True, "Proxy-Authorization: Basic dnBuc2hhcmU6d3Jvbmc=", "password_wrong"),
        (False, "Proxy-Authorization: Basic !!", "password_wrong"),
        (False, "Proxy-Authorization: Digest dnBuc2hhcmU6c2VjcmV0", "password_wrong"),
    ):
        server = HttpServer(known, right)
        with pytest.raises(Misspoken) as caught:
            server.receive(request("http://site.test/", "Host: site.test", field))
        assert caught.value.reason == reason
        answer = server.refuse(caught.value)
        assert answer.startswith(b"HTTP/1.1 407 ")
        assert b"\r\nproxy-authenticate: Basic realm=" in answer.replace(b"Proxy-A", b"proxy-a")


def test_the_password_goes_no_further() -> None:
    onward = ask(sent("curl http password"), known=False).onward
    assert onward is not None
    assert b"proxy-authorization" not in dict(onward.headers)


def test_what_concerns_one_hop_is_not_passed_on() -> None:
    asked = ask(request(
        "http://user@site.test:8080?q#part", "Host: other.test", "Connection: keep-alive, X-Hop",
        "X-Hop: 1", "X-End: 2", "TE: trailers", "Upgrade: websocket", "Keep-Alive: 5",
        "Content-Length: 3", method="PUT",
    ) + b"abc")  # fmt: skip
    assert asked.onward is not None
    assert asked.destination == Destination("site.test", 8080)
    assert asked.onward.target == b"/?q"
    assert list(asked.onward.headers) == [
        (b"host", b"site.test:8080"), (b"x-end", b"2"), (b"content-length", b"3"),
    ]  # fmt: skip


def test_nobody_takes_the_framing_away() -> None:
    asked = ask(request(
        "http://site.test/", "Host: site.test", "Connection: Transfer-Encoding",
        "Transfer-Encoding: chunked", method="POST",
    ))  # fmt: skip
    assert asked.onward is not None
    assert (b"transfer-encoding", b"chunked") in list(asked.onward.headers)


@pytest.mark.parametrize(
    ("target", "method", "destination"),
    [
        ("site.test:443", "CONNECT", Destination("site.test", 443)),
        ("192.0.2.7:22", "CONNECT", Destination(LOCAL, 22)),
        ("[::1]:22", "CONNECT", Destination(bytes(15) + b"\1", 22)),
        ("HTTP://[::1]/", "GET", Destination(bytes(15) + b"\1", 80)),
        ("http://192.0.2.7:8080/", "GET", Destination(LOCAL, 8080)),
        ("http://site.test", "OPTIONS", Destination("site.test", 80)),
    ],
)
def test_destinations(target: str, method: str, destination: Destination) -> None:
    asked = ask(request(target, "Host: x", method=method))
    assert asked.destination == destination
    if method == "OPTIONS":
        assert asked.onward is not None and asked.onward.target == b"*"


@pytest.mark.parametrize(
    ("data", "reason", "status"),
    [
        (request("/", "Host: x"), "not_a_proxy_request", 404),
        (request("/proxy.pac", "Host: x", "Content-Length: 0", method="POST"),
         "not_a_proxy_request", 404),
        (request("ftp://site.test/", "Host: x"), "scheme_unsupported", 400),
        (request("https://site.test/", "Host: x"), "scheme_unsupported", 400),
        (request("site.test", "Host: x", method="CONNECT"), "port_malformed", 400),
        (request("site.test:0", "Host: x", method="CONNECT"), "port_malformed", 400),
        (request("site.test:99999", "Host: x", method="CONNECT"), "port_malformed", 400),
        (request("a_b..c:80", "Host: x", method="CONNECT"), "name_malformed", 400),
        (request("::1:80", "Host: x", method="CONNECT"), "address_malformed", 400),
        (request("http://127.1/", "Host: x"), "address_malformed", 400),
        (request("site.test:80", "Host: x", "Content-Length: 4", method="CONNECT"),
         "malformed", 400),
        (request("http://site.test/"), "malformed", 400),
        (b"GET  http://site.test/ HTTP/1.1\r\n\r\n", "malformed", 400),
        (b"GET http://site.test/ HTTP/2.0\r\n\r\n", "version_unsupported", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "version_unsupported", 505),
        (b"GET http://site.test/ HTTP/1.1\r\nHost: a\r\n"
         b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "malformed", 400),
        (b"GET http://site.test/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
         "malformed", 501),
        (b"GET http://site.test/ HTTP/1.1\r\nX: " + b"a" * MAX_HEAD, "malformed", 431),
    ],
)  # fmt: skip
def test_what_is_wrong_has_a_name_and_an_answer(data: bytes, reason: str, status: int) -> None:
    server = HttpServer(True, right)
    with pytest.raises(Misspoken) as caught:
        server.receive(data)
    assert caught.value.reason == reason
    answer = server.refuse(caught.value)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"close" in head.lower() and body.endswith(b".\n") and body.count(b"\n") == 1


def test_every_outcome_has_an_answer() -> None:
    assert set(ANSWERS) == set(Outcome) - {Outcome.OPENED}
    for outcome in ANSWERS:
        server = HttpServer(True, right)
        server.receive(request("site.test:443", "Host: x", method="CONNECT"))
        answer = server.fail(outcome, Destination("site.test", 443))
        assert answer.startswith(b"HTTP/1.1 %d " % ANSWERS[outcome][0])
        assert answer.partition(b"\r\n\r\n")[2].startswith(b"site.test:443 ")


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_junk_is_refused_or_waited_for(pieces: list[bytes]) -> None:
    server = HttpServer(True, right)
    for piece in pieces:
        try:
            server.receive(piece)
        except Misspoken as error:
            assert server.refuse(error).startswith(b"HTTP/1.1 4")
            return


@given(st.integers(0, 200), st.binary(max_size=20))
def test_a_request_that_is_cut_anywhere_and_goes_on_with_junk(at: int, junk: bytes) -> None:
    data = sent("curl http password")
    server = HttpServer(False, right)
    try:
        server.receive(data[:at] + junk)
        server.receive(data[at:])
    except Misspoken as error:
        assert server.refuse(error)[:10] in (b"HTTP/1.1 4", b"HTTP/1.1 5")


def test_a_second_request_on_a_connection() -> None:
    server = HttpServer(True, right)
    first = server.receive(request("http://a.test/", "Host: a.test") * 2)
    assert first is not None
    server.conn.next_event()
    server.conn.send(h11.Response(status_code=204, headers=[]))
    server.conn.send(h11.EndOfMessage())
    server.conn.start_next_cycle()
    second = server.receive(b"")
    assert second is not None and second.destination == first.destination
