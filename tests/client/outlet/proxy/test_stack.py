"""The proxy's stack against the gateway's own NAT: TCP each way, and what is told when it fails."""

from __future__ import annotations

import errno
import random
from functools import partial
from struct import Struct

import pytest

from client.outlet.proxy import stack as stack_module
from client.outlet.proxy.outcome import Outcome
from client.outlet.proxy.outgoing import Outgoing
from netstack import icmp
from netstack.addresses import Addresses
from netstack.heads import NEEDS_CSUM, OFFLOAD_HEADER
from netstack.ip import IPV4_HEADER, PROTO_TCP, pack_ip
from netstack.tcp_segment import ACK, FIN, SYN, parse_tcp
from netstack.udp import UdpPath
from splice.limits import LinkLimits
from splice.peer import ACK_DELAY
from tests.client.outlet.proxy.tunnel import (
    CLIENT4,
    CLIENT6,
    GATEWAY4,
    GATEWAY6,
    HOST4,
    Link,
    Tunnel,
    host,
)
from tests.fakes.backlog import backlog
from tests.fakes.outward import FakeStream
from tests.netsim.simulation import Direction

TCP_HEADER = Struct("!HHIIHHHH")
LOSSY = Direction(loss=0.03, duplicate=0.02, reorder=0.05, delay=0.02)


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("version", [4, 6])
def test_bytes_and_both_fins(version: int, offload: bool) -> None:
    tunnel = Tunnel(offload=offload)
    tunnel.open()
    local, far = tunnel.opened(version)
    assert (far.host, far.port) == (host(version), 80)
    up, down = random.Random(1).randbytes(700_000), random.Random(2).randbytes(900_000)
    local.receive(up, tunnel.now)
    far.receive(down, tunnel.now)
    assert tunnel.run(30, lambda: len(far.sent) == len(up) and len(local.sent) == len(down))
    assert far.sent == up and local.sent == down
    local.finish(tunnel.now)
    assert tunnel.run(5, lambda: far.finished)
    assert not local.finished
    far.receive(b"the rest", tunnel.now)
    far.finish(tunnel.now)
    assert tunnel.run(5, lambda: local.finished and bool(local.closed))
    assert local.sent == down + b"the rest" and local.closed == "close"
    tunnel.run(10)
    assert not tunnel.stack.tcp and not tunnel.stack.draining
    assert (tunnel.stack.sockets, tunnel.stack.in_flight) == (0, 0)
    assert tunnel.stack.get_timer() is None, "nothing runs while nothing is open"


