"""A client and a gateway in one process: what they agree on, and what nobody can make them do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wireguard.device as device_module
from sealing.errors import LocalMisuse
from sealing.identity import generate_identity, public_key
from tests.wireguard.oracles import oracle_handshake
from tests.wireguard.pipe import WALL, Pair, Spot, packet, state, v4, v6
from wireguard.constants import (
    ALL_HANDSHAKE_BURST,
    COOKIE_REPLY,
    DATA,
    HANDSHAKE_BURST,
    INITIATION,
    KEEPALIVE_TIMEOUT,
    KEYS_FORGOTTEN_AFTER,
    MAX_ATTEMPTS,
    MAX_JITTER,
    REJECT_AFTER_MESSAGES,
    REJECT_AFTER_TIME,
    REKEY_AFTER_MESSAGES,
    REKEY_AFTER_TIME,
    REKEY_TIMEOUT,
    RESPONSE,
)
from wireguard.device import MAX_MESSAGES
from wireguard.macs import add_macs
from wireguard.noise import Identity, PeerKeys, ephemeral, initiate
from wireguard.timestamps import tai64n

ELSEWHERE = Spot("192.0.2.66", 666)


def initiation(pair: Pair, stamp: float, private: bytes | None = None, index: int = 77) -> bytes:
    """An initiation of the client's, or of a stranger's who knows the gateway's key."""
    identity = pair.client.device.identity if private is None else Identity(private)
    keys = PeerKeys(identity, pair.gateway.device.identity.public, pair.client.peer.keys.psk)
    message, _ = initiate(identity, keys, index, tai64n(WALL + stamp), ephemeral())
    return add_macs(message.encode(), keys.mac1_key, None)


# --- sessions --------------------------------------------------------------------------------


@pytest.mark.parametrize("psk", [bytes(32), bytes(range(32))])
def test_a_first_packet_makes_a_session_and_both_speak(psk: bytes) -> None:
    pair = Pair(psk)
    pair.connect()
    assert pair.send(pair.gateway, packet(1, b"x" * 1380), packet(1, b"six", 6))
    pair.run(0.1)
    assert pair.client.packets == [packet(1, b"x" * 1380), packet(1, b"six", 6)]
    assert pair.client.news == pair.gateway.news == ["confirmed"]
    assert pair.gateway.peer.endpoint == pair.client.spot
    assert [len(d) for d in pair.sent("client", INITIATION)] == [148]
    assert [len(d) for d in pair.sent("gateway", RESPONSE)] == [92]


def test_another_preshared_key_makes_no_session() -> None:
    pair = Pair()
    pair.gateway.peer.keys.psk = bytes(range(32))
    pair.send(pair.client, packet(2))
    pair.run(30.0)
    assert pair.client.news == pair.gateway.news == []
    assert pair.client.reasons["handshake_failed"] > 3
    assert pair.gateway.peer.unconfirmed > 3


def test_the_gateway_may_begin_too() -> None:
    pair = Pair()
    pair.gateway.peer.endpoint = pair.client.spot
    assert not pair.send(pair.gateway, packet(1))
    pair.run(0.1)
    assert pair.client.news == pair.gateway.news == ["confirmed"]
    assert pair.send(pair.client, packet(2))
    pair.run(0.1)
    assert pair.gateway.packets == [packet(2)]


def test_nobody_knows_where_the_other_is_so_nothing_is_begun() -> None:
    pair = Pair()
    assert not pair.send(pair.gateway, packet(1))
    assert pair.log == []
    assert pair.gateway.device.get_timer() is None


def test_both_begin_at_once() -> None:
    pair = Pair()
    pair.gateway.peer.endpoint = pair.client.spot
    pair.send(pair.client, packet(2))
    pair.send(pair.gateway, packet(1))
    pair.run(1.0)
    assert pair.send(pair.client, packet(2, b"up"))
    assert pair.send(pair.gateway, packet(1, b"down"))
    pair.run(1.0)
    assert pair.gateway.packets == [packet(2, b"up")]
    assert pair.client.packets == [packet(1, b"down")]
    assert len(pair.log) < 12


