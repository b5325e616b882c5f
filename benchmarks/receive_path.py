"""A device's receive path by itself, in bursts of a millisecond: for machines that are never quiet.

From sealed records to a full socket behind a real NIC, in one thread: open, walk the frames, look
(`client/outlet/nic/ingress.py`), write to the NIC, the kernel's way in with the fence
(`client/system/fence.py`). No gateway, no waking up, no TCP: what is added to the path weighs more
here than in a download. Processes of two kinds take bursts in turns (`turns.py`):

- without `--against`: this tree with both looks, and with neither;
- with `--against TREE` (another checkout with its environment): this tree and that one.

Prints microseconds of processor time a packet of the second kind, and what the first costs more,
with the standard error.

Run as root: python -m benchmarks.receive_path [--against TREE] [--bursts 100] [--pairs 12]
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from benchmarks.receive_path_worker import KINDS
from benchmarks.turns import TREE, Worker, compare, several

SCRIPT = "receive_path_worker.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--bursts", type=int, default=100, help="of each kind and pair")
    parser.add_argument("--pairs", type=several, default=12, help="of processes")
    parser.add_argument("--against", type=Path, metavar="TREE", help="another checkout")
    options = parser.parse_args()
    for way, kinds in KINDS.items():
        this = partial(Worker, TREE, SCRIPT, way)
        that = partial(Worker, TREE, SCRIPT, way, "blind")
        if options.against:
            that = partial(Worker, options.against.resolve(), SCRIPT, way)
        compare(this, that, kinds, options.bursts, options.pairs, f"{way}, ")


if __name__ == "__main__":
    main()
