"""`python -m benchmarks`: build the namespaces, measure each path, print one table.

Needs root, iperf3 and nothing else; `--peers` adds other tunnels where they
are installed. Every path gets a world of its own, one after the other, on the
same machine in the same run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path as File

from benchmarks.measures import LOAD, MEASURES, Settings
from benchmarks.paths import ECHO_PORT, OWN, Missing, Opener
from benchmarks.peers import PEERS
from benchmarks.report import table
from tests.netns.processes import Failed
from tests.netns.world import World


def say(text: str) -> None:
    """Progress, beside the results."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def serving(world: World) -> Iterator[None]:
    """The loads' servers, and room for the ports that the loads use up."""
    for host in (world.client, world.gateway):
        host.sysctl(
            {"net.ipv4.ip_local_port_range": "1024 65535", "net.ipv4.tcp_max_syn_backlog": 4096}
        )
    iperf = world.server.start(["iperf3", "-s", "--forceflush"])
    echo = world.server.start([sys.executable, LOAD, "serve", str(ECHO_PORT)])
    dns = world.server.start(["dnsmasq", "-k", "--no-resolv", "--no-hosts", "-C", "/dev/null",
                              "--user=root", "--pid-file="])  # fmt: skip
    try:
        iperf.wait_for_log("Server listening")
        echo.wait_for_log("ready")
        yield
    finally:
        for process in (iperf, echo, dns):
            process.kill()


def measure(name: str, opener: Opener, wanted: list[str], settings: Settings) -> dict[str, float]:
    """All wanted figures of one path; what cannot be measured is told and left out."""
    figures: dict[str, float] = {}
    with World() as world, serving(world):
        try:
            with opener(world) as path:
                for measure_name in wanted:
                    say(f"{name}: {measure_name}")
                    try:
                        for figure, value in MEASURES[measure_name](path, settings):
                            figures[figure] = value
                            say(f"    {figure} = {value:.6g}")
                    except Failed as problem:
                        say(f"{name}: {measure_name} failed: {problem}")
        except Failed as problem:
            say(f"{name}: {problem}\n{world.log_tails(15)}")
    return figures


def names(text: str, known: list[str]) -> list[str]:
    """The names in a comma-separated list, in our order. Raises ArgumentTypeError."""
    asked = text.split(",")
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of: {', '.join(known)}")
    return [name for name in known if name in asked]


def main() -> int:
    paths = {**OWN, **PEERS}
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--peers", action="store_true", help="other tunnels too")
    parser.add_argument(
        "--paths", type=lambda text: names(text, list(paths)), help=f"of {', '.join(paths)}"
    )
    parser.add_argument(
        "--only",
        type=lambda text: names(text, list(MEASURES)),
        default=list(MEASURES),
        help=f"measures, of {', '.join(MEASURES)}",
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load (default 5)")
    parser.add_argument("--json", type=File, help="also write the figures to this file")
    options = parser.parse_args()
    if os.geteuid():
        parser.error("needs root: it builds network namespaces")
    chosen = options.paths or [*OWN, *(PEERS if options.peers else ())]
    results: dict[str, dict[str, float]] = {}
    for name in chosen:
        try:
            results[name] = measure(
                name, paths[name], options.only, Settings(seconds=options.seconds)
            )
        except Missing as reason:
            say(f"{name}: left out, {reason}")
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