def test_the_one_who_answers_is_silent_until_he_has_heard_the_other_under_the_new_keys() -> None:
    pair = Pair()
    pair.path = lambda sender, datagram: [] if datagram[0] == DATA else [0.01]
    pair.send(pair.client, packet(2))
    pair.run(1.0)
    assert pair.client.peer.pairs.current is not None
    assert pair.gateway.peer.pairs.next is not None
    assert not pair.send(pair.gateway, packet(1))
    assert pair.gateway.peer.writer.room() == 0
    assert pair.gateway.news == []
    assert pair.gateway.peer.endpoint is None


def test_packets_are_padded_but_never_beyond_the_mtu() -> None:
    pair = Pair()
    pair.connect()
    for size, padded in ((20, 32), (32, 32), (33, 48), (1408, 1408), (1409, 1420), (1420, 1420)):
        pair.log.clear()
        pair.send(pair.client, packet(2, bytes(size - 20)))
        pair.run(0.1)
        assert [len(d) - 32 for d in pair.sent("client", DATA)] == [padded]
        assert pair.gateway.packets.pop() == packet(2, bytes(size - 20))


def test_a_packet_beyond_the_mtu_is_dropped_and_counted() -> None:
    pair = Pair()
    pair.connect()
    pair.log.clear()
    pair.send(pair.client, packet(2, bytes(1401)), packet(2, b"after"), packet(2, bytes(9000)))
    pair.run(0.1)
    assert pair.gateway.packets == [packet(2, b"after")]
    assert pair.client.device.counters["writer__packet_too_long__dropped"] == 2


def test_queue_bounds() -> None:
    pair = Pair()
    pair.connect()
    writer = pair.client.peer.writer
    while writer.room() > 0:
        writer.reserve_packet(1400)
    for _ in range(400):
        writer.reserve_packet(1400)
    writer.flush()
    assert pair.client.device.counters["writer__queue_full__dropped"] > 0
    assert len(writer._runs.buffer) <= 256 * 1024


# --- timers ----------------------------------------------------------------------------------


def test_who_has_only_received_says_after_ten_seconds_that_he_is_there() -> None:
    pair = Pair()
    pair.connect()
    pair.log.clear()
    pair.run(KEEPALIVE_TIMEOUT + 1.0)
    (keepalive,) = pair.sent("gateway", DATA)
    assert len(keepalive) == 32
    pair.run(60.0)
    assert [len(d) for _, d in pair.log] == [32]


def test_data_that_came_while_a_keepalive_was_due_is_answered_by_another() -> None:
    pair = Pair()
    pair.connect()
    pair.log.clear()
    pair.run(5.0)
    pair.send(pair.client, packet(2))
    pair.run(30.0)
    assert len(pair.sent("gateway", DATA)) == 2
    assert pair.client.device.counters["initiation__sent"] == 1


def test_silence_under_traffic_makes_a_new_handshake() -> None:
    pair = Pair()
    pair.connect()
    pair.send(pair.gateway, packet(1))
    pair.run(0.1)
    pair.path = lambda sender, datagram: []
    pair.log.clear()
    pair.send(pair.client, packet(2))
    wait = KEEPALIVE_TIMEOUT + REKEY_TIMEOUT
    pair.run(wait - 0.01)
    assert pair.sent("client", INITIATION) == []
    pair.run(MAX_JITTER + 0.02)
    assert len(pair.sent("client", INITIATION)) == 1


def test_an_initiation_is_repeated_for_ninety_seconds_and_then_given_up() -> None:
    pair = Pair()
    pair.path = lambda sender, datagram: []
    pair.send(pair.client, packet(2))
    pair.run(89.0)
    assert pair.client.news == []
    pair.run(20.0)
    assert pair.client.news == ["silent"]
    first = len(pair.sent("client", INITIATION))
    assert first == MAX_ATTEMPTS + 1
    assert len(set(pair.sent("client", INITIATION))) == first
    pair.run(600.0)
    assert len(pair.sent("client", INITIATION)) == first
    assert pair.client.device.pending == {}
    pair.send(pair.client, packet(2))
    assert len(pair.sent("client", INITIATION)) == first + 1


def test_the_initiator_begins_the_next_session_when_he_sends_after_two_minutes() -> None:
    pair = Pair()
    pair.connect()
    pair.run(REKEY_AFTER_TIME - 1.0)
    pair.send(pair.client, packet(2))
    pair.run(0.1)
    assert pair.client.device.counters["initiation__sent"] == 1
    pair.run(2.0)
    assert pair.send(pair.gateway, packet(1))
    pair.run(1.0)
    assert pair.gateway.device.counters.get("initiation__sent") is None
    old = pair.client.peer.pairs.current
    pair.send(pair.client, packet(2, b"late"))
    pair.run(0.1)
    assert pair.gateway.packets[-1] == packet(2, b"late")
    assert pair.client.peer.pairs.previous is old
    assert pair.client.peer.pairs.current is not old


