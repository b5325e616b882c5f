"""The default router as a guess: which links count, in which order, and who is not asked again."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from pathlib import Path

import pytest

from client.judgement import Attached, HostFacts, Router
from client.kinds import classify, kind_of
from client.model import ClientState, EndpointKind, TransportEndpoint
from client.reconnect import Ending, in_order
from client.routers import MAX_ROUTERS, router_endpoints
from client.strangers import KNOCK_AGAIN, KNOCK_MOST, MAX_STRANGERS, Strangers, who_was_it
from client.system.facts import FactsReader
from client.system.interfaces import MODEMS, TETHERING, Nature, nature
from tests.client.fakes import RecordingRunner
from tests.client.gateway_double import GatewayDouble
from tests.client.test_client import Device


def ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text)


class Sysfs:
    """A tree as the kernel shows it, with the interfaces that a test puts there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.net = root / "sys/class/net"
        self.net.mkdir(parents=True)

    def put(
        self,
        name: str,
        driver: str = "",
        kind: str = "1",
        holds: Iterable[str] = (),
        words: str = "",
    ) -> None:
        folder = self.net / name
        folder.mkdir()
        (folder / "type").write_text(f"{kind}\n")
        (folder / "uevent").write_text(f"INTERFACE={name}\n{words}")
        for entry in holds:
            (folder / entry).mkdir(parents=True)
        if driver:
            code = self.root / "sys/bus/usb/drivers" / driver
            code.mkdir(parents=True, exist_ok=True)
            (folder / "device").mkdir()
            (folder / "device/driver").symlink_to(code)


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    tree = Sysfs(tmp_path)
    tree.put("lo", kind="772")
    tree.put("eth0", "e1000e")
    tree.put("usb0", "rndis_host")
    tree.put("wlan0", "iwlwifi", holds=("wireless",), words="DEVTYPE=wlan\n")
    return tree


# --- what an interface is ------------------------------------------------------------------------


@pytest.mark.parametrize("driver", sorted(TETHERING))
def test_a_phone_that_shares_by_cable_is_known_by_its_driver(sysfs: Sysfs, driver: str) -> None:
    sysfs.put("enxbe5e", driver)
    assert nature("enxbe5e", sysfs.root) is Nature.USB


@pytest.mark.parametrize("driver", sorted(MODEMS))
def test_behind_a_modem_sits_the_provider(sysfs: Sysfs, driver: str) -> None:
    sysfs.put("wwan0", driver)
    assert nature("wwan0", sysfs.root) is Nature.NONE


def test_adapters_on_usb_are_what_they_are_adapters_for(sysfs: Sysfs) -> None:
    sysfs.put("eth1", "r8152")
    sysfs.put("wlx00", "rtw_8822bu", holds=("phy80211",))
    assert nature("eth1", sysfs.root) is Nature.WIRED
    assert nature("wlx00", sysfs.root) is Nature.WIRELESS
    assert nature("wlan0", sysfs.root) is Nature.WIRELESS


def test_tunnels_and_bridges_of_containers_are_no_links(sysfs: Sysfs) -> None:
    sysfs.put("wg0", kind="65534", words="DEVTYPE=wireguard\n")
    sysfs.put("ppp0", kind="512")
    sysfs.put("vshp0", kind="65534", holds=("tun_flags",))
    sysfs.put("tap0", holds=("tun_flags",))
    sysfs.put("veth1")
    sysfs.put("docker0", holds=("bridge", "brif/veth1"), words="DEVTYPE=bridge\n")
    sysfs.put("br-empty", holds=("bridge",))
    sysfs.put("wwp0", words="DEVTYPE=wwan\n")
    for name in ("lo", "wg0", "ppp0", "vshp0", "tap0", "docker0", "br-empty", "wwp0"):
        assert nature(name, sysfs.root) is Nature.NONE, name


def test_a_bridge_with_a_cable_in_it_is_a_link(sysfs: Sysfs) -> None:
    sysfs.put("veth1")
    sysfs.put("br0", holds=("bridge", "brif/veth1", "brif/eth0"), words="DEVTYPE=bridge\n")
    assert nature("br0", sysfs.root) is Nature.WIRED


def test_in_a_container_the_router_is_reached_by_a_virtual_cable(sysfs: Sysfs) -> None:
    sysfs.put("veth1")
    assert nature("veth1", sysfs.root) is Nature.WIRED


@pytest.mark.parametrize("name", ["", ".", "..", "../eth0", "a/b"])
def test_what_is_no_name_is_no_link(sysfs: Sysfs, name: str) -> None:
    assert nature(name, sysfs.root) is Nature.NONE


