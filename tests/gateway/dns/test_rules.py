"""Names that a device's rules refuse: no type of question, no alias and no cache leads there."""

from __future__ import annotations

import asyncio
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dns.aliases import judge_names
from gateway.dns.forwarder import DnsConfig
from gateway.dns.judging import Where
from gateway.dns.limits import MAX_OUTSTANDING
from netstack.dns import MalformedMessage, parse_answer
from rules.destinations import NameRules
from tests.gateway.dns.world import Script, world
from tests.netstack import wires

PEER = "peer"
ADDRESS = bytes((203, 0, 113, 66))
DNAME, SVCB, ANY = 39, 64, 255
REFUSED = 5


def deny(*names: str) -> NameRules:
    return NameRules([(name, True) for name in names])


EVIL = deny("evil.test")


def at(owner: str, data: bytes = ADDRESS, type_: int = wires.A) -> bytes:
    return wires.record(type_, data, owner=wires.name(owner))


def alias(owner: str, target: str) -> bytes:
    return at(owner, wires.name(target), wires.CNAME)


def serving(*records: bytes) -> Script:
    return lambda q, tcp: [wires.reply(q, list(records))]


def leads(*records: bytes, rules: NameRules = EVIL, asked: str = "good.test") -> Where:
    wire = wires.reply(wires.question(asked), list(records))
    return judge_names(rules, wires.name(asked), wire, parse_answer(wire))


@pytest.mark.parametrize("type_", [1, 2, 5, 16, 28, 43, 65, 255, 65280])
async def test_whatever_is_asked_about_a_refused_name_is_refused(type_: int) -> None:
    async with world(wires.address_reply) as w:
        w.forwarder.set_rules(PEER, EVIL)
        for over_tcp in (False, True):
            for name in ("evil.test", "a.b.EVIL.Test"):
                asked = wires.question(name, type_)
                answer = await w.ask(asked, over_tcp)
                assert wires.rcode(answer) == REFUSED
                assert wires.counts(answer) == (1, 0, 0, 0)
                assert answer[:2] == asked[:2]
        assert w.resolvers[0].udp == w.resolvers[0].tcp == []
        assert w.forwarder.counters == {"dns__query__refused_rules": 4}
        assert wires.rcode(await w.ask(wires.question("notevil.test", type_))) == 0


async def test_dig_is_told_why() -> None:
    async with world(wires.address_reply) as w:
        w.forwarder.set_rules(PEER, EVIL)
        for arguments in ([], ["+tcp"], ["-t", "ANY"], ["-t", "HTTPS"]):
            printed = await w.dig("www.evil.test", *arguments)
            assert "status: REFUSED" in printed and "EDE: 15 (Blocked)" in printed, printed
            assert "owner has refused" in printed, printed
        assert "OPT PSEUDOSECTION" not in await w.dig("www.evil.test", "+noedns")
        assert "status: NOERROR" in await w.dig("www.good.test")


async def test_a_question_that_is_signed_or_not_plain_does_not_pass() -> None:
    signed = bytearray(wires.question("www.evil.test") + wires.record(250, bytes(20), 0, b"\0"))
    signed[11] = 1
    behind = bytearray(wires.question("good.test") + wires.record(250, bytes(20), 0, b"\0"))
    behind[11] = 1
    async with world(serving(alias("good.test", "evil.test"), at("evil.test"))) as w:
        w.forwarder.set_rules(PEER, EVIL)
        assert wires.rcode(await w.ask(bytes(signed))) == REFUSED
        assert wires.rcode(await w.ask(bytes(behind))) == REFUSED


