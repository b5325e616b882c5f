"""Names of addresses: who was told what, bounded for all together."""

from __future__ import annotations

from gateway.dns.forwarder import DnsConfig
from gateway.dns.names import Names
from tests.gateway.dns.world import world
from tests.netstack import wires

FOUR, OTHER = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
SIX = b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01"


def numbered(number: int) -> bytes:
    return number.to_bytes(4, "big")


def test_an_address_has_the_latest_name_that_its_asker_was_told_it_for() -> None:
    names = Names()
    names.note("tv", FOUR, "a.test")
    names.note("tv", FOUR, "b.test")
    assert (names.of("tv", FOUR), names.of("laptop", FOUR), names.of("tv", OTHER)) == (
        "b.test", "", "",
    )  # fmt: skip
    assert len(names) == 1
    names.clear()
    assert (names.of("tv", FOUR), len(names)) == ("", 0)


def test_who_has_most_forgets_his_oldest() -> None:
    names = Names(max_names=8)
    names.note("tv", FOUR, "tv.test")
    for number in range(20):
        names.note("scanner", numbered(number), f"{number}.test")
    assert len(names) == 8
    assert names.of("tv", FOUR) == "tv.test"
    assert [bool(names.of("scanner", numbered(n))) for n in range(20)] == [False] * 13 + [True] * 7
    names.note("tv", OTHER, "other.test")
    assert (names.of("tv", FOUR), names.of("tv", OTHER)) == ("tv.test", "other.test")
    assert (len(names), names.of("scanner", numbered(13))) == (8, "")


def answered(asked: bytes, over_tcp: bool = False) -> list[bytes]:
    """An alias that leads to two addresses, and one that nobody has asked for beside them."""
    return [wires.reply(asked, [
        wires.record(wires.CNAME, wires.name("cdn.test")),
        wires.record(wires.A, FOUR, owner=wires.name("cdn.test")),
        wires.record(wires.AAAA, SIX, owner=wires.name("cdn.test")),
        wires.record(wires.TXT, OTHER),
    ])]  # fmt: skip


async def test_names_are_kept_only_while_questions_are() -> None:
    async with world(answered, config=DnsConfig(rebinding_protection=False)) as w:
        await w.ask(wires.question("www.test"), client="tv")
        assert w.forwarder.name_of("tv", FOUR) == ""
    kept = DnsConfig(recent=2, rebinding_protection=False)
    async with world(answered, config=kept) as w:
        await w.ask(wires.question("WWW.test"), client="tv")
        assert w.forwarder.name_of("tv", FOUR) == "www.test", "as it was asked for"
        assert w.forwarder.name_of("tv", SIX) == "www.test"
        assert w.forwarder.name_of("tv", OTHER) == "", "a text is no address"
        assert w.forwarder.name_of("laptop", FOUR) == ""
        w.forwarder.configure(DnsConfig(servers=w.forwarder.config.servers))
        assert w.forwarder.name_of("tv", FOUR) == ""
