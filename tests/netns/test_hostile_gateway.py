"""What a paired gateway that turns out hostile can do to a device: what docs/vshp.md 8 says.

The device is on a LAN, has a bridge with a container behind it, and forwards between them, as
any host of containers does.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.packet import Packet, Raw

from tests.netns.conftest import opened
from tests.netns.hostile_gateway import HONEST, HostileGateway
from tests.netns.hosts import Host
from tests.netns.processes import wait_for
from tests.netns.product import PORT, Client
from tests.netns.world import World
from vshp.config import LeaseConfig
from vshp.endpoints import Endpoint

FAR, FAR6 = "192.0.2.9", "2001:db8::9"
OWN, OWN6 = "10.77.0.2", "fd77::2"
LAN, LAN6, ROUTER = "10.1.0.2", "fd01::2", "10.1.0.1"
BRIDGE, BRIDGE6, CONTAINER, CONTAINER6 = "172.18.0.1", "fd18::1", "172.18.0.2", "fd18::2"
UDP_PORT = 5353
QUIET = 0.4
"""Seconds in which what was going to arrive has arrived."""


class Device:
    """The client host with a container behind it, a hostile gateway beside it, and ears."""

    def __init__(self, world: World, gateway: HostileGateway, client: Client) -> None:
        self.world = world
        self.host = world.client
        self.gateway = gateway
        self.client = client
        self.container = container(world)

    def connect(self, lease: LeaseConfig = HONEST) -> None:
        self.gateway.grants(lease)
        self.client.command("connect", self.gateway.uri(), "--wait", "20", check=False)

    def picture(self) -> str:
        """What a lease could have changed."""
        commands = ("ip -4 route show table all", "ip -6 route show table all", "ip -br addr",
                    "ip rule", "ip -6 rule", "cat /etc/resolv.conf")  # fmt: skip
        return "\n".join(self.host.run(words.split()).stdout for words in commands)


def container(world: World) -> Host:
    """A host behind the device, on a bridge's network."""
    made = world._host("k")
    world.client.ip(
        f"link add br0 type veth peer name eth0 netns {made.namespace}",
        f"address add {BRIDGE}/16 dev br0",
        f"address add {BRIDGE6}/64 dev br0 nodad",
        "link set br0 up",
    )
    made.ip(
        f"address add {CONTAINER}/16 dev eth0",
        f"address add {CONTAINER6}/64 dev eth0 nodad",
        "link set eth0 up",
        f"route add default via {BRIDGE}",
        f"-6 route add default via {BRIDGE6}",
    )
    world.client.sysctl({"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1})
    return made


class Ears:
    """UDP sockets on a host, each bound to an address; what they got."""

    def __init__(self, host: Host, *addresses: str) -> None:
        self._socks = [host.inside(partial(listening, address)) for address in addresses]

    def __enter__(self) -> Ears:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._socks:
            sock.close()

    def heard(self) -> set[str]:
        """The texts that have arrived since the last call."""
        time.sleep(QUIET)
        texts = set()
        for sock in self._socks:
            while True:
                try:
                    texts.add(sock.recv(2048).decode())
                except BlockingIOError:
                    break
        return texts


def listening(address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((address, UDP_PORT))
    return sock


def datagram(source: str, destination: str, text: str) -> Packet:
    header = IPv6 if ":" in destination else IP
    return header(src=source, dst=destination) / UDP(sport=53, dport=UDP_PORT) / Raw(text.encode())


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    with (
        opened() as world,
        HostileGateway(world.gateway, ROUTER, PORT) as gateway,
        Client(world) as client,
    ):
        client.start()
        yield Device(world, gateway, client)


@pytest.fixture
def connected(device: Device) -> Iterator[Device]:
    device.connect()
    assert device.client.status()["state"] == "connected"
    yield device
    device.client.command("disconnect")


def test_only_the_leases_addresses_are_reached_and_only_from_afar(connected: Device) -> None:
    send = connected.gateway.send
    anywhere = ("0.0.0.0", "::", LAN, LAN6, BRIDGE, BRIDGE6)
    with Ears(connected.host, *anywhere) as ears, Ears(connected.container, "0.0.0.0", "::") as far:
        send(datagram(FAR, OWN, "good"))
        send(datagram(FAR6, OWN6, "good6"))
        send(datagram("10.77.0.1", OWN, "gateway"))
        assert ears.heard() == {"good", "good6", "gateway"}
        for destination in (LAN, BRIDGE, "127.0.0.1", "10.1.0.255", "172.18.255.255",
                            "255.255.255.255", "224.0.0.251", "10.77.0.255"):  # fmt: skip
            send(datagram(FAR, destination, f"to {destination}"))
        for destination in (LAN6, BRIDGE6, "ff02::fb", "ff02::1", "::1"):
            send(datagram(FAR6, destination, f"to {destination}"))
        for source in (ROUTER, LAN, BRIDGE, CONTAINER, "10.1.0.77", "127.0.0.1", "0.0.0.0",
                       "169.254.1.1", OWN):  # fmt: skip
            send(datagram(source, OWN, f"from {source}"))
        for source in ("fd01::1", "fd18::2", "fe80::1", "::1", OWN6):
            send(datagram(source, OWN6, f"from {source}"))
        send(datagram(FAR, CONTAINER, "behind"))
        send(datagram(FAR6, CONTAINER6, "behind6"))
        send(datagram(ROUTER, CONTAINER, "forged behind"))
        assert ears.heard() == set()
        assert far.heard() == set()
        send(datagram(FAR, OWN, "still good"))
        assert ears.heard() == {"still good"}
    counters = connected.client.status()["counters"]
    assert counters["ingress__destination__dropped"] == 16
    assert counters["ingress__source__dropped"] == 14


def test_what_is_dropped_is_not_answered(connected: Device) -> None:
    send, heard = connected.gateway.send, connected.gateway.heard
    before = len(heard())
    send(IP(src=FAR, dst=LAN) / ICMP() / Raw(b"ping"))
    send(IPv6(src=FAR6, dst=LAN6) / ICMPv6EchoRequest(data=b"ping"))
    send(IP(src=FAR, dst=LAN) / TCP(sport=9, dport=22, flags="S"))
    send(IP(src=FAR, dst=CONTAINER) / TCP(sport=9, dport=22, flags="S"))
    send(IP(src=ROUTER, dst=OWN) / ICMP() / Raw(b"ping"))
    send(IP(src=FAR, dst=OWN, options=[b"\x83\x07\x04\x0a\x01\x00\x01\x00"]) / ICMP())
    time.sleep(QUIET)
    answered = [packet for packet in heard()[before:] if meant(packet) in (FAR, FAR6, ROUTER)]
    assert not answered
    send(IP(src=FAR, dst=OWN) / ICMP() / Raw(b"ping"))
    wait_for(lambda: any(meant(p) == FAR for p in heard()[before:]), "the honest ping's answer", 5)


def meant(packet: bytes) -> str:
    """A packet's destination."""
    at = slice(16, 20) if packet[0] >> 4 == 4 else slice(24, 40)
    return str(ipaddress.ip_address(packet[at]))


def lease(gateway: str, own: str = "") -> LeaseConfig:
    """Honest but for these."""
    address = ipaddress.ip_address(gateway)
    mine = ipaddress.ip_address(own) if own else address + 1
    if address.version == 4:
        return replace(HONEST, gateway_ipv4=address.packed, ipv4=mine.packed, prefix_ipv4=16)
    return replace(HONEST, gateway_ipv6=address.packed, ipv6=mine.packed, prefix_ipv6=48)


LIES = {
    "the LAN's router and the link's peer": (lease(ROUTER, "10.1.0.66"), "lease_clashes"),
    "a host of the LAN": (lease("10.1.0.9"), "lease_clashes"),
    "an address of the device": (lease("10.1.200.1", LAN), "lease_clashes"),
    "a container": (lease(CONTAINER, "172.18.0.66"), "lease_clashes"),
    "a host of the LAN by IPv6": (lease("fd01::9"), "lease_clashes"),
    "systemd's stub": (lease("127.0.0.53"), "lease_forbidden"),
    "multicast": (lease("224.0.0.251"), "lease_forbidden"),
    "broadcast": (lease("255.255.255.255", "255.255.255.254"), "lease_forbidden"),
    "a metadata service": (lease("169.254.169.254", "169.254.169.253"), "lease_forbidden"),
    "somebody's resolver": (lease("8.8.8.8", "8.8.8.9"), "lease_forbidden"),
    "loopback in another spelling": (lease("::ffff:127.0.0.53"), "lease_forbidden"),
    "multicast by IPv6": (lease("ff02::fb"), "lease_forbidden"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lease_that_takes_what_is_the_devices_own_changes_nothing(
    device: Device, lie: str
) -> None:
    lying, name = LIES[lie]
    before = addresses_and_resolver(device)
    device.gateway.grants(lying)
    device.client.command("connect", device.gateway.uri(), "--wait", "1", check=False)
    wait_for(lambda: device.client.peek()["error"] == name, f"{name} to be said", 10)
    assert device.client.status()["reason"]
    assert addresses_and_resolver(device) == before
    device.client.command("disconnect")


def addresses_and_resolver(device: Device) -> list[str]:
    """Of the host, but for its own new interface, which is empty."""
    text = device.picture()
    return [line for line in text.splitlines() if "10.77." in line or "fd77:" in line
            or "nameserver" in line or " dev vshp" in line]  # fmt: skip


@pytest.mark.parametrize("lie", ["a host of the LAN", "systemd's stub", "multicast by IPv6"])
def test_nor_by_a_delta(connected: Device, lie: str) -> None:
    lying, name = LIES[lie]
    connected.gateway.change(lying)
    wait_for(lambda: connected.client.peek()["error"] == name, f"{name} to be said", 10)
    for address in (lying.gateway_ipv4, lying.gateway_ipv6, lying.ipv4, lying.ipv6):
        if address not in (HONEST.gateway_ipv4, HONEST.gateway_ipv6, HONEST.ipv4, HONEST.ipv6):
            assert str(ipaddress.ip_address(address)) not in connected.picture().split()
    assert "127.0.0.53" not in connected.host.run(["cat", "/etc/resolv.conf"]).stdout


def test_a_network_that_comes_later_is_the_devices_own(connected: Device) -> None:
    connected.host.ip(
        "link add late0 type veth peer name late1",
        "address add 10.77.5.5/16 dev late0",
        "link set late0 up",
        "link set late1 up",
    )
    try:
        wait_for(
            lambda: connected.client.peek()["error"] == "lease_clashes",
            "the clash to be said",
            10,
        )
        assert "late0" in connected.client.status()["reason"]
    finally:
        connected.host.ip("link delete late0")
    wait_for(lambda: connected.client.peek()["state"] == "connected", "the way back", 15)


def test_places_of_the_devices_own_are_neither_kept_nor_dialled(connected: Device) -> None:
    told = ("::ffff:127.0.0.1", "255.255.255.255", "169.254.169.254", LAN, "10.1.0.255", BRIDGE,
            "::1", "10.1.0.77")  # fmt: skip
    trap = connected.host.inside(lambda: socket.create_server(("::", 4444), family=socket.AF_INET6,
                                                              dualstack_ipv6=True))  # fmt: skip
    trap.setblocking(False)
    with trap:
        places = tuple(Endpoint.of("tcp", host, 4444) for host in told)
        connected.gateway.change(replace(HONEST, endpoints=places))
        wait_for(
            lambda: connected.client.peek()["counters"].get("endpoint__here__refused", 0) >= 4,
            "the places to be judged", 5,
        )  # fmt: skip
        hellos = connected.gateway.hellos()
        connected.gateway.cut()
        wait_for(lambda: connected.gateway.hellos() > hellos, "the client to be back", 15)
        with pytest.raises(BlockingIOError):
            trap.accept()
    (known,) = connected.client.peek("gateways")
    assert {place.split(":")[1].strip("[]") for place in known["endpoints"]} == {
        ROUTER,
        "10.1.0.77",
    }
