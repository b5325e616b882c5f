"""One download over a LAN, a phone's hotspot and its cable, as they come and go.

The client's hosts' cables stand in for radios and USB: what its interfaces are it is told by a
tree of its own in the place of /sys/class/net. All else is real. A link that goes takes its
addresses along, on both sides, and never comes back with the same: nothing that the client
knows of the gateway leads there, but that it is the router.

The gateway takes on each link what is for its address on that link, and nothing else: else its
other addresses, which it has told, would do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.netns import cuts
from tests.netns.conftest import opened
from tests.netns.cuts import Download
from tests.netns.processes import wait_for
from tests.netns.product import PORT, Client, Gateway
from tests.netns.world import World

AGAIN_SECONDS = 5.0
"""From a link's return to the first byte: some ten times what it takes on a busy machine."""
STRONG_HOST = """table inet strong {
    chain in { type filter hook input priority 0;
        iifname { "ap0", "rndis0", "lan0" } fib daddr . iif type unicast drop
    }
}
"""


class Device(Client):
    """A client whose interfaces are what the test says."""

    def daemon(self) -> list[str]:
        mount = 'mount --bind "$0" /sys/class/net && exec "$@"'
        return ["unshare", "-m", "sh", "-c", mount, str(self.interfaces()), *super().daemon()]

    def interfaces(self) -> Path:
        """The tree in the place of /sys/class/net."""
        net = self.world.directory / "net"
        for name, entries in (("lan0", ()), ("wlan0", ("wireless",)), ("usb0", ("device",))):
            for entry in ("", *entries):
                (net / name / entry).mkdir(parents=True, exist_ok=True)
            (net / name / "type").write_text("1\n")
        driver = self.world.directory / "rndis_host"
        driver.mkdir(exist_ok=True)
        if not (net / "usb0/device/driver").is_symlink():
            (net / "usb0/device/driver").symlink_to(driver)
        return net


@dataclass
class Link:
    """A network between client and gateway, whose router the gateway is."""

    world: World
    here: str
    there: str
    metric: int
    subnet: str = ""

    def up(self, subnet: str) -> None:
        """The gateway is host 1 of `subnet` (three numbers), the client host 7."""
        self.subnet = subnet
        client, gateway = self.world.client, self.world.gateway
        gateway.ip(f"address add {subnet}.1/24 dev {self.there}", f"link set {self.there} up")
        client.ip(f"link set {self.here} up", f"address add {subnet}.7/24 dev {self.here}")
        wait_for(self._carrier, f"the carrier of {self.here}")
        client.ip(f"route add default via {subnet}.1 dev {self.here} metric {self.metric}")

    def _carrier(self) -> bool:
        shown = self.world.client.run(["ip", "-o", "link", "show", self.here]).stdout
        return "LOWER_UP" in shown

    def down(self) -> None:
        """As its host's network manager leaves it: without address and route."""
        for host, name in ((self.world.gateway, self.there), (self.world.client, self.here)):
            host.ip(f"address flush dev {name}", f"link set {name} down")

    @property
    def endpoint(self) -> str:
        return f"tcp:{self.subnet}.1:{PORT}"


@dataclass
class Place:
    """The world with its three links."""

    world: World
    lan: Link
    hotspot: Link
    cable: Link


@pytest.fixture
def place() -> Iterator[Place]:
    with opened() as world:
        lan = Link(world, "lan0", "lan0", 100)
        hotspot = Link(world, "wlan0", "ap0", 600)
        cable = Link(world, "usb0", "rndis0", 50)
        lan.down()
        for link in (hotspot, cable):
            world.client.ip(
                f"link add {link.here} type veth peer name {link.there} "
                f"netns {world.gateway.namespace}"
            )
        world.gateway.nft(STRONG_HOST)
        yield Place(world, lan, hotspot, cable)


def carried_by(client: Client, link: Link) -> bool:
    status = client.peek()
    return bool(status["state"] == "connected" and status["endpoint"] == link.endpoint)


