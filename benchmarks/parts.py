"""Parts of two checkouts beside each other: sessions, NAT and TCP, by bursts in turns.

The cases of `nat_micro` and `tcp_micro`, as each checkout has them, and the streams of
`vshp_micro`, without sockets and NIC; and what a client does with datagrams. Prints microseconds
of processor time of each in the other checkout, and what this one takes more, with the standard
error (`turns.py`).

    python -m benchmarks.parts TREE [--only tcp] [--bursts 60] [--pairs 8]
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from benchmarks.nat_micro import CASES as NAT
from benchmarks.parts_worker import CLIENT, SESSION
from benchmarks.tcp_micro import CASES as TCP
from benchmarks.turns import TREE, Worker, compare, several

SCRIPT = "parts_worker.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("against", type=Path, metavar="TREE", help="another checkout")
    parser.add_argument("--only", default="", help="cases whose name has this")
    parser.add_argument("--bursts", type=int, default=60, help="of each case and pair")
    parser.add_argument("--pairs", type=several, default=8, help="of processes")
    options = parser.parse_args()
    names = [f"nat {name}" for name, _, _ in NAT]
    names += [f"tcp {name}" for name, _, _ in TCP]
    names += [f"session {name}" for name in SESSION]
    names += [f"client {name}" for name in CLIENT]
    compare(
        partial(Worker, TREE, SCRIPT),
        partial(Worker, options.against.resolve(), SCRIPT),
        [name for name in names if options.only in name],
        options.bursts,
        options.pairs,
    )


if __name__ == "__main__":
    main()
