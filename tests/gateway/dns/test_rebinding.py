"""Private addresses for public names: every spelling, every record that can hold one."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dns.forwarder import DnsConfig
from gateway.dns.judging import Where
from gateway.dns.rebinding import Exemptions, is_private, judge_addresses, parse_name
from netstack.dns import MalformedMessage, parse_answer
from tests.gateway.dns.world import Script, world
from tests.netstack import wires

PUBLIC_NAME = "rebind.attacker.com"
PRIVATE = """
    0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1
    172.31.255.255 192.168.1.1 224.0.0.251 255.255.255.255
    :: ::1 fc00::1 fd12:3456::1 fe80::1 febf::1 fec0::1 ff02::1
    ::ffff:192.168.1.1 ::ffff:127.0.0.1 ::192.168.1.1 ::ffff:0:10.0.0.1 ::127.0.0.1
    64:ff9b::192.168.1.1 64:ff9b::a00:1 64:ff9b:1::5 2002:c0a8:101:: 2002:7f00:1::1
    2001:0:102:304:0:0:3f57:fefe 2001:db8::5efe:192.168.1.1 2001:db8::200:5efe:10.0.0.1
"""
PUBLIC = """
    1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.0.0.1 128.0.0.1 169.253.0.1
    172.15.255.255 172.32.0.0 192.167.1.1 192.169.0.1 192.0.0.170 198.18.0.1 223.255.255.255
    2606:4700::1111 2001:db8::1 ::ffff:1.1.1.1 64:ff9b::101:101 2002:101:101::1 fbff::1
