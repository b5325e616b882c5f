"""The forwarder before a scripted resolver."""

from __future__ import annotations

import asyncio
import struct

import pytest

from gateway.dns import relay
from gateway.dns.forwarder import DnsConfig
from gateway.dns.limits import MAX_OUTSTANDING, MAX_TOTAL
from tests.gateway.dns.world import NO_VPN, VPN, world
from tests.netstack import wires

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
        answers = await asyncio.gather(*(w.ask(q) for q in asked))
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
        assert w.forwarder.counters["dns__query__asked"] == 2
        assert {q[wires.question_end(q) - 3] for q in w.resolvers[0].udp} == {65, 97}


async def test_nxdomain_is_kept_for_the_soa_minimum() -> None:
    async with world(lambda q, tcp: [wires.reply(q, authority=[wires.soa()], rcode=3)]) as w:
        for _ in range(3):
            assert wires.rcode(await w.ask(wires.question("no.test"))) == 3
        assert w.forwarder.counters["dns__query__asked"] == 1
        assert w.forwarder.counters[HIT] == 2


async def test_denials_without_soa_and_failures_are_not_kept() -> None:
    async with world(lambda q, tcp: [wires.reply(q, rcode=3 if q[13] == 110 else 2)]) as w:
        for text in ("no.test", "no.test", "fail.test", "fail.test"):
            await w.ask(wires.question(text))
        assert w.forwarder.counters["dns__query__asked"] == 4


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
        w.forwarder.query(wires.address_reply(bytes(two))[0], False, "peer", answers.append)
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
    async def look(stale: float) -> None:
        alive = True

        def script(q: bytes, tcp: bool) -> list[bytes]:
            return wires.address_reply(q, tcp, ttl=1) if alive else []

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

    async with asyncio.TaskGroup() as both:
        both.create_task(look(0.0))
        both.create_task(look(60.0))


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


# ---- one client against the others


MEANINGLESS = 0x0400 | 0x0200 | 0x0080 | 0x0040 | 0x000F
"""AA, TC, RA, Z and the response code: bits that a question has no use for."""


@pytest.mark.parametrize(
    "odd",
    [
        wires.question("chosen.test", flags=0x0300),
        wires.question("chosen.test", flags=0x0100 | MEANINGLESS),
        wires.question("chosen.test", edns=wires.opt(size=0)),
        wires.question("chosen.test", edns=wires.opt(size=65535)),
        wires.question("chosen.test", edns=b"\0" + struct.pack("!HHIH", wires.OPT, 1232, 1, 0)),
    ],
    ids=["TC", "all bits", "no size", "all size", "EDNS bits"],
)
async def test_bits_that_are_not_of_the_key_do_not_go_upstream(odd: bytes) -> None:
    """A server that drops or refuses odd questions is asked none, so that an honest question
    which joins one, or follows it, is answered."""

    def script(q: bytes, tcp: bool) -> list[bytes]:
        flags = struct.unpack_from("!H", q, 2)[0]
        opt = q[wires.question_end(q) :]
        sound = not flags & MEANINGLESS and opt in (b"", wires.opt())
        return wires.address_reply(q) if sound else []

    async with world(script) as w:
        edns = wires.opt() if wires.counts(odd)[3] else b""
        honest = wires.question("chosen.test", edns=edns)
        answers = await asyncio.gather(w.ask(odd), w.ask(honest), w.ask(honest))
        assert [wires.counts(a)[1] for a in answers] == [1, 1, 1]


