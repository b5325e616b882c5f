"""The TCP splice, as dialogues between the client, the NAT and the network."""

from __future__ import annotations

import errno

import pytest
from scapy.layers.inet import ICMP, TCP, TCPerror
from scapy.layers.inet6 import ICMPv6DestUnreach

from gateway.nat.limits import Limits
from gateway.nat.shares import OWN_IDLE, PATIENCE
from splice.peer import ACK_DELAY
from splice.ports import FAILED
from splice.splice import DRAIN_TIMEOUT
from tests.gateway.nat.world import CLIENT4, GATEWAY4, GATEWAY6, Client, World, packed

VERSIONS = pytest.mark.parametrize("version", [4, 6])


@VERSIONS
def test_the_syn_is_answered_when_the_connect_has_succeeded(version: int) -> None:
    world = World()
    client = Client(world, version)
    client.send("S", options=[("MSS", 1400)])
    assert world.got() == []
    (stream,) = world.outward.streams
    assert (stream.host, stream.port) == (packed(world.ip(version).dst), 80)
    stream.connected(world.now)
    assert world.woken
    answer = world.one()
    assert answer[TCP].flags == "SA"
    assert answer[TCP].ack == 1001
    assert dict(answer[TCP].options)["MSS"] == (1460 if version == 4 else 1440)
    world.balanced()


@VERSIONS
def test_bytes_and_both_fins(version: int) -> None:
    world = World()
    client = Client(world, version).connect()
    (stream,) = world.outward.streams
    client.send("PA", b"request")
    assert stream.sent == b"request"
    client.take(world.got())
    stream.receive(b"response" * 1000, world.now)
    assert client.take(world.got()) == b"response" * 1000
    client.send("FA")
    assert stream.finished
    world.got()
    stream.receive(b"more", world.now)
    assert client.take(world.got()) == b"more"
    client.send("A")
    stream.finish(world.now)
    last = world.one()
    assert last[TCP].flags.F
    client.take([last])
    assert stream.closed == "close"
    client.send("A")
    assert world.peer.tcp == {}
    assert world.nat.sockets == 0
    assert world.count("tcp__closed__finished") == 1
    world.balanced()


def test_what_a_time_out_sends_again_is_told_to_the_link() -> None:
    """Nothing else may come along for seconds that would take it out of the link's queue."""
    world = World()
    client = Client(world).connect()
    world.peer.set_out(world.link, world.wake, world.now, reliable=False)
    world.got()
    (stream,) = world.outward.streams
    stream.receive(b"response", world.now)
    (first,) = world.got()
    world.woken.clear()
    world.pass_time(0.5)
    assert not world.woken
    world.pass_time(1.0)
    assert world.woken == [world.peer]
    assert [packet[TCP].seq for packet in world.got()] == [first[TCP].seq]
    client.take([first])


def test_the_host_closes_first_and_the_client_goes_on_sending() -> None:
    world = World()
    client = Client(world).connect()
    (stream,) = world.outward.streams
    stream.finish(world.now)
    fin = world.one()
    assert fin[TCP].flags.F
    client.take([fin])
    client.send("PA", b"late")
    assert stream.sent == b"late"
    client.send("FA")
    assert stream.finished
    assert stream.closed == "close"
    world.got()
    # Our side has closed first, so it is in TIME-WAIT, without a descriptor.
    assert world.nat.sockets == 0
    assert len(world.peer.tcp) == 1
    world.pass_time(10)
    assert world.peer.tcp == {}


@pytest.mark.parametrize("when", ["at once", "later"])
@VERSIONS
def test_a_refused_connect_is_a_reset(version: int, when: str) -> None:
    world = World()
    client = Client(world, version)
    if when == "at once":
        world.outward.refusals.append(errno.ECONNREFUSED)
        client.send("S")
    else:
        client.send("S")
        world.outward.streams[0].refuse(errno.ECONNREFUSED, world.now)
    answer = world.one()
    assert answer[TCP].flags == "RA"
    assert answer[TCP].ack == 1001
    assert world.count("tcp__connect__refused") == 1
    assert world.peer.tcp == {}
    assert world.outward.open_sockets() == 0
    world.balanced()


