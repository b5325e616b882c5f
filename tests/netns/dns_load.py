"""How many questions a second the lease's resolver answers: dnsperf on the client, 1,000 names.

    python -m tests.netns.dns_load

The first pass over the names finds nothing in the cache, so each is asked of the
VPN's resolver; all later passes are answered from the cache. Once the resolver is
30 ms away behind the VPN, as real ones are (`far_dns`), once there is no way at all
to it (dnsmasq). Needs root and dnsperf.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.dns.upstreams import RECHECK
from tests.gateway.dns.test_dig import ZONE
from tests.netns import far_dns
from tests.netns.hosts import Host
from tests.netns.processes import Process, wait_for
from tests.netns.product import PORT, Client, Gateway
from tests.netns.world import GATEWAY_LAN, SERVER, SERVER_OTHER, World

FAR_RESOLVER = SERVER_OTHER
FAR_MILLISECONDS = 30
NAMES = 1000
HIT_PASSES = 30
PRIVATE_NAME = "rebind.attacker.com"
"""A public name that leads to a private address."""


@dataclass(frozen=True)
class Load:
    """What dnsperf measured in one run."""

    sent: int
    completed: int
    codes: str
    """Its line of response codes."""
    per_second: float


@contextlib.contextmanager
def resolver(world: World, address: str = SERVER) -> Iterator[None]:
    """dnsmasq on the server, at one address only: the zone of test_dig, and `NAMES` names."""
    config = world.directory / "zone.conf"
    names = "".join(f"host-record={name(n)},10.99.{n // 250}.{n % 250}\n" for n in range(NAMES))
    config.write_text(
        f"{ZONE}\nhost-record={PRIVATE_NAME},192.168.77.1\nlocal=/load.test/\n{names}"
    )
    process = world.server.start(
        ["dnsmasq", "--keep-in-foreground", f"--conf-file={config}", f"--listen-address={address}",
         "--bind-interfaces", "--user=root", "--pid-file=", "--log-facility=-"]
    )  # fmt: skip
    try:
        process.wait_for_log("started")
        yield
    finally:
        process.kill()


@contextlib.contextmanager
def far_resolver(world: World, milliseconds: float = FAR_MILLISECONDS) -> Iterator[Process]:
    """`far_dns` on the server's other address, and the gateway's resolver meanwhile."""
    argv = [sys.executable, far_dns.__file__, FAR_RESOLVER, str(milliseconds)]
    process = world.server.start(argv, name="far-dns")
    try:
        process.wait_for_log("ready")
        world.gateway.resolver(FAR_RESOLVER)
        time.sleep(RECHECK)
        yield process
    finally:
        world.gateway.resolver(SERVER)
        process.kill()
        time.sleep(RECHECK)


def name(number: int) -> str:
    return f"n{number}.load.test"


def names_file(world: World) -> Path:
    """The names as dnsperf reads them."""
    path = world.directory / "names.txt"
    path.write_text("".join(f"{name(n)} A\n" for n in range(NAMES)))
    return path


def dnsperf(client: Host, server: str, names: Path, *options: str) -> Load:
    """Run dnsperf from the client."""
    argv: Sequence[str] = ["dnsperf", "-s", server, "-d", str(names), "-t", "5", *options]
    printed = client.run(argv, timeout=120.0).stdout

    def found(pattern: str) -> str:
        match = re.search(pattern, printed)
        assert match, printed
        return match[1]

    return Load(
        int(found(r"Queries sent:\s+(\d+)")),
        int(found(r"Queries completed:\s+(\d+)")),
        found(r"Response codes:\s+(.*)"),
        float(found(r"Queries per second:\s+([\d.]+)")),
    )


@contextlib.contextmanager
def pair(world: World) -> Iterator[tuple[Gateway, Client]]:
    """A connected pair, whose servers are for the caller to run."""
    with Gateway(world) as gateway, Client(world) as client:
        gateway.start("--listen", f"{GATEWAY_LAN}:{PORT}", "--vpn-interface", "g1", "--share")
        client.start().join(gateway)
        yield gateway, client


def both(client: Client, names: Path) -> tuple[Load, Load]:
    """Misses, then hits."""
    server = client.status()["lease"]["gateway_ipv4"]
    misses = dnsperf(client.host, server, names, "-n", "1")
    return misses, dnsperf(client.host, server, names, "-n", str(HIT_PASSES))


def main() -> int:
    with World() as world, pair(world) as (gateway, client):
        names = names_file(world)
        with far_resolver(world):
            far = both(client, names)
        # Another VPN: what the last one's resolver said is forgotten.
        world.vpn_down()
        world.vpn_up()
        wait_for(lambda: gateway.peek()["sharing"] == "on", "the VPN")
        with resolver(world):
            near = both(client, names)
    for where, (misses, hits) in (("30 ms away", far), ("no way away", near)):
        ratio = hits.per_second / misses.per_second
        print(f"resolver {where}: {ratio:.1f} times as fast from the cache")
        for label, load in (("misses", misses), ("hits", hits)):
            answered = f"{load.completed} of {load.sent}, {load.codes}"
            print(f"  {label:7} {load.per_second:8.0f}/s  {answered}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
