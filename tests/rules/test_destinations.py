"""Compiled lists of destinations say what a walk through the list says."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.destinations import compile_addresses, compile_names
from rules.sets import SETS
from rules.value import MAX_DESTINATIONS, Destination, Protocol, Target, Verdict

ALLOW, DENY = Verdict.ALLOW, Verdict.DENY
TCP, UDP, ICMP = "tcp", "udp", "icmp"


def network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text)


def entry(
    verdict: Verdict,
    where: str | None = None,
    protocol: Protocol = Protocol.ANY,
    *ports: tuple[int, int],
) -> Destination:
    return Destination(
        verdict, Target(None if where is None else network(where), "", protocol, ports)
    )


def named(verdict: Verdict, *names: str) -> list[Destination]:
    return [Destination(verdict, Target(name=name)) for name in names]


def packed(text: str) -> bytes:
    return ip_address(text).packed


def wire(text: str) -> bytes:
    labels = [label.encode() for label in text.split(".") if label]
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


# The list as its text says it: entry after entry.


def fits(target: Target, host: bytes, protocol: str, port: int) -> bool:
    if target.name:
        return False
    if target.network is not None:
        where, size = target.network, len(host)
        if where.max_prefixlen != size * 8:
            return False
        if int.from_bytes(host, "big") & int(where.netmask) != int(where.network_address):
            return False
    if target.protocol is not Protocol.ANY and target.protocol != protocol:
        return False
    if not target.ports:
        return True
    return protocol != ICMP and any(low <= port <= high for low, high in target.ports)


def walk(destinations: list[Destination], host: bytes, protocol: str, port: int) -> bool:
    for destination in destinations:
        shipped = destination.shipped
        for target in SETS[shipped] if shipped else (destination.target,):
            if fits(target, host, protocol, port):
                return destination.verdict is DENY
    return False


def walk_names(destinations: list[Destination], name: str) -> tuple[int, bool]:
    labels = [label for label in name.split(".") if label]
    for place, destination in enumerate(destinations):
        above = [label for label in destination.target.name.split(".") if label]
        if not above or labels[-len(above) :] == above:
            return place, destination.verdict is DENY
    return len(destinations), False


# Few addresses and ports, so that entries overlap, touch and hide each other.

SPACES = (("10.0.0.0", 32), ("2001:db8::", 128))


@st.composite
def networks(draw: st.DrawFn) -> IPv4Network | IPv6Network:
    text, bits = draw(st.sampled_from(SPACES))
    base = int(ip_address(text)) if draw(st.integers(0, 4)) else 0
    value = base | draw(st.integers(0, 15))
    return ip_network((value.to_bytes(bits // 8, "big"), draw(st.sampled_from(
        (0, 1, 8, bits - 4, bits - 3, bits - 2, bits - 1, bits)
    ))), strict=False)  # fmt: skip


PORT = st.sampled_from((0, 1, 2, 3, 4, 5, 6, 7, 65_534, 65_535))


@st.composite
def port_ranges(draw: st.DrawFn) -> tuple[tuple[int, int], ...]:
    cuts = sorted(draw(st.sets(PORT, max_size=6)))
    return tuple(zip(cuts[::2], cuts[1::2], strict=False))


@st.composite
def address_entries(draw: st.DrawFn) -> Destination:
    verdict = draw(st.sampled_from(Verdict))
    if not draw(st.integers(0, 8)):
        return Destination(verdict, shipped=draw(st.sampled_from(("private", "mail"))))
    ports = draw(port_ranges())
    protocols = [Protocol.ANY, Protocol.TCP, Protocol.UDP] + ([] if ports else [Protocol.ICMP])
    where = draw(st.none() | networks())
    return Destination(verdict, Target(where, "", draw(st.sampled_from(protocols)), ports))


@st.composite
def hosts(draw: st.DrawFn) -> bytes:
    text, bits = draw(st.sampled_from(SPACES))
    value = int(ip_address(text)) + draw(st.sampled_from((-1, 0, 1, 3, 4, 7, 8, 15, 16)))
    anywhere = draw(st.sampled_from((None, 0, (1 << bits) - 1)))
    return (value if anywhere is None else anywhere).to_bytes(bits // 8, "big")


@settings(max_examples=100)
@given(
    st.lists(address_entries(), max_size=12),
    st.lists(st.tuples(hosts(), st.sampled_from((TCP, UDP, ICMP)), PORT), min_size=1, max_size=30),
)
def test_addresses_are_judged_as_by_a_walk(
    destinations: list[Destination], flows: list[tuple[bytes, str, int]]
) -> None:
    rules = compile_addresses(destinations)
    for host, protocol, port in flows:
        port = 0 if protocol == ICMP else port
        refused = rules is not None and rules.refuse(host, protocol, port)
        assert refused == walk(destinations, host, protocol, port), (host, protocol, port)


def test_well_known_resolvers_are_refused_as_resolvers_alone() -> None:
    shipped = [Destination(DENY, shipped="encrypted-dns")]
    rules, names = compile_addresses(shipped), compile_names(shipped)
    assert rules is not None and names is not None
    for resolver in ("1.1.1.1", "1.0.0.3", "8.8.4.4", "2620:fe::fe", "45.90.28.201"):
        assert rules.refuse(packed(resolver), TCP, 443)
        assert rules.refuse(packed(resolver), UDP, 443)
        assert not rules.refuse(packed(resolver), TCP, 80)
        assert not rules.refuse(packed(resolver), ICMP, 0)
    assert rules.refuse(packed("192.0.2.1"), TCP, 853)
    assert not rules.refuse(packed("192.0.2.1"), TCP, 443)
    for name in ("dns.google", "mozilla.cloudflare-dns.com", "abc.dns.nextdns.io"):
        assert names.refuse(wire(name))
    for name in ("google", "www.google.com", "nextdns.io", "test"):
        assert not names.refuse(wire(name))


NAMES = ("test", "a.test", "b.a.test", "xa.test", "a", "b.test", "a.b.test", ".", "c.b.a.test")


@settings(max_examples=150)
@given(
    st.lists(
        st.builds(
            Destination,
            st.sampled_from(Verdict),
            st.builds(Target, name=st.sampled_from(NAMES)),
        ),
        max_size=8,
    ),
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
)
def test_names_are_judged_as_by_a_walk(
    destinations: list[Destination], name: str, alias: str
) -> None:
    rules = compile_names(destinations)
    place, refused = walk_names(destinations, name)
    alias_place, alias_refused = walk_names(destinations, alias)
    assert (rules is not None and rules.refuse(wire(name))) == refused
    leads = alias_refused and alias_place < place
    assert (rules is not None and rules.refuse_alias(wire(name), wire(alias))) == leads


@pytest.mark.parametrize("size", [1, MAX_DESTINATIONS])
def test_a_full_list_is_judged_to_its_last_entry(size: int) -> None:
    """And the ports of one entry are not joined with the network of another."""
    destinations = [
        entry(DENY, f"10.{n >> 8}.{n & 255}.0/24", Protocol.TCP, (n, n)) for n in range(size)
    ]
    rules = compile_addresses(destinations)
    assert rules is not None
    last = size - 1
    host = bytes((10, last >> 8, last & 255, 9))
    assert rules.refuse(host, TCP, last)
    assert not rules.refuse(host, UDP, last)
    assert not rules.refuse(host, TCP, last + 1)
    assert not rules.refuse(bytes((10, size >> 8, size & 255, 9)), TCP, last)


def test_what_refuses_nothing_is_not_asked() -> None:
    assert compile_addresses([]) is None
    assert compile_names([]) is None
    assert compile_addresses([entry(ALLOW, "10.0.0.0/8"), *named(DENY, "a.test")]) is None
    assert compile_names([entry(DENY), *named(ALLOW, "a.test")]) is None


def test_an_entry_for_everything_leaves_names_alone() -> None:
    """Addresses that are allowed one by one could not be found by name otherwise."""
    rules = compile_addresses([entry(ALLOW, "192.0.2.0/24"), entry(DENY)])
    assert rules is not None
    assert not rules.refuse(packed("192.0.2.1"), TCP, 443)
    assert rules.refuse(packed("198.51.100.1"), TCP, 443)
    assert rules.refuse(packed("2001:db8::1"), ICMP, 0)
    assert compile_names([entry(ALLOW, "192.0.2.0/24"), entry(DENY)]) is None


def test_an_entry_with_ports_fits_no_ping() -> None:
    rules = compile_addresses([entry(DENY, None, Protocol.ANY, (0, 65_535))])
    assert rules is not None
    assert rules.refuse(packed("192.0.2.1"), UDP, 0)
    assert not rules.refuse(packed("192.0.2.1"), ICMP, 0)


def test_a_name_is_judged_whatever_its_case_and_not_by_its_letters_alone() -> None:
    rules = compile_names(named(DENY, "evil.test"))
    assert rules is not None
    assert rules.refuse(wire("EVIL.Test"))
    assert rules.refuse(wire("a.b.evil.test"))
    assert not rules.refuse(wire("notevil.test"))
    assert not rules.refuse(wire("evil.test.example"))
    # A label that holds the length byte and the letters of two.
    assert not rules.refuse(b"\x09evil\x04test\0")


def test_what_an_allowed_name_leads_to_is_judged_by_what_stands_before_it() -> None:
    only = compile_names([*named(ALLOW, "shop.example"), *named(DENY, ".")])
    assert only is not None
    assert not only.refuse_alias(wire("www.shop.example"), wire("edge.carrier.example"))
    assert only.refuse(wire("edge.carrier.example"))
    first = compile_names([*named(DENY, "evil.test"), *named(ALLOW, "shop.example")])
    assert first is not None
    assert first.refuse_alias(wire("www.shop.example"), wire("evil.test"))
    assert first.refuse_alias(wire("other.example"), wire("evil.test"))
