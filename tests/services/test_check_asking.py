"""A check against doubles of STUN and whoami servers: what is asked, what counts, what is thought
of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from netstack import stun as codec
from services.check import asking
from services.check.asking import MAX_STRANGE, Unanswered, ask_all, binding, whoami
from services.check.places import Place, Whoami, parse_stun, parse_whoami
from services.check.verdict import Found, State, judge
from services.check.verdict import Outside as Beside
from tests.fakes import stun
from tests.fakes.outside import Outside, asked_by, outside, sees, silent
from tests.netstack import wires

EXIT4, EXIT6, HOME6, RESOLVER = "203.0.113.7", "2001:db8:e::7", "2001:db8:a::23", "198.51.100.53"
STUN = [parse_stun("one.test"), parse_stun("two.test:19302")]
WHOAMI = [parse_whoami("whoami.test@ns.test")]
NOTHING = Found(
    "gateway", outside=(Beside("wlan0", ip_network("2001:db8:a::/64")),), families=(4, 6)
)


@pytest.fixture
async def good() -> AsyncIterator[Outside]:
    """A VPN as it should be: two STUN servers with both families, a name with its own server."""
    async with outside() as way:
        way.names = {
            "one.test": ["2001:db8:1::1", "192.0.2.1", "192.0.2.99"],
            "two.test": ["192.0.2.2", "2001:db8:1::2"],
            "ns.test": ["192.0.2.53"],
        }
        await way.put("192.0.2.1", 3478, sees(EXIT4))
        await way.put("192.0.2.2", 19302, sees(EXIT4))
        await way.put("2001:db8:1::1", 3478, sees(EXIT6))
        await way.put("2001:db8:1::2", 19302, sees(EXIT6))
        await way.put("192.0.2.53", 53, asked_by(EXIT4))
        way.asks = {"whoami.test": [ip_address(EXIT4)]}
        yield way


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is told sooner; what answers on loopback answers at once."""
    monkeypatch.setattr(codec, "FIRST_WAIT", 0.2)
    monkeypatch.setattr(codec, "LAST_WAIT", 0.4)
    monkeypatch.setattr(asking, "QUESTIONS", (0.0, 0.3, 0.6))
    monkeypatch.setattr(asking, "LAST_WAIT", 0.9)


async def look(way: Outside, families: tuple[int, ...] = (4, 6)) -> Found:
    words, askers = await ask_all(way, STUN, WHOAMI, families)
    return replace(NOTHING, words=words, askers=askers, families=families)


@pytest.mark.parametrize("connects", [True, False])
async def test_a_good_vpn(good: Outside, connects: bool) -> None:
    good.connects = connects
    found = await look(good)
    assert [(w.server, w.family, str(w.address)) for w in found.words] == [
        ("one.test", 4, EXIT4), ("one.test", 6, EXIT6),
        ("two.test:19302", 4, EXIT4), ("two.test:19302", 6, EXIT6),
    ]  # fmt: skip
    through, direct = found.askers
    assert (through.server, through.family) == ("", 0)
    assert (direct.server, direct.family, direct.addresses) == (
        "ns.test", 4, (ip_address(EXIT4),)
    )  # fmt: skip
    verdict = judge(found)
    assert (verdict.state, verdict.name) == (State.GOOD, "inside")
    assert "Names are asked from the same address." in verdict.notes


async def test_a_vpn_that_answers_port_53_itself(good: Outside) -> None:
    await good.put("192.0.2.53", 53, asked_by(RESOLVER))
    good.asks = {"whoami.test": [ip_address(RESOLVER)]}
    verdict = judge(await look(good))
    assert verdict.state is State.GOOD
    assert any("answers port 53 itself: ns.test was asked" in note for note in verdict.notes)
    assert any(f"Names are asked from {RESOLVER}" in note for note in verdict.notes)


