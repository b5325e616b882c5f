"""Names of addresses: who was told what, bounded for all together."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from gateway.dns.forwarder import DnsConfig
from gateway.dns.names import GRACE, Names
from tests.gateway.dns.world import world
from tests.netstack import wires

FOUR, OTHER = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
SIX = b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01"


def numbered(number: int) -> bytes:
    return number.to_bytes(4, "big")


def test_a_connection_has_the_name_that_was_good_when_it_began() -> None:
    names = Names()
    names.note("tv", FOUR, "a.test", now=100, ttl=60)
    names.note("tv", FOUR, "b.test", now=200, ttl=60)
    began = (99, 100, 199, 200, 200 + 60 + GRACE - 1, 200 + 60 + GRACE)
    assert [names.of("tv", FOUR, at) for at in began] == [
        "", "a.test", "a.test", "b.test", "b.test", "",
    ]  # fmt: skip
    assert (names.of("laptop", FOUR, 200), names.of("tv", OTHER, 200)) == ("", "")
    assert len(names) == 1
    names.clear()
    assert (names.of("tv", FOUR, 200), len(names)) == ("", 0)


def test_the_same_name_told_again_is_good_for_longer_and_never_for_less() -> None:
    names = Names()
    names.note("tv", FOUR, "a.test", now=0, ttl=3600)
    names.note("tv", FOUR, "a.test", now=10, ttl=0)
    assert names.of("tv", FOUR, 3600 + GRACE - 1) == "a.test"
    names.note("tv", FOUR, "a.test", now=1000, ttl=3600)
    assert names.of("tv", FOUR, 4600 + GRACE - 1) == "a.test"
    assert names.of("tv", FOUR, 500) == "a.test", "one that began before is called the same"
    names.note("tv", OTHER, "a.test", now=0, ttl=0)
    names.note("tv", OTHER, "a.test", now=GRACE + 1, ttl=0)
    assert names.of("tv", OTHER, GRACE + 0.5) == "", "between the two it was good for nothing"


def test_an_answer_that_may_not_be_kept_still_names_what_comes_of_it() -> None:
    names = Names()
    names.note("tv", FOUR, "a.test", now=0, ttl=-1)
    assert names.of("tv", FOUR, GRACE - 1) == "a.test"


@given(st.lists(st.tuples(st.integers(0, 5000), st.sampled_from("abc"), st.integers(-1, 4000))),
       st.integers(0, 10_000))  # fmt: skip
def test_of_the_last_two_names_it_is_the_one_told_last_before_and_still_good(
    told: list[tuple[int, str, int]], began: int
) -> None:
    names = Names()
    spans: list[tuple[str, int, float]] = []
    for at, name, ttl in sorted(told):
        names.note("tv", FOUR, name, at, ttl)
        until = at + max(0, ttl) + GRACE
        if spans and spans[-1][0] == name and at < spans[-1][2]:
            spans[-1] = name, spans[-1][1], max(until, spans[-1][2])
        else:
            spans.append((name, at, until))
    before = [span for span in spans[-2:] if span[1] <= began]
    expected = before[-1][0] if before and began < before[-1][2] else ""
    assert names.of("tv", FOUR, began) == expected


def test_who_has_most_forgets_his_oldest() -> None:
    names = Names(max_names=8)

    def note(client: str, address: bytes, name: str) -> None:
        names.note(client, address, name, now=0, ttl=60)

    def of(client: str, address: bytes) -> str:
        return names.of(client, address, 1)

    note("tv", FOUR, "tv.test")
    for number in range(20):
        note("scanner", numbered(number), f"{number}.test")
    assert len(names) == 8
    assert of("tv", FOUR) == "tv.test"
    assert [bool(of("scanner", numbered(n))) for n in range(20)] == [False] * 13 + [True] * 7
    note("tv", OTHER, "other.test")
    assert (of("tv", FOUR), of("tv", OTHER)) == ("tv.test", "other.test")
    assert (len(names), of("scanner", numbered(13))) == (8, "")


def answered(asked: bytes, over_tcp: bool = False) -> list[bytes]:
    """An alias that leads to two addresses, and one that nobody has asked for beside them."""
    return [wires.reply(asked, [
        wires.record(wires.CNAME, wires.name("cdn.test")),
        wires.record(wires.A, FOUR, owner=wires.name("cdn.test")),
        wires.record(wires.AAAA, SIX, owner=wires.name("cdn.test")),
        wires.record(wires.TXT, OTHER),
    ])]  # fmt: skip


async def test_names_are_kept_unless_the_owner_forbids_it_and_then_no_question_either() -> None:
    secret = DnsConfig(names=False, recent=2, rebinding_protection=False)
    async with world(answered, config=secret) as w:
        await w.ask(wires.question("www.test"), client="tv")
        assert w.forwarder.name_of("tv", FOUR, asyncio.get_running_loop().time()) == ""
        assert w.forwarder.recent() == []
    async with world(answered, config=DnsConfig(rebinding_protection=False)) as w:
        before = asyncio.get_running_loop().time()
        await w.ask(wires.question("WWW.test"), client="tv")
        now = asyncio.get_running_loop().time()
        assert w.forwarder.name_of("tv", FOUR, now) == "www.test", "as it was asked for"
        assert w.forwarder.name_of("tv", SIX, now) == "www.test"
        assert w.forwarder.name_of("tv", FOUR, before) == "", "it was open before the question"
        assert w.forwarder.name_of("tv", OTHER, now) == "", "a text is no address"
        assert w.forwarder.name_of("laptop", FOUR, now) == ""
        servers = w.forwarder.config.servers
        w.forwarder.configure(DnsConfig(servers=servers, names=False))
        w.forwarder.configure(DnsConfig(servers=servers))
        assert w.forwarder.name_of("tv", FOUR, now) == "", "forgotten when it was forbidden"