@pytest.mark.parametrize("attack", ["odd bits", "signed"])
async def test_no_client_makes_a_name_unresolvable_for_another(
    attack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = wires.question("chosen.test", flags=0x0100 | MEANINGLESS)
    if attack == "signed":
        signed = bytearray(odd + wires.record(250, bytes(20), 0, b"\0"))
        signed[11] = 1
        odd = bytes(signed)

    def script(q: bytes, tcp: bool) -> list[bytes]:
        strange = struct.unpack_from("!H", q, 2)[0] & MEANINGLESS or wires.counts(q)[3]
        return [] if strange else wires.address_reply(q, ttl=0)

    async with world(script) as w:
        for _ in range(5):
            with monkeypatch.context() as soon:  # his has failed soon, and the others have time
                soon.setattr(relay, "DEADLINE", 0.05)
                hostile = asyncio.ensure_future(w.ask(odd, client="hostile"))
                await asyncio.sleep(0)
            for _ in range(2):  # While that is under way, and after it has failed.
                answer = await w.ask(wires.question("chosen.test"), client="honest")
                assert wires.counts(answer)[1] == 1
                await hostile


async def test_a_failure_is_not_that_of_who_joined() -> None:
    """He had a part of the time only, and gets a turn of his own."""
    answered = 0

    def script(q: bytes, tcp: bool) -> list[bytes]:
        nonlocal answered
        answered += 1
        return [wires.reply(q, rcode=2)] if answered <= 2 else wires.address_reply(q)

    async with world(script) as w:
        first, second, third = await asyncio.gather(
            *(w.ask(wires.question("12.34", id_=n)) for n in range(3))
        )
        # Digits have no case: each exchange is one question, and `answered` counts exchanges.
        assert wires.rcode(first) == 2
        assert wires.rcode(second) == wires.rcode(third) == 2
        assert answered == 2, "one turn more for all who joined, and no third"
        await asyncio.sleep(0.05)
        answered = 1
        first, second = await asyncio.gather(
            *(w.ask(wires.question("12.34", id_=n)) for n in range(2))
        )
        assert (wires.rcode(first), wires.rcode(second)) == (2, 0)


async def test_a_client_learns_nothing_of_what_another_asked() -> None:
    """Neither by an answer that comes at once, nor by TTLs that have aged, nor by joining."""
    async with world(lambda q, tcp: wires.address_reply(q, tcp, ttl=600)) as w:
        asked = wires.question("private.test")
        await w.ask(asked, client="one")
        await asyncio.sleep(1.1)
        seen = await w.ask(asked, client="other")
        assert seen == wires.address_reply(asked, ttl=600)[0]
        assert HIT not in w.forwarder.counters
        without_recursion = wires.question("private.test", flags=0)
        await w.ask(without_recursion, client="other")
        assert HIT not in w.forwarder.counters
        await w.ask(asked, client="one")
        assert w.forwarder.counters[HIT] == 1
        again = wires.question("later.test")
        await asyncio.gather(w.ask(again, client="one"), w.ask(again, client="other"))
        assert "dns__query__joined" not in w.forwarder.counters


async def test_two_clients_cannot_hold_all_questions() -> None:
    """While nothing is answered: all others still have their questions asked, and lastly all
    hold the same."""
    async with world(lambda q, tcp: wires.address_reply(q) if b"modest" in q.lower() else []) as w:
        turned_away: dict[str, list[bytes]] = {"a": [], "b": []}
        for number in range(MAX_OUTSTANDING):
            for greedy, answers in turned_away.items():
                asked = wires.question(f"{greedy}{number}.test")
                w.forwarder.query(asked, False, greedy, answers.append)
            # The resolver's socket does not hold them all: what is asked last would be lost there.
            await w.resolvers[0].has_heard(2 * number + 2)
        assert w.forwarder.sizes()["dns_in_flight"] == MAX_TOTAL
        for number in range(50):
            answer = await w.ask(wires.question(f"n{number}.modest.test"), client="c")
            assert wires.counts(answer)[1] == 1
        assert len(turned_away["a"]) + len(turned_away["b"]) == 1, "each place was used again"
        counters = w.forwarder.counters
        assert counters["dns__query__taken_back"] == 1
        # A third as greedy gets a third, not more.
        answers = []
        for number in range(MAX_OUTSTANDING):
            w.forwarder.query(wires.question(f"d{number}.test"), False, "d", answers.append)
        assert len(answers) == MAX_OUTSTANDING - MAX_TOTAL // 3
        assert counters["dns__query__busy"] == len(answers)
        assert w.forwarder.sizes()["dns_in_flight"] == MAX_TOTAL
