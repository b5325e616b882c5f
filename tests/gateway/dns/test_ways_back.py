"""Servers that fall short of what proves an answer, and forgers who would profit by that.

Each double is a kind of server that exists. What it knows is served all the same, through
the forwarder's two ports to the real dig, and at once: long before a resolver gives up.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable

import pytest

from gateway.dns.upstreams import CASE_PROOFS
from tests.gateway.dns.world import Script, World, world
from tests.netstack import wires

FORGED = [wires.record(wires.A, bytes([6, 6, 6, 6]), 86400)]
AT_ONCE = 3.0
"""Seconds; what is lost or thrown away takes six."""

Kind = Callable[[Script], Script]


def lowers(script: Script) -> Script:
    """Writes the question in lower case, which it has understood."""

    def answer(q: bytes, tcp: bool) -> list[bytes]:
        end = wires.question_end(q) - 4
        return script(q[:12] + q[12:end].lower() + q[end:], tcp)

    return answer


def minds(script: Script) -> Script:
    """Knows names in lower case only, and says that others do not exist."""

    def answer(q: bytes, tcp: bool) -> list[bytes]:
        name = q[12 : wires.question_end(q) - 4]
        if name != name.lower():
            return [wires.reply(q, authority=[wires.soa()], rcode=3)]
        return script(q, tcp)

    return answer


def minds_emptily(script: Script) -> Script:
    """Likewise, but says that there is nothing of that type, or refuses."""

    def answer(q: bytes, tcp: bool) -> list[bytes]:
        name = q[12 : wires.question_end(q) - 4]
        return [wires.reply(q)] if name != name.lower() else script(q, tcp)

    return answer


def minds_silently(script: Script) -> Script:
    """Drops questions in mixed case."""

    def answer(q: bytes, tcp: bool) -> list[bytes]:
        name = q[12 : wires.question_end(q) - 4]
        return [] if name != name.lower() else script(q, tcp)

    return answer


def without_tcp(script: Script) -> Script:
    """Takes the connection and says nothing."""
    return lambda q, tcp: [] if tcp else script(q, tcp)


async def seconds(w: World, name: str) -> tuple[str, float]:
    began = time.monotonic()
    printed = await w.dig(name)
    return printed, time.monotonic() - began


@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "no tcp"])
@pytest.mark.parametrize("kind", [lowers, minds, minds_emptily])
async def test_names_are_served_whatever_the_server_does_to_case(kind: Kind, tcp: bool) -> None:
    script = kind(wires.address_reply)
    async with world(script if tcp else without_tcp(script)) as w:
        for number in range(CASE_PROOFS + 2):
            printed, took = await seconds(w, f"A-Name-With-Letters-{number}.Test")
            assert "192.0.2.1" in printed, printed
            assert f"A-Name-With-Letters-{number}.Test." in printed, "the asker's own spelling"
            assert took < AT_ONCE
        # By now it is known, and costs one question.
        before = len(w.resolvers[0].udp) + len(w.resolvers[0].tcp)
        assert "192.0.2.1" in await w.dig("Another-Name.Test")
        assert len(w.resolvers[0].udp) + len(w.resolvers[0].tcp) == before + 1


async def test_a_server_without_tcp_port_that_lowers_case() -> None:
    async with world(lowers(wires.address_reply)) as w:
        w.resolvers[0]._streams.close()
        printed, took = await seconds(w, "a-name-with-letters.test")
        assert "192.0.2.1" in printed and took < AT_ONCE


async def test_a_server_that_lowers_case_and_holds_tcp() -> None:
    async with world(lowers(wires.address_reply)) as w:
        w.resolvers[0].holds_tcp = True
        for number in range(2):
            printed, took = await seconds(w, f"a-name-with-letters-{number}.test")
            assert "192.0.2.1" in printed and took < AT_ONCE
        assert len(w.resolvers[0].tcp) == 1, "the second question does not wait for it"


@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "no tcp"])
async def test_a_server_that_drops_mixed_case(tcp: bool) -> None:
    script = minds_silently(wires.address_reply)
    async with world(script if tcp else without_tcp(script)) as w:
        answer = await w.ask(wires.question("a-name-with-letters.test"))
        assert wires.counts(answer)[1] == 1


async def test_the_denial_of_a_server_that_minds_case_is_not_kept() -> None:
    async with world(minds(wires.address_reply)) as w:
        for _ in range(3):
            assert wires.rcode(await w.ask(wires.question("HOST.some-letters.test"))) == 0
        assert w.forwarder.counters["dns__query__hit"] == 2


async def test_a_table_of_names_before_a_server_that_does_not_mind() -> None:
    """The names of a VPN's own, looked up by the letter; all others are asked elsewhere."""

    def script(q: bytes, tcp: bool) -> list[bytes]:
        known = minds(wires.address_reply)
        return known(q, tcp) if b"local" in q.lower() else wires.address_reply(q)

    async with world(without_tcp(script)) as w:
        for number in range(CASE_PROOFS + 2):
            for zone in ("everywhere", "local"):
                asked = wires.question(f"letters-{number}.{zone}.test")
                assert wires.counts(await w.ask(asked))[1] == 1


