"""One side of `parts.py`: says `ready`, then takes a burst for each line on standard input.

Run with the Python of the checkout that is measured.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

BURST = 1e-3
"""Seconds."""
LARGE, SMALL = 65000, 60
RECORDS = 3
"""Large ones that are received in one go."""
BATCH = 64
"""Small packets of a record."""


NOISE = random.Random(1).randbytes(1 << 17)


def received(stream: object, buffer: memoryview, size: int = 0, /) -> int:
    """For `nat_micro.NullStream`."""
    if not (buffer[0] or buffer[1]):
        buffer[:size] = NOISE[:size]
    return size


def nat(name: str) -> Callable[[], float]:
    from benchmarks import nat_micro

    # As it is here: older ones have no payload but zeros, whose checksum costs nothing.
    cast(Any, nat_micro.NullStream).recv_into = received
    offload, make = next((offload, make) for n, offload, make in nat_micro.CASES if n == name)
    case = make(nat_micro.World(offload))
    for _ in range(50):
        next(case)

    def burst() -> float:
        units = 0
        began = time.thread_time()
        while (took := time.thread_time() - began) < BURST:
            units += next(case)
        return took / units

    return burst


def tcp(name: str) -> Callable[[], float]:
    from benchmarks import tcp_micro

    run, count = next((run, count) for n, run, count in tcp_micro.CASES if n == name)
    # Its own clock also runs while others have the processor.
    cast(Any, tcp_micro).time = SimpleNamespace(perf_counter=time.thread_time)
    short = max(20, min(count, int(BURST / run(20))))
    return lambda: run(short)


def session(name: str) -> Callable[[], float]:
    from dataclasses import replace

    from tests.vshp.dialogue import LEASE, connected, drain
    from vshp.config import Suite

    both = connected(replace(LEASE, offload=True), Suite.AESGCM_SHA256)
    both.gateway.on_packet = lambda buf, start, end, offload: None
    writer = both.client.writer
    packet = bytearray(64 + LARGE)

    def fill_large() -> int:
        for _ in range(RECORDS):
            writer.send_packet(packet, 64, 64 + LARGE)
        return RECORDS

    def fill_small() -> int:
        for _ in range(BATCH):
            writer.reserve_packet(SMALL)
        writer.flush()
        return BATCH

    way, _, size = name.partition(" ")
    fill = fill_small if size == "small" else fill_large

    def burst() -> float:
        took, units = 0.0, 0
        while took < BURST:
            began = time.thread_time()
            count = fill()
            sealed = time.thread_time() - began
            data = drain(both.client)
            buffer = both.gateway.receive_buffer()
            buffer[: len(data)] = data
            began = time.thread_time()
            both.gateway.received(len(data), 0.0)
            opened = time.thread_time() - began
            took += sealed if way == "seals" else opened
            units += count
        return took / units

    return burst


SESSION = ("seals small", "seals 64 KiB", "opens small", "opens 64 KiB")
PARTS = {"nat": nat, "tcp": tcp, "session": session}


def main() -> None:
    bursts: dict[str, Callable[[], float]] = {}
    print("ready", flush=True)
    for line in sys.stdin:
        what = line.strip()
        if what not in bursts:
            part, _, name = what.partition(" ")
            bursts[what] = PARTS[part](name)
        print(bursts[what]() * 1e6, flush=True)


if __name__ == "__main__":
    main()