@pytest.mark.parametrize(
    ("number", "code4", "code6", "label"),
    [
        (errno.EHOSTUNREACH, 1, 3, "host_unreachable"),
        (errno.ENETUNREACH, 0, 0, "net_unreachable"),
        (errno.ENODEV, 0, 0, "net_unreachable"),
        (errno.ETIMEDOUT, 1, 3, "timed_out"),
        (errno.EACCES, 13, 1, "prohibited"),
        (errno.EIO, 1, 3, "failed"),
    ],
)
@pytest.mark.parametrize("when", ["at once", "later"])
@VERSIONS
def test_an_unreachable_host_is_an_icmp_error_about_the_syn(
    version: int, when: str, number: int, code4: int, code6: int, label: str
) -> None:
    world = World()
    client = Client(world, version)
    if when == "at once":
        world.outward.refusals.append(number)
        client.send("S")
    else:
        client.send("S")
        world.outward.streams[0].refuse(number, world.now)
    answer = world.one()
    if version == 4:
        assert answer.src == GATEWAY4
        assert (answer[ICMP].type, answer[ICMP].code) == (3, code4)
        quoted = answer[TCPerror]
        assert (quoted.sport, quoted.dport, quoted.seq) == (40000, 80, 1000)
    else:
        assert answer.src == GATEWAY6
        assert answer[ICMPv6DestUnreach].code == code6
    assert world.count(f"tcp__connect__{label}") == 1
    assert world.outward.open_sockets() == 0
    assert world.nat.sockets == 0
    world.balanced()


def test_the_hosts_reset_reaches_the_client() -> None:
    world = World()
    Client(world).connect()
    world.outward.streams[0].refuse(errno.ECONNRESET, world.now)
    assert world.one()[TCP].flags.R
    assert world.peer.tcp == {}
    assert world.nat.sockets == 0


def test_the_hosts_reset_reaches_the_client_when_its_window_is_closed() -> None:
    world = World()
    client = Client(world).connect()
    client.send("A", window=0)
    world.got()
    world.outward.streams[0].refuse(errno.ECONNRESET, world.now)
    assert world.one()[TCP].flags.R
    assert world.peer.tcp == {}


def test_the_clients_reset_reaches_the_host() -> None:
    world = World()
    client = Client(world).connect()
    client.send("R")
    assert world.outward.streams[0].closed == "abort"
    assert world.got() == []
    assert world.peer.tcp == {}


def test_news_of_an_error_before_the_error_itself_is_no_connection() -> None:
    """The kernel wakes for the ICMP error first, and notes then what has become of the connect."""
    world = World()
    Client(world).send("S")
    (stream,) = world.outward.streams
    stream.handler.ready(FAILED, world.now)
    assert world.got() == []
    stream.refuse(errno.ENETUNREACH, world.now)
    assert world.one()[ICMP].type == 3
    world.balanced()


def test_a_client_that_gives_up_while_connecting_closes_the_connect() -> None:
    world = World()
    client = Client(world)
    client.send("S")
    client.send("R")
    assert world.outward.streams[0].closed
    assert world.peer.connects.under_way == {}


def test_a_send_that_fails_is_a_reset() -> None:
    world = World()
    client = Client(world).connect()
    world.outward.streams[0].finished = True
    client.send("PA", b"into the void")
    packets = world.got()
    assert packets[-1][TCP].flags.R


def test_small_segments_of_a_batch_are_one_send() -> None:
    world = World()
    client = Client(world).connect()
    stream = world.outward.streams[0]
    sends: list[bytes] = []
    flow = next(iter(world.peer.tcp.values()))

    def send(data: bytes) -> int:
        sends.append(bytes(data))
        return len(data)

    flow._send = send
    for _ in range(10):
        client.send("A", b"x" * 1000, end=False)
    world.peer.end_batch(world.now)
    assert sends == [b"x" * 10000]
    assert stream.sent == b""
    # And one acknowledgement.
    assert world.one()[TCP].ack == client.seq


