"""A device with the WireGuard app: wg-quick and wireguard-go, on exactly the text that we give.

wireguard-go is Debian's; see `tests/netns/wireguard_app.py`.

The device that moves is given another address and port by a NAT before it. With another
address of its own (half a minute, since wireguard-go keeps to the old one until its own timer
lets go of it):

    VPNSHARE_ROAM=1 python -m pytest -s tests/netns/test_wireguard.py -k moves

The app's new session after two minutes, in the middle of a download (two and a half minutes):

    VPNSHARE_REKEY=1 python -m pytest -s tests/netns/test_wireguard.py -k rekey
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests.netns.conftest import opened
from tests.netns.hosts import Host
from tests.netns.processes import Process, wait_for
from tests.netns.product import Client, Gateway
from tests.netns.servers import FILE_NAME
from tests.netns.terminal import read_qr
from tests.netns.wireguard_app import WIREGUARD_PORT as PORT
from tests.netns.wireguard_app import App, let_in, missing
from tests.netns.world import GATEWAY_LAN, GATEWAY_LAN6, SERVER, SERVER6, Shape, World
from wireguard.constants import DATA, INITIATION

SIZE = 50_000_000
ROAM = "VPNSHARE_ROAM" in os.environ
REKEY = "VPNSHARE_REKEY" in os.environ
REKEY_SECONDS = 150


@dataclass
class Connected:
    world: World
    gateway: Gateway
    app: App

    @property
    def host(self) -> Host:
        return self.app.host


pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.fixture(scope="module")
def connected() -> Iterator[Connected]:
    with opened(Shape(second_client=True)) as world, world.serving(), Gateway(world) as gateway:
        gateway.share()
        # Sockets of wireguard-go lie in one folder for all namespaces: a name for this run only.
        config = world.directory / f"wg-{world.run_name[-11:]}.conf"
        gateway.command("wireguard", "add", "Anna's phone", "--conf", str(config))
        # The config is good, whatever happens to the gateway before its first use.
        assert gateway.process is not None
        gateway.process.stop(signal.SIGKILL)
        gateway.share()
        app = App(world, world.client, config)
        connected = Connected(world, gateway, app)
        try:
            let_in(gateway, app, patient=True)
            yield connected
        finally:
            connected.app.down()


@pytest.fixture
def leaks(connected: Connected) -> Iterator[None]:
    with connected.world.leaks() as leaks:
        yield
        assert leaks.count() == 0, "\n".join(leaks.lines()[:20])


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read(SIZE)).hexdigest()


def url(server: str, path: str) -> str:
    return f"http://[{server}]:8000/{path}" if ":" in server else f"http://{server}:8000/{path}"


def fetch(host: Host, size: int = 100_000, seconds: float = 20) -> int:
    argv = ["curl", "-sS", "--fail", "--max-time", str(seconds), "-o", "/dev/null",
            "-w", "%{size_download}", url(SERVER, f"bytes/{size}")]  # fmt: skip
    return int(host.run(argv, timeout=seconds + 5).stdout)


def test_the_device_shows_everywhere(connected: Connected) -> None:
    gateway = connected.gateway
    [peer] = gateway.ask("peers")
    assert (peer["label"], peer["kind"], peer["connected"]) == ("Anna's phone", "wireguard", True)
    [lease] = gateway.ask("leases")
    assert (lease["transport"], lease["expires_in"], lease["rtt_ms"]) == ("wireguard", None, None)
    assert lease["endpoint"].startswith("10.1.0.2:") and lease["mtu"] == 1420
    shown = gateway.ask("wireguard")
    [device] = shown["devices"]
    assert (device["id"], device["state"]) == (peer["id"], "connected")
    assert device["told"] == f"{GATEWAY_LAN}:{PORT}" and shown["listen"] == [device["told"]]
    assert device["endpoint"] == lease["endpoint"]
    ours = connected.host.run(["wg", "show", connected.app.interface, "dump"]).stdout.split()
    assert (ours[1], shown["key"]) == (device["key"], ours[4])
    assert abs(time.time() - device["handshake_age"] - connected.app.handshakes()) < 5
    table = gateway.command("wireguard").stdout
    assert "Anna's phone" in table and "connected" in table
    assert gateway.status()["connected"] == 1


@pytest.mark.usefixtures("leaks")
@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_a_large_file_both_ways(connected: Connected, server: str, tmp_path: Path) -> None:
    whole = connected.world.directory / FILE_NAME
    got, part = tmp_path / "got", tmp_path / "part"
    connected.host.run(
        ["curl", "-sS", "--fail", "-o", str(got), url(server, f"bytes/{SIZE}")], timeout=120
    )
    assert got.stat().st_size == SIZE
    assert sha256(got) == sha256(whole)
    with open(whole, "rb") as source:
        part.write_bytes(source.read(SIZE))
    done = connected.host.run(
        ["curl", "-sS", "--fail", "-T", str(part), url(server, "upload")], timeout=120
    )
    assert done.stdout == sha256(whole)


@pytest.mark.usefixtures("leaks")
def test_names_pings_and_datagrams(connected: Connected) -> None:
    host = connected.host
    assert host.run(["dig", "+short", "server.test", "A"]).stdout == f"{SERVER}\n"
    assert host.run(["dig", "+short", "server.test", "AAAA"]).stdout == f"{SERVER6}\n"
    for server in (SERVER, SERVER6):
        host.run(["ping", "-c", "3", "-i", "0.2", server])
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        with host.open_socket(family, socket.SOCK_DGRAM) as sock:
            for size in (1, 1200, 1392 if ":" not in server else 1372, 4000):
                sock.sendto(os.urandom(size), (server, 7))
                assert len(sock.recv(65535)) == size


@pytest.mark.slow
@pytest.mark.skipif(not REKEY, reason="takes two and a half minutes: VPNSHARE_REKEY=1")
@pytest.mark.usefixtures("leaks")
@pytest.mark.timeout(REKEY_SECONDS + 90)
def test_the_apps_rekey_loses_nothing_of_a_running_download(
    connected: Connected, tmp_path: Path
) -> None:
    host, app, got = connected.host, connected.app, tmp_path / "got"
    whole = connected.world.directory / FILE_NAME
    size = whole.stat().st_size
    before = app.handshakes()
    pings = host.start(["ping", "-n", "-i", "0.1", SERVER], name="pings")
    host.run(
        ["curl", "-sS", "--fail", "--limit-rate", str(size // REKEY_SECONDS), "-o", str(got),
         url(SERVER, f"bytes/{size}")],
        timeout=REKEY_SECONDS + 60,
    )  # fmt: skip
    pings.stop(signal.SIGINT)
    said = pings.tail(3)
    print(f"\nthe app's sessions are {app.handshakes() - before} s apart; {said}")
    assert app.handshakes() - before >= 120
    assert hashlib.sha256(got.read_bytes()).digest() == hashlib.sha256(whole.read_bytes()).digest()
    assert " 0% packet loss" in said, said


def test_small_answers_do_not_wait_behind_a_download(connected: Connected) -> None:
    host = connected.host
    bulk = host.start(["curl", "-s", "-o", "/dev/null", url(SERVER, "bytes/200000000")])
    time.sleep(0.5)
    said = host.run(["ping", "-c", "20", "-i", "0.1", SERVER]).stdout
    bulk.kill()
    loss = re.search(r"(\d+)% packet loss", said)
    assert loss is not None and int(loss[1]) <= 10, said


def test_the_device_moves_during_a_download(connected: Connected) -> None:
    host, gateway = connected.host, connected.gateway
    [lease] = gateway.leases()
    size, rate = (20_000_000, "5M") if ROAM else (10_000_000, "4M")
    bulk = host.start(
        ["curl", "-sS", "--max-time", "60", "-o", "/dev/null", "--limit-rate", rate,
         url(SERVER, f"bytes/{size}")]
    )  # fmt: skip
    time.sleep(0.5)
    if ROAM:
        _readdress(host, "10.1.0.2", "10.1.0.9")
    else:
        host.ip("address add 10.1.0.9/24 dev lan0")
        host.nft(other_address(int(lease["endpoint"].rpartition(":")[2])))
    try:
        pings = host.start(["ping", "-i", "0.5", SERVER], name="moved")
        assert bulk.popen.wait(60) == 0
        pings.kill()
        [moved] = gateway.leases()
        assert moved["endpoint"] != lease["endpoint"] and moved["id"] == lease["id"]
        assert moved["endpoint"].startswith("10.1.0.9:" if ROAM else "10.1.0.9:40404")
    finally:
        if not ROAM:
            host.nft("delete table ip moved")
            host.ip("address del 10.1.0.9/24 dev lan0")
            host.run(["ping", "-c", "1", SERVER], check=False)
        if ROAM:
            _readdress(host, "10.1.0.9", "10.1.0.2")
            host.run(["ping", "-c", "1", SERVER], check=False)


def other_address(port: int) -> str:
    """The app at this port of 10.1.0.2 is seen at another address and port: a NAT without memory,
    since wg-quick's rules have the kernel remember the way that it has."""
    return f"""table ip moved {{
    chain out {{
        type filter hook postrouting priority 300;
        udp dport {PORT} ip saddr set 10.1.0.9 udp sport set 40404
    }}
    chain in {{
        type filter hook prerouting priority -300;
        udp sport {PORT} udp dport 40404 ip daddr set 10.1.0.2 udp dport set {port}
    }}
}}
"""


