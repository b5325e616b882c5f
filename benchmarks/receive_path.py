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
    parser.add_argument("--workers", type=int, default=4, help="in turn, since no two processes"
                        " lie in memory alike (default 4)")  # fmt: skip
    parser.add_argument("--against", type=Path, metavar="TREE", help="another checkout")
    options = parser.parse_args()
    tree = options.against.resolve() if options.against else TREE
    for way, kinds in KINDS.items():
        took: dict[str, tuple[list[float], list[float]]] = {kind: ([], []) for kind in kinds}
        for _ in range(options.workers):
            this = Worker(TREE, way)
            that = Worker(tree, way, *([] if options.against else ["blind"]))
            try:
                for kind, (some, others) in took.items():
                    in_turns(this, that, kind, 20, ([], []))
                    in_turns(this, that, kind, options.bursts // options.workers, (some, others))
            finally:
                this.close()
                that.close()
        for kind, (some, others) in took.items():
            report(f"{way}, {kind}", some, others)


def in_turns(
    one: Worker, other: Worker, kind: str, bursts: int, took: tuple[list[float], list[float]]
) -> None:
    """Bursts of both, either order as likely as the other."""
    for _ in range(bursts):
        pair = [(one, took[0]), (other, took[1])]
        random.shuffle(pair)
        for worker, found in pair:
            found.append(worker.burst(kind))


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