def test_a_slow_host_closes_the_clients_window_and_its_backlog_is_bounded() -> None:
    world = World()
    client = Client(world).connect()
    stream = world.outward.streams[0]
    stream.capacity = 5000
    sent = 0
    edge = client.seq + 1400
    while client.seq + 1400 <= edge:
        client.send("A", b"y" * 1400)
        sent += 1400
        world.pass_time(ACK_DELAY)
        for ack in world.got():
            edge = ack[TCP].ack + client.window(ack)
    assert sent > 50_000
    flow = next(iter(world.peer.tcp.values()))
    assert len(flow.backlog) + len(stream.sent) == sent
    assert len(flow.backlog) <= world.nat.config.limits.receive_window_min
    # The host takes up again: everything goes out in order, and the window reopens.
    stream.drain(1 << 30, world.now)
    assert stream.sent == b"y" * sent
    assert not flow.backlog
    assert client.window(world.one()) > 60000


def test_the_clients_fin_waits_for_the_backlog() -> None:
    world = World()
    client = Client(world).connect()
    stream = world.outward.streams[0]
    stream.capacity = 10
    client.send("PA", b"z" * 100)
    client.send("FA")
    assert not stream.finished
    stream.drain(1000, world.now)
    assert stream.sent == b"z" * 100
    assert stream.finished


def test_a_backlog_outlives_the_connection_for_a_while() -> None:
    world = World()
    client = Client(world).connect()
    stream = world.outward.streams[0]
    stream.capacity = 10
    stream.finish(world.now)
    client.take(world.got())
    client.send("PA", b"z" * 100)
    client.send("FA")
    world.pass_time(10)
    assert world.peer.tcp == {}
    assert len(world.peer.draining) == 1
    assert [info.state for info in world.nat.flows()] == ["draining"]
    stream.drain(60, world.now)
    assert not stream.finished
    stream.drain(1000, world.now)
    assert stream.sent == b"z" * 100
    assert stream.finished
    assert stream.closed == "close"
    assert world.nat.sockets == 0
    assert not world.peer.draining


def test_a_backlog_that_nobody_takes_is_given_up() -> None:
    world = World()
    client = Client(world).connect()
    stream = world.outward.streams[0]
    stream.capacity = 10
    stream.finish(world.now)
    client.take(world.got())
    client.send("FPA", b"z" * 100)
    world.pass_time(DRAIN_TIMEOUT + 10)
    assert stream.closed == "abort"
    assert world.nat.sockets == 0
    assert world.count("tcp__drain__timed_out") == 1


def test_the_socket_is_not_read_beyond_the_clients_window() -> None:
    world = World()
    client = Client(world).connect()
    client.send("A", window=8000 >> 7)
    stream = world.outward.streams[0]
    stream.receive(b"d" * 100_000, world.now)
    first = client.take(world.got())
    assert 0 < len(first) <= 8000
    assert len(stream._incoming) == 100_000 - len(first)
    reads = stream.reads
    assert world.got() == []
    assert stream.reads == reads
    received = first
    for _ in range(100):
        client.send("A", window=8000 >> 7)
        received += client.take(world.got())
    assert received == b"d" * 100_000


def test_the_socket_is_not_read_when_the_link_has_no_room() -> None:
    world = World()
    world.link.space = 10_000
    world.peer.set_out(world.link, world.wake, world.now)
    Client(world).connect()
    stream = world.outward.streams[0]
    world.got()
    world.link.reserve_packet(10_000)
    stream.receive(b"d" * 1000, world.now)
    assert world.peer.pull(world.now)
    assert len(world.link.take()) == 1
    assert stream.reads == 0
    assert not world.peer.pull(world.now)
    assert len(world.link.take()) == 1


def test_offload_emits_64_kib_in_one_packet() -> None:
    world = World(offload=True)
    client = Client(world).connect()
    client.send("A", window=65535)
    stream = world.outward.streams[0]
    stream.receive(b"d" * 60_000, world.now)
    world.peer.pull(world.now)
    sizes = [(fields[0], len(packet)) for fields, packet in world.link.take()]
    assert sizes[-1][0] == 1
    assert max(size for _, size in sizes) > 10_000


def test_a_broken_link_is_resumed_from_the_last_acknowledged_byte() -> None:
    world = World()
    client = Client(world).connect()
    stream = world.outward.streams[0]
    stream.receive(b"d" * 5000, world.now)
    lost = world.got()
    assert lost
    world.peer.link_lost(world.now)
    stream.receive(b"e" * 100, world.now)
    assert not world.peer.pull(world.now)
    world.pass_time(60)
    assert len(world.peer.tcp) == 1
    world.peer.set_out(world.link, world.wake, world.now)
    assert client.take(world.got())[:5000] == b"d" * 5000
    client.send("A")
    client.take(world.got())
    client.send("PA", b"still here")
    assert stream.sent == b"still here"


