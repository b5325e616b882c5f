"""The forwarder before a scripted resolver."""

from __future__ import annotations

import asyncio
import struct

from gateway.dns.forwarder import DnsConfig
from gateway.dns.limits import MAX_OUTSTANDING
from tests.gateway.dns import wires
from tests.gateway.dns.world import NO_VPN, VPN, world

HIT = "dns__query__hit"


async def test_a_question_is_relayed_and_the_next_one_is_a_hit() -> None:
    async with world(wires.address_reply) as w:
        first = await w.ask(wires.question("Host.Test", id_=1))
        second = await w.ask(wires.question("hoST.test", id_=2))
        assert first == wires.address_reply(wires.question("Host.Test", id_=1))[0]
        assert second == wires.address_reply(wires.question("hoST.test", id_=2))[0]
        assert len(w.resolvers[0].udp) == 1
        assert w.forwarder.counters[HIT] == 1


async def test_ttls_count_down_and_end() -> None:
    async with world(lambda q, tcp: wires.address_reply(q, tcp, ttl=1)) as w:
        await w.ask(wires.question("a.test"))
        await asyncio.sleep(1.1)
        await w.ask(wires.question("a.test"))
        assert len(w.resolvers[0].udp) == 2


async def test_equal_questions_in_flight_are_joined() -> None:
    async with world(wires.address_reply) as w:
        spellings = ["join.test", "JOIN.test", "Join.Test"]
        asked = [wires.question(text, id_=n) for n, text in enumerate(spellings)]
        answers = await asyncio.gather(*(w.ask(q, client=f"p{n}") for n, q in enumerate(asked)))
        assert len(w.resolvers[0].udp) == 1
        assert answers == [wires.address_reply(q)[0] for q in asked]
        assert w.forwarder.counters["dns__query__joined"] == 2


async def test_an_asker_without_edns_is_not_joined_with_one_that_has_it() -> None:
    def script(q: bytes, tcp: bool) -> list[bytes]:
        edns = wires.opt() if wires.counts(q)[3] else b""
        return [wires.reply(q, [wires.record(wires.A, b"\1\2\3\4")], edns=edns)]

    async with world(script) as w:
        with_edns, without = await asyncio.gather(
            w.ask(wires.question("e.test", edns=wires.opt())), w.ask(wires.question("e.test"))
        )
        assert wires.counts(with_edns)[3] == 1
        assert wires.counts(without)[3] == 0
        again = await w.ask(wires.question("e.test", edns=wires.opt(do=False)))
        assert w.forwarder.counters[HIT] == 1
        assert wires.counts(again)[3] == 1


async def test_dnssec_ok_and_checking_disabled_have_answers_of_their_own() -> None:
    async with world(wires.address_reply) as w:
        for edns, flags in ((b"", 0x100), (wires.opt(do=True), 0x100), (b"", 0x110), (b"", 0x120)):
            await w.ask(wires.question("bits.test", flags=flags, edns=edns))
        assert len(w.resolvers[0].udp) == 4
        seen = [(q[3], wires.counts(q)[3]) for q in w.resolvers[0].udp]
        assert seen == [(0x00, 0), (0x00, 1), (0x10, 0), (0x20, 0)]


async def test_type_65_is_not_type_97() -> None:
    """0x41 and 0x61 differ by the bit that lower case sets."""
    async with world(lambda q, tcp: [wires.reply(q, authority=[wires.soa()])]) as w:
        await w.ask(wires.question("t.test", 65))
        await w.ask(wires.question("t.test", 97))
        assert len(w.resolvers[0].udp) == 2


async def test_nxdomain_is_kept_for_the_soa_minimum() -> None:
    async with world(lambda q, tcp: [wires.reply(q, authority=[wires.soa()], rcode=3)]) as w:
        for _ in range(3):
            assert wires.rcode(await w.ask(wires.question("no.test"))) == 3
        assert len(w.resolvers[0].udp) == 1


