"""Plain HTTP, passed on: what a program and an origin see of each other."""

from __future__ import annotations

import asyncio

import pytest

from client.outlet.proxy import relay
from tests.client.outlet.proxy.house import House, Streams, house, origin
from tests.fakes.waiting import settle


class Origin:
    """Answers each request by `answer`, and keeps what it was asked."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi") -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.stay = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            if b"Expect" in head or b"expect" in head:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            for line in head.split(b"\r\n"):
                if line.lower().startswith(b"content-length: "):
                    self.bodies.append(await reader.readexactly(int(line[16:])))
            writer.write(self.answer)
            if not self.stay:
                return


def get(port: int, *fields: str, path: str = "/", method: str = "GET") -> bytes:
    lines = [f"{method} http://site.test:{port}{path} HTTP/1.1", f"Host: site.test:{port}"]
    return "\r\n".join([*lines, *fields, "", ""]).encode()


async def answer_of(streams: Streams, end: bytes = b"hi") -> bytes:
    return await asyncio.wait_for(streams[0].readuntil(end), 10)


async def test_requests_share_connections() -> None:
    one, other = Origin(), Origin()
    async with house() as home, origin(one.serve) as port, origin(other.serve) as second:
        streams = await home.open()
        for number in range(3):
            streams[1].write(get(port, f"X-Number: {number}", path=f"/{number}"))
            assert (await answer_of(streams)).startswith(b"HTTP/1.1 200 OK\r\n")
        streams[1].write(get(second))
        await answer_of(streams)
        assert (one.connections, other.connections) == (1, 1)
        assert one.heads[2].startswith(b"GET /2 HTTP/1.1\r\n")
        assert b"via" not in one.heads[0].lower()
        assert home.counts["proxy__http__request__forwarded"] == 4
        streams[1].close()
        await settle(lambda: not len(home.server.flows))


async def test_an_origin_that_closes_between_requests_costs_nobody_an_answer() -> None:
    one = Origin()
    one.stay = False
    async with house() as home, origin(one.serve) as port:
        streams = await home.open()
        for _ in range(2):
            streams[1].write(get(port))
            await answer_of(streams)
            # What the origin's close leaves is there to be seen.
            await settle(lambda: "from_tunnel_bytes" in home.dialer.dialings[-1].ended)
        assert one.connections == 2


async def test_bodies_in_both_directions_and_framings() -> None:
    one = Origin(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
    async with house() as home, origin(one.serve) as port:
        streams = await home.open()
        body = bytes(range(256)) * 2000
        streams[1].write(get(port, f"Content-Length: {len(body)}", method="POST") + body)
        said = await answer_of(streams, b"0\r\n\r\n")
        assert b"chunked" in said and b"2\r\nhi\r\n" in said
        assert one.bodies == [body]
        streams[1].write(get(port, "Expect: 100-continue", "Content-Length: 3", method="PUT"))
        assert (await streams[0].readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        streams[1].write(b"abc")
        await answer_of(streams, b"0\r\n\r\n")
        assert one.bodies[1] == b"abc"


async def test_a_body_that_ends_with_its_connection() -> None:
    one = Origin(b"HTTP/1.0 200 OK\r\n\r\nall of it")
    one.stay = False
    async with house() as home, origin(one.serve) as port:
        streams = await home.open()
        streams[1].write(get(port))
        said = await answer_of(streams, b"0\r\n\r\n")
        assert b"chunked" in said and b"all of it" in said
        old = await home.open()
        old[1].write(b"GET http://site.test:%d/ HTTP/1.0\r\n\r\n" % port)
        said = await old[0].read(-1)
        assert said.endswith(b"\r\n\r\nall of it")


async def test_head_has_no_body() -> None:
    one = Origin(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")
    async with house() as home, origin(one.serve) as port:
        streams = await home.open()
        for _ in range(2):
            streams[1].write(get(port, method="HEAD"))
            assert b"12345" in await answer_of(streams, b"\r\n\r\n")


async def test_an_origin_that_is_no_web_server() -> None:
    one = Origin(b"220 mail.test ESMTP\r\n")
    one.stay = False
    async with house() as home, origin(one.serve) as port:
        streams = await home.open()
        streams[1].write(get(port))
        assert (await streams[0].read(-1)).startswith(b"HTTP/1.1 502 ")
        assert home.counts["proxy__http__origin_malformed__closed"] == 1


async def test_an_answer_that_is_cut_is_seen_to_be() -> None:
    one = Origin(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    one.stay = False
    async with house() as home, origin(one.serve) as port:
        streams = await home.open()
        streams[1].write(get(port))
        said = await streams[0].read(-1)
        assert b"100" in said and said.endswith(b"half")


async def test_an_origin_that_answers_before_it_has_the_body() -> None:
    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nhi")
        await reader.read(1)

    async with house() as home, origin(hasty) as port:
        streams = await home.open()
        streams[1].write(get(port, "Content-Length: 1000000", method="POST") + b"begun")
        assert b" 413 " in await answer_of(streams)
        assert await streams[0].read(-1) == b""


async def test_connect_after_a_plain_request() -> None:
    one = Origin()
    async with house() as home, origin(one.serve) as port:
        streams = await home.open()
        streams[1].write(get(port))
        await answer_of(streams)
        streams[1].write(b"CONNECT site.test:%d HTTP/1.1\r\nHost: x\r\n\r\n" % port)
        assert (await streams[0].readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        streams[1].write(b"GET /inside HTTP/1.1\r\nHost: x\r\n\r\n")
        await answer_of(streams)
        assert one.heads[1].startswith(b"GET /inside")


async def test_who_asks_for_nothing_more_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "IDLE_TIME", 0.05)
    one = Origin()
    async with house() as home, origin(one.serve) as port:
        streams = await home.open()
        streams[1].write(get(port))
        await answer_of(streams)
        assert await streams[0].read(-1) == b""
        assert home.counts["proxy__http__idle__closed"] == 1


async def test_the_second_request_is_judged_as_the_first() -> None:
    one = Origin()
    async with house() as home, origin(one.serve) as port:
        streams = await home.open()
        streams[1].write(get(port) + get(port, "Proxy-Authorization: Basic AAAA"))
        await answer_of(streams)
        assert (await streams[0].read(-1)).startswith(b"HTTP/1.1 407 ")
        assert len(one.heads) == 1


async def test_a_program_that_goes_leaves_nothing() -> None:
    home: House
    never = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.read(-1)
        never.set()

    async with house() as home, origin(silent) as port:
        _, writer = await home.open()
        writer.write(get(port))
        await settle(lambda: home.counts.get("proxy__http__request__forwarded"))
        writer.close()
        await asyncio.wait_for(never.wait(), 10)
        await settle(lambda: not home.server._visitors and not len(home.server.flows))
