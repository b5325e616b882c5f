"""Every door by which a device's traffic could get out: real packets, none of them on the LAN.

One pair lives through all of it, without and with the strict kill switch, while
`door_traffic.py` tries without a pause: UDP, TCP and DNS over IPv4 and IPv6.
What the device sends on its LAN is captured there; but for the link itself, and
the question for its gateway while there is no link, it has to be nothing. The
last test opens the network by hand, and then the capture sees it all: so it
would have seen any of it.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

import pytest

from reach.announced import GROUP, QUERY
from reach.announced import PORT as MDNS
from tests.netns.capture import Capture
from tests.netns.conftest import opened
from tests.netns.processes import Process, wait_for
from tests.netns.product import PORT, Client, Gateway
from tests.netns.test_full_disk import full, small
from tests.netns.world import GATEWAY_LAN, GATEWAY_LAN6, PROJECT, SERVER, SERVER6, Shape, World

ELSEWHERE = ("93.184.215.14", "2606:2800:21f::1", "10.20.0.5", "fd99::1")
"""Of the Internet and of private networks beyond routers: nobody answers there."""
UPDATED = """
import sys
import vshp.constants
vshp.constants.VERSION += 1
from cli.main import main
sys.exit(main(sys.argv[1:]))
"""
"""This gateway, of the protocol's next version."""
TURNS = 20
"""Of the traffic, each of 0.03 s and what it costs: while so many go by something would be seen."""
SEEN_SECONDS = 30.0
BACK_SECONDS = 40.0
ALONE_SECONDS = 4.0
"""Longer than the three rounds of a first contact."""
MEMBERSHIPS = "224.0.0.22"
"""Where IGMPv3 reports go (RFC 3376 section 4.2.14)."""


def word(address: str) -> int:
    return int.from_bytes(socket.inet_aton(address), "big")


