"""A NAT with one client, its network in memory, and scapy as the client's own stack.

Everything that the NAT emits goes through `checked`: scapy takes the packet
apart, computes each checksum and length anew, and must come to the same bytes.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, _ICMPv6
from scapy.packet import NoPayload, Packet, Padding, Raw

from gateway.nat.counters import Counters
from gateway.nat.limits import Limits
from gateway.nat.policy import EgressPolicy
from gateway.nat.router import Nat, NatConfig
from gateway.nat.side import ClientSide
from netstack.addresses import Addresses
from netstack.checksum import add, finish
from services.counted import counted
from tests.fakes.outward import FakeDns, FakeOutward, PacketLog

CLIENT4, CLIENT6 = "10.9.0.2", "fd00:9::2"
GATEWAY4, GATEWAY6 = "10.9.0.1", "fd00:9::1"
HOST4, HOST6 = "192.0.2.80", "2001:db8::80"


def packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def addresses(ipv4: str, ipv6: str) -> Addresses:
    """A client's, and its gateway's."""
    return Addresses(packed(ipv4), packed(ipv6), packed(GATEWAY4), packed(GATEWAY6))


class World:
    """One NAT, one client. `now` moves when a test moves it."""

    def __init__(
        self,
        offload: bool = False,
        offload_udp: bool = False,
        mtu: int = 1500,
        limits: Limits | None = None,
        address_dependent_filtering: bool = True,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.now = 100.0
        self.outward = FakeOutward()
        self.dns = FakeDns()
        self.policy = EgressPolicy()
        self.counters = Counters()
        config = NatConfig(limits or Limits(), address_dependent_filtering)
        self.nat = Nat(config, self.outward, self.dns, self.policy, self.counters, random_bytes)
        self.link = PacketLog(offload, offload_udp, mtu)
        self.woken: list[ClientSide] = []
        self.peer = self.nat.add_peer("peer-1", addresses(CLIENT4, CLIENT6), mtu, self.now)
        self.peer.set_out(self.link, self.wake, self.now)
        self.peer.pull(self.now)
        self.woken.clear()

    def wake(self) -> None:
        """What the client's link would be woken by."""
        self.woken.append(self.peer)

    def ip(self, version: int = 4, dst: str | None = None, **fields: Any) -> Packet:
        """The client's IP header."""
        if version == 4:
            return IP(src=CLIENT4, dst=dst or HOST4, **fields)
        return IPv6(src=CLIENT6, dst=dst or HOST6, **fields)

    def put(self, packet: Packet | bytes, header: bytes | None = None, end: bool = True) -> None:
        """One packet from the tunnel, behind an offload header if one is given, then the batch."""
        raw = bytes(packet)
        if header is None and self.link.offload:
            header = bytes(10)
        data = memoryview(bytearray((header or b"") + raw + b"\xaa" * 3))
        start = len(header or b"")
        self.peer.from_tunnel(data, start, start + len(raw), header is not None, self.now)
        # The buffer is the caller's again: nothing may still point into it.
        data[:] = bytes(len(data))
        if end:
            self.peer.end_batch(self.now)

    def got(self) -> list[Packet]:
        """What the client receives now, checked."""
        self.peer.pull(self.now)
        return [checked(packet, fields, self.link) for fields, packet in self.link.take()]

    def one(self) -> Packet:
        """The one packet that the client receives now."""
        packets = self.got()
        assert len(packets) == 1, [packet.summary() for packet in packets]
        return packets[0]

    def exchange(self, packet: Packet | bytes) -> Packet:
        """A packet that is answered by one packet."""
        self.put(packet)
        return self.one()

    def count(self, name: str) -> int:
        return self.counters.total()[name]

    def pass_time(self, seconds: float) -> None:
        """Run every timer that is due until then, in order."""
        end = self.now + seconds
        while (timer := self.nat.get_timer()) is not None and timer <= end:
            self.now = max(self.now, timer)
            self.nat.handle_timer(self.now)
        self.now = end

    def balanced(self) -> None:
        """Every packet from the tunnel is accounted for, and each count is explained."""
        total, forwarded, answered, dropped = self.counters.balance()
        assert total == forwarded + answered + dropped, self.counters.snapshot()
        assert [name for name in self.counters.snapshot() if counted(name) is None] == []