CHAINS = {
    "an alias": [alias("good.test", "x.evil.test"), at("x.evil.test")],
    "the last of three": [
        alias("good.test", "a.test"), alias("a.test", "b.test"), alias("b.test", "EVIL.test"),
        at("EVIL.test"),
    ],
    "one in the middle": [
        alias("good.test", "evil.test"), alias("evil.test", "c.test"), at("c.test"),
    ],
    "an alias without an address": [alias("good.test", "evil.test")],
    "compressed": [
        wires.record(wires.CNAME, b"\x04evil\xc0\x11"), at("evil.test"),
    ],
    "a DNAME": [at("test", wires.name("evil.test"), DNAME)],
    "an owner that nothing leads to": [at("evil.test")],
    "a service": [at("good.test", b"\0\1" + wires.name("evil.test"), wires.HTTPS)],
    "a service's alias": [at("good.test", b"\0\0" + wires.name("www.evil.test"), SVCB)],
    "behind ten thousand bytes": [
        *[at("good.test", bytes((250,)) + bytes(250), wires.TXT)] * 40,
        alias("good.test", "evil.test"),
    ],
    "a name that cannot be read": [wires.record(wires.CNAME, b"\xff\xff")],
}  # fmt: skip


@pytest.mark.parametrize("records", CHAINS.values(), ids=CHAINS)
def test_what_leads_to_a_refused_name_is_found(records: list[bytes]) -> None:
    assert leads(*records) is Where.INSIDE


HARMLESS = {
    "its own address": [wires.record(wires.A, ADDRESS)],
    "an alias of others": [alias("good.test", "notevil.test"), at("notevil.test")],
    "a mail server, which has to be asked for": [
        at("good.test", b"\0\x0a" + wires.name("mail.evil.test"), 15)
    ],
    "a service of its owner": [at("good.test", b"\0\1\0", wires.HTTPS)],
    "nothing": [],
}


@pytest.mark.parametrize("records", HARMLESS.values(), ids=HARMLESS)
def test_what_does_not_lead_there_passes(records: list[bytes]) -> None:
    assert leads(*records) is Where.NOWHERE


def test_a_service_of_its_owner_passes_where_all_other_names_are_refused() -> None:
    """The root stands for the owner there (RFC 9460 2.5)."""
    only = NameRules([("good.test", False), (".", True)])
    assert leads(*HARMLESS["a service of its owner"], rules=only) is Where.NOWHERE


def test_an_allowed_name_may_lead_to_what_is_refused_behind_it() -> None:
    chain = [alias("good.test", "edge.evil.test"), at("edge.evil.test")]
    assert leads(*chain, rules=NameRules([("good.test", False), (".", True)])) is Where.NOWHERE
    before = NameRules([("evil.test", True), ("good.test", False)])
    assert leads(*chain, rules=before) is Where.INSIDE


@given(st.binary(max_size=80), st.sampled_from([1, 5, 39, 64, 65]))
def test_any_data_is_judged(data: bytes, type_: int) -> None:
    assert leads(wires.record(type_, data)) in (Where.NOWHERE, Where.INSIDE)


@given(st.binary(max_size=200))
def test_junk_raises_nothing_else(data: bytes) -> None:
    wire = b"\0\0\x81\x80\0\1" + data
    try:
        answer = parse_answer(wire)
    except MalformedMessage:
        return
    judge_names(EVIL, b"\0", wire, answer)


async def test_an_alias_is_refused_and_told_however_it_is_asked() -> None:
    async with world(serving(*CHAINS["an alias"])) as w:
        w.forwarder.set_rules(PEER, EVIL)
        for _ in range(2):
            assert wires.rcode(await w.ask(wires.question("good.test"))) == REFUSED
        printed = await w.dig("good.test", "+tcp")
        assert "status: REFUSED" in printed and "EDE: 15 (Blocked)" in printed, printed
        assert w.forwarder.counters["dns__reply__refused_rules"] == 3
        assert w.forwarder.sizes()["dns_cache_entries"] == 0
        # Another device's rules are its own.
        assert wires.rcode(await w.ask(wires.question("good.test"), client="other")) == 0


