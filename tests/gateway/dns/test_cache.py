"""The cache by itself: time, bounds, and the bytes it gives out."""

from __future__ import annotations

import struct

from gateway.dns.cache import ENTRY_OVERHEAD, MAX_NEGATIVE_TTL, MAX_TTL, Cache, Key, cache_key
from netstack.dns import parse_answer, parse_query
from tests.netstack import wires


def put(cache: Cache, asked: bytes, answer: bytes, now: float = 0.0) -> bool:
    return cache.store(key_of(asked), answer, parse_answer(answer), now)


def key_of(asked: bytes, client: str = "peer") -> Key:
    return cache_key(client, asked, parse_query(asked))


def get(cache: Cache, asked: bytes, now: float) -> bytes | None:
    query = parse_query(asked)
    found = cache.fetch(key_of(asked), query, asked[12 : query.name_end], now)
    return None if found is None else bytes(found)


def address(asked: bytes, ttl: int) -> bytes:
    return wires.address_reply(asked, ttl=ttl)[0]


def test_ttl_counts_down_to_the_end() -> None:
    cache = Cache()
    asked = wires.question("a.test")
    assert put(cache, asked, address(asked, 100), now=1000.0)
    assert get(cache, asked, 1000.0) == address(asked, 100)
    assert get(cache, asked, 1040.5) == address(asked, 60)
    assert get(cache, asked, 1099.9) == address(asked, 1)
    assert get(cache, asked, 1100.0) is None
    assert len(cache) == 0
    assert cache.size == 0


def test_ttls_are_capped() -> None:
    cache = Cache()
    long, no = wires.question("long.test"), wires.question("no.test")
    put(cache, long, address(long, 10 * MAX_TTL))
    put(cache, no, wires.reply(no, rcode=3, authority=[wires.soa(10**6, 10**6)]))
    assert get(cache, no, MAX_NEGATIVE_TTL) is None
    assert get(cache, long, MAX_TTL - 1.0) is not None
    assert get(cache, long, MAX_TTL) is None


def test_what_may_not_be_kept() -> None:
    cache = Cache()
    asked = wires.question("a.test")
    assert not put(cache, asked, address(asked, 0))
    assert not put(cache, asked, wires.reply(asked, rcode=2))
    # EDNS before another record: what follows may be pointed at, so it cannot be cut out.
    middle = bytearray(wires.reply(asked, edns=wires.opt() + wires.record(wires.A, bytes(4))))
    middle[11] = 2
    assert not put(cache, asked, bytes(middle))


def test_edns_is_given_to_those_who_have_it() -> None:
    cache = Cache()
    asked = wires.question("a.test", edns=wires.opt())
    answers = [wires.record(wires.A, bytes(4), 50)]
    put(cache, asked, wires.reply(asked, answers, edns=wires.opt(4096)))
    plain = wires.question("A.TEST", id_=7)
    assert get(cache, plain, 0.0) == wires.reply(plain, answers)
    assert get(cache, asked, 0.0) == wires.reply(asked, answers, edns=wires.opt(1232))


def test_flags_of_the_asker_and_no_authority() -> None:
    cache = Cache()
    asked = wires.question("a.test")
    put(cache, asked, wires.reply(asked, [wires.record(wires.A, bytes(4))], flags=0x8580))
    assert (get(cache, asked, 0.0) or b"")[2:4] == struct.pack("!H", 0x8180)


def test_bounds_push_out_the_least_used() -> None:
    cache = Cache(max_entries=3)
    asked = [wires.question(f"n{n}.test") for n in range(4)]
    for question in asked[:3]:
        put(cache, question, address(question, 100))
    get(cache, asked[0], 1.0)
    put(cache, asked[3], address(asked[3], 100))
    assert [get(cache, q, 1.0) is not None for q in asked] == [True, False, True, True]
    size = len(address(asked[0], 1)) + ENTRY_OVERHEAD
    small = Cache(max_bytes=2 * size)
    for question in asked:
        put(small, question, address(question, 100))
    assert (len(small), small.size) == (2, 2 * size)
    assert not put(Cache(max_bytes=size - 1), asked[0], address(asked[0], 100))


def test_stale_answers_stay_for_their_time() -> None:
    cache = Cache(stale=60)
    asked = wires.question("a.test")
    put(cache, asked, address(asked, 10))
    query = parse_query(asked)
    assert get(cache, asked, 11.0) is None
    stale = cache.fetch_stale(key_of(asked), query, asked[12 : query.name_end], 11.0)
    assert bytes(stale or b"") == address(asked, 30)
    assert cache.fetch_stale(key_of(asked), query, b"", 70.0) is None


def test_who_holds_most_gives_way() -> None:
    def keep(cache: Cache, client: str, number: int) -> None:
        asked = wires.question(f"n{number}.test")
        answer = address(asked, 100)
        assert cache.store(key_of(asked, client), answer, parse_answer(answer), 0.0)

    def kept(cache: Cache, client: str, number: int) -> bool:
        asked = wires.question(f"n{number}.test")
        query = parse_query(asked)
        return (
            cache.fetch(key_of(asked, client), query, asked[12 : query.name_end], 1.0) is not None
        )

    cache = Cache(max_entries=20)
    for number in range(3):
        keep(cache, "modest", number)
    for number in range(100):
        keep(cache, "greedy", number)
    assert len(cache) == 20
    assert all(kept(cache, "modest", n) for n in range(3))
    assert [kept(cache, "greedy", n) for n in range(100)] == [False] * 83 + [True] * 17
