"""What it costs a device to look at what its gateway sends: a download, looks on and off in turns.

A packet from the gateway is looked at twice: by the client before it writes it to the NIC
(`client/outlet/nic/ingress.py`), and by the kernel behind the NIC (`client/system/fence.py`). A
real gateway and client are built from namespaces (root, Linux, nft, iperf3), and one download goes
on through the tunnel. In turns, in random order, both looks are in force or neither is: the client
runs with a switch (`ingress_switch.py`), the table is deleted and loaded again.

With `--against TREE`, an older checkout with its environment (run `./check tests/vshp` there
once), the turns are two whole tunnels instead, this tree's and that one's, and each turn is a
load of its own, which can be uploads and several streams, too. Two processes of the same code
differ by some hundredths for as long as they live (where their memory lies, how their dicts hash),
which no number of turns evens out: the pairs are spread over `--builds` pairs of tunnels, and the
error is that of the builds' means.

With `--rules` what is on or off in turns are an owner's rules for the device, all but a speed limit
and none that it reaches: quota, end, hours, destinations, connections. They are changed live.

Processor seconds per byte move less than throughput does on a machine that does other things,
too. The answer is the ratio of on to off (this tree to that one), as the mean over the pairs of
turns with its standard error, as the median, and over the quietest fifth of turns of either kind.

Run: python -m benchmarks.ingress [--paths offload,plain] [--loads tcp,tcp6,udp] [--pairs 60]
     python -m benchmarks.ingress --against TREE --loads up,up8,tcp,tcp8
     python -m benchmarks.ingress --rules --loads up,tcp
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.__main__ import names
from benchmarks.ingress_switch import OFF, ON
from benchmarks.measures import whole_seconds
from tests.netns.processes import Process
from tests.netns.product import Client, Gateway
from tests.netns.world import PROJECT, SERVER, SERVER6, World

PATHS = {"offload": "", "plain": "[client]\noffload = false\n"}
"""The client's configuration. `plain` is a packet of 1500 bytes a frame."""
UDP_PAYLOAD = 1200
UDP_RATE = "250M"
"""Within what every machine carries: the load is the same for all turns."""
LOADS = {
    "tcp": (SERVER, "-R"),
    "tcp6": (SERVER6, "-R"),
    "udp": (SERVER, "-R", "-u", "-l", str(UDP_PAYLOAD), "-b", UDP_RATE),
}
"""What iperf3's client is told."""
WHOLE_LOADS = LOADS | {
    "tcp8": (SERVER, "-R", "-P", "8"),
    "up": (SERVER,),
    "up8": (SERVER, "-P", "8"),
    "udp-up": (SERVER, "-u", "-l", str(UDP_PAYLOAD), "-b", UDP_RATE),
}
"""The same where two trees are compared, which can be by uploads, too."""
RULES = (
    *("--quota", "900TB/month", "--for", "30d"),
    *("--flows", "1000", "--deny", "name ads.example", "--deny", "set mail"),
    *("--deny", "192.0.2.0/24", "--allow", "tcp 1-65535", "--deny", "udp 4444"),
)
"""What an owner says of a device that may do all that it does here (`--rules`)."""
WARM_UP = 3.0
"""Seconds that a download has to reach its rate."""
SETTLE = 0.1
"""Seconds between a switch and the measure."""
QUIET = 0.2
BOOTSTRAP = 400
"""Draws by which the error of a ratio of quiet turns is estimated."""
AGAINST_SETTLE = 0.4
"""The same for a download that has just begun."""


@dataclass(frozen=True)
class Turn:
    """What one turn took."""

    bits: float
    """Carried, per second."""
    client: float
    """Processor seconds of the client per byte."""
    gateway: float


Turns = list[tuple[Turn, Turn]]
"""Pairs: with, and without."""


