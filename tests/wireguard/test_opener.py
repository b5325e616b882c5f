"""Runs of datagrams are dealt with as one by one, whatever lies between them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealing.records import Buffer
from sealing.slots import MAX_ROW
from tests.gro import joined
from tests.wireguard.pipe import Pair, Spot, packet
from wireguard.constants import DATA

ELSEWHERE = Spot("10.0.0.77", 7777)
SIZES = st.sampled_from([0, 12, 300, 1000, 1000, 1000, 1000])
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("packet"), SIZES),
        st.tuples(st.sampled_from(["spoofed", "long", "no ip", "padded"]), SIZES),
        st.tuples(st.sampled_from(["six", "six", "spoofed six", "long six"]), SIZES),
        st.tuples(
            st.sampled_from(["flip", "repeat", "swap", "lose", "junk", "keepalive", "rekey"]),
            st.just(0),
        ),
    ),
    max_size=40,
)


def inner(what: str, size: int, number: int) -> bytes:
    body = bytes((number,)) * size
    match what:
        case "six":
            return packet(2, body[20:], 6)
        case "spoofed six":
            return packet(3, body[20:], 6)
        case "long six":
            whole = bytearray(packet(2, body[20:], 6))
            whole[4:6] = (len(whole) - 40 + 17).to_bytes(2, "big")
            return bytes(whole)
        case "spoofed":
            return packet(3, body)
        case "long":
            whole = bytearray(packet(2, body))
            whole[2:4] = (len(whole) + 17).to_bytes(2, "big")
            return bytes(whole)
        case "no ip":
            return b"\x15" + packet(2, body)[1:]
        case "padded":
            whole = bytearray(packet(2, body))
            whole[2:4] = max(20, size // 2).to_bytes(2, "big")
            return bytes(whole)
    return packet(2, body)


def sealed(pair: Pair, operations: list[tuple[str, int]]) -> list[bytes]:
    """What a client sends that does so much, and what becomes of it on the path."""
    found: list[bytes] = []
    pair.path = lambda sender, datagram: []
    for number, (what, size) in enumerate(operations):
        pair.log.clear()
        match what:
            case "flip" if found:
                at = len(found[-1]) - 1
                found.append(found[-1][:at] + bytes([found[-1][at] ^ 1]))
            case "repeat" if found:
                found.append(found[-1])
            case "swap" if len(found) > 1:
                found[-2:] = found[-1], found[-2]
            case "lose" if found:
                found.pop()
            case "junk":
                found.append(bytes((DATA, 0, 0, 0, 1, 2, 3, 4)) + bytes(1044))
            case "keepalive":
                pair.client.peer._keepalive(pair.now)
                pair.transmit(pair.client)
            case "rekey":
                # As after a hundred and twenty seconds: the answer comes at once.
                pair.now += 6.0
                pair.path = lambda sender, datagram: [0.01]
                pair.client.peer.begin(pair.now)
                pair.transmit(pair.client)
                pair.run(0.1)
                pair.path = lambda sender, datagram: []
                pair.log.clear()
            case "flip" | "repeat" | "swap" | "lose":
                pass
            case _:
                assert pair.send(pair.client, inner(what, size, number))
        found += [data for who, data in pair.log if who == "client" and data[0] == DATA]
    return found


@settings(max_examples=150, deadline=None)
@given(OPERATIONS, st.booleans(), st.booleans())
def test_joined_or_one_by_one_it_is_the_same(
    operations: list[tuple[str, int]], rows: bool, elsewhere: bool
) -> None:
    told = []
    for together in (False, True):
        pair = Pair()
        pair.connect()
        peer = pair.gateway.peer
        if rows:
            peer.on_row = lambda buf, start, size, stride, count, pair=pair: (
                pair.gateway.packets.extend(
                    bytes(buf[at : at + size])
                    for at in range(start, start + count * stride, stride)
                )
            )
        datagrams = sealed(pair, operations)
        where = ELSEWHERE if elsewhere else pair.client.spot
        heard = set()
        pieces = joined(datagrams) if together else [(data, len(data)) for data in datagrams]
        for data, segment in pieces:
            heard |= pair.gateway.device.receive(memoryview(data), segment, where, pair.now)
        current = peer.pairs.current
        assert current is not None
        told.append(
            (
                pair.gateway.packets,
                pair.gateway.device.counters,
                pair.gateway.news,
                (current.window.newest, current.window._ring, peer.received_bytes),
                (peer.endpoint, peer.heard_at, len(heard)),
            )
        )
    assert told[0] == told[1]
    good = sum(what in {"packet", "six", "padded"} for what, _ in operations)
    assert len(told[0][0]) <= good


@pytest.mark.parametrize("what", ["spoofed", "long", "spoofed six", "long six", "no ip"])
def test_what_may_not_pass_does_not_in_the_middle_of_a_row(what: str) -> None:
    pair = Pair()
    pair.connect()
    good = "six" if "six" in what else "packet"
    operations = [(good, 1000)] * 3 + [(what, 1000)] + [(good, 1000)] * 2
    datagrams = sealed(pair, operations)
    assert len({len(data) for data in datagrams}) == 1
    taken: list[int] = []
    pair.gateway.peer.on_row = lambda buf, start, size, stride, count: taken.append(count)
    run = b"".join(datagrams)
    pair.gateway.device.receive(memoryview(run), len(datagrams[0]), pair.client.spot, pair.now)
    assert taken == [3, 2]
    assert pair.gateway.packets == []


def test_what_comes_in_a_row_is_handed_over_together() -> None:
    pair = Pair()
    pair.connect()
    rows: list[tuple[int, int]] = []
    pair.gateway.peer.on_row = lambda buf, start, size, stride, count: rows.append((size, count))
    datagrams = sealed(pair, [("packet", 1000)] * (MAX_ROW + 10) + [("six", 1000)] * 3)
    run = b"".join(datagrams)
    pair.gateway.device.receive(memoryview(run), len(datagrams[0]), pair.client.spot, pair.now)
    assert rows == [(1020, MAX_ROW), (1020, 10), (1020, 3)]
    assert pair.gateway.packets == []


def test_a_forged_datagram_in_a_row_costs_one_look() -> None:
    pair = Pair()
    pair.connect()
    datagrams = sealed(pair, [("packet", 300)] * 3 + [("flip", 0)] + [("packet", 300)] * 2)
    current = pair.gateway.peer.pairs.current
    assert current is not None
    looks: list[int] = []
    decrypt = current.decrypt_into

    def counted(nonce: bytes, data: Buffer, ad: Buffer | None, out: memoryview) -> None:
        looks.append(int.from_bytes(nonce[4:], "little"))
        decrypt(nonce, data, ad, out)

    current.decrypt_into = counted
    run = b"".join(datagrams)
    pair.gateway.device.receive(memoryview(run), len(datagrams[0]), pair.client.spot, pair.now)
    assert len(pair.gateway.packets) == 5
    assert len(looks) == 5
