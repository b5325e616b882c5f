"""Small parts: the stored session, rates, the race, plans, the choice of a suite."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client import resume, suite
from client.dial import MAX_ATTEMPTS, AllUnreachable, Race
from client.model import (
    MAX_KNOWN_ENDPOINTS,
    MAX_KNOWN_GATEWAYS,
    ClientError,
    KnownGateway,
    MemoryStore,
    TransportEndpoint,
)
from client.plan import by_transport, find_gateway, known_ways, make_plan, parse_address
from client.rates import RateMeter
from client.reconnect import in_order
from tests.client.gateway_double import LEASE
from tests.fakes.ports import free_port
from vshp.config import Suite
from vshp.endpoints import Endpoint
from vshp.uri import PairingUri

HERE = TransportEndpoint("tcp", "127.0.0.1", 47800)


def known(number: int, name: str = "phone") -> KnownGateway:
    return KnownGateway(bytes((number,)) * 32, name, (HERE,), float(number))


def test_the_stored_session_comes_back_whole() -> None:
    lease = replace(LEASE, endpoints=(Endpoint.of("any", "fd00::1", 5),))
    text = resume.encode(lease)
    back = resume.decode(text)
    assert back is not None
    assert back.lease == lease
    assert (back.session_id, back.ticket) == (LEASE.session_id, LEASE.ticket)


def test_without_a_ticket_there_is_nothing_to_store() -> None:
    assert resume.encode(replace(LEASE, ticket=b"")) is None
    assert resume.decode(None) is None


def test_a_session_stored_before_gateways_told_their_endpoints_comes_back() -> None:
    text = resume.encode(LEASE)
    assert text is not None
    older = json.loads(text)
    del older["endpoints"]
    back = resume.decode(json.dumps(older).encode())
    assert back is not None and back.lease == LEASE


def test_endpoints_that_a_gateway_tells_come_first_and_are_bounded() -> None:
    told = by_transport((Endpoint.of("any", "192.0.2.7", 47801),))
    old = TransportEndpoint("tcp", "192.0.2.7", 47800)
    new = TransportEndpoint("tcp", "192.0.2.7", 47801)
    udp = TransportEndpoint("udp", "192.0.2.7", 47801)
    assert known_ways(told, (old, new)) == (new, udp, old)
    many = tuple(TransportEndpoint("tcp", "10.0.0.1", port) for port in range(1, 30))
    assert len(known_ways(told, many)) == MAX_KNOWN_ENDPOINTS


@settings(deadline=None, max_examples=100)
@given(cut=st.integers(0, 600), junk=st.binary(max_size=20))
def test_a_damaged_stored_session_is_not_resumed_and_harms_nothing(cut: int, junk: bytes) -> None:
    text = resume.encode(LEASE)
    assert text is not None
    damaged = text[:cut] + junk + text[cut + len(junk) :]
    back = resume.decode(damaged)
    assert back is None or isinstance(back.ticket, bytes)


def test_a_rate_follows_its_counter_and_falls_back_to_zero() -> None:
    meter = RateMeter()
    assert meter.sample(0, 100.0) == 0
    for second in range(1, 10):
        rate = meter.sample(second * 1000, 100.0 + second)
    assert rate == pytest.approx(1000, rel=0.01)
    assert meter.sample(9500, 109.1) == rate, "looked at too soon: the same figure"
    assert meter.sample(9000 + 500, 112.0) < rate
    for second in range(113, 130):
        rate = meter.sample(9500, float(second))
    assert rate == pytest.approx(0, abs=1)
    assert meter.sample(0, 131.0) == 0, "a counter that starts over"


async def test_the_race_goes_to_who_answers_and_loses_no_socket() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    good = TransportEndpoint("tcp", "127.0.0.1", port)
    nowhere = TransportEndpoint("tcp", "127.0.0.1", free_port())
    race = Race((nowhere, good, TransportEndpoint("udp", "127.0.0.1", 9), good), 0, 5.0)
    sock, endpoint = await race.next()
    assert endpoint is good
    sock.close()
    for _ in range(2):
        sock, _ = await race.next()
        sock.close()
    with pytest.raises(AllUnreachable):
        await race.next()
    await race.close()
    server.close()


async def test_who_joins_a_race_late_may_win_it_and_none_joins_one_that_is_over() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    there = TransportEndpoint("tcp", "127.0.0.1", server.sockets[0].getsockname()[1])
    race = Race((TransportEndpoint("tcp", "127.0.0.1", free_port()),), 0, 30.0)
    assert race.add((there,))
    async with asyncio.timeout(10):
        sock, endpoint = await race.next()
    assert endpoint == there
    sock.close()
    with pytest.raises(AllUnreachable):
        await race.next()
    assert not race.add((there,))
    await race.close()
    full = Race((there,) * MAX_ATTEMPTS, 0, 30.0)
    assert not full.add((there,))
    await full.close()
    server.close()


async def test_a_race_that_is_closed_or_given_up_says_so() -> None:
    nowhere = TransportEndpoint("tcp", "127.0.0.1", free_port())
    race = Race((nowhere,), 0, 5.0)
    with pytest.raises(AllUnreachable, match="Connection refused"):
        await race.next()
    race = Race((nowhere, nowhere), 0, 5.0)
    race.give_up()
    with pytest.raises(AllUnreachable, match="network changed"):
        await race.next()
    await race.close()
    with pytest.raises(AllUnreachable):
        await race.next()


def test_a_gateway_by_name_fingerprint_or_its_beginning() -> None:
    store = MemoryStore()
    first, second = known(1, "Phone"), known(2, "tablet")
    store.save_gateway(first)
    store.save_gateway(second)
    assert find_gateway(store, None) == second
    assert find_gateway(store, "phone") == first
    assert find_gateway(store, first.fingerprint.upper()) == first
    assert find_gateway(store, first.fingerprint[:5]) == first
    for word in ("x", first.fingerprint[:2], ""):
        with pytest.raises(ClientError) as caught:
            find_gateway(store, word)
        assert caught.value.name == "gateway_unknown"
    store.save_gateway(known(3, "PHONE"))
    with pytest.raises(ClientError) as caught:
        find_gateway(store, "phone")
    assert caught.value.name == "gateway_ambiguous"


def test_a_uri_plan_adds_what_is_known() -> None:
    store = MemoryStore()
    old = TransportEndpoint("tcp", "10.0.0.9", 47800)
    store.save_gateway(replace(known(1), endpoints=(old,), resume=resume.encode(LEASE)))
    uri = PairingUri(
        bytes((1,)) * 32,
        bytes(16),
        "phone",
        (Endpoint.of("any", "127.0.0.1", 47800), Endpoint.of("udp", "10.0.0.1", 1)),
    )
    plan = make_plan(store, " " + uri.encode().lower() + "\n", "auto")
    here_udp, there_udp = replace(HERE, transport="udp"), TransportEndpoint("udp", "10.0.0.1", 1)
    assert plan.endpoints == (HERE, here_udp, there_udp, old)
    assert in_order(plan.endpoints) == (HERE, old, here_udp, there_udp)
    assert in_order(plan.endpoints, "udp") == (here_udp, there_udp)
    assert plan.secret == bytes(16) and plan.resume is None
    plan = make_plan(store, "phone", "tcp")
    assert plan.secret is None and plan.resume is not None
    udp_only = replace(uri, public_key=bytes(32), endpoints=(Endpoint.of("udp", "10.0.0.1", 1),))
    with pytest.raises(ClientError) as caught:
        make_plan(store, udp_only.encode(), "tcp")
    assert caught.value.name == "transport_unavailable"


@pytest.mark.parametrize(
    ("text", "endpoints"),
    [
        ("10.0.0.1", ["tcp:10.0.0.1:47800", "udp:10.0.0.1:47800"]),
        ("10.0.0.1:99", ["tcp:10.0.0.1:99", "udp:10.0.0.1:99"]),
        ("[fe80::1%wlan0]:99", ["tcp:[fe80::1%wlan0]:99", "udp:[fe80::1%wlan0]:99"]),
        ("usb", []),
        ("usb:R58M", ["usb:R58M:47800"]),
        ("phone", None),
        ("phone:99", None),
        ("10.0.0.1:", None),
        ("10.0.0.1:0", None),
        ("aa:bb:cc:dd:ee:ff:00:11", None),
        ("[", None),
    ],
)
def test_addresses_that_a_user_may_type(text: str, endpoints: list[str] | None) -> None:
    found = parse_address(text)
    assert (None if found is None else [str(e) for e in found]) == endpoints


def test_a_gateway_met_at_an_address_before_keeps_its_key() -> None:
    store = MemoryStore()
    store.save_gateway(replace(known(1), endpoints=(HERE,)))
    plan = make_plan(store, "127.0.0.1:47800", "auto")
    assert (plan.public_key, plan.by_address) == (known(1).public_key, True)
    assert make_plan(store, "127.0.0.2:47800", "auto").public_key is None


def test_what_is_kept_is_bounded() -> None:
    store = MemoryStore()
    for number in range(MAX_KNOWN_GATEWAYS + 10):
        gateway = replace(known(1), public_key=number.to_bytes(32, "big"), last_seen=number)
        store.save_gateway(gateway)
    assert len(store.gateways()) == MAX_KNOWN_GATEWAYS
    assert store.gateways()[-1].last_seen == 10
    gateway = known(1)
    for port in range(1, 50):
        gateway = gateway.seen_at(TransportEndpoint("tcp", "10.0.0.1", port), float(port))
    assert len(gateway.endpoints) == MAX_KNOWN_ENDPOINTS
    assert gateway.endpoints[0].port == 49


def test_the_suite_by_setting_or_by_measurement() -> None:
    assert suite.choose("aesgcm") is Suite.AESGCM_SHA256
    assert suite.choose("chacha") is Suite.CHACHAPOLY_BLAKE2S
    assert suite.choose() in Suite


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("phone.lan:99999", "99999 is not one of 1 to 65535"),
        ("tcp:47800", "names its transport"),
        (":99999", "names no address"),
        ("10.1.0.999", "999 is more than 255"),
        ("[::1", "no closing bracket"),
        ("fd01::1:47800", "no brackets"),
        ("usb:a serial", "no serial number"),
        ("udp:10.0.0.1:5", "names its transport"),
    ],
)
def test_a_target_that_was_meant_as_an_address_is_told_what_is_wrong(
    target: str, says: str
) -> None:
    with pytest.raises(ClientError, match=re.escape(says)) as caught:
        make_plan(MemoryStore(), target, "auto")
    assert caught.value.name == "bad_address" and caught.value.hint


def test_a_hosts_name_is_a_place_and_stays_a_name() -> None:
    store = MemoryStore()
    plan = make_plan(store, "Phone.LAN", "auto")
    named = [TransportEndpoint(transport, "phone.lan", 47800) for transport in ("tcp", "udp")]
    assert (list(plan.endpoints), plan.by_address, plan.public_key) == (named, True, None)
    assert all(endpoint.named for endpoint in named) and not HERE.named
    told = tuple(TransportEndpoint("tcp", f"10.0.0.{n}", 1) for n in range(MAX_KNOWN_ENDPOINTS))
    kept = known_ways(told, (HERE, *named))
    assert len(kept) == MAX_KNOWN_ENDPOINTS and kept[:2] == (*named,) and kept[2] == told[0]
    store.save_gateway(replace(known(1), endpoints=kept))
    assert make_plan(store, "phone.lan:47800", "auto").public_key == known(1).public_key


def test_a_gateway_that_is_called_like_a_host_is_the_one_that_is_meant() -> None:
    store = MemoryStore()
    store.save_gateway(replace(known(1), name="phone.lan"))
    assert make_plan(store, "Phone.lan", "auto").public_key == known(1).public_key
    with pytest.raises(ClientError) as caught:
        make_plan(store, "fone", "auto")
    assert caught.value.name == "gateway_unknown", "a word alone is not looked up"


def test_a_gateway_that_is_called_like_that_is_found_all_the_same() -> None:
    store = MemoryStore()
    store.save_gateway(KnownGateway(bytes(32), "10.1.0.999", (), 1.0))
    assert find_gateway(store, "10.1.0.999").name == "10.1.0.999"