class Tunnel:
    """A client and its gateway in a world of their own, and what they use."""

    def __init__(self, world: World, gateway: Gateway, client: Client) -> None:
        self.world, self.gateway, self.client = world, gateway, client
        self._pids = (client.pid, gateway.pid)
        self._interface = f"{client.status()['interface']}:"

    def carry(self, load: str, seconds: float | None = None) -> Process:
        """Begin a load. It ends by itself, if `seconds` says so."""
        target, *options = WHOLE_LOADS[load]
        length = "0" if seconds is None else whole_seconds(seconds)
        argv = ["iperf3", "-c", target, "-t", length, *options]
        return self.world.client.start(argv)

    def turn(self, seconds: float) -> Turn:
        """Measure for so long."""
        began, had, used = time.monotonic(), self.carried(), [cpu(pid) for pid in self._pids]
        time.sleep(seconds)
        took, got = time.monotonic() - began, self.carried() - had
        client, gateway = (cpu(pid) - u for pid, u in zip(self._pids, used, strict=True))
        if not got:
            raise SystemExit("nothing was carried")
        return Turn(got * 8 / took, client / got, gateway / got)

    def carried(self) -> int:
        """Received and sent by the NIC so far."""
        table = Path(f"/proc/{self.client.pid}/net/dev").read_text()
        (line,) = (line for line in table.splitlines() if line.strip().startswith(self._interface))
        words = line.split(":")[1].split()
        return int(words[0]) + int(words[8])