async def test_ipv6_outside(good: Outside) -> None:
    await good.put("2001:db8:1::1", 3478, sees(HOME6))
    await good.put("2001:db8:1::2", 19302, sees(HOME6))
    verdict = judge(await look(good))
    assert (verdict.state, verdict.name) == (State.BROKEN, "exit_outside")
    assert verdict.sentence.startswith("IPv6 leaves outside the VPN")
    assert judge(await look(good, (4,))).state is State.GOOD


async def test_blocked(good: Outside) -> None:
    heard = []
    for host, port in (("192.0.2.1", 3478), ("192.0.2.2", 19302), ("192.0.2.53", 53)):
        heard.append(await good.put(host, port, silent))
    for host, port in (("2001:db8:1::1", 3478), ("2001:db8:1::2", 19302)):
        await good.put(host, port, silent)
    good.asks = {}
    found = await look(good)
    assert {w.problem for w in found.words} == {"silent"}
    assert {a.problem for a in found.askers} == {"silent"}
    assert judge(found).name == "blocked"
    assert [len(each) for each in heard] == [codec.SENDINGS, codec.SENDINGS, 9], "each asked again"
    assert len(set(heard[0])) == 1, "the same transaction"
    assert len(set(heard[2])) == 3, "a question for each type, and the same again"


async def test_a_server_that_lies(good: Outside) -> None:
    await good.put("192.0.2.2", 19302, sees("8.8.8.8"))
    verdict = judge(await look(good))
    assert (verdict.state, verdict.name) == (State.UNKNOWN, "servers_disagree")
    assert "two.test:19302 saw 8.8.8.8" in verdict.sentence


async def test_nobody_is_asked_twice_at_the_same_time_with_the_same_id(good: Outside) -> None:
    one = await good.put("192.0.2.1", 3478, sees(EXIT4))
    two = await good.put("192.0.2.2", 19302, sees(EXIT4))
    await look(good)
    await look(good)
    ids = [request[8:20] for request in one + two]
    assert len(set(ids)) == 4


async def test_who_cannot_be_reached_or_named_is_told_so(good: Outside) -> None:
    del good.names["two.test"]
    good.names["one.test"] = ["192.0.2.77"]
    found = await look(good)
    assert [(w.server, w.family, w.problem) for w in found.words] == [
        ("one.test", 4, "unreachable"), ("one.test", 6, "no_address"),
        ("two.test:19302", 4, "unnamed"), ("two.test:19302", 6, "unnamed"),
    ]  # fmt: skip


async def test_where_nobody_listens_one_is_not_waited_for(good: Outside) -> None:
    await good.put("192.0.2.1", 3478, silent)
    line = good.open("192.0.2.1", 3478)
    good.close()
    with line.sock, pytest.raises(Unanswered) as caught:
        await binding(line)
    assert caught.value.problem == "refused"


async def test_an_address_is_asked_by_its_own_family_only(good: Outside) -> None:
    words, _ = await ask_all(good, [parse_stun("192.0.2.1:3478")], [], (4, 6))
    assert [(w.family, str(w.address)) for w in words] == [(4, EXIT4)]
    assert good.opened == [("192.0.2.1", 3478)]


async def test_an_address_of_the_other_family_is_none(good: Outside) -> None:
    await good.put("192.0.2.1", 3478, sees(EXIT6))
    found = await look(good)
    assert found.words[0].problem == "unreadable" and found.words[0].address is None


async def test_a_server_that_answers_with_an_error(good: Outside) -> None:
    refusal = stun.attribute(0x0009, b"\0\0\5\0no")
    await good.put("192.0.2.1", 3478, lambda r: [stun.message(0x0111, r[8:20], refusal)])
    assert (await look(good)).words[0].problem == "error"


async def test_forgeries_before_the_answer_are_waited_past(good: Outside) -> None:
    forged = [b"", b"x" * 40, stun.success(bytes(12), "8.8.8.8", 1)]
    await good.put("192.0.2.1", 3478, lambda request: [*forged, *sees(EXIT4)(request)])

    def answer(question: bytes) -> list[bytes]:
        other = bytes((question[0] ^ 1,)) + question[1:]
        return [b"", question, *asked_by("8.8.8.8")(other), *asked_by(EXIT4)(question)]

    await good.put("192.0.2.53", 53, answer)
    found = await look(good)
    assert str(found.words[0].address) == EXIT4
    assert found.askers[1].addresses == (ip_address(EXIT4),)


