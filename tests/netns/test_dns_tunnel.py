"""Names through the tunnel, by dig: every type, every size, denials, forgeries, load."""

from __future__ import annotations

import random
import shutil
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.gateway.dns.test_dig import LONG, TYPES
from tests.netns import dns_load
from tests.netns.conftest import opened
from tests.netns.far_dns import TRUTH
from tests.netns.processes import wait_for
from tests.netns.product import PORT, Client, Gateway
from tests.netns.world import GATEWAY_VPN, SERVER_OTHER, World
from tests.netstack import wires

FORGED = "203.0.113.66"
ATTACK_MILLISECONDS = 2500
"""How long the true answer is under way, and so how long a forger has."""
FORGERIES = 5000


@dataclass(frozen=True)
class Names:
    """A connected pair whose servers are resolvers only."""

    world: World
    gateway: Gateway
    client: Client

    def dig(self, *words: str, server: int = 4) -> str:
        """What dig prints; it asks the lease's resolver, by its address of a family."""
        lease = self.client.peek()["lease"]
        argv = ["dig", f"@{lease[f'gateway_ipv{server}']}", "+tries=1", "+time=8", *words]
        return self.world.client.run(argv, check=False).stdout

    def counter(self, name: str) -> int:
        counters: dict[str, int] = self.gateway.status()["counters"]
        return counters.get(name, 0)


@pytest.fixture(scope="module")
def names() -> Iterator[Names]:
    with (
        opened() as world,
        dns_load.resolver(world),
        dns_load.pair(world) as (gateway, client),
        world.leaks() as leaks,
    ):
        yield Names(world, gateway, client)
        assert leaks.count() == 0


@pytest.mark.parametrize("server", [4, 6])
def test_25_record_types_over_udp_and_tcp(names: Names, server: int) -> None:
    for question, expected in TYPES.items():
        type_, owner = question.split()
        for transport in ("+notcp", "+tcp"):
            printed = names.dig("-t", type_, owner, transport, server=server)
            assert "status: NOERROR" in printed, printed
            assert expected.lower() in printed.lower(), printed
            assert "WARNING" not in printed, printed
    assert names.counter("dns__query__hit") >= len(TYPES)


@pytest.mark.parametrize(
    ("option", "cut"),
    [("+bufsize=4096", False), ("+bufsize=1232", True), ("+noedns", True), ("+tcp", False)],
)
def test_an_answer_of_4_000_bytes(names: Names, option: str, cut: bool) -> None:
    printed = names.dig("TXT", LONG, option)
    assert printed.count("x" * 240) == 15, printed
    assert ("retrying in TCP" in printed) == cut
    if cut:
        assert " tc" in names.dig("TXT", LONG, option, "+ignore").partition("flags:")[2][:20]


def test_a_truncated_answer_is_fetched_whole_from_the_resolver(names: Names) -> None:
    before = names.counter("dns__upstream__sent_tcp")
    # The DO bit makes it another question to the cache: it is asked anew.
    printed = names.dig("TXT", LONG, "+bufsize=600", "+dnssec")
    assert printed.count("x" * 240) == 15, printed
    assert names.counter("dns__upstream__sent_tcp") > before


def test_a_denial_is_remembered_for_the_time_its_soa_says(names: Names) -> None:
    with dns_load.far_resolver(names.world, 0) as resolver:
        first = names.dig("nobody.test")
        asked = resolver.tail().splitlines().count("udp nobody.test")
        assert asked in (1, 2), "in mixed case, and once in lower case if that is another"
        time.sleep(1.1)
        second = names.dig("nobody.test")
        for printed in (first, second):
            assert "status: NXDOMAIN" in printed
            assert "AUTHORITY: 1" in printed
        assert soa_ttl(second) < soa_ttl(first) <= 900
        assert resolver.tail().splitlines().count("udp nobody.test") == asked
        # Another type of a name that does not exist is another question.
        assert "status: NXDOMAIN" in names.dig("AAAA", "nobody.test")
        assert resolver.tail().splitlines().count("udp nobody.test") > asked


