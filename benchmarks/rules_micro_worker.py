"""One side of `rules_micro.py`: a device with as many destinations as the first word says.

With any it has a quota for both ways and a bound on its connections, too; with 0 it has no rule.
Says `ready`, then takes a burst for each line on standard input, and says microseconds a unit.
"""

from __future__ import annotations

import random
import struct
import sys
import time
from collections.abc import Callable
from ipaddress import ip_network

from benchmarks import nat_micro
from benchmarks.nat_micro import Case, World
from rules.destinations import compile_addresses
from rules.value import Destination, Protocol, Target, Verdict

BURST = 1e-3
"""Seconds."""
QUOTA_LEFT = 450 * 10**12
"""Bytes each way: where the gates put both stops of a quota of 900 TB for both."""
MAX_FLOWS = 1000


def destinations(count: int) -> list[Destination]:
    """Networks of both families with ports, none of which fits what the cases send."""
    rng = random.Random(1)
    found = []
    for number in range(count):
        # Apart from 192.0.2.1 and from the hosts of `new_hosts`, which begin with 1 to 127.
        network = (
            ip_network((rng.randrange(200, 224) << 24 | rng.getrandbits(24) >> 8 << 8, 24))
            if number % 2
            else ip_network((0x2001_0DB8 << 96 | rng.getrandbits(32) << 64, 64))
        )
        low = rng.randrange(1, 60_000)
        ports = ((low, low + rng.randrange(100)),)
        verdict = rng.choice([Verdict.ALLOW, Verdict.DENY, Verdict.DENY])
        protocol = rng.choice([Protocol.ANY, Protocol.TCP, Protocol.UDP])
        found.append(Destination(verdict, Target(network, "", protocol, ports)))
    return found


def new_hosts(world: World) -> Case:
    """A datagram each to hosts that were not sent to before, from one port."""
    packet = world.udp(32)
    number = 0
    while True:
        for _ in range(nat_micro.BATCH):
            number = (number + 7919) % 0x7E000000
            packet[26:30] = (0x01000000 + number).to_bytes(4, "big")
            # The header's checksum anew; the datagram's is left to the offload.
            struct.pack_into("!H", packet, 20, 0)
            total = sum(struct.unpack_from("!10H", packet, 10))
            total = (total & 0xFFFF) + (total >> 16)
            total = (total & 0xFFFF) + (total >> 16)
            struct.pack_into("!H", packet, 20, ~total & 0xFFFF)
            world.put(packet)
        world.peer.end_batch(world.now)
        yield nat_micro.BATCH


KINDS: dict[str, Callable[[World], Case]] = {
    "a TCP connection, 7 packets each way": nat_micro.connections,
    "a UDP datagram to a new host": new_hosts,
    "an ACK of a running TCP flow": nat_micro.acks,
    "64 KiB of a running TCP flow up": lambda world: nat_micro.tcp_up(world, 65000, 1),
    "64 KiB of a running TCP flow down, with its ACK": nat_micro.tcp_down,
    "a UDP datagram of a running flow": nat_micro.udp_up,
}


def main() -> None:
    count = int(sys.argv[1])
    rules = compile_addresses(destinations(count)) if count else None
    running: dict[str, Case] = {}
    print("ready", flush=True)
    for line in sys.stdin:
        kind = line.strip()
        if kind not in running:
            world = World(offload=True)
            if rules is not None:
                world.nat.set_rules(world.peer, rules, MAX_FLOWS, world.now)
                world.peer.up_stop = world.peer.down_stop = QUOTA_LEFT
            running[kind] = KINDS[kind](world)
            next(running[kind])
        units = 0
        began = time.thread_time()
        while (took := time.thread_time() - began) < BURST:
            units += next(running[kind])
        print(took / units * 1e6, flush=True)


if __name__ == "__main__":
    main()