def udp_says(payload: bytes) -> str:
    """What tcpdump takes for: a datagram between mDNS's ports with exactly that in it."""
    parts = [(at, payload[at : at + 4]) for at in range(0, len(payload) - 3, 4)]
    parts += [(at, payload[at : at + 1]) for at in range(len(payload) // 4 * 4, len(payload))]
    said = (f"udp[{8 + at}:{len(part)}] == {int.from_bytes(part, 'big')}" for at, part in parts)
    ports = f"udp src port {MDNS} and udp dst port {MDNS}"
    return " and ".join((ports, f"udp[4:2] == {8 + len(payload)}", *said))


class Desk:
    """The pair, the device's traffic, and the capture on its LAN."""

    def __init__(
        self, world: World, gateway: Gateway, client: Client, traffic: Process, strict: bool
    ) -> None:
        self.world, self.gateway, self.client = world, gateway, client
        self.traffic, self.strict = traffic, strict
        [link] = json.loads(world.client.run(["ip", "-j", "link", "show", "lan0"]).stdout)
        self._only = (
            f"ether src {link['address']} and (ip or ip6) and not port {PORT}"
            # The kernel's own word on the link's last datagrams, when its socket is gone.
            f" and not (icmp[0] == 3 and dst host {GATEWAY_LAN})"
            " and not (ip6[6] == 58 and ip6[40] >= 133 and ip6[40] <= 137)"
            " and not (ip6[6] == 0 and ip6[40] == 58 and ip6[48] == 143)"
            # A client without a link asks for its gateway, and its kernel tells of that group.
            f" and not (dst host {GROUP} and {udp_says(QUERY)})"
            f" and not (dst host {MEMBERSHIPS} and igmp and ip[36:4] == {word(GROUP)})"
        )

    def linked_anew(self, links: int) -> bool:
        """Whether there were more links than so many by now."""
        return len(self.client.peek("history")) > links

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        """Nothing of the device is on its LAN while this lasts, and it did try."""
        with Capture.of(self.world.gateway, "lan0", self._only) as capture:
            yield
            self.try_all()
            seen = capture.lines("-t")
            assert not seen, f"{len(seen)} packets in the clear:\n" + "\n".join(seen[:20])

    @contextlib.contextmanager
    def seen(self, *signs: str) -> Iterator[None]:
        """Packets of the device with all of these signs are on its LAN at the end."""
        with Capture.of(self.world.gateway, "lan0", self._only) as capture:
            yield

            def shown() -> bool:
                lines = "\n".join(capture.so_far())
                return all(sign in lines for sign in signs)

            wait_for(shown, f"packets in the clear: {signs}", SEEN_SECONDS)

    def try_all(self) -> None:
        """Wait until the device has tried everything `TURNS` times more."""
        enough = self.tried() + TURNS
        wait_for(lambda: self.tried() >= enough, "the device to go on trying", SEEN_SECONDS)

    def tried(self) -> int:
        found = re.findall(r"tried (\d+)\n", self.traffic.log.read_text())
        return int(found[-1]) if found else 0

    def state(self) -> str:
        return str(self.client.peek()["state"])

    def until(self, state: str, seconds: float = BACK_SECONDS) -> None:
        wait_for(lambda: self.state() == state, f"the client to be {state}", seconds)

    def carries(self, server: str) -> bool:
        try:
            with self.world.client.connect(server, 7, timeout=5) as echo:
                echo.sendall(b"x")
                return echo.recv(1) == b"x"
        except OSError:
            return False

    def kill(self, service: Gateway | Client, number: int = signal.SIGKILL) -> None:
        assert service.process is not None
        service.process.stop(number)

    def refused(self, error: str) -> None:
        """A final refusal has been told everywhere, with the command that opens the network."""
        told = ("failed", error, "holding", "vpnshare disconnect")

        def is_told() -> bool:
            now = self.client.peek()
            guard = now["kill_switch"]
            return (now["state"], now["error"], guard["state"], guard["opened_by"]) == told

        wait_for(is_told, f"the client to say {told}", BACK_SECONDS)
        assert "vpnshare disconnect" in self.client.command("status").stdout
        said = json.loads(self.client.command("doctor", "--json", check=False).stdout)
        [routes] = [each for each in said if each["id"] == "routes"]
        assert routes["status"] == "warn" and "vpnshare disconnect" in routes["advice"]


@pytest.fixture(scope="module", params=[False, True], ids=["routes", "kill-switch"])
def desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    with (
        opened(Shape(second_client=True)) as world,
        world.serving(secure=False),
        Gateway(world) as gateway,
        Client(world) as client,
        small(client),
    ):
        # IPv6 comes on later: that is the first door.
        world.client.sysctl({"net.ipv6.conf.all.disable_ipv6": 1})
        gateway.share(listen="0.0.0.0")
        if request.param:
            client.configure("[client]\nkill_switch = true\n")
        client.start()
        client.join(gateway)
        traffic = world.client.start(
            [sys.executable, str(PROJECT / "tests/netns/door_traffic.py"),
             ",".join((SERVER, SERVER6, *ELSEWHERE)), f"{GATEWAY_LAN},{GATEWAY_LAN6}"]
        )  # fmt: skip
        traffic.wait_for_log("tried")
        yield Desk(world, gateway, client, traffic, request.param)


def test_ipv6_comes_on_after_the_connect(desk: Desk) -> None:
    host = desk.world.client
    with desk.closed():
        host.sysctl({"net.ipv6.conf.all.disable_ipv6": 0})
        host.ip(
            "-6 addr replace fd01::2/64 dev lan0 nodad",
            f"-6 route replace default via {GATEWAY_LAN6}",
        )
        wait_for(lambda: desk.carries(SERVER6), "IPv6 to be carried, too")
    assert "lan0 fd01::/64" in desk.client.status()["kill_switch"]["beside"]


@pytest.mark.parametrize("via", [True, False], ids=["by a router", "as if on the link"])
def test_routes_that_the_lan_announces(desk: Desk, via: bool) -> None:
    host = desk.world.client
    routes = []
    for network in (
        "10.0.0.0/8",
        "93.184.0.0/16",
        "93.184.215.14/32",
        "128.0.0.0/1",
        "10.9.0.0/24",
    ):
        routes.append(f"-4 route add {network} dev lan0" + f" via {GATEWAY_LAN}" * via)
    for network in ("2606:2800::/32", "fd99::/16", "fd09::/64", "2000::/3"):
        routes.append(f"-6 route add {network} dev lan0" + f" via {GATEWAY_LAN6}" * via)
    beside = desk.client.status()["kill_switch"]["beside"]
    with desk.closed():
        host.ip(*routes)
        try:
            desk.try_all()
            # What a neighbour could answer is not taken from the tunnel, either.
            assert not via or (desk.carries(SERVER) and desk.carries(SERVER6))
        finally:
            host.ip(*(route.replace("add", "del") for route in routes))
    assert desk.client.status()["kill_switch"]["beside"] == beside
    assert "lan0 10.1.0.0/24" in beside


def test_an_interface_and_rules_come_and_go(desk: Desk) -> None:
    host = desk.world.client
    with desk.closed():
        # As a DHCP server hands it out that would have half of the Internet on its link.
        host.ip("addr add 93.0.0.1/1 dev lan0", "addr add 2606:2800::9/16 dev lan0 nodad")
        desk.try_all()
        host.ip("addr del 93.0.0.1/1 dev lan0", "addr del 2606:2800::9/16 dev lan0")
        host.ip("link set lan0 down")
        host.ip(
            "link set lan0 up",
            "addr replace fd01::2/64 dev lan0 nodad",
            f"-4 route replace default via {GATEWAY_LAN}",
            f"-6 route replace default via {GATEWAY_LAN6}",
        )
        wait_for(lambda: desk.state() == "connected" and desk.carries(SERVER), "the way back", 30.0)
    assert desk.carries(SERVER6)
    # A neighbour is direct.
    assert host.run(["ping", "-c1", "-W2", GATEWAY_LAN], check=False).returncode == 0


def test_a_full_disk_and_a_cut(desk: Desk) -> None:
    with full(desk.client), desk.closed():
        for _ in range(2):
            links = len(desk.client.peek("history"))
            desk.world.gateway.run(["ss", "-K", "-H", "-n", "-t", "sport", "=", f":{PORT}"])
            wait_for(partial(desk.linked_anew, links), "another link")
            desk.until("connected")


def test_killed_beside_its_gateway(desk: Desk) -> None:
    with desk.closed():
        # The other signal is that of a terminal that goes away.
        for number in (signal.SIGKILL, signal.SIGHUP):
            desk.kill(desk.client, number)
            time.sleep(0.5)
            desk.client.start()
            desk.until("connected")
            assert desk.carries(SERVER)


def test_killed_while_the_gateway_is_away_on_a_full_disk(desk: Desk) -> None:
    with desk.closed():
        desk.kill(desk.gateway)
        desk.kill(desk.client)
        with full(desk.client):
            desk.client.start()
            time.sleep(ALONE_SECONDS)
            assert desk.state() == "connecting"
            assert desk.client.status()["kill_switch"]["state"] == "holding"
            desk.kill(desk.client)
        desk.client.start()
        desk.gateway.share(listen="0.0.0.0")
        desk.until("connected")
        assert desk.carries(SERVER)


def test_a_clone_takes_its_place(desk: Desk) -> None:
    world = desk.world
    assert world.second is not None
    with Client(world, world.second, "clone") as clone:
        for path in desk.client.home.glob("client.db*"):
            shutil.copy(path, clone.home / path.name)
        with desk.closed():
            clone.start()
            deadline = time.monotonic() + BACK_SECONDS
            while desk.state() != "failed" and time.monotonic() < deadline:
                # Either may be the last to come; then the other is told.
                if clone.peek()["state"] == "failed":
                    clone.command("connect", "--wait", "5", check=False)
                time.sleep(0.1)
            desk.refused("replaced")
        clone.command("disconnect")
    with desk.closed():
        desk.client.command("connect", "--wait", "20")
        desk.until("connected")


def test_the_owner_revokes_it_and_a_restart_opens_nothing(desk: Desk) -> None:
    with desk.closed():
        [peer] = [peer for peer in desk.gateway.peers() if not peer["revoked"]]
        desk.gateway.command("revoke", peer["id"])
        desk.refused("revoked")
        desk.kill(desk.client)
        desk.client.start()
        desk.refused("revoked")
    with desk.closed():
        desk.client.join(desk.gateway)
        assert desk.carries(SERVER)


def test_the_gateway_does_not_know_it_any_more(desk: Desk) -> None:
    with desk.closed():
        desk.kill(desk.gateway)
        with contextlib.closing(sqlite3.connect(desk.gateway.home / "gateway.db")) as store, store:
            assert store.execute("DELETE FROM peer").rowcount
        desk.gateway.share(listen="0.0.0.0")
        desk.refused("not_paired")
    with desk.closed():
        desk.client.join(desk.gateway)
        assert desk.carries(SERVER)


def test_the_gateway_speaks_another_version_after_an_update(desk: Desk) -> None:
    with desk.closed():
        desk.kill(desk.gateway)
        arguments = ["gateway", "--listen", f"0.0.0.0:{PORT}", "--vpn-interface", "g1", "--share"]
        updated = desk.world.gateway.start(
            [sys.executable, "-c", UPDATED, *arguments],
            name="updated", env=desk.gateway.environment(), cwd=desk.gateway.home,
        )  # fmt: skip
        try:
            wait_for(
                lambda: desk.client.peek()["error"] == "version_unsupported",
                "the version to be told", BACK_SECONDS,
            )  # fmt: skip
            # Nobody has proven to be the gateway who says so: it is asked again.
            assert desk.state() == "reconnecting"
            assert "Update both sides" in desk.client.command("status").stdout
            assert desk.client.status()["kill_switch"]["state"] == "holding"
        finally:
            updated.stop(signal.SIGKILL)
        desk.gateway.share(listen="0.0.0.0")
        desk.until("connected")


def test_the_host_does_not_take_a_lease(desk: Desk) -> None:
    """`ip` fails for the service, as where a program's update has broken it."""
    with desk.closed():
        desk.kill(desk.gateway)
        desk.kill(desk.client)
        desk.client.start()
        assert desk.client.process is not None
        own = ["nsenter", "-t", str(desk.client.pid), "-m"]
        ip = shutil.which("ip")
        assert ip is not None
        subprocess.run([*own, "mount", "--bind", "/bin/false", ip], check=True)
        try:
            desk.gateway.share(listen="0.0.0.0")
            wait_for(
                lambda: desk.client.peek()["error"] == "tool_failed", "the error", BACK_SECONDS
            )
            assert desk.state() != "connected"
            assert desk.client.status()["kill_switch"]["state"] == "holding"
        finally:
            # Lazily: the service may be running it at this moment.
            subprocess.run([*own, "umount", "--lazy", ip], check=True)
        desk.until("connected")
        assert desk.carries(SERVER)


def test_only_the_user_opens_it(desk: Desk) -> None:
    signs = (f"> {SERVER}.4000", f"> {SERVER6}.4000", f"> {SERVER}.8000", f"> {GATEWAY_LAN}.53")
    with desk.seen(*signs):
        desk.client.command("disconnect")


def test_opened_on_failure_it_says_so(desk: Desk) -> None:
    desk.client.command("connect", "--open-on-failure")
    assert desk.client.status()["kill_switch"]["open_on_failure"] is True
    assert "OPENS ON FAILURE" in desk.client.command("status").stdout
    said = json.loads(desk.client.command("doctor", "--json", check=False).stdout)
    assert [each["status"] for each in said if each["id"] == "promise"] == ["warn"]
    with desk.seen(f"> {SERVER}."):
        [peer] = [peer for peer in desk.gateway.peers() if not peer["revoked"]]
        desk.gateway.command("revoke", peer["id"])
        desk.until("failed")
    assert desk.client.status()["kill_switch"]["state"] == "off"


def test_a_first_contact_that_is_denied_leaves_it_open(desk: Desk) -> None:
    desk.client.command("disconnect")
    attempt = desk.client.begin_connect(desk.gateway.pair())
    with desk.seen(f"> {SERVER}."):
        desk.gateway.command("deny", desk.gateway.wait_for_request()["id"])
        assert attempt.popen.wait(30) != 0
    assert desk.client.status()["error"] == "denied"
    assert desk.client.status()["kill_switch"]["state"] == "off"