def soa_ttl(printed: str) -> int:
    (line,) = (line for line in printed.splitlines() if "\tSOA\t" in line and line[0] != ";")
    return int(line.split()[1])


def test_a_public_name_is_given_no_private_address(names: Names) -> None:
    """Unless the owner says so, which takes effect at once."""
    printed = names.dig(dns_load.PRIVATE_NAME)
    assert "status: NOERROR" in printed and "ANSWER: 0" in printed, printed
    assert "EDE: 17 (Filtered)" in printed, printed
    names.gateway.command("set", "dns.rebinding_exempt", "attacker.com")
    assert names.dig("+short", dns_load.PRIVATE_NAME).split() == ["192.168.77.1"]
    names.gateway.command("set", "dns.rebinding_exempt", "")
    assert "ANSWER: 0" in names.dig(dns_load.PRIVATE_NAME)


# ---- forgeries


def forge(question: bytes, port: int) -> bytes:
    """A datagram as if from the resolver: IPv4 header, UDP header without a checksum, answer."""
    answer = wires.reply(question, [wires.record(wires.A, socket.inet_aton(FORGED), 86400)])
    udp = struct.pack("!4H", 53, port, 8 + len(answer), 0) + answer
    addresses = socket.inet_aton(SERVER_OTHER) + socket.inet_aton(GATEWAY_VPN)
    # The kernel fills in length, identification and checksum.
    return struct.pack("!BBHHHBBH", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0) + addresses + udp


def asking_ports(world: World) -> list[int]:
    """The UDP ports from which the gateway is asking."""
    lines = world.gateway.run(["ss", "-H", "-u", "-a", "-n"]).stdout.splitlines()
    ports = (int(line.split()[3].rpartition(":")[2]) for line in lines)
    return [port for port in ports if port != PORT]


@pytest.mark.parametrize("knows_the_port", [False, True], ids=["blind", "knows the port"])
def test_an_attacker_off_the_path_cannot_poison(names: Names, knows_the_port: bool) -> None:
    world, name = names.world, f"bank{int(knows_the_port)}.test"
    random_ = random.Random(53)
    raw = world.server.inside(
        lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    )
    with raw, dns_load.far_resolver(world, ATTACK_MILLISECONDS) as resolver:
        lease = names.client.status()["lease"]
        dig = world.client.start(
            ["dig", f"@{lease['gateway_ipv4']}", "+tries=1", "+time=9", "+short", name]
        )
        wait_for(lambda: f"udp {name}" in resolver.tail(), "the question to arrive")
        ports: list[int] = []
        if knows_the_port:
            ports = asking_ports(world)
            assert ports
        for number in range(FORGERIES):
            port = random_.choice(ports) if ports else random_.randrange(1024, 65536)
            # A sequence of IDs that hits the true one in the long run, as an attacker would.
            forged = wires.question(name, id_=(number * 13) & 0xFFFF)
            raw.sendto(forge(forged, port), (GATEWAY_VPN, 0))
        dig.popen.wait(20)
        assert dig.tail().split() == [TRUTH]
        # What was answered is what is kept.
        assert names.dig("+short", name).split() == [TRUTH]
    if knows_the_port:
        assert names.counter("dns__answer__wrong_id") > 0
        assert names.counter("dns__answer__distrusted") > 0


# ---- load


@pytest.mark.alone
def test_the_cache_answers_much_faster_than_the_resolver(names: Names) -> None:
    if shutil.which("dnsperf") is None:
        pytest.skip("needs dnsperf (Debian's package dnsperf)")
    world = names.world
    with dns_load.far_resolver(world):
        before = names.counter("dns__query__hit")
        misses, hits = dns_load.both(names.client, dns_load.names_file(world))
    for load in (misses, hits):
        assert load.completed == load.sent
        assert load.codes.startswith(f"NOERROR {load.sent} ")
    assert misses.sent == dns_load.NAMES
    assert names.counter("dns__query__hit") - before == hits.sent
    assert hits.per_second > 5 * misses.per_second