@pytest.mark.alone
def test_a_hotspot_comes_back_with_another_subnet(place: Place, tmp_path: Path) -> None:
    world, hotspot, size = place.world, place.hotspot, 60_000_000
    hotspot.up("192.168.43")
    expected = cuts.content(world, size)
    with world.serving(secure=False), Gateway(world) as gateway, Device(world) as client:
        gateway.share(listen="0.0.0.0")
        client.start().join(gateway)
        assert carried_by(client, hotspot)
        download = Download(world, size, tmp_path / "got", rate="6mbit")
        download.start()
        took = []
        for subnet in ("192.168.77", "10.205.16", "192.168.43"):
            hotspot.down()
            wait_for(lambda: client.peek()["state"] == "reconnecting", "the link to break")
            had = download.got()
            hotspot.up(subnet)
            back = time.monotonic()
            goes_on = partial(lambda had: download.got() > had, had)
            wait_for(goes_on, "the download to go on", 30.0, 0.02)
            took.append(time.monotonic() - back)
            print(f"{subnet}: on after {took[-1]:.2f} s")
            wait_for(lambda: carried_by(client, hotspot), "the hotspot to be told")
        assert max(took) < AGAIN_SECONDS
        assert download.finish() == expected
        assert len(gateway.leases()) == 1


@pytest.mark.alone
def test_from_lan_to_hotspot_to_cable_and_back(place: Place, tmp_path: Path) -> None:
    world, lan, hotspot, cable = place.world, place.lan, place.hotspot, place.cable
    size = 60_000_000
    lan.up("10.1.50")
    expected = cuts.content(world, size)
    with world.serving(secure=False), Gateway(world) as gateway, Device(world) as client:
        gateway.share(listen="0.0.0.0")
        client.start().join(gateway)
        # It must not be over before the moves are, on a busy machine either: a minute and more.
        download = Download(world, size, tmp_path / "got", rate="6mbit")
        download.start()
        before: Link | None = lan
        # The one that comes, and whether the one before stays until it is used.
        steps = ((hotspot, "192.168.43", False), (cable, "192.168.42", True),
                 (hotspot, "192.168.91", False), (lan, "10.1.60", True), (cable, "10.77.3", True),
                 (lan, "10.1.70", False))  # fmt: skip
        for link, subnet, beside in steps:
            if before is not None and not beside:
                before.down()
            link.up(subnet)
            back = time.monotonic()
            wait_for(partial(carried_by, client, link), f"{subnet} to be used", 30.0)
            print(f"{link.here} {subnet}: used after {time.monotonic() - back:.2f} s")
            if before is not None and beside:
                before.down()
            had = download.got()
            wait_for(partial(lambda had: download.got() > had, had), "the download to go on", 30.0)
            before = link
        assert download.running(), "the download was over before the moves were"
        assert download.finish() == expected
        assert len(gateway.leases()) == 1


NO_QUESTIONS = """table inet deaf {
    chain in { type filter hook input priority 0; udp dport 5353 drop; }
}
"""
"""As on phones that do not get multicast."""


def test_on_a_lan_it_is_found_by_its_announcement(place: Place) -> None:
    """It is not the router there, and has another address than it had."""
    pytest.importorskip("zeroconf")
    world, lan = place.world, place.lan
    lan.up("10.1.50")
    with Gateway(world) as gateway, Device(world) as client:
        gateway.share(listen="0.0.0.0")
        client.start().join(gateway)
        for subnet, hears in (("10.1.60", True), ("10.1.61", False)):
            lan.down()
            world.gateway.run(["ss", "-K", "-H", "-n", "-t", "sport", "=", f":{PORT}"])
            wait_for(lambda: client.peek()["state"] == "reconnecting", "the link to break")
            wait_for(lambda: not gateway.leases()[0]["connected"], "the gateway to know")
            world.gateway.ip(f"address add {subnet}.9/24 dev lan0", "link set lan0 up")
            if not hears:
                world.gateway.nft(NO_QUESTIONS)
                # Its first word, about its new address, is over; what follows is for who is away.
                time.sleep(2.0)
            world.client.ip("link set lan0 up", f"address add {subnet}.7/24 dev lan0")
            there = f"tcp:{subnet}.9:{PORT}"

            def found(there: str = there) -> bool:
                status = client.status()
                return bool(status["state"] == "connected" and status["endpoint"] == there)

            wait_for(found, "the gateway to be found", 30.0)
        assert client.status()["counters"]["announcement__gateway__heard"] >= 2