class Client:
    """The client's end of one TCP connection, by hand."""

    def __init__(
        self, world: World, version: int = 4, dport: int = 80, sport: int = 40000, **ip: Any
    ) -> None:
        self.world = world
        self.version = version
        self.sport = sport
        self.dport = dport
        self.ip = ip
        self.seq = 1000
        self.ack = 0
        self.shift = 0
        """The NAT's window shift."""

    def segment(self, flags: str, data: bytes = b"", **fields: Any) -> Packet:
        tcp = TCP(
            sport=self.sport, dport=self.dport, flags=flags, seq=self.seq, ack=self.ack,
            window=fields.pop("window", 65535), **fields,
        )  # fmt: skip
        packet = self.world.ip(self.version, **self.ip) / tcp
        return packet / Raw(data) if data else packet

    def send(self, flags: str, data: bytes = b"", end: bool = True, **fields: Any) -> None:
        self.world.put(self.segment(flags, data, **fields), end=end)
        self.seq += len(data) + ("F" in flags) + ("S" in flags)

    def take(self, packets: list[Packet]) -> bytes:
        """Receive segments in order; returns their payload. FIN counts as one more."""
        payload = b""
        for packet in packets:
            tcp = packet[TCP]
            assert tcp.dport == self.sport
            data = bytes(tcp.payload) if not isinstance(tcp.payload, (NoPayload, Padding)) else b""
            if data or tcp.flags.F:
                assert tcp.seq == self.ack
            payload += data
            self.ack = (tcp.seq + len(data) + bool(tcp.flags.F) + bool(tcp.flags.S)) & 0xFFFFFFFF
        return payload

    def connect(self, mss: int = 1460) -> Client:
        """Through the handshake, the outward connect included."""
        self.send("S", options=[("MSS", mss), ("WScale", 7)])
        assert self.world.got() == []
        self.world.outward.streams[-1].connected(self.world.now)
        answer = self.world.got()
        self.shift = dict(answer[0][TCP].options)["WScale"]
        self.take(answer)
        self.send("A")
        return self

    def window(self, packet: Packet) -> int:
        """The window that a segment of the NAT's advertises."""
        return int(packet[TCP].window) << self.shift


def checked(packet: bytes, fields: tuple[int, int, int, int, int], link: PacketLog) -> Packet:
    """Scapy's view of an emitted packet, whose checksums and lengths it has confirmed."""
    gso_type, gso_size, _, csum_start, csum_offset = fields
    whole = bytearray(packet)
    if not gso_type:
        assert len(whole) <= link.mtu
    if gso_type or csum_start:
        assert link.offload
        assert gso_type != 5 or link.offload_udp
    if csum_start:
        # What the receiver's kernel does with NEEDS_CSUM.
        value = finish(add(whole[csum_start:]))
        at = csum_start + csum_offset
        whole[at : at + 2] = value.to_bytes(2, "big")
    if gso_type:
        assert gso_size > 0
    version = whole[0] >> 4
    parsed: Packet = (IP if version == 4 else IPv6)(bytes(whole))
    again = parsed.copy()
    layer = again
    while not isinstance(layer, NoPayload):
        if isinstance(layer, (IP, TCP, UDP, ICMP)):
            del layer.chksum
        if isinstance(layer, (IP, UDP)) and not gso_type:
            del layer.len
        if isinstance(layer, IPv6):
            del layer.plen
        if isinstance(layer, _ICMPv6):
            del layer.cksum
        if isinstance(layer, (ICMP, IPv6ExtHdrFragment)) or (
            isinstance(layer, IP) and (layer.frag or layer.flags.MF)
        ):
            # What an ICMP error quotes, or a fragment holds, is not to be computed anew.
            if isinstance(layer, ICMP) and layer.type in (3, 11):
                layer.remove_payload()
                layer.add_payload(Raw(bytes(whole)[28:]))
            elif not isinstance(layer, ICMP):
                break
        if isinstance(layer, _ICMPv6) and layer.type < 128:
            layer.remove_payload()
            layer.add_payload(Raw(bytes(whole)[48:]))
        layer = layer.payload
    fragment = version == 4 and (parsed.frag or parsed.flags.MF)
    if not fragment and not parsed.haslayer(IPv6ExtHdrFragment):
        assert bytes(again) == bytes(whole), parsed.show(dump=True)
    return parsed