def test_the_initiator_begins_the_next_session_when_he_receives_shortly_before_the_end() -> None:
    pair = Pair()
    pair.connect()
    pair.run(164.0)
    assert pair.client.device.counters["initiation__sent"] == 1
    pair.run(2.0)
    pair.send(pair.gateway, packet(1))
    pair.run(0.1)
    assert pair.client.device.counters["initiation__sent"] == 2
    assert pair.client.news == ["confirmed"] * 2


def test_nothing_is_sent_or_taken_under_old_keys() -> None:
    pair = Pair()
    pair.connect()
    assert pair.gateway.peer.take(pair.now) == []
    kept = pair.client.peer.pairs.current
    assert kept is not None
    pair.run(REJECT_AFTER_TIME)
    assert pair.client.peer.writer.pair is None
    assert pair.gateway.peer.writer.room() == 0
    pair.client.peer.writer.pair = kept
    pair.client.peer.writer.reserve_packet(40)
    for run, _ in pair.client.peer.take(pair.now):
        pair.deliver(pair.gateway, bytes(run))
    assert pair.gateway.device.counters["data__expired__dropped"] == 1
    # A packet wakes it up again, from either end.
    assert not pair.send(pair.gateway, packet(1))
    pair.run(0.1)
    assert pair.send(pair.gateway, packet(1, b"awake"))
    pair.run(0.1)
    assert pair.client.packets[-1] == packet(1, b"awake")


def test_keys_are_forgotten_after_nine_minutes() -> None:
    pair = Pair()
    pair.connect()
    pair.run(KEYS_FORGOTTEN_AFTER + 30.0)
    for side in pair.sides:
        assert side.peer.pairs.all() == []
        assert not side.device.pairs and not side.device.pending
        assert side.device.get_timer() is None


def test_counters_near_their_end() -> None:
    pair = Pair()
    pair.connect()
    current = pair.gateway.peer.pairs.current
    assert current is not None
    current.sealing.counter = REKEY_AFTER_MESSAGES + 1
    pair.send(pair.gateway, packet(1))
    pair.run(0.1)
    assert pair.gateway.device.counters["initiation__sent"] == 1
    current = pair.gateway.peer.pairs.current
    assert current is not None and current.sealing.counter < 10
    current.sealing.counter = REJECT_AFTER_MESSAGES
    pair.run(10.0)
    assert not pair.send(pair.gateway, packet(1))
    pair.run(0.1)
    assert pair.send(pair.gateway, packet(1))


# --- what is not authenticated changes nothing -------------------------------------------------


def test_a_replayed_initiation_changes_nothing_and_gets_no_answer() -> None:
    pair = Pair()
    pair.connect()
    (recorded,) = pair.sent("client", INITIATION)
    for later in (0.0, 100.0, 170.0):
        pair.run(later)
        before, sent = state(pair.gateway), len(pair.log)
        pair.deliver(pair.gateway, recorded, ELSEWHERE)
        assert state(pair.gateway) == before
        assert len(pair.log) == sent
    assert pair.gateway.reasons == {"initiation_replayed": 3}


def test_an_initiation_of_an_earlier_time_changes_nothing() -> None:
    pair = Pair()
    pair.run(100.0)
    recorded = initiation(pair, 99.0)
    pair.connect()
    before = state(pair.gateway)
    pair.deliver(pair.gateway, recorded, ELSEWHERE)
    assert state(pair.gateway) == before
    assert pair.gateway.reasons == {"initiation_outdated": 1}


def test_an_initiation_that_was_kept_back_is_answered_and_changes_nothing_but_next() -> None:
    """Recorded and not delivered, so that its timestamp is good once."""
    pair = Pair()
    pair.connect()
    kept = initiation(pair, 50.0)
    current, endpoint = pair.gateway.peer.pairs.current, pair.gateway.peer.endpoint
    news = list(pair.gateway.news)
    pair.deliver(pair.gateway, kept, ELSEWHERE)
    assert pair.gateway.peer.pairs.current is current
    assert pair.gateway.peer.endpoint == endpoint
    assert pair.gateway.news == news
    assert pair.send(pair.gateway, packet(1, b"goes on"))
    pair.run(0.1)
    assert pair.client.packets == [packet(1, b"goes on")]
    # What could not be read there does not keep the client's own next handshake out.
    pair.run(121.0)
    pair.send(pair.client, packet(2))
    pair.run(0.1)
    assert pair.gateway.news == [*news, "confirmed"]