def test_where_sysfs_is_silent_the_name_has_to_do(tmp_path: Path) -> None:
    for name in ("vshp0", "tun3", "tap0", "wg0", "ppp0", "docker0", "virbr0", "lo"):
        assert nature(name, tmp_path) is Nature.NONE, name
    for name in ("eth0", "wlan0", "usb0", "enp3s0"):
        assert nature(name, tmp_path) is Nature.WIRED, name


# --- the host's default routers ------------------------------------------------------------------


def test_default_routers_come_by_their_metric(tmp_path: Path) -> None:
    runner = RecordingRunner()
    runner.answers["ip -4 -j route show table main"] = [
        {"dst": "default", "gateway": "192.168.1.1", "dev": "eth0", "metric": 600, "flags": []},
        {"dst": "default", "gateway": "192.168.42.129", "dev": "usb0", "metric": 100, "flags": []},
        {"dst": "default", "gateway": "10.0.0.1", "dev": "vshp0", "flags": []},
        {"dst": "default", "gateway": "10.3.0.1", "dev": "eth3", "flags": ["linkdown"]},
        {"dst": "default", "dev": "ppp0", "scope": "link", "flags": []},
        {"dst": "10.0.0.0/8", "gateway": "192.168.1.9", "dev": "eth0", "flags": []},
    ]
    runner.answers["ip -6 -j route show table main"] = [
        {"dst": "default", "metric": 1024, "flags": [], "nexthops": [
            {"gateway": "fe80::1", "dev": "eth0", "weight": 1, "flags": []},
            {"gateway": "fe80::2", "dev": "eth1", "weight": 1, "flags": ["dead"]},
            {"gateway": "fe80::3", "dev": "eth2", "weight": 1, "flags": []},
        ]},
        {"dst": "default", "via": {"family": "inet6", "host": "fe80::9"}, "dev": "eth4",
         "metric": 2048, "flags": []},
    ]  # fmt: skip
    facts = FactsReader(runner, tmp_path / "resolv.conf").read("vshp0")
    assert [(str(r.address), r.interface) for r in facts.defaults] == [
        ("192.168.42.129", "usb0"), ("192.168.1.1", "eth0"), ("fe80::1", "eth0"),
        ("fe80::3", "eth2"), ("fe80::9", "eth4"),
    ]  # fmt: skip


def routers(*pairs: str) -> HostFacts:
    """Facts with default routers, as `ADDRESS@INTERFACE`."""
    return HostFacts(
        defaults=tuple(Router(ip(address), name) for address, name in (p.split("@") for p in pairs))
    )


def test_the_router_of_each_link_is_a_guess_of_its_kind(sysfs: Sysfs) -> None:
    facts = routers(
        "192.168.1.1@eth0", "192.168.42.129@usb0", "fe80::1@wlan0", "192.168.43.1@wlan0",
        "fe80::5@eth1", "10.9.0.1@wg0",
    )  # fmt: skip
    sysfs.put("wg0", kind="65534")
    sysfs.put("eth1", "r8152")
    found = router_endpoints(facts, 47801, system=sysfs.root)
    assert [(str(e), e.kind) for e in found] == [
        ("tcp:192.168.1.1:47801", EndpointKind.LAN),
        ("tcp:192.168.42.129:47801", EndpointKind.USB),
        ("tcp:192.168.43.1:47801", EndpointKind.HOTSPOT),
        ("tcp:[fe80::5%eth1]:47801", EndpointKind.LAN),
    ]
    assert all(e.guessed for e in found)


def test_a_router_is_asked_by_the_transport_that_the_user_wants(sysfs: Sysfs) -> None:
    facts = routers("192.168.1.1@eth0")
    wanted = {
        t: [e.transport for e in router_endpoints(facts, 1, t, sysfs.root)]
        for t in ("auto", "tcp", "udp", "usb")
    }
    assert wanted == {"auto": ["tcp"], "tcp": ["tcp"], "udp": ["udp"], "usb": []}


def test_routers_are_few_and_never_this_device(sysfs: Sysfs) -> None:
    many = routers(*(f"192.168.{n}.1@eth{n}" for n in range(9)))
    for n in range(1, 9):
        sysfs.put(f"eth{n}")
    assert len(router_endpoints(many, 1, system=sysfs.root)) == MAX_ROUTERS
    own = HostFacts(own=frozenset({ip("192.168.1.1")}), defaults=many.defaults[1:2])
    assert router_endpoints(own, 1, system=sysfs.root) == ()


# --- kinds ---------------------------------------------------------------------------------------