"""


def packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def address(text: str, owner: bytes = b"\xc0\x0c") -> bytes:
    data = packed(text)
    return wires.record(wires.A if len(data) == 4 else wires.AAAA, data, owner=owner)


def service(type_: int, key: int, *addresses: str) -> bytes:
    value = b"".join(packed(text) for text in addresses)
    alpn = struct.pack("!HH", 1, 3) + b"\x02h2"
    hint = struct.pack("!HH", key, len(value)) + value
    return wires.record(type_, struct.pack("!H", 1) + wires.name("svc.test") + alpn + hint)


def serving(*records: bytes) -> Script:
    return lambda q, tcp: [wires.reply(q, list(records))]


def verdict(*records: bytes, authority: tuple[bytes, ...] = ()) -> Where:
    wire = wires.reply(wires.question("a.test"), list(records), list(authority))
    return judge_addresses(wire, parse_answer(wire))


@pytest.mark.parametrize("text", PRIVATE.split())
def test_private(text: str) -> None:
    assert is_private(packed(text))
    assert verdict(address("1.1.1.1"), address(text)) is Where.INSIDE


@pytest.mark.parametrize("text", PUBLIC.split())
def test_public(text: str) -> None:
    assert not is_private(packed(text))
    assert verdict(address(text)) is Where.NOWHERE


@pytest.mark.parametrize("type_", [64, 65], ids=["SVCB", "HTTPS"])
def test_hints(type_: int) -> None:
    assert verdict(service(type_, 4, "1.1.1.1", "9.9.9.9")) is Where.NOWHERE
    assert verdict(service(type_, 4, "1.1.1.1", "192.168.1.1")) is Where.INSIDE
    assert verdict(service(type_, 6, "2606:4700::1")) is Where.NOWHERE
    assert verdict(service(type_, 6, "2606:4700::1", "::ffff:10.0.0.1")) is Where.INSIDE
    assert verdict(wires.record(type_, b"\0\0" + wires.name("alias.test"))) is Where.NOWHERE


@pytest.mark.parametrize(
    "record",
    [
        wires.record(wires.A, bytes(5)),
        wires.record(wires.AAAA, bytes(4)),
        wires.record(65, b"\0\1"),
        wires.record(65, b"\0\1\x05abc"),
        wires.record(65, b"\0\1\0" + struct.pack("!HH", 4, 5) + bytes(5)),
        wires.record(65, b"\0\1\0" + struct.pack("!HH", 4, 8) + bytes(4)),
        wires.record(65, b"\0\1\0" + struct.pack("!HH", 1, 8) + bytes(4)),
        wires.record(65, b"\0\1\0\0\4"),
    ],
)
def test_what_cannot_be_read_is_not_trusted(record: bytes) -> None:
    assert verdict(record) is Where.INSIDE


@given(st.binary(max_size=60), st.sampled_from([1, 28, 64, 65]))
def test_any_data_is_judged(data: bytes, type_: int) -> None:
    assert verdict(wires.record(type_, data)) in (Where.NOWHERE, Where.INSIDE)


@given(st.binary(max_size=200))
def test_junk_raises_nothing_else(data: bytes) -> None:
    try:
        answer = parse_answer(b"\0\0\x81\x80\0\1" + data)
    except MalformedMessage:
        return
    judge_addresses(b"\0\0\x81\x80\0\1" + data, answer)


def test_exemptions() -> None:
    exempt = Exemptions(["Corp.Example.com.", "bücher.de"])
    for covered in (
        "corp.example.com", "a.b.CORP.example.com", "xn--bcher-kva.de", "printer", "nas.local",
        "x.home.arpa", "db.internal", "a.localhost", "router.lan", "",
    ):  # fmt: skip
        assert exempt.cover(wires.name(covered)), covered
    for public in ("example.com", "notcorp.example.com", "corp.example.org", "arpa.home.com"):
        assert not exempt.cover(wires.name(public)), public


@pytest.mark.parametrize("text", ["", ".", "a..b", "a b", "x" * 64, "a.\x1b[2J", "*.example.com"])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(ValueError, match="is no name"):
        parse_name(text)


@pytest.mark.parametrize(
    "record",
    [address("192.168.1.1"), address("::ffff:127.0.0.1"), service(65, 4, "10.0.0.1")],
    ids=["A", "AAAA", "HTTPS"],
)
async def test_dig_is_given_no_private_address(record: bytes) -> None:
    type_ = str(struct.unpack_from("!H", record, 2)[0])
    async with world(serving(address("1.1.1.1"), record)) as w:
        printed = await w.dig("-t", f"TYPE{type_}", PUBLIC_NAME)
        assert "status: NOERROR" in printed and "ANSWER: 0" in printed, printed
        assert "EDE: 17 (Filtered)" in printed and "dns.rebinding_exempt" in printed, printed
        printed = await w.dig("-t", f"TYPE{type_}", PUBLIC_NAME, "+tcp", "+noedns")
        assert "ANSWER: 0" in printed, printed
        assert w.forwarder.counters["dns__reply__private_withheld"] == 2
        # In the owner's own names it is as it is.
        printed = await w.dig("-t", f"TYPE{type_}", "nas.home.arpa")
        assert "ANSWER: 2" in printed, printed


async def test_an_alias_does_not_pass_by_the_name_it_leads_to() -> None:
    alias = wires.record(wires.CNAME, wires.name("router.lan"))
    router = address("192.168.1.1", wires.name("router.lan"))
    async with world(serving(alias, router)) as w:
        assert wires.counts(await w.ask(wires.question(PUBLIC_NAME)))[1] == 0
        assert wires.counts(await w.ask(wires.question("alias.lan")))[1] == 2


async def test_a_signed_question_does_not_pass_either() -> None:
    signed = bytearray(wires.question(PUBLIC_NAME) + wires.record(250, bytes(20), 0, b"\0"))
    signed[11] = 1
    async with world(serving(address("10.1.2.3"))) as w:
        assert b"\x0a\1\2\3" not in await w.ask(bytes(signed))


async def test_private_addresses_beside_an_answer_are_cut_out() -> None:
    """Some name server of the zone has one: no reason to withhold the answer."""
    glue = address("192.168.1.1", wires.name("ns.attacker.com"))
    ns = wires.record(wires.NS, wires.name("ns.attacker.com"))

    def script(q: bytes, tcp: bool) -> list[bytes]:
        edns = wires.opt() if wires.counts(q)[3] else b""
        whole = bytearray(wires.reply(q, [address("1.1.1.1")], [ns, glue], edns=edns))
        whole[9], whole[11] = 1, 2 if edns else 1
        return [bytes(whole)]

    async with world(script) as w:
        for edns in (b"", wires.opt()):
            asked = wires.question(PUBLIC_NAME, edns=edns)
            assert await w.ask(asked) == wires.reply(asked, [address("1.1.1.1")], [ns], edns=edns)
        assert "WARNING" not in await w.dig(PUBLIC_NAME, "+tcp")


async def test_the_settings_take_effect_at_once_and_on_what_is_kept() -> None:
    async with world(serving(address("10.1.2.3"))) as w:
        servers = w.forwarder.config.servers

        async def answers(name: str = "www.corp.com") -> int:
            return wires.counts(await w.ask(wires.question(name)))[1]

        assert await answers() == 0
        w.forwarder.configure(DnsConfig(servers=servers, rebinding_protection=False))
        assert await answers() == 1
        w.forwarder.configure(DnsConfig(servers=servers))
        assert await answers() == 0
        w.forwarder.configure(DnsConfig(servers=servers, rebinding_exempt=("corp.com",)))
        assert await answers() == 1
        assert await answers("www.corp.org") == 0


async def test_it_is_seen_among_the_last_questions() -> None:
    async with world(serving(address("10.1.2.3")), config=DnsConfig(recent=5)) as w:
        await w.ask(wires.question(PUBLIC_NAME))
        assert [(q.name, q.outcome) for q in w.forwarder.recent()] == [
            (PUBLIC_NAME, "asked"),
            (PUBLIC_NAME, "private"),
        ]
