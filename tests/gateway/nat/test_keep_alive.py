"""Keep-alive: the client's own reaches the host; half-closed connections end by it."""

from __future__ import annotations

import errno

import pytest
from scapy.layers.inet import TCP

from netstack.tcp.constants import GARBAGE_SILENCE
from splice.peer import LASTING
from splice.splice import HALF_CLOSED_IDLE, LONGEST_IDLE
from tests.gateway.nat.world import Client, World


def probe(client: Client, data: bytes = b"") -> None:
    """As a kernel's keep-alive: the number before the next, which must be answered."""
    client.seq -= 1
    client.send("A", data)
    client.seq += 1 - len(data)
    answer = client.world.one()[TCP]
    assert (answer.flags, answer.ack) == ("A", client.seq)


def test_a_probing_client_has_the_host_probed_at_the_same_pace() -> None:
    client = Client(World()).connect()
    world, (stream,) = client.world, client.world.outward.streams
    world.pass_time(60)
    assert stream.kept == []
    probe(client)
    assert stream.kept == [60]
    for _ in range(3):
        world.pass_time(60.4)
        probe(client)
    assert stream.kept == [60]
    # Another pace is followed; traffic begins the silence anew.
    world.pass_time(20)
    client.send("PA", b"x")
    world.pass_time(15)
    world.got()
    probe(client)
    assert stream.kept == [60, 15]
    world.pass_time(2 * LONGEST_IDLE)
    world.got()
    world.balanced()


def test_a_client_that_does_not_probe_causes_no_packet_to_the_host() -> None:
    client = Client(World()).connect()
    client.world.pass_time(7000)
    assert client.world.outward.streams[0].kept == []
    assert client.world.got() == []


def test_an_old_byte_is_a_probe_after_long_silence_only() -> None:
    client = Client(World()).connect()
    world, (stream,) = client.world, client.world.outward.streams
    client.send("PA", b"k")
    world.pass_time(1)
    world.got()
    client.seq -= 1
    client.send("PA", b"k")
    world.pass_time(1)
    world.got()
    assert stream.kept == []
    world.pass_time(GARBAGE_SILENCE + 1)
    probe(client, b"\0")
    assert stream.kept == [12]
    assert bytes(stream.sent) == b"k"


def test_a_question_about_a_closed_window_is_no_keep_alive() -> None:
    client = Client(World()).connect()
    world, (stream,) = client.world, client.world.outward.streams
    stream.capacity = 0
    for _ in range(100):
        client.send("PA", b"x" * 1024)
        world.pass_time(1)
        if client.window(world.got()[-1]) == 0:
            break
    world.pass_time(30)
    probe(client)
    assert stream.kept == []


def test_a_dead_host_is_told_by_a_reset() -> None:
    client = Client(World()).connect()
    world, (stream,) = client.world, client.world.outward.streams
    stream.refuse(errno.ETIMEDOUT, world.now)
    assert world.one()[TCP].flags.R
    assert world.nat.sockets == 0


@pytest.mark.parametrize("there", [True, False])
def test_a_half_closed_connection_lives_as_long_as_both_ends_do(there: bool) -> None:
    client = Client(World()).connect()
    world, (stream,) = client.world, client.world.outward.streams
    client.send("FA")
    world.got()
    assert stream.finished
    assert stream.kept == []
    world.pass_time(LASTING)
    assert stream.kept == [HALF_CLOSED_IDLE]
    for _ in range(5):
        world.pass_time(HALF_CLOSED_IDLE + 1)
        (asked,) = world.got()
        assert (asked[TCP].flags, asked[TCP].ack) == ("A", client.seq)
        if not there:
            # Its kernel has forgotten the connection, as kernels do after a minute.
            world.put(client.segment("R"))
            break
        client.send("A")
    assert stream.closed == ("" if there else "abort")
    assert (client.world.nat.sockets, bool(world.peer.tcp)) == (int(there), there)


def test_a_connection_that_both_sides_close_is_never_probed() -> None:
    client = Client(World()).connect()
    world, (stream,) = client.world, client.world.outward.streams
    client.send("FA")
    world.pass_time(LASTING - 1)
    world.got()
    stream.finish(world.now)
    client.take(world.got())
    assert stream.closed == "close"
    world.pass_time(2 * HALF_CLOSED_IDLE)
    assert stream.kept == []


def test_a_half_closed_connection_of_a_client_that_is_silent_ends() -> None:
    client = Client(World()).connect()
    client.send("FA")
    client.world.pass_time(1000)
    assert client.world.outward.streams[0].closed == "abort"
    assert client.world.got()[-1][TCP].flags.R
    assert client.world.nat.get_timer() is None


def test_a_half_closed_connection_keeps_a_shorter_pace() -> None:
    client = Client(World()).connect()
    world, (stream,) = client.world, client.world.outward.streams
    world.pass_time(30)
    probe(client)
    client.send("FA")
    assert stream.kept == [30]
