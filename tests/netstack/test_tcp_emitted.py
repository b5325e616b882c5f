"""Everything that a connection emits, read by scapy: fields, options and checksums."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet as ScapyPacket
from scapy.utils import checksum as scapy_checksum

from netstack.tcp.config import TcpConfig
from netstack.tcp.writer import SegmentWriter
from netstack.tcp_segment import ACK, PSH
from tests.netsim.out import Packet, PacketLog
from tests.netsim.simulation import Direction, Simulation
from tests.netstack.tcp.dialogue import Dialogue, established, syn_held

V4 = (bytes((192, 0, 2, 1)), bytes((10, 99, 0, 2)))
V6 = (bytes.fromhex("20010db8000000000000000000000001"), bytes.fromhex("fd" + "00" * 14 + "02"))


def complete(packet: Packet) -> bytes:
    """The packet as the receiving kernel completes it: NEEDS_CSUM done, as virtio defines it."""
    data = bytearray(packet.data)
    if packet.csum_start:
        field = packet.csum_start + packet.csum_offset
        total = scapy_checksum(bytes(data[packet.csum_start :]))
        data[field : field + 2] = total.to_bytes(2, "big")
    return bytes(data)


def read(packet: Packet) -> ScapyPacket:
    """Parse with scapy, let it compute every length and checksum anew, and compare."""
    data = complete(packet)
    kind = IP if data[0] >> 4 == 4 else IPv6
    parsed = kind(data)
    again = kind(data)
    if kind is IP:
        del again[IP].chksum, again[IP].len
    else:
        del again[IPv6].plen
    del again[TCP].chksum, again[TCP].dataofs
    assert bytes(again) == data
    return parsed


def writer(version: int, stamped: bool, log: PacketLog) -> SegmentWriter:
    local, remote = V4 if version == 4 else V6
    made = SegmentWriter(version, local, 443, remote, 40000, 64, 12345)
    made.use_timestamps(stamped)
    made.out = log
    return made


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("stamped", [False, True])
@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("size", [1, 2, 999, 1000, 1001, 4001])
def test_data(version: int, stamped: bool, offload: bool, size: int) -> None:
    log = PacketLog(offload)
    data = bytearray(200) + bytes(i * 31 & 0xFF for i in range(size))
    arguments = (200, 200 + size, 1000, 0xFFFF_FFF0, 7, ACK | PSH, 500, 9.5, 88)
    writer(version, stamped, log).cut(data, *arguments)
    packets = log.take()
    assert len(packets) == (1 if offload else -(-size // 1000))
    payload = b""
    for packet in packets:
        parsed = read(packet)
        tcp = parsed[TCP]
        assert tcp.seq == (0xFFFF_FFF0 + len(payload)) & 0xFFFF_FFFF
        # What is cut up is pushed once, at its end, so that a receiver may join it.
        flags = "PA" if packet is packets[-1] else "A"
        assert (tcp.ack, tcp.window, str(tcp.flags)) == (7, 500, flags)
        assert dict(tcp.options).get("Timestamp") == ((9500 + 12345, 88) if stamped else None)
        payload += bytes(tcp.payload)
        assert (packet.csum_start > 0) is offload
        assert (packet.gso_size == 1000) is (offload and size > 1000)
        assert (parsed.ttl if version == 4 else parsed.hlim) == 64
    assert payload == data[200:]
    if offload:
        writer(version, stamped, log).whole(data, *arguments)
        assert log.take() == packets


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("stamped", [False, True])
@pytest.mark.parametrize("blocks", [0, 1, 2, 3])
def test_acks_with_sack(version: int, stamped: bool, blocks: int) -> None:
    log = PacketLog()
    edges = [(n, n + 5) for n in range(100, 100 + 10 * blocks, 10)]
    option = b"".join(a.to_bytes(4, "big") + b.to_bytes(4, "big") for a, b in edges)
    if option:
        option = bytes((1, 1, 5, 2 + len(option))) + option
    writer(version, stamped, log).control(1, 2, ACK, 3, 4.0, 5, option)
    (packet,) = log.take()
    options = dict(read(packet)[TCP].options)
    assert options.get("SAck", ()) == tuple(edge for block in edges for edge in block)
    assert ("Timestamp" in options) is stamped


DIALOGUES: dict[str, Callable[[Dialogue], None]] = {
    "SYN-ACK": lambda d: d.conn.accept(d.now),
    "RST of a refusal": lambda d: d.conn.refuse(d.now),
}


@pytest.mark.parametrize("name", DIALOGUES)
@pytest.mark.parametrize("stamps", [False, True])
def test_answers_to_a_syn(name: str, stamps: bool) -> None:
    d = syn_held(stamps=stamps)
    DIALOGUES[name](d)
    (packet,) = d.log.take()
    options = dict(read(packet)[TCP].options)
    if name == "SYN-ACK":
        assert options["MSS"] == 1460
        assert "SAckOK" in options and "WScale" in options
        assert ("Timestamp" in options) is stamps


def test_probe_fin_and_reset() -> None:
    d = established(stamps=True)
    d.conn.snd.probe(d.now)
    d.fin()
    d.conn.abort(d.now)
    assert [str(read(packet)[TCP].flags) for packet in d.log.take()] == ["A", "FA", "RA"]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("offload", [False, True])
def test_a_whole_lossy_conversation(version: int, offload: bool) -> None:
    """Handshake, data, SACKs, retransmissions, FINs: all that two endpoints say to each other."""
    sim = Simulation(3, Direction(loss=0.05), Direction(loss=0.05))
    for extra in range(2):
        sim.add(TcpConfig(reliable=False), bytes(60_000 + extra), version=version, offload=offload)
    seen: list[Packet] = []
    for host in sim.hosts:
        host.log.listener = seen.append
    sim.open()
    sim.run()
    assert len(seen) > 30
    flags = {str(read(packet)[TCP].flags) for packet in seen}
    assert {"S", "SA", "A", "PA", "FA"} <= flags
    assert any(dict(read(packet)[TCP].options).get("SAck") for packet in seen)
