"""A device's receive path by itself, in bursts of a millisecond: for machines that are never quiet.

From sealed records to a full socket behind a real NIC, in one thread: open, walk the frames, look
(`client/ingress.py`), write to the NIC, the kernel's way in with the fence
(`client/system/fence.py`). No gateway, no waking up, no TCP: what is added to the path weighs more
here than in a download. Processes of two kinds take bursts in turns, in random order:

- without `--against`: this tree with both looks, and with neither;
- with `--against TREE` (another checkout with its environment): this tree and that one.

Prints microseconds of processor time a packet of the second kind, and what the first costs more:
the median of the differences and its share, with the standard error of the median.

Run as root: python -m benchmarks.receive_path [--against TREE] [--bursts 1000]
"""

from __future__ import annotations

import argparse
import math
import os
import random
import statistics
import subprocess
from pathlib import Path

from benchmarks.receive_path_worker import KINDS

TREE = Path(__file__).resolve().parents[1]
WORKER = TREE / "benchmarks/receive_path_worker.py"
NORMAL_MEDIAN_ERROR = math.sqrt(math.pi / 2)
"""The error of a median beside that of a mean."""
OF_NORMAL = 1.349
"""A normal distribution's quartiles lie so many standard deviations apart."""


class Worker:
    """A process with a NIC of its own, that takes a burst when it is told."""

    def __init__(self, tree: Path, *words: str) -> None:
        self._process = subprocess.Popen(
            [str(tree / ".venv/bin/python"), "-P", str(WORKER), *words],
            cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._read()

    def burst(self, kind: str) -> float:
        """Microseconds a packet."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--bursts", type=int, default=1000, help="of each kind (default 1000)")
    parser.add_argument("--against", type=Path, metavar="TREE", help="another checkout")
    options = parser.parse_args()
    for way, kinds in KINDS.items():
        this = Worker(TREE, way)
        tree = options.against.resolve() if options.against else TREE
        that = Worker(tree, way, *([] if options.against else ["blind"]))
        try:
            for kind in kinds:
                in_turns(this, that, kind, 20)
                report(f"{way}, {kind}", *in_turns(this, that, kind, options.bursts))
        finally:
            this.close()
            that.close()


def in_turns(one: Worker, other: Worker, kind: str, bursts: int) -> tuple[list[float], list[float]]:
    """Bursts of both, either order as likely as the other."""
    took: tuple[list[float], list[float]] = [], []
    for _ in range(bursts):
        pair = [(one, took[0]), (other, took[1])]
        random.shuffle(pair)
        for worker, list_ in pair:
            list_.append(worker.burst(kind))
    return took


def report(kind: str, some: list[float], others: list[float]) -> None:
    more = [a - b for a, b in zip(some, others, strict=True)]
    low, middle, high = statistics.quantiles(more, n=4)
    error = (high - low) / OF_NORMAL / math.sqrt(len(more)) * NORMAL_MEDIAN_ERROR
    base = statistics.median(others)
    best = min(some) - min(others)
    print(
        f"{kind:22} {base:7.3f} us   more {middle:+.3f} +- {error:.3f} us"
        f"   {100 * middle / base:+.1f} +- {100 * error / base:.1f} %"
        f"   least {min(others):.3f}, more {best:+.3f} ({100 * best / min(others):+.1f} %)",
        flush=True,
    )


if __name__ == "__main__":
    main()