async def test_a_flood_of_what_is_no_answer_is_given_up(good: Outside) -> None:
    await good.put("192.0.2.1", 3478, lambda request: [b"x" * 30] * (MAX_STRANGE + 9))
    await good.put("192.0.2.53", 53, lambda question: [b"x" * 30] * (MAX_STRANGE + 9))
    found = await look(good)
    assert found.words[0].problem == "unreadable"
    assert found.askers[1].problem == "unreadable"


async def test_who_is_not_spoken_to_is_not_heard_where_sockets_are_not_connected(
    good: Outside,
) -> None:
    good.connects = False
    line = good.open("192.0.2.1", 3478)
    other = good.open("192.0.2.2", 19302)
    with line.sock, other.sock:
        line.sock.bind(("127.0.0.1", 0))
        other.sock.sendto(b"a stranger's", line.sock.getsockname())
        await line.send(codec.request(bytes(12)))
        async with asyncio.timeout(10):
            assert codec.answered(await line.receive(), bytes(12))[0] == ip_address(EXIT4)


@pytest.mark.parametrize("kind", [wires.A, wires.AAAA, wires.TXT])
async def test_a_whoami_name_may_say_it_in_any_record(good: Outside, kind: int) -> None:
    address = EXIT6 if kind == wires.AAAA else EXIT4
    await good.put("192.0.2.53", 53, asked_by(address, kind=kind))
    line = good.open("192.0.2.53", 53)
    with line.sock:
        assert await whoami(line, "whoami.test") == [ip_address(address)]


async def test_what_a_whoami_name_says_besides_is_no_address(good: Outside) -> None:
    await good.put(
        "192.0.2.53", 53, asked_by("edns0-client-subnet 192.0.2.0/24", EXIT4, "0.0.0.0", "\x1b[31m")
    )
    assert (await look(good)).askers[1].addresses == (ip_address(EXIT4),)
    await good.put("192.0.2.53", 53, asked_by("hello"))
    direct = (await look(good)).askers[1]
    assert (direct.addresses, direct.problem) == ((), "untold")
    many = [f"192.0.2.{n}" for n in range(asking.MAX_SEEN + 1)]
    await good.put("192.0.2.53", 53, asked_by(*many))
    assert (await look(good)).askers[1].addresses == ()


async def test_a_malformed_answer_has_no_address(good: Outside) -> None:
    def cut(question: bytes) -> list[bytes]:
        return [wires.reply(question, [wires.record(wires.TXT, b"\x20short")])]

    await good.put("192.0.2.53", 53, cut)
    assert (await look(good)).askers[1].problem == "untold"


def test_places() -> None:
    assert parse_stun("Stun.Example.com") == Place(
        "stun.example.com", 3478, False, "Stun.Example.com"
    )
    assert parse_stun("192.0.2.1:19302").port == 19302
    assert parse_stun("[2001:db8::1]:5").literal
    assert parse_whoami("whoami.test") == Whoami("whoami.test")
    asked = parse_whoami("o-o.myaddr.test@192.0.2.53")
    assert asked.server is not None and (asked.server.host, asked.server.port) == ("192.0.2.53", 53)


@pytest.mark.parametrize(
    "text", ["", "stun", "a b", "stun.test:0", "stun.test:99999", "http://x.test", "fe80::1%eth0"]
)
def test_what_is_no_stun_server(text: str) -> None:
    with pytest.raises(ValueError, match=r"write stun\.example\.com:3478"):
        parse_stun(text)


@pytest.mark.parametrize("text", ["", "whoami", "a.test:53", "a.test@", "192.0.2.1", "a.test@b"])
def test_what_is_no_whoami_name(text: str) -> None:
    with pytest.raises(ValueError, match="write "):
        parse_whoami(text)
