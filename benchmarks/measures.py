"""What is measured on a path, each as a function that yields named figures.

A measure gets an open path and the settings of the run, and yields pairs of
name and value. Units are in the names' table in report.py.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

from benchmarks.paths import ECHO_PORT, Path
from tests.netns.processes import Failed, Process

LOAD = str(File(__file__).with_name("load.py"))

GAP_INTERVAL = 0.1
"""Seconds: what iperf3 counts the bytes of, to see a transfer that stalls."""
UDP_PAYLOAD = 1200
UDP_LOSS_LIMIT = 1.0
"""Per cent."""
UDP_FIRST_RATE = 8_000
"""Packets a second at which the search begins."""
UDP_STEPS = 4
"""Halvings of the interval between the last good and the first bad rate."""
UDP_SHORTFALL = 0.97
"""A sender that reaches less of its rate than this is itself the limit."""
PARALLEL_CONNECTIONS = 50
PINGED_FLOWS = 1000
HELD_FLOWS = (1000, 10_000)
GIGABYTE = 1e9
IPERF_ATTEMPTS = 8
BUSY = "the server is busy"
"""What iperf3 says while its server still drains the test before: tried again a second later."""

Figures = Iterator[tuple[str, float]]


@dataclass(frozen=True)
class Settings:
    """Of a run."""

    seconds: float = 5.0
    """Of bulk transfers, and the other timed loads."""
    idle_seconds: float = 12.0


def load(path: Path, *words: object, timeout: float = 120.0) -> Any:
    """Run the load generator at the client; its figures."""
    argv = [sys.executable, LOAD, *map(str, words)]
    return json.loads(path.world.client.run(argv, timeout=timeout).stdout)


def whole_seconds(seconds: float) -> str:
    """A duration for iperf3, which cuts off fractions, and at 0 goes on without end."""
    return str(max(1, math.ceil(seconds)))


def iperf(path: Path, seconds: float, *options: str) -> Any:
    """Run iperf3 at the client; its `end` record."""
    return iperf_report(path, seconds, *options)["end"]


def iperf_report(path: Path, seconds: float, *options: str) -> Any:
    """Run iperf3 at the client; all that it tells."""
    argv = ["iperf3", "-c", path.server, "-t", whole_seconds(seconds), "--json", *options]
    for _ in range(IPERF_ATTEMPTS):
        report = json.loads(path.world.client.run(argv, timeout=seconds + 60, check=False).stdout)
        if "error" not in report:
            return report
        if BUSY not in report["error"]:
            break
        time.sleep(1.0)
    raise Failed(f"iperf3: {report['error']}")


def begin_download(path: Path, seconds: float) -> Process:
    """Start a bulk download that lasts at least `seconds` unless it is ended."""
    for _ in range(IPERF_ATTEMPTS):
        bulk = path.world.client.start(
            ["iperf3", "-c", path.server, "-t", whole_seconds(seconds), "-R"]
        )
        time.sleep(1.0)
        if bulk.running() or BUSY not in bulk.tail():
            break
    return bulk


def tcp(path: Path, settings: Settings) -> Figures:
    """Bulk throughput, and what a gigabyte costs each side."""
    for streams in (1, 8):
        for direction, option in (("up", []), ("down", ["-R"])):
            before = path.cpu()
            report = iperf_report(
                path, settings.seconds, "-P", str(streams), "-i", str(GAP_INTERVAL), *option
            )
            after = path.cpu()
            end = report["end"]
            received = end["sum_received"]
            yield f"tcp_{direction}_{streams}", received["bits_per_second"]
            if direction == "down" and streams == 1:
                yield "tcp_down_gap", longest_gap(report["intervals"])
            if streams == 1 and path.client_pids:
                gigabytes = received["bytes"] / GIGABYTE
                yield f"cpu_{direction}_client", (after[0] - before[0]) / gigabytes
                yield f"cpu_{direction}_gateway", (after[1] - before[1]) / gigabytes
                yield f"cpu_{direction}", (sum(after) - sum(before)) / gigabytes


def longest_gap(intervals: list[Any]) -> float:
    """The longest time in which no byte arrived, in seconds, by whole intervals."""
    longest = gap = 0.0
    for interval in intervals:
        whole = interval["sum"]
        gap = 0.0 if whole["bytes"] else gap + whole["seconds"]
        longest = max(longest, gap)
    return longest


def udp(path: Path, settings: Settings) -> Figures:
    """The largest rate of 1200-byte datagrams that arrives with less than 1 % missing."""
    if not path.udp:
        return
    for direction, option in (("up", []), ("down", ["-R"])):
        yield f"udp_{direction}", udp_search(path, settings, option)


def udp_search(path: Path, settings: Settings, option: list[str]) -> float:
    """Double the rate until packets are missing, then halve the interval."""
    best, good, bad = 0.0, 0.0, 0.0
    rate = float(UDP_FIRST_RATE)
    steps = 0
    while steps < UDP_STEPS:
        arrived, loss, offered = udp_trial(path, settings.seconds / 2, rate, option)
        if loss < UDP_LOSS_LIMIT:
            best, good = max(best, arrived), rate
            if offered < rate * UDP_SHORTFALL:
                break
        else:
            bad = rate
        if bad:
            steps += 1
            rate = (good + bad) / 2
        else:
            rate *= 2
    return best


def udp_trial(
    path: Path, seconds: float, rate: float, option: list[str]
) -> tuple[float, float, float]:
    """Packets a second that arrived, per cent lost, packets a second that were sent."""
    bits = int(rate * UDP_PAYLOAD * 8)
    try:
        end = iperf(path, seconds, "-u", "-l", str(UDP_PAYLOAD), "-b", str(bits), *option)
    except Failed:
        return 0.0, 100.0, rate
    total = end["sum"]
    sent = total["packets"]
    if not sent:
        return 0.0, 100.0, rate
    lost = min(total["lost_packets"], sent)
    return (sent - lost) / total["seconds"], 100 * lost / sent, sent / total["seconds"]


def connections(path: Path, settings: Settings) -> Figures:
    """Connect, 100 bytes each way, close; fifty at a time."""
    result = load(path, "connections", path.server, ECHO_PORT, settings.seconds,
                  PARALLEL_CONNECTIONS)  # fmt: skip
    yield "connections", result["per_second"]
    yield "connections_failed", result["failed"]


def latency(path: Path, settings: Settings) -> Figures:
    """Connect and echo while nothing else happens."""
    result = load(path, "latency", path.server, ECHO_PORT, settings.seconds)
    yield "latency_p50", result["p50"]
    yield "latency_p99", result["p99"]


def loaded(path: Path, settings: Settings) -> Figures:
    """Connect and echo during a bulk download."""
    bulk = begin_download(path, settings.seconds + 30)
    try:
        result = load(path, "latency", path.server, ECHO_PORT, settings.seconds)
        if not bulk.running():
            raise Failed(f"the bulk download ended early:\n{bulk.tail()}")
    finally:
        bulk.kill()
        time.sleep(1.0)
    yield "loaded_p50", result["p50"]
    yield "loaded_p99", result["p99"]


def pinged(path: Path, settings: Settings) -> Figures:
    """A thousand open flows that all ask at once."""
    result = load(path, "ping", path.server, ECHO_PORT, PINGED_FLOWS, 5)
    yield "pinged_p50", result["p50"]
    yield "pinged_p99", result["p99"]


def idle(path: Path, settings: Settings) -> Figures:
    """Wake-ups of both sides while nobody sends anything."""
    if not path.client_pids:
        return
    time.sleep(3.0)
    before = path.wake_ups()
    time.sleep(settings.idle_seconds)
    after = path.wake_ups()
    yield "wake_ups", (sum(after) - sum(before)) / settings.idle_seconds
    yield "wake_ups_gateway", (after[1] - before[1]) / settings.idle_seconds


def flows(path: Path, settings: Settings) -> Figures:
    """Memory with open flows. The last, since what a program has taken it may keep."""
    if not path.client_pids:
        return
    with_one = held(path, 1)
    yield "rss_1_client", with_one[0]
    yield "rss_1_gateway", with_one[1]
    for count in HELD_FLOWS:
        client, gateway = held(path, count)
        yield f"rss_{count}_client", client
        yield f"rss_{count}_gateway", gateway
        yield f"flow_{count}", (client + gateway - sum(with_one)) / (count - 1)


def held(path: Path, count: int) -> tuple[int, int]:
    """Resident bytes of client and gateway while `count` flows are open."""
    process = path.world.client.start(
        [sys.executable, LOAD, "hold", path.server, str(ECHO_PORT), str(count)]
    )
    try:
        process.wait_for_log(f"held {count}", 90.0)
        time.sleep(1.0)
        return path.rss()
    finally:
        process.kill()
        time.sleep(1.0)


MEASURES: dict[str, Callable[[Path, Settings], Figures]] = {
    "idle": idle,
    "latency": latency,
    "tcp": tcp,
    "loaded": loaded,
    "udp": udp,
    "connections": connections,
    "pinged": pinged,
    "flows": flows,
}
"""In the order in which they are taken."""
