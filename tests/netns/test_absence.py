"""A client whose gateway is away for long: it wakes its device seldom, and is there at once.

The gateway's host stays on the network and refuses, as a phone does that shares no more; it comes
back without a word, and what the client hears is a change of its own network.

The short form begins with shorter pauses, so that it soon is where the product is after a minute:
the longest pause, and what a round costs then, are the product's own, and from the two follows
how often it wakes. The long form has the product's clock and counts for so many seconds, after
the first minute:

    VPNSHARE_AWAY_SECONDS=600 python -m pytest -s tests/netns/test_absence.py
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from functools import partial

import pytest

from client.reconnect import BACKOFF_JITTER, BACKOFF_MAX, QUIET_ROUNDS
from tests.netns.conftest import opened
from tests.netns.processes import switches, wait_for
from tests.netns.product import PORT, Client, Gateway
from tests.netns.world import World

LONG = float(os.environ.get("VPNSHARE_AWAY_SECONDS", "0"))
WAKE_UPS_A_SECOND = 0.2
FOUND_SECONDS = 5.0
FIRST_PAUSE = 0.004
"""Of the short form: the rounds of the first minute are over in a second."""
QUIET_PAUSE = 1.5 * FIRST_PAUSE * 2 ** (QUIET_ROUNDS - 1)
"""Before a round that is quiet, whatever chance has made of it."""
LONG_PAUSE = 2.75
"""After one that is as long, the next is longer than FOUND_SECONDS."""
PROGRAM = f"""
import sys
import client.reconnect
client.reconnect.BACKOFF_FIRST = {FIRST_PAUSE}
from cli.main import main
sys.exit(main(sys.argv[1:]))
"""
AWAY = f"""table inet away {{
    counter asked {{ }}
    chain in {{ type filter hook input priority 0;
        tcp flags syn / fin,syn,rst,ack tcp dport {PORT} counter name asked
        tcp dport {PORT} reject with tcp reset
        udp dport {PORT} reject
    }}
}}
"""
DEAF = """table inet deaf {
    chain in { type filter hook input priority 0; udp dport 5353 drop; }
}
"""


class Device(Client):
    """A client with a folder /etc of its own: what others write in there wakes it."""

    def daemon(self) -> list[str]:
        etc = self.world.directory / "etc"
        etc.mkdir(exist_ok=True)
        mount = 'cp -a /etc/. "$0" && mount --bind "$0" /etc && exec "$@"'
        program = super().daemon() if LONG else [sys.executable, "-c", PROGRAM, self.role]
        return ["unshare", "-m", "sh", "-c", mount, str(etc), *program]


@pytest.fixture
def world() -> Iterator[World]:
    with opened() as world:
        yield world


def asked(world: World) -> int:
    """Connects that came to the gateway's host."""
    shown = world.gateway.run(["nft", "list", "counter", "inet", "away", "asked"]).stdout
    found = re.search(r"packets (\d+)", shown)
    assert found is not None
    return int(found[1])


def at_rest(client: Client) -> int:
    """Wait until the client does nothing; how often it was woken by then."""
    found = [-1, -1, -1, switches(client.pid)]

    def same() -> bool:
        found.append(switches(client.pid))
        return len(set(found[-4:])) == 1

    wait_for(same, "the client to rest", 30.0, 0.1)
    return found[-1]


def cost_of_rounds(world: World, client: Client) -> list[int]:
    """Wake-ups of each round that is quiet, until the pause before the next is long."""
    costs = []
    seen, rest, at = asked(world), at_rest(client), time.monotonic()
    pause = 0.0
    while pause < LONG_PAUSE:
        wait_for(partial(lambda seen: asked(world) > seen, seen), "a round", 60.0)
        began, before = time.monotonic(), rest
        rest, seen = at_rest(client), asked(world)
        pause, at = began - at, began
        if pause > QUIET_PAUSE:
            costs.append(rest - before)
    return costs


@pytest.mark.alone
@pytest.mark.timeout(300 + LONG)
def test_who_is_away_for_long_costs_little_and_is_found_at_once(world: World) -> None:
    with Gateway(world) as gateway, Device(world) as client:
        gateway.share()
        client.start().join(gateway)
        world.client.nft(DEAF)
        world.gateway.nft(AWAY)
        world.gateway.run(["ss", "-K", "-H", "-n", "-t", "sport", "=", f":{PORT}"])
        wait_for(lambda: client.peek()["state"] == "reconnecting", "the link to break")
        if LONG:
            time.sleep(60.0)
            before, began = switches(client.pid), time.monotonic()
            time.sleep(LONG)
            rate = (switches(client.pid) - before) / (time.monotonic() - began)
        else:
            costs = cost_of_rounds(world, client)
            print(f"wake-ups of a round: {costs}")
            # A busy machine adds to it.
            rate = min(costs) / (BACKOFF_MAX * (1 - BACKOFF_JITTER))
        print(f"{rate:.3f} wake-ups a second, of all threads and kinds")
        assert rate < WAKE_UPS_A_SECOND
        world.gateway.run(["nft", "delete", "table", "inet", "away"])
        world.client.ip("link add other0 type veth peer other1", "link set other0 up")
        changed = time.monotonic()
        wait_for(lambda: client.peek()["state"] == "connected", "it to be found", 30.0)
        took = time.monotonic() - changed
        print(f"found {took:.2f} s after the change")
        assert took < FOUND_SECONDS