def cpu(pid: int) -> float:
    """Seconds on a processor of all threads of a process so far, to the nanosecond."""
    return sum(int((task / "schedstat").read_text().split()[0])
               for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9  # fmt: skip


class SwitchedClient(Client):
    """One that can be told to look at nothing."""

    def daemon(self) -> list[str]:
        return [sys.executable, "-I", str(PROJECT / "benchmarks/ingress_switch.py"), self.role]


@contextlib.contextmanager
def tunnel(path: str, kind: type[Client] = Client, tree: Path = PROJECT) -> Iterator[Tunnel]:
    """A tunnel of a checkout, up."""
    with World() as world, Gateway(world) as gateway, kind(world) as client:
        for service in (gateway, client):
            service.executable = tree / ".venv/bin/vpnshare"
        client.configure(PATHS[path])
        gateway.share()
        client.start()
        client.join(gateway)
        world.server.start(["iperf3", "-s", "--forceflush"]).wait_for_log("listening")
        yield Tunnel(world, gateway, client)


class Looks:
    """Both looks of a client as a switch."""

    def __init__(self, client: Client) -> None:
        self._client = client
        tables = client.host.run(["nft", "list", "tables"]).stdout.split()
        (self._table,) = (word for word in tables if word.startswith("vpnshare_fence_"))
        self._rules = client.host.run(["nft", "list", "table", "inet", self._table]).stdout

    def switch(self, on: bool) -> None:
        process = self._client.process
        assert process is not None
        process.popen.send_signal(ON if on else OFF)
        if on:
            self._client.host.nft(self._rules)
        else:
            self._client.host.run(["nft", "delete", "table", "inet", self._table])


def hours() -> list[str]:
    """All of the week but the day that is farthest from now."""
    names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    off = (time.localtime().tm_wday + 3) % 7
    return ["--hours", ",".join(name for day, name in enumerate(names) if day != off)]


class Ruled:
    """The rules of a client's device as a switch."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        (peer,) = gateway.peers()
        self._id = peer["id"]
        self.switch(True)

    def switch(self, on: bool) -> None:
        self._gateway.command("rules", self._id, *[*RULES, *hours()] if on else ["--clear"])


def on_and_off(path: str, load: str, pairs: int, seconds: float, rules: bool) -> dict[str, Any]:
    """One load, with the looks (or the rules) and without."""
    with tunnel(path, Client if rules else SwitchedClient) as one:
        looks = Ruled(one.gateway) if rules else Looks(one.client)
        download = one.carry(load)
        time.sleep(WARM_UP)
        state = True

        def turn(on: bool) -> Turn:
            nonlocal state
            if on is not state:
                looks.switch(on)
                state = on
            time.sleep(SETTLE)
            return one.turn(seconds)

        found = summary(in_turns(turn, pairs))
        assert download.running(), download.tail()
        download.kill()
    return found


def against(
    tree: Path, path: str, load: str, pairs: int, seconds: float, builds: int
) -> dict[str, Any]:
    """Downloads or uploads by this tree and by that one.

    Of two tunnels side by side the one that was built first takes some hundredths more, whichever
    it is: half of the pairs are taken with either first.
    """
    turns: Turns = []
    for number in range(builds):
        first = tree if number % 2 else PROJECT
        second = tree if first is PROJECT else PROJECT
        with tunnel(path, tree=first) as one, tunnel(path, tree=second) as two:
            this, that = (one, two) if first is PROJECT else (two, one)

            def turn(ours: bool, this: Tunnel = this, that: Tunnel = that) -> Turn:
                side = this if ours else that
                process = side.carry(load, seconds + AGAINST_SETTLE)
                time.sleep(AGAINST_SETTLE)
                try:
                    return side.turn(seconds)
                finally:
                    process.popen.wait(30)

            for each in (True, False):
                turn(each)
            turns += in_turns(turn, pairs // builds)
        print(f"{number + 1} builds", file=sys.stderr)
    return summary(turns, pairs // builds)


def in_turns(turn: Callable[[bool], Turn], pairs: int) -> Turns:
    """Pairs of turns, either order as likely as the other."""
    taken: Turns = []
    for number in range(pairs):
        order = [True, False]
        random.shuffle(order)
        took = {on: turn(on) for on in order}
        taken.append((took[True], took[False]))
        if number % 10 == 9:
            print(f"{number + 1} pairs", file=sys.stderr)
    return taken


def summary(turns: Turns, together: int = 1) -> dict[str, Any]:
    """What pairs of turns say, of which `together` each were taken by the same processes."""
    ons, offs = zip(*turns, strict=True)

    def ratio(some: list[float], others: list[float]) -> dict[str, float]:
        return compared(list(zip(some, others, strict=True)), together)

    return {
        "mbit": round(statistics.median(each.bits for each in offs) / 1e6),
        "client_s_per_gb": round(statistics.median(each.client for each in offs) * 1e9, 3),
        "gateway_s_per_gb": round(statistics.median(each.gateway for each in offs) * 1e9, 3),
        "client": ratio([t.client for t in ons], [t.client for t in offs]),
        "gateway": ratio([t.gateway for t in ons], [t.gateway for t in offs]),
        "both": ratio([t.client + t.gateway for t in ons], [t.client + t.gateway for t in offs]),
        # By the time of a bit, of which less is better, too.
        "throughput": ratio([1 / t.bits for t in offs], [1 / t.bits for t in ons]),
    }


def compared(pairs: list[tuple[float, float]], together: int) -> dict[str, float]:
    """Of each pair: the (geometric) mean, how far it may be off (one standard error, by what the
    means of `together` pairs each say), the median.

    And of the quietest turns: `QUIET` of either kind, those in which it was least, by themselves.
    On a machine that does other things, too, these move far less.
    """
    logs = [math.log(a / b) for a, b in pairs]
    means = [statistics.mean(logs[at : at + together]) for at in range(0, len(logs), together)]
    drawn = random.Random(1)
    again = [least(drawn.choices(pairs, k=len(pairs))) for _ in range(BOOTSTRAP)]
    return {
        "ratio": round(math.exp(statistics.mean(logs)), 4),
        "standard_error": round(statistics.stdev(means) / math.sqrt(len(means)), 4),
        "median": round(math.exp(statistics.median(logs)), 4),
        "quiet": round(least(pairs), 4),
        "quiet_error": round(statistics.stdev(again), 4),
    }


def least(pairs: list[tuple[float, float]]) -> float:
    """The ratio of the two kinds' means, over the least of either."""
    count = max(1, round(len(pairs) * QUIET))
    on = sum(sorted(on for on, _ in pairs)[:count])
    off = sum(sorted(off for _, off in pairs)[:count])
    return on / off


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--paths", type=lambda text: names(text, list(PATHS)),
                        default=list(PATHS), help=f"of {', '.join(PATHS)}")  # fmt: skip
    parser.add_argument("--loads", type=lambda text: names(text, list(WHOLE_LOADS)),
                        default=list(LOADS), help=f"of {', '.join(WHOLE_LOADS)}")  # fmt: skip
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=0.5, help="of a turn (default 0.5)")
    parser.add_argument("--against", type=Path, metavar="TREE", help="another checkout")
    parser.add_argument("--rules", action="store_true", help="an owner's rules, on and off")
    parser.add_argument("--builds", type=int, default=10, help="pairs of tunnels (default 10)")
    options = parser.parse_args()
    if options.against and not 2 <= options.builds <= options.pairs:
        parser.error("--builds: at least 2, and no more than there are pairs")
    whole = options.against or options.rules
    if not whole and (odd := set(options.loads) - set(LOADS)):
        parser.error(f"only with --against or --rules: {', '.join(sorted(odd))}")
    for path in options.paths:
        for load in options.loads:
            if options.against:
                tree = options.against.resolve()
                found = against(tree, path, load, options.pairs, options.seconds, options.builds)
            else:
                found = on_and_off(path, load, options.pairs, options.seconds, options.rules)
            print(json.dumps({"path": path, "load": load, **found}), flush=True)


if __name__ == "__main__":
    main()