def _readdress(host: Host, old: str, new: str) -> None:
    host.ip(
        f"address del {old}/24 dev lan0",
        f"address add {new}/24 dev lan0",
        f"-4 route replace default via {GATEWAY_LAN}",
    )


def test_a_device_of_the_other_kind_beside_it(connected: Connected) -> None:
    world = connected.world
    assert world.second is not None
    with Client(world, world.second, "second") as client:
        client.start()
        client.join(connected.gateway)
        kinds = {lease["transport"] for lease in connected.gateway.leases()}
        assert "wireguard" in kinds and len(kinds) == 2
        assert fetch(world.second) == fetch(connected.host) == 100_000
        client.command("disconnect")


def test_what_is_recorded_and_sent_again_changes_nothing(connected: Connected) -> None:
    """Somebody in the LAN has heard everything, and says it again from where he is."""
    world, gateway, app = connected.world, connected.gateway, connected.app
    assert world.second is not None
    with world.gateway.open_socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)) as ear:
        ear.bind(("lan0", 0))
        app.down()
        app.up()
        assert fetch(connected.host) == 100_000
        heard = list(sent_to_the_door(ear))
    kinds = [datagram[0] for datagram in heard]
    assert kinds.count(INITIATION) >= 1 and kinds.count(DATA) >= 10
    shown, before = gateway.peek("wireguard")["devices"], gateway.status()["counters"]
    with world.second.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
        for datagram in heard:
            mouth.sendto(datagram, (GATEWAY_LAN, PORT))
        mouth.settimeout(0.5)
        with pytest.raises(TimeoutError):
            mouth.recv(2048)
    after = gateway.status()["counters"]

    def dropped(what: str) -> int:
        names = [name for name in after if re.fullmatch(f"wireguard__{what}__dropped", name)]
        return sum(after[name] - before.get(name, 0) for name in names)

    # Of the session before, there may be none any more.
    assert dropped("data__(replayed|unknown_index)") == kinds.count(DATA)
    assert dropped("initiation_(replayed|outdated)") == kinds.count(INITIATION)
    (device,) = gateway.peek("wireguard")["devices"]
    assert device["endpoint"] == shown[0]["endpoint"] and device["state"] == "connected"
    # The device says little meanwhile, and what was said again does not count.
    grown = device["received_bytes"] - shown[0]["received_bytes"]
    assert grown < sum(map(len, heard)) / 2
    assert fetch(connected.host) == 100_000