def test_initiations_that_come_too_fast_are_dropped() -> None:
    pair = Pair()
    pair.deliver(pair.gateway, initiation(pair, 10.0))
    pair.deliver(pair.gateway, initiation(pair, 11.0))
    assert pair.gateway.reasons == {"initiation_too_soon": 1}
    pair.now += 0.03
    pair.deliver(pair.gateway, initiation(pair, 12.0))
    assert len(pair.sent("gateway", RESPONSE)) == 2
    assert len(pair.gateway.device.pairs) == 1


def test_replayed_data_changes_nothing() -> None:
    pair = Pair()
    pair.connect()
    for n in range(20):
        pair.send(pair.client, packet(2, bytes((n,))))
    pair.run(0.1)
    recorded = pair.sent("client", DATA)
    before = state(pair.gateway)
    for datagram in recorded:
        pair.deliver(pair.gateway, datagram, ELSEWHERE)
    assert state(pair.gateway) == before
    assert pair.gateway.device.counters["data__replayed__dropped"] == len(recorded)


def test_bits_flipped_at_every_offset_change_nothing() -> None:
    pair = Pair()
    pair.connect()
    pair.log.clear()
    pair.path = lambda sender, datagram: []
    pair.send(pair.client, packet(2, b"whole"))
    (data,) = pair.sent("client", DATA)
    first = initiation(pair, 60.0)
    pair.gateway.peer.begin(pair.now)
    pair.transmit(pair.gateway)
    (theirs,) = pair.sent("gateway", INITIATION)
    pair.path = lambda sender, datagram: [0.0] if datagram[0] == INITIATION else []
    pair.deliver(pair.client, theirs)
    (answer,) = pair.sent("client", RESPONSE)
    for wire in (data, first, answer):
        for at in range(len(wire)):
            for bit in (0, 7):
                damaged = wire[:at] + bytes((wire[at] ^ 1 << bit,)) + wire[at + 1 :]
                # mac2 says nothing while there is no load.
                if wire is not data and at >= len(wire) - 16:
                    continue
                before = state(pair.gateway)
                pair.now += 0.1
                pair.deliver(pair.gateway, damaged, ELSEWHERE)
                assert state(pair.gateway) == before, (len(wire), at)
    pair.deliver(pair.gateway, data)
    assert pair.gateway.packets == [packet(2, b"whole")]
    pair.deliver(pair.gateway, answer)
    assert pair.gateway.news[-1] == "confirmed"


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_junk_changes_nothing(data: st.DataObject) -> None:
    pair = _connected()
    kind = data.draw(st.sampled_from([0, 1, 2, 3, 4, 5, 255]))
    size = data.draw(st.sampled_from([0, 4, 16, 31, 32, 64, 92, 148, 149, 1000]))
    index = data.draw(st.sampled_from([0, *pair.gateway.device.pairs]))
    head = kind.to_bytes(4, "little") + index.to_bytes(4, "little")
    junk = (head + data.draw(st.binary(max_size=64)) + bytes(size))[:size]
    run = data.draw(st.integers(1, 3))
    before = state(pair.gateway)
    segment = data.draw(st.integers(1, max(1, 2 * size)))
    pair.gateway.device.receive(memoryview(junk * run), segment, ELSEWHERE, pair.now)
    pair.gateway.device.take_messages()
    assert state(pair.gateway) == before


_CONNECTED: list[Pair] = []


def _connected() -> Pair:
    if not _CONNECTED:
        _CONNECTED.append(Pair())
        _CONNECTED[0].connect()
    return _CONNECTED[0]


def test_a_response_nobody_asked_for_and_one_that_comes_twice() -> None:
    pair = Pair()
    pair.connect()
    (answer,) = pair.sent("gateway", RESPONSE)
    before = state(pair.client)
    pair.deliver(pair.client, answer)
    assert state(pair.client) == before
    assert pair.client.reasons == {"response_unasked": 1}


# --- where a peer is, and whose packets pass ---------------------------------------------------