@pytest.mark.parametrize("code", [1, 2, 4, 5], ids=["FORMERR", "SERVFAIL", "NOTIMP", "REFUSED"])
@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "no tcp"])
@pytest.mark.parametrize("edns", [True, False], ids=["with OPT", "header only"])
async def test_an_error_without_the_question_is_passed_on_at_once(
    code: int, tcp: bool, edns: bool
) -> None:
    def script(q: bytes, over_tcp: bool) -> list[bytes]:
        bare = q[0:2] + struct.pack("!5H", 0x8180 | code, 0, 0, 0, int(edns))
        return [bare + wires.opt()] if edns else [bare]

    async with world(script if tcp else without_tcp(script)) as w:
        asked = wires.question("Strange.test", 65)
        began = time.monotonic()
        assert await w.ask(asked) == wires.reply(asked, rcode=code)
        assert time.monotonic() - began < AT_ONCE


async def test_formerr_tells_the_asker_to_do_without_edns() -> None:
    """RFC 6891 7: dig asks again without the OPT record by itself, if it is told."""

    def script(q: bytes, tcp: bool) -> list[bytes]:
        if wires.counts(q)[3]:
            return [q[0:2] + struct.pack("!5H", 0x8181, 0, 0, 0, 0)]
        return wires.address_reply(q)

    async with world(script) as w:
        printed = await w.dig("old-server.test", "+edns=0")
        assert "status: FORMERR" in printed, printed
        assert "192.0.2.1" in await w.dig("old-server.test", "+noedns")


async def test_an_answer_cut_in_the_middle_of_a_record_is_a_truncated_one() -> None:
    def script(q: bytes, tcp: bool) -> list[bytes]:
        whole = wires.address_reply(q)[0]
        return [whole] if tcp else [wires.reply(q, FORGED, flags=0x8380)[:-7]]

    async with world(script) as w:
        began = time.monotonic()
        answer = await w.ask(wires.question("cut.test"))
        assert bytes([192, 0, 2, 1]) in answer
        assert time.monotonic() - began < AT_ONCE


# ---- what a forger who cannot read the questions gets of it


def lowered(asked: bytes) -> bytes:
    end = wires.question_end(asked) - 4
    return asked[:12] + asked[12:end].lower() + asked[end:]


async def test_one_lucky_guess_without_the_case_is_not_believed() -> None:
    """Port and ID are guessed; the true answer is on its way, or the way back finds it."""

    def script(q: bytes, tcp: bool) -> list[bytes]:
        if tcp:
            return []
        lucky = len(w.resolvers[0].udp) == 1
        return [wires.reply(lowered(q), FORGED)] if lucky else wires.address_reply(q)

    async with world(script) as w:
        answer = await w.ask(wires.question("a-bank-with-letters.test"))
        assert bytes([192, 0, 2, 1]) in answer and bytes([6, 6, 6, 6]) not in answer


async def test_one_lucky_guess_of_an_error_is_not_believed() -> None:
    def script(q: bytes, tcp: bool) -> list[bytes]:
        if tcp:
            return []
        lucky = len(w.resolvers[0].udp) == 1
        bare = q[0:2] + struct.pack("!5H", 0x8185, 0, 0, 0, 0)
        return [bare] if lucky else wires.address_reply(q)

    async with world(script) as w:
        assert bytes([192, 0, 2, 1]) in await w.ask(wires.question("a-bank.test"))


async def test_one_lucky_guess_beside_a_denial_is_not_believed() -> None:
    """The confirming question has no mixed case: it alone must not give an answer."""

    def script(q: bytes, tcp: bool) -> list[bytes]:
        denial = wires.reply(q, authority=[wires.soa()], rcode=3)
        lucky = len(w.resolvers[0].udp) == 2 and not tcp
        return [wires.reply(q, FORGED)] if lucky else [denial]

    async with world(script) as w:
        answer = await w.ask(wires.question("no-such-name-with-letters.test"))
        assert wires.rcode(answer) == 3


async def test_who_owns_a_name_cannot_make_all_be_asked_in_lower_case() -> None:
    """A forger's own zone minds case as he likes; once the server has found a name in mixed
    case, that says nothing about the server."""

    def script(q: bytes, tcp: bool) -> list[bytes]:
        theirs = b"theirs" in q.lower()
        return minds(wires.address_reply)(q, tcp) if theirs else wires.address_reply(q)

    async with world(script) as w:
        await w.ask(wires.question("some-honest-name.test"))
        for number in range(4 * CASE_PROOFS):
            await w.ask(wires.question(f"n{number}.theirs-with-letters.test"))
        await w.ask(wires.question("the-bank-with-many-letters.test"))
        last = w.resolvers[0].udp[-1]
        assert last != lowered(last)


async def test_a_way_back_is_bounded() -> None:
    """A server (or a flood) that only ever falls short costs a few datagrams a question."""

    def script(q: bytes, tcp: bool) -> list[bytes]:
        return [] if tcp else [wires.reply(lowered(q), rcode=2)]

    async with world(*[script] * 4) as w:
        await asyncio.wait_for(w.ask(wires.question("costly-name-with-letters.test")), 10)
        assert sum(len(r.udp) for r in w.resolvers) <= 16