NETWORKS = HostFacts(
    own=frozenset({ip("192.168.1.7")}),
    attached=tuple(
        Attached(ipaddress.ip_network(network), interface)
        for network, interface in (
            ("192.168.1.0/24", "eth0"), ("192.168.42.0/24", "usb0"), ("192.168.43.0/24", "wlan0"),
        )
    ),
    defaults=(Router(ip("192.168.43.1"), "wlan0"), Router(ip("10.5.5.5"), "usb0")),
)  # fmt: skip


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("192.168.42.129", EndpointKind.USB),
        ("10.5.5.5", EndpointKind.USB),
        ("192.168.43.1", EndpointKind.HOTSPOT),
        ("192.168.43.7", EndpointKind.LAN),
        ("192.168.1.1", EndpointKind.LAN),
        ("192.168.1.7", EndpointKind.LAN),
        ("127.0.0.1", EndpointKind.LAN),
        ("fe80::1%usb0", EndpointKind.USB),
        ("fe80::1%eth0", EndpointKind.LAN),
        ("192.168.77.1", EndpointKind.ROUTED),
        ("203.0.113.9", EndpointKind.ROUTED),
        ("2001:db8::1", EndpointKind.ROUTED),
    ],
)
def test_the_kind_of_an_endpoint(sysfs: Sysfs, host: str, kind: EndpointKind) -> None:
    assert kind_of(host, NETWORKS, sysfs.root) is kind


def test_what_is_on_no_network_here_is_tried_last(sysfs: Sysfs) -> None:
    """As the last hotspot's address is once it has another subnet."""
    dead = TransportEndpoint("tcp", "192.168.77.1", 47800)
    hotspot = TransportEndpoint("tcp", "192.168.43.1", 47800, guessed=True)
    phone = TransportEndpoint("usb", "R58M123", 47800)
    ordered = in_order(classify((dead, hotspot, phone), NETWORKS, sysfs.root))
    assert ordered == (
        TransportEndpoint("usb", "R58M123", 47800, EndpointKind.USB),
        TransportEndpoint("tcp", "192.168.43.1", 47800, EndpointKind.HOTSPOT),
        TransportEndpoint("tcp", "192.168.77.1", 47800, EndpointKind.ROUTED),
    )


# --- strangers -----------------------------------------------------------------------------------


def guesses(*hosts: str) -> tuple[TransportEndpoint, ...]:
    return tuple(TransportEndpoint("tcp", host, 47800, guessed=True) for host in hosts)


def test_a_stranger_is_knocked_at_ever_more_seldom() -> None:
    strangers = Strangers()
    [guess] = guesses("192.168.1.1")
    now, pauses = 0.0, []
    for _ in range(9):
        assert strangers.without((guess,), now) == (guess,)
        strangers.met("192.168.1.1", now)
        again = now
        while not strangers.without((guess,), again):
            again += KNOCK_AGAIN
        pauses.append(again - now)
        now = again
    assert pauses == [60, 120, 240, 480, 960, 1920, KNOCK_MOST, KNOCK_MOST, KNOCK_MOST]


def test_on_another_network_the_same_address_is_somebody_else() -> None:
    strangers, home = Strangers(), routers("192.168.1.1@wlan0")
    guess = guesses("192.168.1.1")
    assert strangers.look(home)
    strangers.met("192.168.1.1", 0.0)
    assert not strangers.look(home) and strangers.without(guess, 1.0) == ()
    assert strangers.look(routers("192.168.1.1@eth0"))
    assert strangers.without(guess, 1.0) == guess


def test_few_strangers_are_remembered() -> None:
    strangers = Strangers()
    hosts = [f"192.168.1.{n}" for n in range(1, MAX_STRANGERS + 3)]
    for host in hosts:
        strangers.met(host, 0.0)
    assert [e.host for e in strangers.without(guesses(*hosts), 1.0)] == hosts[:2]


@pytest.mark.parametrize(
    ("reason", "name"),
    [("handshake_timeout", "silent"), ("link_dead", "silent"), ("link_lost", "other"),
     ("handshake_failed", "other"), ("message_unknown", "garbage"), ("busy", "later"),
     ("sharing_off", "later"), ("protocol_error", "garbage")],
)  # fmt: skip
def test_what_a_stranger_did_has_a_name(reason: str, name: str) -> None:
    assert who_was_it(Ending(reason, authenticated=False)).name == name


# --- in a client ---------------------------------------------------------------------------------

ROUTER = "127.0.0.5"


BESIDE = HostFacts(defaults=(Router(ip(ROUTER), "eth0"),))
"""A host whose default router is another loopback address."""


@pytest.fixture(autouse=True)
def any_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """The links of these facts need not be this machine's."""
    monkeypatch.setattr("client.routers.nature", lambda name, system: nature(name, Path("/none")))


