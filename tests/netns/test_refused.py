"""What an owner refuses a device: real programs are told at once, by address, port and name, in
every spelling, and what runs already ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.netns.conftest import Tunnel
from tests.netns.processes import wait_for
from tests.netns.raw_packets import PROTOCOLS, RawNic, spellings
from tests.netns.world import SERVER, SERVER6, SERVER_OTHER

PROHIBITED6 = "icmp 1/1"
PATIENCE = 5.0
CURL_NO_NAME, CURL_NO_CONNECTION, CURL_BROKEN = 6, 7, 56
REFUSED = "tcp__refused_rules__icmp_sent"


class Device:
    """The connected device, as its owner bounds it and as its programs see that."""

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel
        ipv4 = tunnel.client.status()["lease"]["ipv4"]
        (self._id,) = {
            lease["peer_id"] for lease in tunnel.gateway.leases() if lease["ipv4"] == ipv4
        }

    def rule(self, *options: str) -> None:
        self._tunnel.gateway.command("rules", self._id, *options)

    def curl(self, url: str) -> int:
        """The exit status: 28 would be that nobody told it anything."""
        argv = ["curl", "-sgk", "-m", "20", "-o", "/dev/null", url]
        return self._tunnel.world.client.run(argv, check=False).returncode

    def said(self, *argv: str) -> str:
        done = self._tunnel.world.client.run(argv, check=False)
        return done.stdout + done.stderr

    def counted(self, name: str) -> int:
        counters: dict[str, int] = self._tunnel.gateway.status()["counters"]
        return counters.get(name, 0)


@pytest.fixture
def device(tunnel: Tunnel) -> Iterator[Device]:
    device = Device(tunnel)
    yield device
    device.rule("--clear")


def test_networks_ports_and_protocols(device: Device) -> None:
    device.rule("--deny", SERVER_OTHER, "--deny", "tcp 8443", "--deny", "icmp")
    assert device.curl(f"http://{SERVER_OTHER}:8000/bytes/10") == CURL_NO_CONNECTION
    for server in (SERVER, f"[{SERVER6}]"):
        assert device.curl(f"https://{server}:8443/bytes/10") == CURL_NO_CONNECTION
        assert device.curl(f"http://{server}:8000/bytes/10") == 0
    assert "Packet filtered" in device.said("ping", "-c1", "-W10", SERVER)
    assert "Administratively prohibited" in device.said("ping", "-c1", "-W10", SERVER6)
    device.rule("--clear")
    assert device.curl(f"https://{SERVER}:8443/bytes/10") == 0
    assert " 0% packet loss" in device.said("ping", "-c1", "-W10", SERVER)


def test_no_spelling_opens_what_is_refused(tunnel: Tunnel, device: Device) -> None:
    device.rule("--deny", SERVER_OTHER)
    spelled = spellings(SERVER_OTHER)
    # Those that the kernel sends: a mapped one as IPv4, others as they are.
    kernels = ("mapped", "NAT64", "6to4")
    before = device.counted(REFUSED)
    for spelling in kernels:
        url = f"http://[{spelled[spelling]}]:8000/bytes/10"
        assert device.curl(url) == CURL_NO_CONNECTION, spelling
    assert device.counted(REFUSED) >= before + len(kernels)
    lease = tunnel.client.status()
    interface, addresses = lease["interface"], lease["lease"]
    with RawNic(tunnel.world.client, interface, addresses["ipv4"], addresses["ipv6"]) as nic:
        for spelling, address in spelled.items():
            for protocol in PROTOCOLS:
                packet = nic.packet(protocol, address, 8000)
                nic.send(packet)
                assert nic.answer(packet, PATIENCE) == PROHIBITED6, (spelling, protocol)


def test_names(device: Device) -> None:
    device.rule("--deny", "name only4.test")
    for question in (
        ["only4.test"], ["+tcp", "only4.test"], ["-t", "ANY", "only4.test"],
        ["-t", "HTTPS", "only4.test"], ["below.only4.test"], ["alias.test"], ["+tcp", "alias.test"],
    ):  # fmt: skip
        said = device.said("dig", "+tries=1", "+time=10", *question)
        assert "status: REFUSED" in said and "EDE: 15 (Blocked)" in said, said
    assert device.curl("http://only4.test:8000/bytes/10") == CURL_NO_NAME
    assert device.curl("http://server.test:8000/bytes/10") == 0
    # Its address is not refused by that.
    assert device.curl(f"http://{SERVER}:8000/bytes/10") == 0


def test_what_runs_ends_when_it_is_refused(tunnel: Tunnel, device: Device) -> None:
    url = f"http://{SERVER}:8000/slow/1000000"
    download = tunnel.world.client.start(["curl", "-sS", "-m", "60", "-o", "/dev/null", url])

    def running() -> bool:
        flows = tunnel.gateway.peek("flows")["flows"]
        there = f"{SERVER}:8000"
        return any(f["destination"] == there and f["to_tunnel_bytes"] for f in flows)

    wait_for(running, "the download to run")
    device.rule("--deny", "tcp 8000")
    assert download.popen.wait(30) == CURL_BROKEN, download.tail()
