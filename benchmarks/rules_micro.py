"""What an owner's rules cost in the NAT, by bursts in turns (`turns.py`).

Two processes of this checkout: one has a device without rules, the other one that has a quota for
both ways, a bound on its connections, and a full list of destinations of which none fits: none of
it is reached. Prints microseconds of processor time without rules, and what they take more, with
the standard error.

    python -m benchmarks.rules_micro [--entries 1000] [--bursts 60] [--pairs 8]
"""

from __future__ import annotations

import argparse
from functools import partial

from benchmarks.rules_micro_worker import KINDS
from benchmarks.turns import TREE, Worker, compare, several
from rules.value import MAX_DESTINATIONS


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--entries", type=int, default=MAX_DESTINATIONS, help="of destinations")
    parser.add_argument("--bursts", type=int, default=60, help="of each case and pair")
    parser.add_argument("--pairs", type=several, default=8, help="of processes")
    options = parser.parse_args()
    if options.entries < 1:
        parser.error("--entries: at least 1")
    compare(
        partial(Worker, TREE, "rules_micro_worker.py", str(options.entries)),
        partial(Worker, TREE, "rules_micro_worker.py", "0"),
        KINDS,
        options.bursts,
        options.pairs,
    )


if __name__ == "__main__":
    main()