def test_the_endpoint_follows_the_newest_authenticated_datagram() -> None:
    pair = Pair()
    pair.connect()
    pair.log.clear()
    pair.path = lambda sender, datagram: []
    for n in range(3):
        pair.send(pair.client, packet(2, bytes((n,))))
    early, newest, forged = pair.sent("client", DATA)
    pair.deliver(pair.gateway, newest, ELSEWHERE)
    assert pair.gateway.peer.endpoint == ELSEWHERE
    assert pair.gateway.news[-1] == "moved"
    # One that was overtaken on its old way does not move it back, and a forged one nowhere.
    pair.deliver(pair.gateway, early)
    pair.deliver(pair.gateway, forged[:-1] + bytes((forged[-1] ^ 1,)), Spot("1.2.3.4", 5))
    assert pair.gateway.peer.endpoint == ELSEWHERE
    assert len(pair.gateway.packets) == 2


@pytest.mark.parametrize(
    ("inner", "counter"),
    [
        (packet(3), "data__inner_source__dropped"),
        (packet(3, version=6), "data__inner_source__dropped"),
        (b"\x45\x00\x00\x15" + packet(2)[4:], "data__inner_length__dropped"),
        (b"\x45\x00\x00\x13" + packet(2)[4:], "data__inner_length__dropped"),
        (b"\x75" + packet(2)[1:], "data__not_ip__dropped"),
        (b"\x60" + packet(2)[1:], "data__not_ip__dropped"),
        (b"\x45", "data__not_ip__dropped"),
    ],
)
def test_only_whole_packets_of_its_own_address_pass(inner: bytes, counter: str) -> None:
    pair = Pair()
    pair.connect()
    pair.client.peer.writer.mtu = len(inner)  # no padding
    pair.send(pair.client, inner)
    pair.run(0.1)
    assert pair.gateway.packets == []
    assert pair.gateway.device.counters[counter] == 1


def test_a_run_may_hold_many_datagrams_of_several_peers() -> None:
    pair = Pair()
    pair.connect()
    pair.log.clear()
    pair.path = lambda sender, datagram: []
    for n in range(5):
        pair.send(pair.client, packet(2, bytes((n,))))
    run = b"".join(pair.sent("client", DATA))
    heard = pair.gateway.device.receive(memoryview(run), 64, pair.client.spot, pair.now)
    assert heard == {pair.gateway.peer}
    assert pair.gateway.packets == [packet(2, bytes((n,))) for n in range(5)]


# --- who may talk ------------------------------------------------------------------------------


def test_an_unknown_key_is_told_to_the_owner_and_gets_no_answer() -> None:
    pair = Pair()
    private = generate_identity()
    pair.deliver(pair.gateway, initiation(pair, 1.0, private), ELSEWHERE)
    assert pair.gateway.strangers == [public_key(private)]
    assert pair.gateway.reasons == {"initiation_unknown_key": 1}
    assert pair.log == []
    assert pair.gateway.device.pairs == {}


def test_the_owner_may_let_an_unknown_key_in_there_and_then() -> None:
    pair = Pair()
    private = generate_identity()
    pair.gateway.welcome = lambda public: pair.gateway.device.add(public, v4(5), v6(5))
    pair.deliver(pair.gateway, initiation(pair, 1.0, private), ELSEWHERE)
    assert len(pair.sent("gateway", RESPONSE)) == 1
    assert len(pair.gateway.device.peers) == 2


def test_a_removed_key_is_silent_at_once() -> None:
    pair = Pair()
    pair.connect()
    pair.gateway.device.remove(pair.gateway.peer)
    assert not pair.gateway.device.pairs and not pair.gateway.device.pending
    pair.log.clear()
    assert pair.send(pair.client, packet(2))
    pair.run(60.0)
    assert pair.gateway.packets == []
    assert pair.sent("gateway", DATA) == pair.sent("gateway", RESPONSE) == []
    assert pair.gateway.strangers != []


def test_a_peer_removed_by_its_own_packet() -> None:
    pair = Pair()
    pair.connect()
    device = pair.gateway.device
    pair.gateway.peer.on_packet = lambda buf, start, end: device.remove(pair.gateway.peer)
    pair.send(pair.client, packet(2), packet(2))
    pair.run(0.1)
    assert device.peers == {}
    assert device.counters["data__unknown_index__dropped"] == 1
    assert pair.gateway.peer.writer.pair is None