def sent_to_the_door(ear: socket.socket) -> Iterator[bytes]:
    """The datagrams among what was heard that went to the gateway."""
    ear.setblocking(False)
    while True:
        try:
            packet = ear.recv(65535)
        except BlockingIOError:
            return
        header = 4 * (packet[0] & 15)
        if packet[0] >> 4 == 4 and packet[9] == socket.IPPROTO_UDP:
            port = int.from_bytes(packet[header + 2 : header + 4], "big")
            if port == PORT:
                yield packet[header + 8 :]


def test_the_gateways_address_goes_and_comes_back_and_the_system_ends_the_socket(
    connected: Connected,
) -> None:
    """As a hotspot that is off for a moment, with Android's netd (SOCK_DESTROY)."""
    host, gateway, router = connected.host, connected.gateway, connected.world.gateway
    before, session = gateway.leases(), connected.app.handshakes()
    bulk = host.start(
        ["curl", "-sS", "--max-time", "60", "-o", "/dev/null", "--limit-rate", "3M",
         url(SERVER, "bytes/6000000")]
    )  # fmt: skip
    time.sleep(0.5)
    router.ip("link set lan0 down", f"address del {GATEWAY_LAN}/24 dev lan0")
    router.run(["ss", "-K", "-H", "-n", "-u", "-a", "sport", "=", f":{PORT}"])
    time.sleep(0.5)
    router.ip(
        f"address add {GATEWAY_LAN}/24 dev lan0",
        "link set lan0 up",
        f"address replace {GATEWAY_LAN6}/64 dev lan0 nodad",
    )
    assert bulk.popen.wait(60) == 0, bulk.tail()
    assert gateway.leases()[0]["id"] == before[0]["id"]
    assert connected.app.handshakes() == session, "nobody has noticed"