async def known(device: Device, gateway: GatewayDouble) -> None:
    """Pair, so that the gateway is known, and leave."""
    await device.client.connect(gateway.uri())
    assert (await device.client.wait(5)).state is ClientState.CONNECTED
    await device.client.disconnect()


async def test_a_gateway_that_is_the_router_now_is_found_there(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await known(device, gateway)
        await gateway.deafen()
        await gateway.listen(socket.create_server((ROUTER, gateway.port)))
        device.host.facts = BESIDE
        await device.client.connect()
        now = await device.client.wait(5)
        assert now.state is ClientState.CONNECTED and not now.reconnects
        assert now.endpoint == f"tcp:{ROUTER}:{gateway.port}"
        [kept] = device.store.gateways()
        assert str(kept.endpoints[0]) == now.endpoint and not kept.endpoints[0].guessed


async def test_a_first_contact_tries_no_router(tmp_path: Path) -> None:
    """There somebody who listens would learn what a pairing URI or a code is worth."""
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        device.host.facts = BESIDE
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        assert [str(r.endpoint) for r in device.client.endpoints()] == [
            f"tcp:127.0.0.1:{gateway.port}"
        ]


class Elsewhere:
    """Somebody at the address of another, who does as he is told with each connection."""

    def __init__(self, host: str, port: int, says: bytes | None) -> None:
        """`says`: and hangs up; None: nothing, and stays."""
        self._says = says
        self._place = host, port
        self.heard: list[bytes] = []

    async def __aenter__(self) -> Elsewhere:
        self._server = await asyncio.start_server(self._serve, *self._place)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read(4096)
        self.heard.append(data)
        if self._says is not None:
            writer.write(self._says)
        else:
            await reader.read()
        writer.close()


@pytest.mark.parametrize(
    ("says", "name", "words"),
    [
        (None, "silent", "took the connection and said nothing"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "garbage", "speaks no VSHP: message unknown"),
        (b"", "other", "hung up: another gateway, or another service"),
    ],
    ids=["silent", "garbage", "hangs up"],
)
async def test_a_strange_router_is_named_and_the_next_way_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: bytes | None, name: str, words: str
) -> None:
    monkeypatch.setattr("client.round.PATIENCE", 0.2)
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await known(device, gateway)
        await gateway.deafen()
        async with Elsewhere(ROUTER, gateway.port, says) as router:
            device.host.facts = BESIDE
            await device.client.connect()
            await device.until(lambda: len(device.client.endpoints()) == 2 and name in told(device))
            await gateway.listen()
            assert (await device.client.wait(10)).endpoint == f"tcp:127.0.0.1:{gateway.port}"
            [record] = [r for r in device.client.endpoints() if r.endpoint.host == ROUTER]
            assert record.why == words
            assert device.client.status().counters[f"router__{name}__refused"] == 1
            assert len(router.heard) == 1, "knocked once"


def told(device: Device) -> set[str]:
    """How strangers at the router were named."""
    names = (n.split("__") for n in device.client.status().counters if n.startswith("router__"))
    return {words[1] for words in names}


async def test_another_gateway_at_the_router_learns_nothing(tmp_path: Path) -> None:
    async with (
        GatewayDouble() as gateway, GatewayDouble() as other, Device(tmp_path) as device
    ):  # fmt: skip
        await known(device, gateway)
        await gateway.deafen()
        await other.deafen()
        await other.listen(socket.create_server((ROUTER, gateway.port)))
        device.host.facts = BESIDE
        await device.client.connect()
        await device.until(lambda: device.client.status().error is not None)
        assert told(device) == {"other"}
        assert device.client.status().error == "unreachable", "nobody's word on the gateway"
        [guest] = other.guests
        assert guest.hello is None
        await gateway.listen()
        assert (await device.client.wait(10)).endpoint == f"tcp:127.0.0.1:{gateway.port}"
        assert other.guests == [guest]


async def test_a_round_is_left_when_the_device_is_elsewhere_by_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began before the new network was whole, and clings to who does not answer."""
    monkeypatch.setattr("client.round.FRESH", 0.0)
    monkeypatch.setattr("client.round.PATIENCE", 3600.0)
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await known(device, gateway)
        await gateway.deafen()
        async with Elsewhere("127.0.0.1", gateway.port, None) as silent:
            await device.client.connect()
            await device.until(lambda: bool(silent.heard))
            monkeypatch.setattr("client.round.PATIENCE", 0.2)
            await gateway.listen(socket.create_server((ROUTER, gateway.port)))
            device.host.facts = BESIDE
            device.client._host_news.told()
            now = await device.client.wait(10)
            assert now.endpoint == f"tcp:{ROUTER}:{gateway.port}"
