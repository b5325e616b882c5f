"""What proves an answer, and what a forger from off the path gets: nothing."""

from __future__ import annotations

import asyncio
import socket

from gateway.dns.forwarder import DnsConfig, DnsForwarder
from gateway.dns.relay import MAX_JUNK
from gateway.dns.upstreams import CASE_PROOFS, Server
from tests.fakes.waiting import settle
from tests.gateway.dns.world import NO_VPN, Script, world
from tests.netstack import wires

FORGED = [wires.record(wires.A, bytes([6, 6, 6, 6]), 86400)]
TRUE = bytes([192, 0, 2, 1])


def after(*forgeries: bytes, asked: bytes, by_tcp: bool) -> list[bytes]:
    return [*([] if by_tcp else forgeries), *wires.address_reply(asked)]


async def test_forged_answers_before_the_true_one_are_dropped() -> None:
    def script(q: bytes, tcp: bool) -> list[bytes]:
        wrong_id = bytes([q[0] ^ 1]) + q[1:]
        other = wires.question("other.test", id_=int.from_bytes(q[0:2], "big"))
        forgeries = (
            wires.reply(wrong_id, FORGED),
            wires.reply(other, FORGED),
            wires.reply(q, FORGED)[:-3],
            q,
            b"",
        )
        return after(*forgeries, asked=q, by_tcp=tcp)

    async with world(script) as w:
        answer = await w.ask(wires.question("true.test"))
        assert TRUE in answer and bytes([6, 6, 6, 6]) not in answer
        counters = w.forwarder.counters
        assert counters["dns__answer__wrong_id"] >= 1
        assert counters["dns__answer__wrong_question"] == 1
        assert counters["dns__answer__malformed"] == 2
        cached = await w.ask(wires.question("true.test"))
        assert TRUE in cached


async def test_answers_from_another_address_or_port_are_dropped() -> None:
    """The forger knows all but cannot send from the server's address and port."""
    async with world(lambda q, tcp: []) as w:
        waiting = asyncio.ensure_future(w.ask(wires.question("spoof.test")))
        resolver = w.resolvers[0]
        await settle(lambda: resolver.udp)
        forged = wires.reply(resolver.udp[0], FORGED)
        for host in ("127.0.0.1", "127.0.0.9"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forger:
                forger.bind((host, 0))
                forger.sendto(forged, ("127.0.0.1", resolver.ports[0]))
        await settle(lambda: w.forwarder.counters.get("dns__answer__wrong_sender") == 2)
        assert not waiting.done()
        waiting.cancel()


async def test_ids_ports_and_spellings_are_random() -> None:
    async with world(wires.address_reply) as w:
        for number in range(40):
            await w.ask(wires.question(f"entropy-of-a-long-name-{number}.test", id_=1))
        resolver = w.resolvers[0]
        assert len({q[0:2] for q in resolver.udp}) > 35
        assert len(set(resolver.ports)) > 35
        assert len({q[13:30] for q in resolver.udp}) > 35
        steps = {b - a for a, b in zip(resolver.ports, resolver.ports[1:], strict=False)}
        assert len(steps) > 30, "not one after the other either"


async def test_a_flood_of_guesses_moves_the_question_to_tcp() -> None:
    def script(q: bytes, tcp: bool) -> list[bytes]:
        guesses = [wires.reply(bytes([n, n]) + q[2:], FORGED) for n in range(1, MAX_JUNK + 4)]
        return after(*guesses, asked=q, by_tcp=tcp)[: None if tcp else MAX_JUNK]

    async with world(script) as w:
        assert TRUE in await w.ask(wires.question("flood.test"))
        assert len(w.resolvers[0].tcp) == 1
        assert w.forwarder.counters["dns__answer__distrusted"] == 1


def lowering(q: bytes, tcp: bool) -> list[bytes]:
    """A server that writes the question in lower case."""
    end = wires.question_end(q) - 4
    return wires.address_reply(q[0:12] + q[12:end].lower() + q[end:])


async def test_a_changed_case_is_checked_over_tcp_and_then_tolerated() -> None:
    async with world(lowering) as w:
        for number in range(CASE_PROOFS + 3):
            asked = wires.question(f"A-Name-With-Letters-{number}.Test")
            answer = await w.ask(asked)
            assert TRUE in answer
            assert answer[12:40] == asked[12:40], "the asker sees his own spelling"
        assert len(w.resolvers[0].tcp) == CASE_PROOFS
        assert w.forwarder.counters["dns__answer__wrong_case"] == CASE_PROOFS


async def test_a_truncated_answer_is_asked_again_over_tcp() -> None:
    def script(q: bytes, tcp: bool) -> list[bytes]:
        return wires.address_reply(q) if tcp else [wires.reply(q, flags=0x8380)]

    async with world(script) as w:
        answer = await w.ask(wires.question("tc.test"))
        assert TRUE in answer and not answer[2] & 2


async def test_truncated_and_no_tcp_leaves_it_to_the_client() -> None:
    async with world(lambda q, tcp: [] if tcp else [wires.reply(q, flags=0x8380)]) as w:
        answer = await w.ask(wires.question("tc.test"))
        assert wires.rcode(answer) == 0 and answer[2] & 2


async def test_one_silence_is_forgiven() -> None:
    script: Script = lambda q, tcp: wires.address_reply(q) if len(w.resolvers[0].udp) > 1 else []  # noqa: E731
    async with world(script) as w:
        assert TRUE in await w.ask(wires.question("retry.test"))
        first, second = w.resolvers[0].udp
        assert first[0:2] != second[0:2]


async def test_no_vpn_no_question() -> None:
    """A resolver outside is never asked: its address is not loopback, so the VPN is needed."""
    async with world(wires.address_reply) as w:
        w.source.now = NO_VPN
        w.detector.look()
        forwarder = DnsForwarder(w.guard, DnsConfig(servers=(Server("192.0.2.53"),)))
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        forwarder.query(wires.question("leak.test"), False, "peer", answer.set_result)
        assert wires.rcode(await answer) == 2
        assert forwarder.counters["dns__upstream__no_socket"] >= 1
        assert "dns__upstream__sent" not in forwarder.counters
        assert w.resolvers[0].udp == []
