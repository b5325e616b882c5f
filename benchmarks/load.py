"""The load that the benchmarks put on a path: one small program, run inside a namespace.

    load.py serve PORT                          echo server
    load.py connections HOST PORT SECONDS N     connect, 100 bytes each way, close; N in parallel
    load.py latency HOST PORT SECONDS           the same, one after the other, each timed
    load.py ping HOST PORT N ROUNDS             N open flows, all pinged at once, each timed
    load.py hold HOST PORT N                    N open flows, held until the program is ended

Results are one JSON object on standard output. It is written for speed: one
epoll, edge-triggered, one registration a socket, no objects beside the
sockets, so that it measures the path rather than itself; what it costs shows
in the same measure on the direct path.
"""

from __future__ import annotations

import json
import resource
import select
import signal
import socket
import sys
import time

MESSAGE = bytes(100)
MAX_CONNECTIONS = 30_000
"""A run ends after so many: each leaves a port in TIME-WAIT, and there are only 64,000."""
OPENING = 100
"""Flows that are being opened at a time by `ping` and `hold`."""
EDGE = select.EPOLLIN | select.EPOLLOUT | select.EPOLLET


def serve(port: int) -> None:
    listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", port))
    listener.listen(4096)
    listener.setblocking(False)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    print("ready", flush=True)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == listener.fileno():
                try:
                    while True:
                        connection, _ = listener.accept()
                        connection.setblocking(False)
                        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        connections[connection.fileno()] = connection
                        poll.register(connection.fileno(), select.EPOLLIN)
                except BlockingIOError:
                    continue
            connection = connections[descriptor]
            try:
                data = connection.recv(4096)
                if data:
                    connection.send(data)
                    continue
            except OSError:
                pass  # Reset by the other side: closed like any other.
            del connections[descriptor]
            connection.close()


def begin(family: int, target: tuple[str, int]) -> socket.socket:
    """A connection that is being opened."""
    opening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    opening.connect_ex(target)
    return opening


def connections(family: int, target: tuple[str, int], seconds: float, parallel: int) -> object:
    poll = select.epoll()
    active: dict[int, socket.socket] = {}
    sent: set[int] = set()
    done = failed = 0

    def start() -> None:
        opening = begin(family, target)
        number = opening.fileno()
        active[number] = opening
        poll.register(number, EDGE)

    started = time.perf_counter()
    end = started + seconds
    for _ in range(parallel):
        start()
    while active:
        for number, mask in poll.poll():
            connection = active[number]
            if number not in sent:
                if mask & (select.EPOLLERR | select.EPOLLHUP):
                    failed += 1
                else:
                    connection.send(MESSAGE)
                    sent.add(number)
                    continue
            elif not mask & select.EPOLLIN:
                continue
            else:
                try:
                    done += len(connection.recv(4096)) == len(MESSAGE)
                except BlockingIOError:
                    continue
                except OSError:
                    failed += 1
                sent.discard(number)
            del active[number]
            connection.close()
            if time.perf_counter() < end and done < MAX_CONNECTIONS:
                start()
    elapsed = time.perf_counter() - started
    return {"per_second": done / elapsed, "done": done, "failed": failed}


def latency(family: int, target: tuple[str, int], seconds: float) -> object:
    samples = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        begun = time.perf_counter()
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(10)
            connection.connect(target)
            connection.send(MESSAGE)
            connection.recv(4096)
            samples.append(time.perf_counter() - begun)
        time.sleep(0.002)
    return percentiles(samples)


def open_flows(family: int, target: tuple[str, int], count: int) -> list[socket.socket]:
    """`count` connections that have each echoed a message."""
    poll = select.epoll()
    opening: dict[int, socket.socket] = {}
    flows: list[socket.socket] = []
    begun = 0
    while len(flows) < count:
        while begun < count and len(opening) < OPENING:
            connection = begin(family, target)
            opening[connection.fileno()] = connection
            poll.register(connection.fileno(), select.EPOLLOUT)
            begun += 1
        for number, mask in poll.poll(30):
            if mask & (select.EPOLLERR | select.EPOLLHUP):
                raise ConnectionError(f"flow {len(flows)} was refused")
            if mask & select.EPOLLOUT:
                opening[number].send(MESSAGE)
                poll.modify(number, select.EPOLLIN)
            else:
                opening[number].recv(4096)
                poll.unregister(number)
                flows.append(opening.pop(number))
    return flows


def ping(family: int, target: tuple[str, int], count: int, rounds: int) -> object:
    flows = open_flows(family, target, count)
    poll = select.epoll()
    by_number = {flow.fileno(): flow for flow in flows}
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    samples = []
    for _ in range(rounds):
        time.sleep(0.5)
        sent_at: dict[int, float] = {}
        for number, flow in by_number.items():
            sent_at[number] = time.perf_counter()
            flow.send(MESSAGE)
        while sent_at:
            events = poll.poll(30)
            if not events:
                raise ConnectionError(f"{len(sent_at)} of {count} flows did not answer")
            for number, _ in events:
                by_number[number].recv(4096)
                samples.append(time.perf_counter() - sent_at.pop(number))
    return percentiles(samples)


def hold(family: int, target: tuple[str, int], count: int) -> object:
    flows = open_flows(family, target, count)
    print(f"held {len(flows)}", flush=True)
    signal.pause()
    return {"held": len(flows)}


def percentiles(samples: list[float]) -> dict[str, float]:
    """Seconds; p50, p99 and how many samples there were."""
    samples.sort()
    return {
        "p50": samples[len(samples) // 2],
        "p99": samples[min(len(samples) - 1, len(samples) * 99 // 100)],
        "samples": len(samples),
    }


def main() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    mode, *words = sys.argv[1:]
    if mode == "serve":
        return serve(int(words[0]))
    host, port = words[0], int(words[1])
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    target = (host, port)
    if mode == "connections":
        result = connections(family, target, float(words[2]), int(words[3]))
    elif mode == "latency":
        result = latency(family, target, float(words[2]))
    elif mode == "ping":
        result = ping(family, target, int(words[2]), int(words[3]))
    else:
        result = hold(family, target, int(words[2]))
    print(json.dumps(result), flush=True)
    return None


if __name__ == "__main__":
    main()
