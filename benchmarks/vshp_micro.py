"""What a session costs beside its cipher.

Prints microseconds per 64 KiB record and per small packet, sealing and
opening, each beside the bare AEAD of the same size. Run it alone on the
machine: `python -m benchmarks.vshp_micro`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sealing.records import RecordKey
from tests.vshp.dialogue import LEASE, Pair, connected, drain, feed
from vshp.config import Suite

LARGE = 65000
SMALL = 60
BATCH = 64
ROUNDS = 7


def best(work: Callable[[], None], count: int) -> float:
    """Microseconds per call, the best of several rounds."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(count):
            work()
        times.append((time.perf_counter() - start) / count)
    return min(times) * 1e6


def bare(suite: Suite, size: int) -> tuple[float, float]:
    """Microseconds of encrypt_into and decrypt_into with ready views."""
    key = RecordKey(suite.cipher, bytes(32))
    plain = memoryview(bytearray(size))
    sealed = memoryview(bytearray(size + 16))
    nonce = key.nonce(0, 1)
    seal = best(lambda: key.encrypt_into(nonce, plain, None, sealed), 500)
    key.encrypt_into(nonce, plain, None, sealed)
    return seal, best(lambda: key.decrypt_into(nonce, sealed, None, plain), 500)


def opening(both: Pair, fill: Callable[[], None], records: int) -> float:
    """Microseconds per record to open what `fill` queues, received in one go."""
    times = []
    for _ in range(ROUNDS * 20):
        fill()
        data = drain(both.client)
        buffer = both.gateway.receive_buffer()
        buffer[: len(data)] = data
        start = time.perf_counter()
        both.gateway.received(len(data), 0.0)
        times.append((time.perf_counter() - start) / records)
    return min(times) * 1e6


def report(name: str, suite: Suite, cost: float, cipher: float) -> None:
    print(f"{suite.name:20} {name:34} {cost:8.2f} us   {cost - cipher:6.2f} us beside the AEAD")


def measure(suite: Suite) -> None:
    from dataclasses import replace

    both = connected(replace(LEASE, offload=True), suite)
    both.gateway.on_packet = lambda buf, start, end, offload: None
    writer = both.client.writer
    packet = bytearray(64 + LARGE)

    def send_large() -> None:
        writer.send_packet(packet, 64, 64 + LARGE)
        writer.consumed(len(writer.output()))

    def send_small() -> None:
        for _ in range(BATCH):
            writer.reserve_packet(SMALL)
        writer.flush()
        writer.consumed(len(writer.output()))

    seal, unseal = bare(suite, LARGE + 14)
    report("seal one packet of 64 KiB", suite, best(send_large, 300), seal)
    feed(both.gateway, b"")
    both = connected(replace(LEASE, offload=True), suite)
    both.gateway.on_packet = lambda buf, start, end, offload: None
    writer = both.client.writer
    three = 3

    def fill_large() -> None:
        for _ in range(three):
            writer.send_packet(packet, 64, 64 + LARGE)

    report("open one record of 64 KiB", suite, opening(both, fill_large, three), unseal)

    def fill_small() -> None:
        for _ in range(BATCH):
            writer.reserve_packet(SMALL)
        writer.flush()

    seal, unseal = bare(suite, BATCH * (SMALL + 14))
    report(
        f"seal a packet of {SMALL} in {BATCH}", suite, best(send_small, 300) / BATCH, seal / BATCH
    )
    both = connected(replace(LEASE, offload=True), suite)
    both.gateway.on_packet = lambda buf, start, end, offload: None
    writer = both.client.writer
    report(
        f"open a packet of {SMALL} in {BATCH}",
        suite,
        opening(both, fill_small, BATCH),
        unseal / BATCH,
    )


if __name__ == "__main__":
    for each in Suite:
        measure(each)