def test_a_connect_that_succeeds_while_the_link_is_down_is_answered_afterwards() -> None:
    world = World()
    client = Client(world)
    client.send("S")
    world.peer.link_lost(world.now)
    world.outward.streams[0].connected(world.now)
    world.peer.set_out(world.link, world.wake, world.now)
    assert any(packet[TCP].flags == "SA" for packet in world.got())


def test_time_wait_gives_way_to_a_new_connection() -> None:
    world = World()
    client = Client(world).connect()
    world.outward.streams[0].finish(world.now)
    client.take(world.got())
    client.send("FA")
    client.take(world.got())
    again = Client(world)
    again.seq = client.seq + 100_000
    again.send("S")
    assert len(world.outward.streams) == 2
    world.outward.streams[1].connected(world.now)
    assert world.got()[-1][TCP].flags == "SA"
    world.balanced()


def test_a_segment_of_no_connection_is_reset() -> None:
    world = World()
    client = Client(world)
    client.ack = 77
    client.send("PA", b"who?")
    answer = world.one()[TCP]
    assert (answer.flags, answer.seq) == ("R", 77)
    client.ack = 0
    client.send("F")
    answer = world.one()[TCP]
    assert (answer.flags, answer.ack) == ("RA", 1005)
    client.send("R")
    assert world.got() == []
    world.balanced()


def under_way(world: World) -> list[int]:
    return [flow.source[1] for flow in world.peer.connects.under_way.values()]


def test_more_connects_than_may_be_under_way_wait_their_turn_in_order() -> None:
    world = World(limits=Limits(half_open_per_peer=3))
    for n in range(6):
        Client(world, sport=5000 + n).send("S")
    assert under_way(world) == [5000, 5001, 5002]
    assert world.outward.open_sockets() == 3
    streams = world.outward.streams
    for n in (1, 0, 2, 3, 4, 5):
        # They begin in order: the socket of number n is the n-th.
        streams[n].connected(world.now)
        world.pass_time(0)
        answer = world.one()[TCP]
        assert (answer.dport, answer.flags) == (5000 + n, "SA")
    assert under_way(world) == []
    assert world.count("tcp__syn__held") == 3
    world.balanced()


def test_connects_without_an_answer_give_way_to_those_that_wait_and_get_another_turn() -> None:
    world = World(limits=Limits(half_open_per_peer=3))
    clients = [Client(world, sport=5000 + n) for n in range(4)]
    for client in clients:
        client.send("S")
    world.pass_time(PATIENCE - 0.1)
    assert under_way(world) == [5000, 5001, 5002]
    world.pass_time(0.2)
    assert under_way(world) == [5001, 5002, 5003]
    assert world.outward.streams[0].closed == "abort"
    # Its SYN comes again, as nobody has told it anything.
    clients[0].seq -= 1
    clients[0].send("S")
    assert under_way(world) == [5002, 5003, 5000]
    assert world.got() == []
    world.outward.streams[-1].connected(world.now)
    assert (world.one()[TCP].dport, world.count("tcp__connect__gave_way")) == (5000, 2)
    world.balanced()


def test_without_others_that_wait_a_slow_connect_has_all_the_time() -> None:
    world = World(limits=Limits(half_open_per_peer=1))
    Client(world).send("S")
    world.pass_time(100)
    world.outward.streams[0].connected(world.now)
    assert world.one()[TCP].flags == "SA"


def test_connects_that_wait_are_bounded_and_a_syn_beyond_is_dropped() -> None:
    world = World(limits=Limits(half_open_per_peer=1, connects_waiting_per_peer=2))
    clients = [Client(world, sport=5000 + n) for n in range(5)]
    for client in clients:
        client.send("S")
    assert world.got() == []
    assert world.count("tcp__connects_waiting__dropped") == 2
    assert len(world.peer.tcp) == 3
    # Who gives up leaves the queue.
    clients[1].send("R")
    assert [flow.source[1] for flow in world.peer.connects.waiting.values()] == [5002]
    clients[4].seq -= 1
    clients[4].send("S")
    for _ in range(3):
        world.outward.streams[-1].connected(world.now)
        world.pass_time(0)
    assert [packet[TCP].dport for packet in world.got()] == [5000, 5002, 5004]
    world.balanced()