async def test_refused_answers_take_nothing_of_what_a_device_may_ask() -> None:
    async with world(serving(*CHAINS["an alias"])) as w:
        w.forwarder.set_rules(PEER, EVIL)
        for _ in range(MAX_OUTSTANDING + 1):
            assert wires.rcode(await w.ask(wires.question("good.test"))) == REFUSED
        assert w.forwarder.counters["dns__reply__refused_rules"] == MAX_OUTSTANDING + 1
        assert w.forwarder.sizes()["dns_in_flight"] == 0


async def test_all_who_wait_for_one_answer_are_told() -> None:
    async with world(serving(*CHAINS["an alias"])) as w:
        w.forwarder.set_rules(PEER, EVIL)
        asked = [wires.question(text, id_=n) for n, text in enumerate(("good.test", "GOOD.test"))]
        answers = await asyncio.gather(*(w.ask(q) for q in asked))
        assert [wires.rcode(answer) for answer in answers] == [REFUSED, REFUSED]
        assert [answer[:2] for answer in answers] == [q[:2] for q in asked]
        assert len(w.resolvers[0].udp) == 1


async def test_addresses_of_a_refused_name_beside_an_answer_are_cut_out() -> None:
    mail = wires.record(15, b"\0\x0a" + wires.name("mail.evil.test"))

    def script(q: bytes, tcp: bool) -> list[bytes]:
        whole = bytearray(wires.reply(q, [mail]) + at("mail.evil.test"))
        struct.pack_into("!H", whole, 10, 1)
        return [bytes(whole)]

    async with world(script) as w:
        asked = wires.question("good.test", 15)
        assert ADDRESS in await w.ask(asked)
        w.forwarder.set_rules(PEER, EVIL)
        assert await w.ask(asked) == wires.reply(asked, [mail])
        assert w.forwarder.counters["dns__reply__additional_cut"] == 1


async def test_rules_take_effect_at_once_and_on_what_is_kept() -> None:
    async with world(serving(*CHAINS["an alias"]), config=DnsConfig(stale=60)) as w:
        asked = wires.question("good.test")
        assert wires.counts(await w.ask(asked))[1] == 2
        w.forwarder.set_rules(PEER, EVIL)
        assert wires.rcode(await w.ask(asked)) == REFUSED
        w.forwarder.set_rules(PEER, deny("good.test"))
        assert wires.rcode(await w.ask(asked)) == REFUSED
        w.forwarder.set_rules(PEER, None)
        assert wires.counts(await w.ask(asked))[1] == 2


async def test_what_is_under_way_is_judged_by_the_rules_of_when_it_ends() -> None:
    async with world(wires.address_reply) as w:
        asking = asyncio.ensure_future(w.ask(wires.question("www.evil.test")))
        while not w.forwarder.sizes()["dns_in_flight"]:
            await asyncio.sleep(0)
        w.forwarder.set_rules(PEER, EVIL)
        assert wires.rcode(await asking) == REFUSED


async def test_other_devices_keep_what_they_know() -> None:
    async with world(wires.address_reply) as w:
        for client in (PEER, "other"):
            await w.ask(wires.question("a.test"), client=client)
        w.forwarder.set_rules(PEER, EVIL)
        for client in (PEER, "other"):
            await w.ask(wires.question("a.test"), client=client)
        assert len(w.resolvers[0].udp) == 3
        assert w.forwarder.counters["dns__query__hit"] == 1


async def test_it_is_seen_among_the_last_questions() -> None:
    async with world(serving(*CHAINS["an alias"]), config=DnsConfig(recent=5)) as w:
        w.forwarder.set_rules(PEER, EVIL)
        await w.ask(wires.question("www.evil.test"))
        await w.ask(wires.question("good.test"))
        seen = [(question.name, question.outcome) for question in w.forwarder.recent()]
        assert seen == [
            ("www.evil.test", "refused"), ("good.test", "asked"), ("good.test", "refused"),
        ]  # fmt: skip
