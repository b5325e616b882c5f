"""Packets that no kernel would route: put on the virtual NIC as they are, answers read there.

A client may send through its tunnel whatever it likes, also what its own kernel
would never send there: packets to 127.0.0.1, to ::ffff:10.1.0.1, to the networks
it is attached to. A packet socket on the NIC does so without changing routes.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from types import TracebackType
from typing import Self

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest, IPv6
from scapy.packet import Packet, Raw

from tests.netns.hosts import Host

ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD
PACKET_OUTGOING = 4
SOURCE_PORT = 40000
IDENT = 0x5653
PROTOCOLS = ("tcp", "udp", "icmp")


class RawNic:
    """The client's end of the tunnel, packet by packet."""

    def __init__(self, host: Host, interface: str, ipv4: str, ipv6: str) -> None:
        self._interface = interface
        self._addresses = {4: ipv4, 6: ipv6}
        self._sock = host.inside(
            lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        )
        self._sock.bind((interface, ETH_P_ALL))
        self._sock.settimeout(0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._sock.close()

    def packet(self, protocol: str, destination: str, port: int) -> Packet:
        """A SYN, a datagram or an echo request of the lease's own address."""
        version = ipaddress.ip_address(destination).version
        header = IP if version == 4 else IPv6
        network = header(src=self._addresses[version], dst=destination)
        if protocol == "tcp":
            return network / TCP(sport=SOURCE_PORT, dport=port, flags="S", seq=1)
        if protocol == "udp":
            return network / UDP(sport=SOURCE_PORT, dport=port) / Raw(b"anybody there?")
        echo = ICMP(id=IDENT, seq=1) if version == 4 else ICMPv6EchoRequest(id=IDENT, seq=1)
        return network / echo / Raw(b"ping")

    def send(self, packet: Packet) -> None:
        kind = ETH_P_IP if packet.version == 4 else ETH_P_IPV6
        self._sock.sendto(bytes(packet), (self._interface, kind))

    def answer(self, sent: Packet, seconds: float) -> str:
        """What comes back for a packet: `rst`, `icmp TYPE/CODE`, `other`; empty when nothing."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                data, origin = self._sock.recvfrom(65536)
            except TimeoutError:
                continue
            if origin[2] == PACKET_OUTGOING:
                continue
            found = judged(data, sent)
            if found:
                return found
        return ""


def judged(data: bytes, sent: Packet) -> str:
    """What a received packet says about a sent one; empty when it is about another."""
    version = data[0] >> 4
    if version != sent.version:
        return ""
    got = IP(data) if version == 4 else IPv6(data)
    destination = bytes(sent)[16:20] if version == 4 else bytes(sent)[24:40]
    if version == 4 and ICMP in got and got[ICMP].type == 3:
        quoted = bytes(got[ICMP].payload)
        return f"icmp 3/{got[ICMP].code}" if quoted[16:20] == destination else ""
    if version == 6 and ICMPv6DestUnreach in got:
        quoted = bytes(got[ICMPv6DestUnreach].payload)
        return f"icmp 1/{got[ICMPv6DestUnreach].code}" if quoted[24:40] == destination else ""
    source = data[12:16] if version == 4 else data[8:24]
    if source != destination:
        return ""
    if TCP in got:
        return "rst" if got[TCP].flags & 0x04 else "other"
    return "other"


def spellings(ipv4: str) -> dict[str, str]:
    """The IPv6 addresses by which a translator or a tunnel would reach an IPv4 one."""
    packed = ipaddress.IPv4Address(ipv4).packed
    complement = bytes(b ^ 0xFF for b in packed)
    other = ipaddress.IPv4Address("198.51.100.7").packed

    def text(value: bytes) -> str:
        return str(ipaddress.IPv6Address(value))

    def prefixed(prefix: str, tail: bytes) -> str:
        return text(ipaddress.IPv6Address(prefix).packed[: 16 - len(tail)] + tail)

    return {
        "mapped": prefixed("::ffff:0:0", packed),
        "compatible": prefixed("::", packed),
        "translated": prefixed("::ffff:0:0:0", packed),
        "NAT64": prefixed("64:ff9b::", packed),
        "NAT64 local": prefixed("64:ff9b:1::", packed),
        "6to4": text(b"\x20\x02" + packed + bytes(9) + b"\x01"),
        "Teredo server": text(b"\x20\x01\0\0" + packed + bytes(8)),
        "Teredo client": text(b"\x20\x01\0\0" + other + bytes(4) + complement),
        "ISATAP": prefixed("2001:db8::200:5efe:0:0", packed),
    }
