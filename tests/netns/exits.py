"""Servers behind the VPN that say whom they see, for `vpnshare check`, and what it finds then."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from control.exits import Exit
from control.oneshot import OneShot
from tests.netns import outside
from tests.netns.capture import Capture
from tests.netns.processes import wait_for
from tests.netns.product import PORT, Gateway
from tests.netns.world import (
    GATEWAY_VPN,
    GATEWAY_VPN6,
    PROJECT,
    SERVER,
    SERVER6,
    SERVER6_OTHER,
    SERVER_OTHER,
    World,
)

ONE, TWO = (f"{address.replace('.', '-')}.test" for address in (SERVER, SERVER_OTHER))
OWN = f"whoami.test@{SERVER_OTHER}:{outside.OWN}"
BESIDE = f"(ip or ip6) and udp and not port {PORT} and not port 5353"
"""On a device's link: datagrams that are neither the tunnel's nor mDNS."""
INSIDE = {
    (server, family, address)
    for server in (ONE, TWO)
    for family, address in (("ipv4", GATEWAY_VPN), ("ipv6", GATEWAY_VPN6))
}
"""What STUN's servers see of who is behind the VPN."""
ASKED = {"check.stun": f"{ONE},{TWO}", "check.whoami": OWN}
NAMES = {
    "dns.servers": f"{SERVER_OTHER}:{outside.NAMES}",
    "dns.rebinding_protection": "off",
}
"""The gateway's: whom it asks for the names of those."""

Check = Callable[[], tuple[int, str, str]]
"""Runs `vpnshare check --json`: exit status, standard output, standard error."""


@contextlib.contextmanager
def asked(world: World, gateway: Gateway, client: Path) -> Iterator[None]:
    """The servers run, and the gateway and the client of that home ask them."""
    process = world.server.start(
        [sys.executable, str(Path(outside.__file__)),
         SERVER, SERVER6, SERVER_OTHER, SERVER6_OTHER, SERVER_OTHER],
        name="outside", cwd=PROJECT,
    )  # fmt: skip
    process.wait_for_log("serving", 60.0)
    _set(gateway.home, "gateway", {**ASKED, **NAMES})
    _set(client, "client", ASKED)
    try:
        yield
    finally:
        _set(gateway.home, "gateway", dict.fromkeys((*ASKED, *NAMES)))
        _set(client, "client", dict.fromkeys(ASKED))
        process.kill()


def _set(home: Path, role: str, values: Mapping[str, str | None]) -> None:
    """Settings of a service that runs; None is the default."""
    with OneShot(str(home / f"{role}.sock"), role) as service:
        for key, value in values.items():
            service.call_raw("set", key=key, value=value)


def seen(found: dict[str, Any]) -> set[tuple[str, str, str]]:
    """By whom which address was seen, by family."""
    return {(each["server"], each["family"], each["address"]) for each in found["exits"]}


def leaves_by_the_vpn(
    world: World, gateway: Gateway, client: Path, outlet: str, check: Check
) -> None:
    """A device without the NIC: what it asks goes by its outlet, and nothing of it beside that."""
    with OneShot(str(client / "client.sock"), "client") as service:
        assert service.call_raw("status")["outlet"] == outlet
    with (
        asked(world, gateway, client),
        world.leaks() as leaks,
        Capture.of(world.client, "lan0", BESIDE) as beside,
    ):
        found = _answered(check)
        assert (found["side"], found["state"], found["name"]) == ("client", "good", "inside"), found
        assert seen(found) == INSIDE
        assert [each["addresses"] for each in found["askers"]] == [[GATEWAY_VPN]] * 2
        assert GATEWAY_VPN in found["sentence"] and GATEWAY_VPN6 in found["sentence"]
        assert beside.count() == 0, beside.lines()
        assert leaks.count() == 0, leaks.lines()


def _answered(check: Check) -> dict[str, Any]:
    """What is found once everybody has answered: a check gives up on who is late, and on a busy
    machine a server may be."""
    found: dict[str, Any] = {}

    def all_have() -> bool:
        nonlocal found
        code, out, err = check()
        print(out, err)
        assert code in (Exit.OK, Exit.UNTOLD), out + err
        found = json.loads(out)
        return not any(each["problem"] for each in (*found["exits"], *found["askers"]))

    wait_for(all_have, "everybody who is asked to answer", 30.0)
    return found
