"""How much Python a load takes: of this checkout and of another, counted and not timed.

A client or a gateway counts the instructions of bytecode that it executes and the functions that
it calls while the load goes on (`counts_worker.py`); printed is how many for 64 KiB of what the
NIC carried, or for a connection. No other process and no clock changes what a packet takes, so a
difference of a hundredth is one, on a busy machine, too. It is not the time: the kernel's calls and
the cipher are not in it, and a side that counts is many times slower, so that more packets than
otherwise are in a batch, and where there are several streams how large they are is chance.

The other checkout needs an environment of its own (run `./check tests/vshp` there once).

Run: sudo .venv/bin/python -m benchmarks.counts TREE [--paths offload,plain] [--loads up,tcp]
     sudo .venv/bin/python -m benchmarks.counts TREE --sides gateway --loads up --functions 20
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.__main__ import names
from benchmarks.ingress import PATHS, WHOLE_LOADS, Tunnel
from tests.netns.processes import wait_for
from tests.netns.product import Client, Gateway
from tests.netns.world import PROJECT, SERVER, World

PIECE = 64 * 1024
"""Bytes that figures of a transfer are for."""
ECHO_PORT = "7777"
CONNECTIONS = {"connections": ("50",), "latency": ()}
"""Loads of connections (`load.py`): fifty at a time, and one after the other; what it is told."""
LOADS = (*WHOLE_LOADS, *CONNECTIONS)
WARM_UP = 1.5
SIDES = ("gateway", "client")
LOAD = PROJECT / "benchmarks/load.py"


@dataclass
class Found:
    """What a side has executed, for a piece or a connection."""

    instructions: dict[str, float]
    calls: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.instructions.values())


def counting(tree: Path, folder: Path) -> tuple[Path, Path]:
    """A command of a checkout that counts, and where its count will be."""
    command, file = folder / "vpnshare", folder / "count.json"
    words = [tree / ".venv/bin/python", PROJECT / "benchmarks/counts_worker.py", tree, file]
    command.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, words))} "$@"\n')
    command.chmod(0o755)
    return command, file


def count(tree: Path, path: str, load: str, side: str, seconds: float) -> Found:
    """Carry a load by a checkout whose `side` counts."""
    with (
        TemporaryDirectory() as name,
        World() as world,
        Gateway(world) as gateway,
        Client(world) as client,
    ):
        for service in (gateway, client):
            service.executable = tree / ".venv/bin/vpnshare"
        one: Gateway | Client = gateway if side == "gateway" else client
        one.executable, file = counting(tree, Path(name))
        client.configure(PATHS[path])
        gateway.share()
        client.start()
        client.join(gateway)
        if load in CONNECTIONS:
            units = connect(world, load, one, seconds)
        else:
            units = carry(Tunnel(world, gateway, client), load, one, seconds)
        wait_for(file.exists, f"the count of process {one.pid}", 60)
        rows = json.loads(file.read_text())
    found = Found({}, {})
    for function, calls, instructions in rows:
        found.instructions[function] = instructions / units
        found.calls[function] = calls / units
    return found


def switch(one: Gateway | Client) -> None:
    assert one.process is not None
    one.process.popen.send_signal(signal.SIGUSR2)


def carry(tunnel: Tunnel, load: str, one: Gateway | Client, seconds: float) -> float:
    """Count during a transfer; its pieces."""
    tunnel.world.server.start(["iperf3", "-s", "--forceflush"]).wait_for_log("listening")
    process = tunnel.carry(load, seconds + WARM_UP + 30)
    time.sleep(WARM_UP)
    before = tunnel.carried()
    switch(one)
    time.sleep(seconds)
    switch(one)
    pieces = (tunnel.carried() - before) / PIECE
    assert process.running(), process.tail()
    process.kill()
    return pieces


def connect(world: World, load: str, one: Gateway | Client, seconds: float) -> float:
    """Count during many connections; how many they were."""
    world.server.start([sys.executable, str(LOAD), "serve", ECHO_PORT]).wait_for_log("ready")
    words = [sys.executable, str(LOAD), load, SERVER, ECHO_PORT]
    world.client.run([*words, "0.5", *CONNECTIONS[load]])
    switch(one)
    answer = world.client.run([*words, str(seconds), *CONNECTIONS[load]])
    switch(one)
    told = json.loads(answer.stdout)
    return float(told.get("done") or told["samples"])


def short(function: str) -> str:
    """Without the file: from one checkout to the next code moves."""
    return function.partition(":")[2]


def differences(this: Found, that: Found, count: int) -> Iterator[str]:
    """The functions that differ most in what they take."""
    sums: dict[str, list[float]] = {}
    for at, found in enumerate((this, that)):
        for function, value in found.instructions.items():
            sums.setdefault(short(function), [0.0, 0.0])[at] += value
    most = sorted(sums, key=lambda name: -abs(sums[name][0] - sums[name][1]))
    for name in most[:count]:
        ours, theirs = sums[name]
        yield f"    {ours - theirs:+9.1f}  {theirs:9.1f} {ours:9.1f}  {name}"


def some(known: tuple[str, ...], text: str) -> list[str]:
    return names(text, list(known))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("against", type=Path, metavar="TREE", help="another checkout")
    for option, known, usual in (
        ("--paths", tuple(PATHS), tuple(PATHS)),
        ("--loads", LOADS, ("up", "tcp", *CONNECTIONS)),
        ("--sides", SIDES, SIDES),
    ):
        parser.add_argument(
            option, type=partial(some, known), default=list(usual),
            help=f"of {', '.join(known)} (default {','.join(usual)})",
        )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=3.0, help="of a load (default 3)")
    parser.add_argument("--functions", type=int, default=0, metavar="N",
                        help="the N functions that differ most")  # fmt: skip
    options = parser.parse_args()
    other = options.against.resolve()
    if not (other / ".venv/bin/vpnshare").exists():
        parser.error(f"no environment in {options.against}: run ./check tests/vshp there once")
    print("path      load         side         other      this   this/other   calls: other  this")
    for path in options.paths:
        for load in options.loads:
            for side in options.sides:
                that, this = (
                    count(tree, path, load, side, options.seconds) for tree in (other, PROJECT)
                )
                calls = [sum(found.calls.values()) for found in (that, this)]
                print(
                    f"{path:9} {load:12} {side:9} {that.total:8.0f}  {this.total:8.0f}"
                    f"   {this.total / that.total:10.3f}   {calls[0]:12.1f} {calls[1]:5.1f}",
                    flush=True,
                )
                for line in differences(this, that, options.functions):
                    print(line, flush=True)


if __name__ == "__main__":
    main()
