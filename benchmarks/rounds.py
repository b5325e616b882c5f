"""The table of two checkouts: whole paths of this one and of another, in turns.

A round measures every path with this checkout's services and with the other's, each in a world of
its own, in random order; the bare path once. The loads and what measures are this checkout's.
Prints for each figure the medians of both, and how many times as much (of what is wanted little)
or as little (of what is wanted much) this one gives: 1.03 is 3 % worse. The mean is geometric,
over the rounds, with its standard error.

The other checkout needs an environment of its own (run `./check tests/vshp` there once).

Run: sudo .venv/bin/python -m benchmarks.rounds TREE [--rounds 5] [--paths vpnshare]
"""

from __future__ import annotations

import argparse
import math
import os
import random
import statistics
from pathlib import Path

from benchmarks.__main__ import measure, names, say
from benchmarks.measures import MEASURES, Settings
from benchmarks.paths import NIC, direct, vpnshare
from benchmarks.report import ROWS
from tests.netns.product import EXECUTABLE

WANTED = ("tcp", "connections", "latency", "loaded")
"""Measures that a run has unless it is told otherwise."""
MUCH = {"tcp_up_1", "tcp_down_1", "tcp_up_8", "tcp_down_8", "udp_up", "udp_down", "connections"}
"""Figures of which more is better."""
UNJUDGED = {"tcp_down_gap", "connections_failed"}
"""Figures that are 0 when all is well: medians only."""

Rounds = list[dict[str, float]]
"""The figures of each round."""


def worse(name: str, this: Rounds, that: Rounds) -> str:
    """By how many times this one is worse, and the standard error."""
    pairs = [(a[name], b[name]) for a, b in zip(this, that, strict=True) if name in a and name in b]
    logs = [math.log(a / b) for a, b in pairs if a > 0 and b > 0]
    if name in UNJUDGED or len(logs) < 2:
        return ""
    mean = -statistics.mean(logs) if name in MUCH else statistics.mean(logs)
    return f"{math.exp(mean):.3f} ({statistics.stdev(logs) / math.sqrt(len(logs)):.3f})"


def table(path: str, this: Rounds, that: Rounds) -> str:
    """A path's figures as Markdown."""
    lines = [f"| {path} | other | this | worse by |", "| --- | --- | --- | --- |"]
    for row in ROWS:
        values = [[each[row.name] for each in side if row.name in each] for side in (that, this)]
        if all(values):
            cells = [row.write(statistics.median(side)) for side in values]
            lines.append(f"| {row.title} | {' | '.join(cells)} | {worse(row.name, this, that)} |")
    return "\n".join(lines)


def bare(rounds: Rounds) -> str:
    """The bare path's figures."""
    lines = ["| direct | median |", "| --- | --- |"]
    for row in ROWS:
        if values := [each[row.name] for each in rounds if row.name in each]:
            lines.append(f"| {row.title} | {row.write(statistics.median(values))} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("against", type=Path, metavar="TREE", help="another checkout")
    parser.add_argument(
        "--paths", type=lambda text: names(text, list(NIC)),
        default=["vpnshare", "vpnshare-plain"], help=f"of {', '.join(NIC)}",
    )  # fmt: skip
    parser.add_argument(
        "--only", type=lambda text: names(text, list(MEASURES)),
        default=list(WANTED), help=f"measures, of {', '.join(MEASURES)}",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5, help="at least 2 (default 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each load (default 1)")
    options = parser.parse_args()
    other = options.against.resolve() / ".venv/bin/vpnshare"
    if os.geteuid():
        parser.error("needs root: it builds network namespaces")
    if options.seconds < 1:
        parser.error("--seconds: at least 1")
    if options.rounds < 2:
        parser.error("--rounds: at least 2")
    if not other.exists():
        parser.error(f"no environment in {options.against}: run ./check tests/vshp there once")
    settings = Settings(seconds=options.seconds)
    bares: Rounds = []
    sides: dict[tuple[str, Path], Rounds] = {}
    for number in range(options.rounds):
        say(f"round {number + 1} of {options.rounds}")
        bares.append(measure("direct", direct, options.only, settings))
        turns = [(path, tree) for path in options.paths for tree in (EXECUTABLE, other)]
        random.shuffle(turns)
        for path, tree in turns:
            opener = vpnshare(*NIC[path], tree)
            figures = measure(f"{path}, {'this' if tree == EXECUTABLE else 'other'}",
                              opener, options.only, settings)  # fmt: skip
            sides.setdefault((path, tree), []).append(figures)
    print(bare(bares))
    for path in options.paths:
        print(f"\n{table(path, sides[path, EXECUTABLE], sides[path, other])}")


if __name__ == "__main__":
    main()