def test_many_that_wait_may_fail_at_once() -> None:
    world = World(limits=Limits(half_open_per_peer=1))
    for n in range(1000):
        Client(world, sport=5000 + n).send("S")
    world.outward.refusals.extend([errno.ENETUNREACH] * 999)
    world.pass_time(PATIENCE)
    assert (len(world.peer.tcp), world.nat.sockets) == (0, 0)
    assert world.count("tcp__connect__net_unreachable") == 999
    assert world.nat.get_timer() is None


def test_flows_are_bounded_and_a_syn_beyond_is_dropped() -> None:
    world = World(limits=Limits(flows_per_peer=2))
    clients = [Client(world, sport=5000 + n) for n in range(3)]
    for client in clients[:2]:
        client.connect()
    clients[2].send("S")
    assert world.got() == []
    assert world.count("tcp__peer_flow_limit__dropped") == 1
    assert world.nat.sockets == 2
    # When one has rested for long it gives way, and both of its ends are told.
    world.pass_time(OWN_IDLE / 2)
    clients[1].send("PA", b"in use")
    world.pass_time(OWN_IDLE / 2)
    world.got()
    clients[2].seq -= 1
    clients[2].send("S")
    reset = world.one()[TCP]
    assert (reset.dport, reset.flags) == (5000, "RA")
    assert [stream.closed for stream in world.outward.streams] == ["abort", "", ""]
    world.balanced()


def test_no_descriptor_is_no_answer_of_the_hosts() -> None:
    world = World()
    world.outward.refusals.append(errno.EMFILE)
    client = Client(world)
    client.send("S")
    assert world.got() == []
    assert world.count("tcp__no_descriptors__dropped") == 1
    client.seq -= 1
    client.connect()
    world.balanced()


def test_uploads_share_the_receive_window() -> None:
    limits = Limits()
    world = World(limits=limits)
    clients = [Client(world, sport=6000 + n).connect() for n in range(4)]
    # Long enough for the first ones to have used up what they were promised when alone.
    for _ in range(25):
        for client in clients:
            client.send("A", b"u" * 30_000)
        world.got()
    flows = list(world.peer.tcp.values())
    assert all(flow.uploading for flow in flows)
    windows = []
    for client in clients:
        client.send("A", b"u" * 1400)
        world.pass_time(ACK_DELAY)
        windows.append(client.window(world.got()[-1]))
    assert all(window > limits.receive_window_min for window in windows)
    assert sum(windows) <= limits.receive_window_per_peer + 4 * 2048
    world.pass_time(3)
    assert not any(flow.uploading for flow in flows)


def test_closing_by_the_owner() -> None:
    world = World()
    Client(world).connect()
    (info,) = world.nat.flows()
    assert (info.protocol, info.state) == ("tcp", "established")
    assert info.source == (packed(CLIENT4), 40000)
    assert info.device == "tun0"
    assert not world.nat.close_flow(info.id + 1, world.now)
    assert world.nat.close_flow(info.id, world.now)
    assert world.one()[TCP].flags.R
    assert world.outward.streams[0].closed == "abort"
    assert world.nat.flows() == []


def test_a_small_requests_ack_travels_with_the_answer() -> None:
    world = World()
    client = Client(world).connect()
    client.send("PA", b"question")
    assert world.got() == []
    world.outward.streams[0].receive(b"answer", world.now)
    answer = world.one()
    assert answer[TCP].ack == client.seq
    assert client.take([answer]) == b"answer"
    client.send("A")
    world.pass_time(2 * ACK_DELAY)
    assert world.got() == []


def test_a_small_requests_ack_does_not_wait_for_a_slow_host() -> None:
    world = World()
    client = Client(world).connect()
    client.send("PA", b"question")
    assert world.got() == []
    world.pass_time(ACK_DELAY)
    assert world.one()[TCP].ack == client.seq
    client.send("PA", b"x" * 1460)
    client.send("PA", b"y" * 1460)
    assert world.one()[TCP].ack == client.seq


def test_a_held_ack_is_forgotten_with_its_connection() -> None:
    world = World()
    client = Client(world).connect()
    client.send("PA", b"question")
    client.send("R")
    assert not world.peer.held
    world.pass_time(1.0)
    assert world.got() == []
