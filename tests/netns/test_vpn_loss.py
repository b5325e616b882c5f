"""The VPN is lost in every way, under traffic of every kind: nothing is seen outside it.

The long forms, 50 losses each: `tests/netns/vpn_loss.py`.
"""

from __future__ import annotations

from functools import partial

import pytest

from tests.netns.processes import wait_for
from tests.netns.vpn_loss import (
    DELETED,
    Bench,
    Outside,
    bench,
    lease_addresses,
    outcome,
    under_the_apps_traffic,
    under_traffic,
)
from tests.netns.world import SERVER, SERVER6

KINDS = {f"{kind}{version}" for kind in ("old tcp", "new tcp", "old udp", "new udp", "download",
                                         "ping") for version in (4, 6)}  # fmt: skip
SIGNS = (
    f"> {SERVER}.7: Flags [S]",
    f"> {SERVER6}.7: Flags [S]",
    f"> {SERVER}: ICMP echo request",
    f"> {SERVER6}: ICMP6, echo request",
    f"> {SERVER}.7: UDP",
    f"> {SERVER6}.7: UDP",
    f"> {SERVER}.53: ",
)
"""What a leak of each kind of traffic looks like to tcpdump."""
UNREACHABLE = "Network is unreachable"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("refuse_binding", "named", "guard"),
    [
        pytest.param(False, False, "device", id="found"),
        pytest.param(False, True, "device", id="named"),
        pytest.param(True, False, "unicast-if", id="device binding refused"),
    ],
)
def test_nothing_is_seen_outside_and_flows_are_told(
    refuse_binding: bool, named: bool, guard: str
) -> None:
    with bench(refuse_binding, named, app=guard == "device" and not named) as b:
        assert b.gateway.status()["vpn"]["guard"] == guard
        with Outside.of(b.world, lease_addresses(b.gateway)) as outside:
            with under_traffic(b.world) as traffic, under_the_apps_traffic(b) as apps:
                rounds = [b.round(way) for way in b.ways()]
                served = [outcome(each)["served"] for each in (traffic, apps) if each is not None]
            assert outside.packets() == []
        assert len(served) == 1 + (b.world.second is not None)
        for each in served:
            assert each.keys() >= KINDS | {"dns udp", "dns tcp"}
        assert b.gateway.status()["alarms"] == []
    for seen in rounds:
        for kind, error in seen.errors.items():
            assert error == ("ConnectionResetError" if "tcp" in kind else UNREACHABLE), seen


def unserved(b: Bench, server: str) -> bool:
    return not b.serves(server)


def test_the_captures_see_a_gateway_that_does_leak() -> None:
    """The counter-proof: with bypass on, the same loss shows on the underlay."""
    with bench(config="[gateway]\nbypass = true\n") as b:
        assert b.gateway.status()["vpn"]["guard"] == "none"
        with Outside.of(b.world, lease_addresses(b.gateway)) as outside:
            with under_traffic(b.world):
                wait_for(b.all_served, "service through the VPN")
                DELETED.lose(b)
                for server in (SERVER, SERVER6):
                    # The underlay answers TCP for every server, with a reset, and pings.
                    wait_for(partial(unserved, b, server), f"{server} to be lost")
                    b.pings(server)
                    b.answers(server)
            packets = outside.packets()
        seen = "\n".join(packets)
        assert packets and all(line.startswith("underlay:") for line in packets)
        for what in SIGNS:
            assert what in seen, what