def test_misuse_of_peers() -> None:
    pair = Pair()
    device = pair.gateway.device
    with pytest.raises(LocalMisuse, match="peer_known"):
        device.add(pair.client.device.identity.public, v4(3), v6(3))
    with pytest.raises(LocalMisuse, match="peer_known"):
        device.add(device.identity.public, v4(3), v6(3))
    with pytest.raises(LocalMisuse, match="public_key_unusable"):
        device.add(bytes(32), v4(3), v6(3))
    assert len(device.peers) == 1


# --- strangers ---------------------------------------------------------------------------------


def test_scanners_and_other_gateways_keys_get_nothing() -> None:
    pair = Pair()
    for junk in (b"", b"GET / HTTP/1.1\r\n", bytes(148), b"\x01\0\0\0" + bytes(144)):
        pair.deliver(pair.gateway, junk or b"\0", ELSEWHERE)
    other = Pair()
    pair.deliver(pair.gateway, initiation(other, 1.0), ELSEWHERE)
    assert pair.log == []
    assert pair.gateway.reasons == {"datagram_malformed": 3, "handshake_mac1_wrong": 2}


def test_one_address_may_begin_so_many() -> None:
    pair = Pair()
    for n in range(200):
        pair.deliver(pair.gateway, initiation(pair, 1.0 + n, generate_identity()), ELSEWHERE)
    assert len(pair.gateway.strangers) == HANDSHAKE_BURST
    assert pair.gateway.device.counters["handshake__rate__dropped"] == 200 - HANDSHAKE_BURST
    pair.deliver(pair.gateway, initiation(pair, 1.0))
    assert len(pair.sent("gateway", RESPONSE)) == 1


def flood(pair: Pair, count: int) -> None:
    """Initiations with a good mac1 from as many addresses."""
    wire = initiation(pair, 5.0, generate_identity())
    for n in range(count):
        origin = Spot(f"203.0.113.{n % 250}", n)
        pair.gateway.device.receive(memoryview(wire), len(wire), origin, pair.now)
        pair.gateway.device.take_messages()


def test_a_flood_is_asked_for_cookies_and_costs_a_bounded_number_of_handshakes() -> None:
    pair = Pair()
    flood(pair, 2000)
    worked = len(pair.gateway.strangers)
    assert worked <= ALL_HANDSHAKE_BURST / 2 + 1
    assert pair.gateway.device.counters["handshake__under_load__cookie_sent"] == 2000 - worked


def test_whoever_hears_the_cookie_gets_in_during_a_flood() -> None:
    pair = Pair(delay=0.0)
    flood(pair, 2000)
    pair.send(pair.client, packet(2))
    for _ in range(30):
        pair.run(0.5)
        flood(pair, 200)
    assert pair.client.news == ["confirmed"]
    assert pair.client.device.counters["cookie__accepted"] == 1
    assert len(pair.sent("client", INITIATION)) == 2
    (reply,) = pair.sent("gateway", COOKIE_REPLY)
    assert len(reply) == 64


def test_a_cookie_is_good_at_its_own_address_only() -> None:
    pair = Pair(delay=0.0)
    flood(pair, 2000)
    pair.send(pair.client, packet(2))
    pair.run(0.1)
    pair.path = lambda sender, datagram: []
    pair.run(6.0)
    flood(pair, 2000)
    with_mac2 = pair.sent("client", INITIATION)[-1]
    assert with_mac2[-16:] != bytes(16)
    before = state(pair.gateway)
    pair.deliver(pair.gateway, with_mac2, ELSEWHERE)
    pair.deliver(pair.gateway, with_mac2, Spot(pair.client.spot.host, 1))
    assert state(pair.gateway) == before
    pair.deliver(pair.gateway, with_mac2)
    assert len(pair.sent("gateway", RESPONSE)) == 1


def test_an_established_device_speaks_on_during_a_flood() -> None:
    pair = Pair()
    pair.connect()
    for n in range(40):
        flood(pair, 100)
        pair.send(pair.client, packet(2, bytes((n,))))
        pair.run(0.05)
    assert len(pair.gateway.packets) == 40