@pytest.mark.parametrize("version", [4, 6])
def test_what_a_connection_is_sent_is_not_summed(
    version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the AEAD it is as the gateway sent it. What no connection has is summed."""
    tunnel = Tunnel()
    tunnel.open()
    local, far = tunnel.opened(version)
    at = (20 if version == 4 else 40) + 16
    seen: list[bytes] = []

    def into_stack(link: Link, data: memoryview, start: int, offload: bool) -> None:
        copy = bytearray(data)
        copy[start + at] ^= 0xFF
        seen.append(bytes(copy))
        tunnel.stack.from_tunnel(copy, start, len(copy), offload, tunnel.now)

    monkeypatch.setattr(tunnel, "_into_stack", into_stack)
    far.receive(b"down", tunnel.now)
    far.finish(tunnel.now)
    assert tunnel.run(5, lambda: local.finished)
    assert local.sent == b"down"
    assert tunnel.stack.counts["tcp__bad_checksum__dropped"] == 0
    other = bytearray(seen[0])
    other[at - 14] ^= 1  # Of another connection.
    tunnel.stack.from_tunnel(other, 0, len(other), False, tunnel.now)
    assert tunnel.stack.counts["tcp__bad_checksum__dropped"] == 1


def test_the_far_side_closes_first_and_the_program_goes_on() -> None:
    tunnel = Tunnel()
    tunnel.open()
    local, far = tunnel.opened()
    far.finish(tunnel.now)
    assert tunnel.run(5, lambda: local.finished)
    local.receive(b"said after", tunnel.now)
    local.finish(tunnel.now)
    assert tunnel.run(5, lambda: far.finished)
    assert far.sent == b"said after"


@pytest.mark.parametrize(
    ("number", "outcome"),
    [
        (errno.ECONNREFUSED, Outcome.REFUSED),
        (errno.EHOSTUNREACH, Outcome.HOST_UNREACHABLE),
        (errno.ENETUNREACH, Outcome.NET_UNREACHABLE),
        (errno.EACCES, Outcome.PROHIBITED),
        (errno.ETIMEDOUT, Outcome.HOST_UNREACHABLE),
    ],
)
@pytest.mark.parametrize("version", [4, 6])
def test_what_the_network_says_of_a_connect(version: int, number: int, outcome: Outcome) -> None:
    tunnel = Tunnel()
    tunnel.connected = lambda stream: stream.refuse(number, tunnel.now)
    tunnel.open()
    dialled = tunnel.dial(host(version))
    assert tunnel.run(5, lambda: dialled.outcome is not None)
    assert (dialled.outcome, dialled.flow, dialled.told) == (outcome, None, 1)
    assert not tunnel.stack.tcp


def test_a_host_that_is_silent_is_timed_out() -> None:
    tunnel = Tunnel()
    tunnel.connected = lambda stream: None
    tunnel.open()
    dialled = tunnel.dial(HOST4)
    tunnel.run(stack_module.CONNECT_TIMEOUT - 1)
    assert dialled.outcome is None
    tunnel.run(2)
    assert dialled.outcome is Outcome.TIMED_OUT
    assert not tunnel.stack.tcp


def test_resets_are_carried_over_each_way() -> None:
    tunnel = Tunnel()
    tunnel.open()
    local, far = tunnel.opened()
    far.refuse(errno.ECONNRESET, tunnel.now)
    assert tunnel.run(5, lambda: bool(local.closed))
    assert local.closed == "abort"
    local, far = tunnel.opened()
    local.refuse(errno.ECONNRESET, tunnel.now)
    assert tunnel.run(5, lambda: bool(far.closed))
    assert far.closed == "abort"


def test_an_address_is_asked_at_once_and_its_outcome_told_later() -> None:
    tunnel = Tunnel()
    tunnel.open()
    dialled = tunnel.dial(HOST4)
    assert len(tunnel.stack.tcp) == 1, "the SYN leaves with the turn that asks"
    assert tunnel.run(1, lambda: dialled.outcome is Outcome.OPENED)
    tunnel.cut()
    tunnel.open(Addresses(CLIENT4, b"", GATEWAY4, b""))
    dialled = tunnel.dial(host(6))
    assert dialled.told == 0, "whoever asks has no dialling to be told of yet"
    assert tunnel.run(1, lambda: dialled.outcome is Outcome.NET_UNREACHABLE)
    assert dialled.told == 1


def test_a_programs_first_words_take_the_ack_along(monkeypatch: pytest.MonkeyPatch) -> None:
    tunnel = Tunnel()
    payloads: list[int] = []
    arrive = tunnel._into_nat

    def see(link: Link, data: memoryview, start: int, offload: bool) -> None:
        header = start + 20
        payloads.append(len(data) - header - (data[header + 12] >> 4) * 4)
        arrive(link, data, start, offload)

    monkeypatch.setattr(tunnel, "_into_nat", see)
    tunnel.open()
    local, far = tunnel.opened()
    local.receive(b"question", tunnel.now)
    assert tunnel.run(1, lambda: far.sent == b"question")
    assert payloads == [0, 8], "the SYN, and the words"


def test_a_host_that_speaks_first_waits_no_longer_than_an_ack_does() -> None:
    tunnel = Tunnel()
    tunnel.open()
    local, far = tunnel.opened()
    far.receive(b"220 ready", tunnel.now)
    began = tunnel.now
    assert tunnel.run(1, lambda: local.sent == b"220 ready")
    assert tunnel.now - began <= tunnel.up.delay + ACK_DELAY + tunnel.down.delay + 1e-6
    tunnel.run(1)
    assert tunnel.stack.tcp and not local.closed


def test_a_dial_that_is_cancelled_leaves_nothing() -> None:
    tunnel = Tunnel()
    tunnel.connected = lambda stream: None
    tunnel.open()
    dialled = tunnel.dial(HOST4)
    tunnel.run(1)
    assert dialled.dial is not None
    dialled.dial.cancel(tunnel.now)
    tunnel.run(1)
    assert (dialled.told, len(tunnel.stack.tcp)) == (0, 0)
    # The connect goes on at the gateway; what comes of it is told that nobody is here.
    tunnel.outward.streams[0].connected(tunnel.now)
    tunnel.run(5)
    assert tunnel.counts["tcp__no_flow__rst_sent"] == 1
    assert tunnel.outward.streams[0].closed == "abort"


@pytest.mark.parametrize("reliable", [True, False])
def test_a_link_that_breaks_loses_nothing(reliable: bool) -> None:
    tunnel = Tunnel(reliable=reliable, down=Direction(rate=2e6), up=Direction(rate=2e6))
    tunnel.open()
    local, far = tunnel.opened()
    up, down = random.Random(3).randbytes(500_000), random.Random(4).randbytes(500_000)
    local.receive(up, tunnel.now)
    far.receive(down, tunnel.now)
    for _ in range(4):
        tunnel.run(0.05)
        tunnel.cut()
        tunnel.run(20)
        tunnel.open()
    assert tunnel.run(30, lambda: len(far.sent) >= len(up) and len(local.sent) >= len(down))
    assert far.sent == up and local.sent == down
    assert not local.closed and not far.closed


def test_a_connect_waits_for_the_link_that_is_away() -> None:
    tunnel = Tunnel()
    tunnel.open()
    tunnel.run(0)
    tunnel.cut()
    dialled = tunnel.dial(HOST4)
    tunnel.run(5)
    assert dialled.outcome is None
    tunnel.open()
    assert tunnel.run(5, lambda: dialled.outcome is Outcome.OPENED)


def test_a_link_that_stays_away_is_told_and_so_is_no_lease() -> None:
    tunnel = Tunnel()
    dialled = tunnel.dial(HOST4)
    assert tunnel.run(1, lambda: dialled.outcome is Outcome.AWAY)
    tunnel.open()
    tunnel.cut()
    dialled = tunnel.dial(HOST4)
    tunnel.run(9)
    assert dialled.outcome is None
    tunnel.run(3)
    assert dialled.outcome is Outcome.AWAY


@pytest.mark.parametrize("fresh", [True, False])
def test_another_lease_ends_connections_honestly(fresh: bool) -> None:
    """Other addresses, or the same from a gateway that has forgotten everything."""
    tunnel = Tunnel()
    tunnel.open()
    local, _ = tunnel.opened()
    tunnel.connected = lambda stream: None
    waiting = tunnel.dial(HOST4)
    tunnel.run(1)
    tunnel.cut()
    other = Addresses(bytes((10, 9, 0, 77)), CLIENT6, GATEWAY4, GATEWAY6)
    tunnel.open(other if not fresh else Addresses(CLIENT4, CLIENT6, GATEWAY4, GATEWAY6), fresh)
    tunnel.run(1)
    assert local.closed == "abort"
    assert waiting.outcome is Outcome.AWAY
    assert not tunnel.stack.tcp
    tunnel.connected = None
    local, far = tunnel.opened()
    local.receive(b"by the new one", tunnel.now)
    assert tunnel.run(5, lambda: far.sent == b"by the new one")


def test_a_slow_reader_on_either_side_bounds_what_is_held() -> None:
    limits = LinkLimits()
    tunnel = Tunnel(offload=True)
    tunnel.open()
    local, far = tunnel.opened()
    local.capacity = far.capacity = 0
    local.receive(bytes(20_000_000), tunnel.now)
    far.receive(bytes(20_000_000), tunnel.now)
    tunnel.run(30)
    stack = tunnel.stack
    assert backlog(stack) <= limits.receive_window_max
    assert stack.in_flight <= 1024 * 1024
    assert len(local._incoming) > 18_000_000, "the program feels it"
    assert len(far._incoming) > 18_000_000, "the far host feels it"
    local.drain(30_000_000, tunnel.now)
    far.drain(30_000_000, tunnel.now)
    assert tunnel.run(60, lambda: len(local.sent) == len(far.sent) == 20_000_000)
    tunnel.run(1)
    assert (backlog(stack), stack.in_flight) == (0, 0)


def test_one_bulk_connection_does_not_hold_up_the_others() -> None:
    tunnel = Tunnel(up=Direction(rate=1e6), room=64 * 1024)
    tunnel.open()
    bulk, _ = tunnel.opened()
    others = [tunnel.opened() for _ in range(8)]
    bulk.receive(bytes(4_000_000), tunnel.now)
    tunnel.run(0.2)
    began = tunnel.now
    for local, _ in others:
        local.receive(b"question", tunnel.now)
    assert tunnel.run(10, lambda: all(far.sent == b"question" for _, far in others))
    assert tunnel.now - began < 1.0, "4 MB at 1 MB/s are four seconds"


def test_a_syn_leaves_before_an_upload_is_read_on() -> None:
    tunnel = Tunnel(room=20 * 1024)
    tunnel.open()
    stack, link = tunnel.stack, tunnel.link
    stack.queue.quantum = 16 * 1024
    bulk, _ = tunnel.opened()
    bulk.receive(bytes(4_000_000), tunnel.now)
    assert link is not None and stack.pull(tunnel.now), "the upload waits for room"
    link.up.take()
    tunnel.dial(host(4), 81)
    assert stack.pull(tunnel.now), "the upload waits"
    ((_, packet),) = link.up.take()
    syn = parse_tcp(packet, IPV4_HEADER, len(packet), None)
    assert (syn.flags, syn.destination_port) == (SYN, 81)
    stack.pull(tunnel.now)
    assert len(link.up.take()) > 10


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_module, "MAX_CONNECTIONS", 3)
    tunnel = Tunnel()
    tunnel.open()
    for _ in range(3):
        tunnel.opened()
    dialled = tunnel.dial(HOST4)
    assert tunnel.run(1, lambda: dialled.outcome is Outcome.BUSY)
    assert tunnel.counts["tcp__connect__bound_reached"] == 1


def test_an_error_that_quotes_another_syn_ends_nothing() -> None:
    """RFC 5927, 4.1: the sequence number is what a forger does not know."""
    tunnel = Tunnel()
    tunnel.connected = lambda stream: None
    tunnel.open()
    dialled = tunnel.dial(HOST4)
    tunnel.run(1)
    (flow,) = tunnel.stack.flows()
    assert isinstance(flow, Outgoing)
    assert tunnel.peer is not None

    def error(off_by: int) -> bytearray:
        quote = bytearray(28)
        quote[0], quote[9] = 0x45, PROTO_TCP
        quote[12:16], quote[16:20] = CLIENT4, HOST4
        quote[20:22] = flow.local[1].to_bytes(2, "big")
        quote[22:24] = (80).to_bytes(2, "big")
        quote[24:28] = (flow.conn.snd.una + off_by & 0xFFFFFFFF).to_bytes(4, "big")
        return icmp.error_packet(
            GATEWAY4, CLIENT4, icmp.UNREACHABLE, icmp.HOST_UNREACHABLE, 0, quote
        )

    packet = error(1)
    tunnel.stack.from_tunnel(packet, 0, len(packet), False, tunnel.now)
    tunnel.run(0.1)
    assert dialled.outcome is None
    packet = error(0)
    tunnel.stack.from_tunnel(packet, 0, len(packet), False, tunnel.now)
    tunnel.run(0.1)
    assert dialled.outcome is Outcome.HOST_UNREACHABLE


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("version", [4, 6])
def test_a_lossy_link(version: int, seed: int) -> None:
    """Several connections at once, over a link that loses, doubles and reorders, and breaks."""
    tunnel = Tunnel(reliable=False, seed=seed, up=LOSSY, down=Direction(**vars(LOSSY)))
    tunnel.open()
    rng = random.Random(seed)
    pairs: list[tuple[FakeStream, FakeStream, bytes, bytes]] = []
    for number in range(4):
        dialled = tunnel.dial(host(version), 1000 + number)
        assert tunnel.run(30, partial(lambda d: d.outcome is not None, dialled))
        assert dialled.outcome is Outcome.OPENED and dialled.local is not None
        far = next(one for one in tunnel.outward.streams if one.port == 1000 + number)
        up, down = rng.randbytes(rng.randrange(60_000)), rng.randbytes(rng.randrange(60_000))
        dialled.local.receive(up, tunnel.now)
        far.receive(down, tunnel.now)
        pairs.append((dialled.local, far, up, down))
    tunnel.run(0.1)
    tunnel.cut()
    tunnel.run(3)
    tunnel.open()
    for local, far, _, _ in pairs:
        local.finish(tunnel.now)
        far.finish(tunnel.now)
    over = tunnel.run(
        200, lambda: all(local.finished and far.finished for local, far, _, _ in pairs)
    )
    assert over
    for local, far, up, down in pairs:
        assert far.sent == up and local.sent == down
    tunnel.run(300)
    assert not tunnel.stack.tcp and tunnel.stack.in_flight == 0


def test_garbage_from_the_tunnel_is_counted_and_nothing_else() -> None:
    tunnel = Tunnel()
    tunnel.open()
    local, far = tunnel.opened()
    rng = random.Random(5)
    for _ in range(3000):
        size = rng.randrange(80)
        packet = bytearray(rng.randbytes(size))
        if size > 40:
            packet[0] = rng.choice((0x45, 0x46, 0x60))
            packet[9] = rng.choice((1, 6, 17, 44))
            packet[6] = rng.choice((0, 6, 17, 58, 44))
            packet[16:20] = CLIENT4
            packet[24:40] = CLIENT6
        data = bytearray(10) + packet
        if size and rng.random() < 0.5:
            data[:10] = rng.randbytes(10)
            tunnel.stack.from_tunnel(data, 10, len(data), True, tunnel.now)
        else:
            tunnel.stack.from_tunnel(packet, 0, size, False, tunnel.now)
    tunnel.run(1)
    local.receive(b"still here", tunnel.now)
    assert tunnel.run(5, lambda: far.sent == b"still here")


@pytest.mark.parametrize("version", [4, 6])
def test_what_is_for_somebody_else_is_dropped(version: int) -> None:
    tunnel = Tunnel()
    tunnel.open()
    got: list[bytes] = []
    port = tunnel.stack.open_udp(
        lambda host, number, payload: got.append(bytes(payload)), lambda *_: None
    )
    assert port is not None
    own = CLIENT4 if version == 4 else CLIENT6
    for address in (own[:-1] + b"\x63", own):
        packet = bytearray(100)
        path = UdpPath(host(version), 5000, address, port.port)
        end = path.header + 5
        packet[path.header : end] = b"hello"
        path.pack_whole(packet, 0, 5)
        tunnel.stack.from_tunnel(packet, 0, end, False, tunnel.now)
    assert got == [b"hello"]
    assert tunnel.counts["ip__not_ours__dropped"] == 1


@pytest.mark.parametrize("size", [0, 1, 20_000])
def test_a_simultaneous_open_that_brings_data_and_fin(size: int) -> None:
    """RFC 9293, 3.5: SYNs cross, and the ACK that completes it may hold all there is to say."""
    tunnel = Tunnel()
    tunnel.connected = lambda stream: None
    tunnel.open()
    dialled = tunnel.dial(HOST4)
    tunnel.run(0.1)
    (flow,) = tunnel.stack.flows()
    assert isinstance(flow, Outgoing)
    ours, ack = flow.local[1], flow.conn.snd.nxt & 0xFFFFFFFF
    data = random.Random(6).randbytes(size)
    for seq, number, flags, payload in ((7, 0, SYN, b""), (8, ack, ACK | FIN, data)):
        packet = bytearray(OFFLOAD_HEADER + 40) + payload
        packet[0] = NEEDS_CSUM
        packet[6:10] = b"\x14\0\x10\0"
        pack_ip(packet, OFFLOAD_HEADER, 20 + len(payload), PROTO_TCP, HOST4, CLIENT4)
        TCP_HEADER.pack_into(
            packet, OFFLOAD_HEADER + 20, 80, ours, seq, number, 0x5000 | flags, 65535, 0, 0
        )
        tunnel.stack.from_tunnel(packet, OFFLOAD_HEADER, len(packet), True, tunnel.now)
    tunnel.stack.end_batch(tunnel.now)
    assert dialled.outcome is Outcome.OPENED and dialled.local is not None
    assert dialled.local.sent == data and dialled.local.finished
    assert backlog(tunnel.stack) == 0


def test_what_is_left_for_a_slow_program_is_its_own_until_it_is_ended() -> None:
    tunnel = Tunnel()
    tunnel.open()
    dialled = tunnel.dial(HOST4)
    assert tunnel.run(5, lambda: dialled.outcome is Outcome.OPENED)
    local, flow, far = dialled.local, dialled.flow, tunnel.outward.streams[-1]
    assert local is not None and flow is not None
    over: list[bool] = []
    flow.on_over = lambda: over.append(True)
    local.capacity = 10
    far.receive(bytes(1000), tunnel.now)
    far.finish(tunnel.now)
    local.finish(tunnel.now)
    assert tunnel.run(10, lambda: bool(tunnel.stack.draining))
    assert (len(local.sent), local.closed, over) == (10, "", [])
    flow.shut(tunnel.now)
    assert (local.closed, over) == ("abort", [True])
    assert not tunnel.stack.draining
