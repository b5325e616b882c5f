"""Two checkouts, or two ways of one, by bursts in turns: for machines that are never quiet.

A worker is a process that says `ready`, and then takes a burst of about a millisecond for each line
that it is told, and says the processor time of a unit of it. Bursts of both sides alternate, in
random order, so both have the same neighbours; a burst is too short to be interrupted often. No two
processes lie in memory alike, which can be worth a percent, so several pairs of them are taken, and
the error is that of their mean.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import statistics
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
NORMAL_MEDIAN_ERROR = math.sqrt(math.pi / 2)
"""The error of a median beside that of a mean."""
OF_NORMAL = 1.349
"""A normal distribution's quartiles lie so many standard deviations apart."""
WARM_UP = 20
"""Bursts of each kind before those that count."""


def several(text: str) -> int:
    """For a command line: a number of pairs, at least the two that an error can be told from."""
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError("at least 2: one says nothing of its error")
    return number


class Worker:
    """The program `script` of this checkout with the modules, and the Python, of `tree`."""

    def __init__(self, tree: Path, script: str, *words: str) -> None:
        self._process = subprocess.Popen(
            [str(tree / ".venv/bin/python"), "-P", str(TREE / "benchmarks" / script), *words],
            cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._read()

    def burst(self, kind: str) -> float:
        """Microseconds a unit."""
        assert self._process.stdin is not None
        self._process.stdin.write(kind + "\n")
        self._process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended with {self._process.wait()}")
        return line


class Found:
    """What the bursts of one kind took, by pair of workers."""

    def __init__(self) -> None:
        self._shares: list[float] = []
        self._others: list[float] = []

    def add(self, bursts: list[tuple[float, float]]) -> None:
        """(this, that) of each burst of a pair of workers."""
        self._shares.append(statistics.median(math.log(a / b) for a, b in bursts))
        self._others += (b for _, b in bursts)

    def __str__(self) -> str:
        low, more, high = statistics.quantiles(self._shares, n=4)
        error = (high - low) / OF_NORMAL / math.sqrt(len(self._shares)) * NORMAL_MEDIAN_ERROR
        base = statistics.median(self._others)
        return f"{base:9.3f} us   {100 * math.expm1(more):+6.2f} +- {100 * error:.2f} %"


def compare(
    this: Callable[[], Worker],
    that: Callable[[], Worker],
    kinds: Iterable[str],
    bursts: int,
    pairs: int,
    name: str = "",
) -> None:
    """Print for each kind what a unit takes of that, and how much more of this."""
    found = {kind: Found() for kind in kinds}
    for _ in range(pairs):
        one, other = this(), that()
        try:
            for kind, all_pairs in found.items():
                in_turns(one, other, kind, WARM_UP)
                all_pairs.add(in_turns(one, other, kind, bursts))
        finally:
            one.close()
            other.close()
    for kind, all_pairs in found.items():
        print(f"{name + kind:44} {all_pairs}", flush=True)


def in_turns(one: Worker, other: Worker, kind: str, bursts: int) -> list[tuple[float, float]]:
    """What bursts of both took, either order as likely as the other."""
    took = []
    for _ in range(bursts):
        if random.random() < 0.5:
            first = one.burst(kind)
            took.append((first, other.burst(kind)))
        else:
            second = other.burst(kind)
            took.append((one.burst(kind), second))
    return took