@pytest.mark.usefixtures("leaks")
def test_the_vpn_goes_and_comes_back(connected: Connected) -> None:
    world, host = connected.world, connected.host
    assert fetch(host) == 100_000
    world.vpn_down()
    try:
        wait_for(lambda: connected.gateway.peek()["sharing"] == "unavailable", "the loss")
        failed = host.run(["curl", "-s", "-m", "3", url(SERVER, "bytes/10")], check=False)
        assert failed.returncode != 0
    finally:
        with world.vpn_setting_up():
            world.vpn_up()
    wait_for(lambda: connected.gateway.peek()["sharing"] == "on", "the VPN", 20.0)
    assert fetch(host) == 100_000


def test_killed_the_gateway_is_back_without_the_device_doing_anything(
    connected: Connected,
) -> None:
    gateway, host = connected.gateway, connected.host
    traffic = host.start(["ping", "-D", "-i", "0.2", SERVER], name="traffic")
    time.sleep(1.0)
    assert gateway.process is not None
    gateway.process.stop(signal.SIGKILL)
    gateway.share()
    listening = time.monotonic()
    before = traffic.tail(1)
    wait_for(lambda: _answered_after(traffic, before), "a ping's answer", 10.0, 0.02)
    assert time.monotonic() - listening < 2.0
    traffic.kill()
    assert fetch(host) == 100_000


def _answered_after(process: Process, line: str) -> bool:
    last = process.tail(1)
    return "bytes from" in last and last != line


@pytest.mark.usefixtures("leaks")
def test_a_new_key_takes_over_when_it_is_used(connected: Connected) -> None:
    gateway, old = connected.gateway, connected.app
    [before] = gateway.leases()
    config = old.config.with_stem(f"wn-{connected.world.run_name[-11:]}")
    gateway.command("wireguard", "renew", "Anna's phone", "--conf", str(config))
    assert fetch(old.host) == 100_000, "the old key is good still"
    old.down()
    connected.app = new = App(connected.world, old.host, config)
    let_in(gateway, new)
    assert fetch(new.host) == 100_000
    [lease] = gateway.leases()
    assert (lease["ipv4"], lease["ipv6"]) == (before["ipv4"], before["ipv6"])
    [device] = gateway.peek("wireguard")["devices"]
    assert device["label"] == "Anna's phone" and device["id"] != before["peer_id"]
    new.down()
    old.up()
    failed = old.host.run(["curl", "-s", "-m", "3", url(SERVER, "bytes/10")], check=False)
    assert failed.returncode != 0 and old.handshakes() == 0
    assert gateway.requests() == []
    old.down()
    new.up()
    assert fetch(new.host) == 100_000


def test_revoked_it_is_out_at_once(connected: Connected) -> None:
    gateway, host = connected.gateway, connected.host
    with host.connect(SERVER, 7) as echo:
        echo.sendall(b"x")
        assert echo.recv(1) == b"x"
        [device] = gateway.peek("wireguard")["devices"]
        gateway.command("revoke", device["id"])
        assert gateway.peek("flows")["total"] == 0
        assert gateway.leases() == [] and gateway.peek("wireguard")["devices"] == []
    failed = host.run(["curl", "-s", "-m", "3", url(SERVER, "bytes/10")], check=False)
    assert failed.returncode != 0
    assert gateway.requests() == []


def test_a_picture_for_a_phone(connected: Connected, tmp_path: Path) -> None:
    gateway = connected.gateway
    picture, file = tmp_path / "tablet.png", tmp_path / "tablet.conf"
    gateway.command("wireguard", "add", "tablet", "--png", str(picture), "--conf", str(file))
    assert stat.S_IMODE(picture.stat().st_mode) == stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_qr(Image.open(picture), tmp_path / "read.png") == file.read_text().strip()
    text = file.read_text()
    assert "\nDNS=10." in text and f"\nEndpoint={GATEWAY_LAN}:{PORT}\n" in text
    again = gateway.command("wireguard", "add", "other", "--conf", str(file), check=False)
    assert again.returncode == 1 and "is there already" in again.stderr
    assert file.read_text() == text
    devices = gateway.peek("wireguard")["devices"]
    assert [device["label"] for device in devices] == ["tablet"]
    assert devices[0]["state"] == "offered"