def test_a_forged_cookie_is_not_taken() -> None:
    pair = Pair()
    pair.path = lambda sender, datagram: []
    pair.send(pair.client, packet(2))
    index = int.from_bytes(pair.sent("client", INITIATION)[0][4:8], "little")
    reply = b"\x03\0\0\0" + index.to_bytes(4, "little") + bytes(56)
    before = state(pair.client)
    pair.deliver(pair.client, reply)
    pair.deliver(pair.client, b"\x03\0\0\0" + bytes(60))
    assert state(pair.client) == before
    assert pair.client.reasons == {"cookie_forged": 1, "cookie_unasked": 1}


def test_answers_that_wait_are_bounded() -> None:
    pair = Pair()
    flood(pair, 500)
    wire = initiation(pair, 5.0, generate_identity())
    for n in range(2 * MAX_MESSAGES):
        origin = Spot("203.0.113.7", n)
        pair.gateway.device.receive(memoryview(wire), len(wire), origin, pair.now)
    assert len(pair.gateway.device.take_messages()) == MAX_MESSAGES
    assert pair.gateway.device.counters["message__queue_full__dropped"] == MAX_MESSAGES


def test_our_cookie_is_read_by_another_implementation_and_its_by_us() -> None:
    pair = Pair()
    private = generate_identity()
    oracle = oracle_handshake(private, pair.gateway.device.identity.public, None)
    flood(pair, 2000)
    asked = oracle.encode_handshake_req()
    pair.gateway.device.receive(memoryview(asked), len(asked), ELSEWHERE, pair.now)
    ((reply, _),) = pair.gateway.device.take_messages()
    oracle.decode_cookie_reply(reply)
    again = oracle.encode_handshake_req()
    strangers = len(pair.gateway.strangers)
    pair.gateway.device.receive(memoryview(again), len(again), ELSEWHERE, pair.now)
    assert pair.gateway.strangers[strangers:] == [public_key(private)]
    # The other way round: it is under load, and we begin.
    server = oracle_handshake(private, None, None)
    pair.gateway.device.add(public_key(private), v4(7), v6(7))
    peer = pair.gateway.device.peers[public_key(private)]
    peer.endpoint = ELSEWHERE
    peer.begin(pair.now)
    ((first, _),) = pair.gateway.device.take_messages()
    server.decode_handshake_req(first)
    challenge = server.encode_cookie_reply(b"somewhere")
    pair.gateway.device.receive(memoryview(challenge), len(challenge), ELSEWHERE, pair.now)
    assert pair.gateway.device.counters["cookie__accepted"] == 1
    pair.now += 6.0
    pair.gateway.device.handle_timer(pair.now)
    messages = pair.gateway.device.take_messages()
    second = next(message for message, _ in messages if message[0] == INITIATION)
    server.decode_handshake_req(second)
    answer = server.encode_handshake_res()
    pair.now += 1.0
    while pair.gateway.device._all.level(pair.now) < ALL_HANDSHAKE_BURST:
        pair.now += 1.0
    pair.gateway.device.receive(memoryview(answer), len(answer), ELSEWHERE, pair.now)
    assert peer.pairs.current is not None


def test_a_cookie_is_used_for_two_minutes() -> None:
    pair = Pair(delay=0.0)
    flood(pair, 2000)
    pair.send(pair.client, packet(2))
    pair.run(6.0)
    assert pair.sent("client", INITIATION)[-1][-16:] != bytes(16)
    pair.run(125.0)
    pair.send(pair.client, packet(2))
    pair.run(0.1)
    assert pair.sent("client", INITIATION)[-1][-16:] == bytes(16)


def test_initiations_are_five_seconds_apart_whatever_asks_for_them() -> None:
    pair = Pair()
    pair.path = lambda sender, datagram: []
    for _ in range(100):
        pair.send(pair.client, packet(2))
        pair.run(0.049)
    assert len(pair.sent("client", INITIATION)) == 1


def test_our_timestamps_rise_while_the_clock_stands_still() -> None:
    pair = Pair()
    pair.client.device.epoch = WALL
    pair.connect()
    pair.client.device.epoch -= 1000.0  # set back while it runs
    pair.run(REKEY_AFTER_TIME + 1.0)
    pair.send(pair.client, packet(2))
    pair.run(0.1)
    assert pair.client.news == pair.gateway.news == ["confirmed"] * 2


def test_peers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "MAX_PEERS", 2)
    pair = Pair()
    pair.gateway.device.add(public_key(generate_identity()), v4(3), v6(3))
    with pytest.raises(LocalMisuse, match="peers_full"):
        pair.gateway.device.add(public_key(generate_identity()), v4(4), v6(4))
