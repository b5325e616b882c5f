"""One side of `receive_path.py`: says `ready`, then takes a burst for each line on standard input.

Run with the Python of the checkout that is measured, in a network namespace that it makes. The
argument is `plain` or `offload`; with `blind` behind it no packet is looked at, neither here nor
by the kernel.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import subprocess
import sys
import time
from importlib import import_module
from typing import Any, cast

KINDS = {
    "plain": {"IPv4, 1480": 1480, "IPv6, 1480": 1480, "IPv4, 1228": 1228},
    "offload": {"IPv4, 60000": 60000, "IPv6, 60000": 60000},
}
"""Packets of one frame each, their bytes by their name."""
BURST_BYTES = 600_000
PORT = 5353
FAR, FAR6 = "192.0.2.1", "2001:db8::1"
OWN, OWN6 = "10.77.0.2", "fd77::2"
MARK = 77777
CLONE_NEWNET = 0x40000000


def run(line: str, text: str | None = None) -> None:
    subprocess.run(line.split(), input=text, text=True, check=True)


def set_up(nic: Any, fenced: bool) -> list[socket.socket]:
    """The NIC as a client has it; sockets that take nothing but cost what sockets cost."""
    run("ip link set lo up")
    run(f"ip address add {OWN}/32 dev {nic.name}")
    run(f"ip address add {OWN6}/128 dev {nic.name} nodad")
    run(f"ip link set {nic.name} up")
    for family in ("-4", "-6"):
        run(f"ip {family} route add default dev {nic.name} table {MARK}")
        for number, rule in enumerate((
            "ipproto udp dport 53 goto 14", "ipproto tcp dport 53 goto 14",
            f"fwmark {MARK} lookup main", "lookup main suppress_prefixlength 0",
            f"not fwmark {MARK} lookup {MARK}",
        )):  # fmt: skip
            run(f"ip {family} rule add pref {10 + number} {rule}")
    if fenced and os.path.exists("client/system/fence.py"):
        from client.system.fence import inside, ruleset, table_name

        table = table_name(MARK)
        run("nft -f -", ruleset(table, MARK, inside(nic.name, (OWN, OWN6), True), None, None))
    socks = []
    for address in (OWN, OWN6):
        six = ":" in address
        sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        sock.bind((address, PORT))
        socks.append(sock)
    return socks


def datagram(size: int, ipv6: bool) -> bytes:
    """UDP with right checksums, from afar to the socket."""
    from netstack.checksum import add, finish

    def checksum(data: bytes) -> bytes:
        return finish(add(data)).to_bytes(2, "big")

    head = 40 if ipv6 else 20
    ports = b"\0\x35" + PORT.to_bytes(2, "big")
    length = (size - head).to_bytes(2, "big")
    body = bytes(size - head - 8)
    if ipv6:
        far, own = (socket.inet_pton(socket.AF_INET6, a) for a in (FAR6, OWN6))
        pseudo = far + own + bytes(2) + length + bytes(3) + b"\x11"
        total = checksum(pseudo + ports + length + bytes(2) + body)
        head6 = b"\x60\0\0\0" + length + b"\x11\x40" + far + own
        return head6 + ports + length + total + body
    header = (b"\x45\0" + size.to_bytes(2, "big") + bytes(4) + b"\x40\x11" + bytes(2)
              + socket.inet_aton(FAR) + socket.inet_aton(OWN))  # fmt: skip
    header = header[:10] + checksum(header) + header[12:]
    return header + ports + length + bytes(2) + body


def opened(offload: bool, blind: bool, nic: Any) -> Any:
    """A session whose client's link writes to the NIC."""
    from dataclasses import replace

    from client.link import Link
    from client.model import TransportEndpoint
    from tests.vshp.dialogue import LEASE, connected
    from vshp.config import Suite

    class Still(Link):
        """A link that only receives."""

        def _begin(self) -> None: ...

    lease = replace(LEASE, offload=offload)
    both = connected(lease, Suite.AESGCM_SHA256)
    made = Still(cast(Any, None), TransportEndpoint("tcp", "10.0.0.1", 1), both.client, "")
    # This checkout's, whatever tree is measured.
    sys.path.append(os.path.dirname(__file__))
    attached = import_module("attaching").attached

    port = attached(made, nic, lease)
    if blind:
        from benchmarks import ingress_switch

        both.client.on_packet = ingress_switch.blind(port, made)
        both.client.on_packets = ingress_switch.blind_to_all(port, made)
    return both


class Bursts:
    """Sealed records of one kind, and what it takes to receive them."""

    def __init__(self, both: Any, packet: bytes) -> None:
        self._both, self._packet = both, packet
        self._count = BURST_BYTES // len(packet)

    def take(self) -> float:
        """Microseconds of processor time a packet."""
        both, packet = self._both, self._packet
        writer = both.gateway.writer
        source = bytearray(64) + packet
        for _ in range(self._count):
            writer.send_packet(source, 64, 64 + len(packet))
        writer.flush()
        output = writer.output()
        at = 0
        took = 0
        while at < len(output):
            buffer = both.client.receive_buffer()
            size = min(len(buffer), len(output) - at)
            buffer[:size] = output[at : at + size]
            at += size
            began = time.thread_time_ns()
            both.client.received(size, 0.0)
            took += time.thread_time_ns() - began
        writer.consumed(len(output))
        return took / self._count / 1e3


async def main() -> None:
    try:
        nics = import_module("client.outlet.nic.nic")
    except ImportError:
        nics = import_module("client.nic")
    kinds = KINDS[sys.argv[1]]
    offload, blind = sys.argv[1] == "offload", "blind" in sys.argv
    if ctypes.CDLL(None).unshare(CLONE_NEWNET):
        raise SystemExit("needs root: it makes a network namespace")
    nic = nics.TunDevice(offload=offload)
    socks = set_up(nic, fenced=not blind)
    both = opened(offload, blind, nic)
    bursts = {kind: Bursts(both, datagram(size, "IPv6" in kind)) for kind, size in kinds.items()}
    print("ready", flush=True)
    for line in sys.stdin:
        print(bursts[line.strip()].take(), flush=True)
    for sock in socks:
        sock.close()


if __name__ == "__main__":
    from eventloop.poller import PolledLoop

    with asyncio.Runner(loop_factory=PolledLoop) as runner:
        runner.run(main())