async def test_denials_without_soa_and_failures_are_not_kept() -> None:
    async with world(lambda q, tcp: [wires.reply(q, rcode=3 if q[13] == 110 else 2)]) as w:
        for text in ("no.test", "no.test", "fail.test", "fail.test"):
            await w.ask(wires.question(text))
        assert len(w.resolvers[0].udp) == 4


async def test_cookies_are_not_passed_on_but_other_options_are() -> None:
    cookie = struct.pack("!HH8s", 10, 8, b"cookie!!")
    subnet = struct.pack("!HHHBB3s", 8, 7, 1, 24, 0, b"\xc0\0\2")
    async with world(wires.address_reply) as w:
        await w.ask(wires.question("c.test", edns=wires.opt(options=cookie + subnet)))
        await w.ask(wires.question("c.test", edns=wires.opt(options=b"")))
        assert w.resolvers[0].udp[0].endswith(wires.opt(options=subnet))
        assert len(w.resolvers[0].udp) == 2, "answers for a subnet are that subnet's"


async def test_a_long_answer_is_cut_for_udp_and_whole_by_tcp() -> None:
    texts = [wires.record(wires.TXT, bytes([250]) + bytes(250)) for _ in range(16)]

    def script(q: bytes, tcp: bool) -> list[bytes]:
        return [wires.reply(q, texts) if tcp else wires.reply(q, flags=0x8380)]

    async with world(script) as w:
        small = await w.ask(wires.question("long.test", wires.TXT))
        assert small[2] & 2 and len(small) < 512
        whole = await w.ask(wires.question("long.test", wires.TXT), over_tcp=True)
        assert wires.counts(whole)[1] == 16 and not whole[2] & 2
        assert len(w.resolvers[0].tcp) == 1, "the second one came from the cache"
        wide = await w.ask(wires.question("long.test", wires.TXT, edns=wires.opt(4096)))
        assert wide[2] & 2 and wires.counts(wide) == (1, 0, 0, 1), "4.2 kB exceed 4,096"


async def test_refused_kinds_of_question() -> None:
    async with world(wires.address_reply) as w:
        assert wires.rcode(await w.ask(wires.question("z.test", 252))) == 5
        assert wires.rcode(await w.ask(wires.question("z.test", flags=0x2800))) == 4
        two = bytearray(wires.question("z.test"))
        two[5] = 2
        assert wires.rcode(await w.ask(bytes(two))) == 1
        answers: list[bytes] = []
        w.forwarder.query(wires.address_reply(two)[0], False, "peer", answers.append)
        w.forwarder.query(b"short", False, "peer", answers.append)
        assert answers == []
        assert w.resolvers[0].udp == []


async def test_the_second_resolver_serves_when_the_first_is_silent_or_fails() -> None:
    async with world(lambda q, tcp: [], wires.address_reply) as w:
        assert wires.counts(await w.ask(wires.question("s.test")))[1] == 1
    async with world(lambda q, tcp: [wires.reply(q, rcode=2)], wires.address_reply) as w:
        assert wires.counts(await w.ask(wires.question("s.test")))[1] == 1
    async with world(*(lambda q, tcp: [wires.reply(q, rcode=5)] for _ in range(2))) as w:
        assert wires.rcode(await w.ask(wires.question("s.test"))) == 5


async def test_nobody_answers_servfail_and_it_is_remembered_for_a_second() -> None:
    async with world(lambda q, tcp: []) as w:
        assert wires.rcode(await w.ask(wires.question("void.test"))) == 2
        assert w.forwarder.counters["dns__query__unanswered"] == 1
        asked = len(w.resolvers[0].udp)
        assert wires.rcode(await w.ask(wires.question("void.test"))) == 2
        assert len(w.resolvers[0].udp) == asked
        assert w.forwarder.counters["dns__query__failed_before"] == 1


async def test_one_client_cannot_take_more_than_its_share() -> None:
    async with world(lambda q, tcp: [], config=DnsConfig(burst=300, rate=1)) as w:
        answers: list[bytes] = []
        for number in range(MAX_OUTSTANDING + 10):
            w.forwarder.query(wires.question(f"n{number}.test"), False, "greedy", answers.append)
        assert [wires.rcode(a) for a in answers] == [5] * 10
        assert w.forwarder.counters["dns__query__limit_outstanding"] == 10
        w.forwarder.query(wires.question("other.test"), False, "modest", answers.append)
        assert len(answers) == 10
        assert w.forwarder.sizes()["dns_in_flight"] == MAX_OUTSTANDING + 1


async def test_a_rate_over_the_bucket_is_refused() -> None:
    async with world(wires.address_reply, config=DnsConfig(burst=5, rate=1)) as w:
        codes = [wires.rcode(await w.ask(wires.question(f"r{n}.test"))) for n in range(7)]
        assert codes == [0] * 5 + [5] * 2
        assert w.forwarder.counters["dns__query__limit_rate"] == 2


async def test_another_vpn_forgets_the_answers_of_the_last() -> None:
    async with world(wires.address_reply) as w:
        await w.ask(wires.question("vpn.test"))
        for snapshot in (NO_VPN, VPN):
            w.source.now = snapshot
            w.detector.look()
        await w.ask(wires.question("vpn.test"))
        assert len(w.resolvers[0].udp) == 2


async def test_questions_under_way_are_asked_anew_by_the_next_vpn() -> None:
    talks = False

    def script(q: bytes, tcp: bool) -> list[bytes]:
        return wires.address_reply(q) if talks else []

    async with world(script) as w:
        waiting = asyncio.ensure_future(w.ask(wires.question("again.test")))
        await asyncio.sleep(0.1)
        talks = True
        w.source.now = NO_VPN
        w.detector.look()
        w.forwarder.vpn_changed()
        assert wires.counts(await waiting)[1] == 1


async def test_stale_answers_serve_only_when_set() -> None:
    for stale in (0.0, 60.0):
        alive = True

        def script(q: bytes, tcp: bool) -> list[bytes]:
            return wires.address_reply(q, tcp, ttl=1) if alive else []  # noqa: B023

        async with world(script, config=DnsConfig(stale=stale)) as w:
            await w.ask(wires.question("old.test"))
            alive = False
            await asyncio.sleep(1.1)
            answer = await w.ask(wires.question("old.test", id_=9))
            assert wires.rcode(answer) == (0 if stale else 2)
            if stale:
                assert answer[0:2] == b"\0\x09"
                assert struct.pack("!I", 30) in answer
                assert w.forwarder.counters["dns__query__stale"] == 1


async def test_the_last_questions_are_kept_only_when_asked_for() -> None:
    async with world(wires.address_reply) as w:
        await w.ask(wires.question("private.test"))
        assert w.forwarder.recent() == []
    async with world(wires.address_reply, config=DnsConfig(recent=2)) as w:
        for text in ("a.test", "b.test", "b.test", "\x1b[2J.test"):
            await w.ask(wires.question(text))
        assert [(q.name, q.outcome) for q in w.forwarder.recent()] == [
            ("b.test", "hit"),
            ("\\027\\0912J.test", "asked"),
        ]


async def test_settings_change_while_it_runs() -> None:
    async with world(wires.address_reply, wires.address_reply) as w:
        await w.ask(wires.question("a.test"))
        both = w.forwarder.config.servers
        w.forwarder.configure(DnsConfig(servers=both, recent=3))
        await w.ask(wires.question("a.test"))
        assert [q.outcome for q in w.forwarder.recent()] == ["hit"]
        w.forwarder.configure(DnsConfig(servers=both[1:]))
        assert w.forwarder.recent() == []
        assert w.forwarder.resolvers() == (str(both[1]),)
        await w.ask(wires.question("a.test"))
        assert [len(r.udp) for r in w.resolvers] == [1, 1]


async def test_close_leaves_nothing_behind() -> None:
    async with world(lambda q, tcp: []) as w:
        answers: list[bytes] = []
        w.forwarder.query(wires.question("x.test"), False, "peer", answers.append)
        await asyncio.sleep(0.05)
        w.forwarder.close()
        assert w.forwarder.sizes()["dns_in_flight"] == 0
