"""What a gateway names, judged against what this host is."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.judgement import (
    LEASE_RANGES,
    MAX_TOLD,
    METADATA,
    Attached,
    HostFacts,
    LeaseAddresses,
    Source,
    embedded,
    from_far,
    judge_endpoint,
    judge_lease,
    scoped,
)
from client.outlet.nic.ingress import MAX_PAIRS, Ingress
from tests.client.gateway_double import LEASE
from vshp.config import LeaseConfig

ip, network = ipaddress.ip_address, ipaddress.ip_network
FACTS = HostFacts(
    own=frozenset({ip("192.168.1.7"), ip("fd01::7"), ip("172.17.0.1")}),
    attached=(
        Attached(network("192.168.1.0/24"), "wlan0"),
        Attached(network("172.17.0.0/16"), "docker0"),
        Attached(network("fd01::/64"), "wlan0"),
    ),
    routed=(network("10.0.0.0/8"),),
    routers=frozenset({ip("192.168.1.1"), ip("10.77.1.254")}),
    resolvers=(ip("10.77.2.53"),),
)
ADDRESSES = LeaseAddresses.of(LEASE)


def lease(own: str, gateway: str, prefix: int | None = None) -> LeaseConfig:
    mine, other = ip(own), ip(gateway)
    if mine.version == 4:
        return replace(LEASE, ipv4=mine.packed, gateway_ipv4=other.packed, prefix_ipv4=prefix or 24)
    return replace(LEASE, ipv6=mine.packed, gateway_ipv6=other.packed, prefix_ipv6=prefix or 64)


def test_an_honest_lease_is_taken() -> None:
    assert judge_lease(LEASE, FACTS, "192.168.1.9") is None
    assert judge_lease(replace(LEASE, ipv6=bytes(16), gateway_ipv6=bytes(16)), FACTS) is None
    assert judge_lease(lease("100.91.61.2", "100.91.61.1"), FACTS, "fe80::1%wlan0") is None


@pytest.mark.parametrize(
    ("own", "gateway"),
    [
        ("10.77.0.2", "127.0.0.53"),
        ("127.0.0.1", "10.77.0.1"),
        ("10.77.0.2", "224.0.0.251"),
        ("10.77.0.2", "255.255.255.255"),
        ("10.77.0.2", "10.77.0.255"),
        ("10.77.0.0", "10.77.0.1"),
        ("10.77.0.2", "0.0.0.1"),
        ("169.254.3.2", "169.254.3.1"),
        ("169.254.169.253", "169.254.169.254"),
        ("100.100.100.201", "100.100.100.200"),
        ("10.77.0.2", "8.8.8.8"),
        ("1.1.1.1", "1.1.1.2"),
        ("10.77.0.2", "10.99.0.1"),
        ("10.77.0.2", "10.77.0.2"),
        ("10.77.0.2", "0.0.0.0"),
        ("::1", "fd77::1"),
        ("fd77::2", "::ffff:127.0.0.53"),
        ("fd77::2", "64:ff9b::7f00:35"),
        ("fd77::2", "ff02::fb"),
        ("fe80::2", "fe80::1"),
        ("fd77::2", "fd77::"),
        ("fd00:ec2::253", "fd00:ec2::254"),
        ("2606:4700:4700::1111", "2606:4700:4700::1"),
    ],
)
def test_what_no_lease_may_have_is_refused_by_name(own: str, gateway: str) -> None:
    refusal = judge_lease(lease(own, gateway), FACTS)
    assert refusal is not None and refusal.name == "lease_forbidden"


def test_a_lease_without_addresses_is_none() -> None:
    empty = replace(
        LEASE, ipv4=bytes(4), gateway_ipv4=bytes(4), ipv6=bytes(16), gateway_ipv6=bytes(16)
    )
    refusal = judge_lease(empty, FACTS)
    assert refusal is not None and refusal.name == "lease_forbidden"


@pytest.mark.parametrize(
    ("own", "gateway", "said"),
    [
        ("192.168.1.7", "192.168.2.60", "has already"),
        ("192.168.1.50", "192.168.2.1", "in 192.168.1.0/24, the network at wlan0"),
        ("192.168.2.2", "192.168.1.1", "router"),
        ("172.17.3.2", "172.17.3.1", "docker0"),
        ("10.77.1.2", "10.77.1.254", "router"),
        ("10.77.2.2", "10.77.2.53", "resolver"),
        ("10.5.5.2", "10.5.5.5", "where the gateway itself is reached"),
        ("fd01::7", "fd01:0:0:9::99", "has already"),
        ("fd01:0:0:0:9::2", "fd01::99", "fd01::/64"),
    ],
)
def test_what_this_host_has_already_is_refused_and_said(own: str, gateway: str, said: str) -> None:
    prefix = 16 if ip(own).version == 4 else 48
    refusal = judge_lease(lease(own, gateway, prefix), FACTS, "10.5.5.5")
    assert refusal is not None and refusal.name == "lease_clashes"
    assert said in refusal.sentence


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1",
        "::ffff:224.0.0.1", "64:ff9b::e000:1", "192.168.1.255", "192.168.1.0", "172.17.255.255",
        "::ffff:0.0.0.0", "2002:e000:1::", "gateway.example",
    ],
)  # fmt: skip
@pytest.mark.parametrize("source", list(Source))
def test_nobody_may_name_what_is_no_host(host: str, source: Source) -> None:
    refusal = judge_endpoint(host, FACTS, ADDRESSES, source)
    assert refusal is not None and refusal.name == "endpoint_forbidden"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.0.0.53", "127.255.255.254", "::1", "::ffff:127.0.0.1", "::127.0.0.1",
        "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::1",
        "192.168.1.7", "::ffff:192.168.1.7", "172.17.0.1", "fd01::7", "fd01::7%wlan0",
        "2001:0:0:0:0:0:80ff:fffe",
    ],
)  # fmt: skip
def test_a_gateway_does_not_name_this_device(host: str) -> None:
    refusal = judge_endpoint(host, FACTS, ADDRESSES, Source.GATEWAY)
    assert refusal is not None and refusal.name == "endpoint_here"
    named = judge_endpoint(host, FACTS, ADDRESSES, Source.NAME)
    assert named is not None and named.name == "endpoint_here"
    assert judge_endpoint(host, FACTS, ADDRESSES, Source.USER) is None


@pytest.mark.parametrize("host", [*sorted(map(str, METADATA)), "::ffff:169.254.169.254",
                                  "10.77.0.1", "10.77.0.2", "10.77.0.99", "fd77::1"])  # fmt: skip
@pytest.mark.parametrize("source", [Source.GATEWAY, Source.KEPT, Source.NAME])
def test_neither_a_gateway_nor_a_name_leads_to_metadata_services_or_into_the_tunnel(
    host: str, source: Source
) -> None:
    refusal = judge_endpoint(host, FACTS, ADDRESSES, source)
    assert refusal is not None and refusal.name == "endpoint_forbidden"


def test_loopback_is_kept_as_the_user_writes_it_and_as_nothing_else() -> None:
    for host in ("127.0.0.1", "::1", "127.0.0.2"):
        assert judge_endpoint(host, FACTS, ADDRESSES, Source.KEPT) is None
    for host in ("::ffff:127.0.0.1", "64:ff9b::7f00:1", "192.168.1.7"):
        assert judge_endpoint(host, FACTS, ADDRESSES, Source.KEPT) is not None


@pytest.mark.parametrize(
    "host", ["192.168.1.9", "203.0.113.9", "fe80::1%wlan0", "169.254.7.7", "2001:db8::1", "fd01::9"]
)
@pytest.mark.parametrize("source", list(Source))
def test_honest_endpoints_are_dialled(host: str, source: Source) -> None:
    assert judge_endpoint(host, FACTS, ADDRESSES, source) is None


@given(st.ip_addresses(v=4))
def test_every_spelling_of_an_ipv4_address_is_judged_as_that(
    address: ipaddress.IPv4Address,
) -> None:
    for prefix in ("::ffff:0:0", "::ffff:0:0:0", "64:ff9b::", "64:ff9b:1::"):
        spelled = ipaddress.IPv6Address(int(ip(prefix)) | int(address))
        assert embedded(spelled) == address
        one = judge_endpoint(str(spelled), FACTS, ADDRESSES, Source.GATEWAY)
        other = judge_endpoint(str(address), FACTS, ADDRESSES, Source.GATEWAY)
        assert (one and one.name) == (other and other.name)
    sixtofour = ipaddress.IPv6Address(0x2002 << 112 | int(address) << 80)
    assert embedded(sixtofour) == address


@given(st.ip_addresses())
def test_no_lease_address_is_taken_from_anybody(address: ipaddress.IPv4Address) -> None:
    gateway = ip(int(address) ^ 1) if address.version == 4 else ipaddress.IPv6Address(
        int(address) ^ 1
    )  # fmt: skip
    prefix = 8 if address.version == 4 else 16
    taken = judge_lease(lease(str(address), str(gateway), prefix), HostFacts()) is None
    assert not taken or any(address in one for one in LEASE_RANGES)


def test_a_gateway_is_told_of_private_ipv4_networks_only_and_of_few() -> None:
    assert [str(one) for one in FACTS.told()] == [
        "192.168.1.0/24", "172.17.0.0/16", "10.77.1.254/32", "10.77.2.53/32", "10.0.0.0/8",
    ]  # fmt: skip
    many = tuple(Attached(network(f"10.{n}.0.0/16"), "x") for n in range(200))
    public = HostFacts(attached=(Attached(network("203.0.113.0/24"), "wan0"),))
    assert len(HostFacts(attached=many).told()) == MAX_TOLD and public.told() == ()


def test_a_link_local_address_is_looked_for_on_every_link() -> None:
    facts = HostFacts(scopes=("eth0", "wlan0", "eth1", "eth2", "eth3"))
    assert scoped("fe80::1", facts) == (
        "fe80::1%eth0", "fe80::1%wlan0", "fe80::1%eth1", "fe80::1%eth2",
    )  # fmt: skip
    for host in ("fe80::1%eth7", "169.254.1.1", "fd00::1", "R58M123"):
        assert scoped(host, facts) == (host,)
    assert scoped("fe80::1", HostFacts()) == ()


# --- packets -------------------------------------------------------------------------------------


def ipv4(source: str, destination: str, first: int = 0x45) -> bytes:
    return bytes((first,)) + bytes(11) + ip(source).packed + ip(destination).packed + bytes(20)


def ipv6(source: str, destination: str) -> bytes:
    return b"\x60" + bytes(7) + ip(source).packed + ip(destination).packed + bytes(20)


def packet(source: str, destination: str) -> bytes:
    return (ipv4 if ip(source).version == 4 else ipv6)(source, destination)


@pytest.fixture
def ingress() -> Ingress:
    made = Ingress()
    made.admit(LEASE, FACTS)
    return made


def judged(ingress: Ingress, data: bytes) -> str | None:
    return ingress.judge(memoryview(b"before" + data + b"after"), 6, 6 + len(data))


@pytest.mark.parametrize(
    ("source", "destination"),
    [("192.0.2.1", "10.77.0.2"), ("10.77.0.1", "10.77.0.2"), ("2001:db8::1", "fd77::2"),
     ("10.9.0.1", "10.77.0.2"), ("fd77::1", "fd77::2")],
)  # fmt: skip
def test_far_hosts_reach_the_lease(ingress: Ingress, source: str, destination: str) -> None:
    data = packet(source, destination)
    assert judged(ingress, data) is None
    pair = ip(source).packed + ip(destination).packed
    assert ingress.passed == {pair if len(pair) > 8 else int.from_bytes(pair, "little")}


@pytest.mark.parametrize(
    "destination",
    ["192.168.1.7", "172.17.0.2", "172.17.0.1", "192.168.1.255", "255.255.255.255", "224.0.0.251",
     "127.0.0.1", "10.77.0.3", "10.77.0.255"],
)  # fmt: skip
def test_nothing_else_of_the_device_is_reached(ingress: Ingress, destination: str) -> None:
    assert judged(ingress, packet("192.0.2.1", destination)) == "ingress__destination__dropped"
    assert not ingress.passed


@pytest.mark.parametrize("destination", ["fd01::7", "ff02::1", "fe80::7", "::1", "fd77::3"])
def test_nothing_else_of_the_device_is_reached_by_ipv6(ingress: Ingress, destination: str) -> None:
    assert judged(ingress, packet("2001:db8::1", destination)) == "ingress__destination__dropped"


@pytest.mark.parametrize(
    "source",
    ["192.168.1.1", "192.168.1.7", "172.17.0.2", "127.0.0.1", "0.0.0.0", "224.0.0.1",
     "169.254.1.1", "255.255.255.255", "10.77.0.2"],
)  # fmt: skip
def test_nobody_near_speaks_from_the_tunnel(ingress: Ingress, source: str) -> None:
    assert judged(ingress, packet(source, "10.77.0.2")) == "ingress__source__dropped"


@pytest.mark.parametrize(
    "source", ["fd01::1", "fe80::1", "::1", "::", "ff02::1", "fd77::2", "::ffff:127.0.0.1"]
)
def test_nobody_near_speaks_from_the_tunnel_by_ipv6(ingress: Ingress, source: str) -> None:
    assert judged(ingress, packet(source, "fd77::2")) == "ingress__source__dropped"


@pytest.mark.parametrize(
    "data",
    [ipv4("192.0.2.1", "10.77.0.2", 0x46), ipv4("192.0.2.1", "10.77.0.2", 0x44),
     ipv6("2001:db8::1", "fd77::2")[:39], bytes(40), b"\xf5" + bytes(40)],
)  # fmt: skip
def test_what_is_no_plain_packet_is_dropped(ingress: Ingress, data: bytes) -> None:
    assert judged(ingress, data) == "ingress__malformed__dropped"


def test_what_passed_is_forgotten_when_the_host_changes_and_is_bounded(ingress: Ingress) -> None:
    far = packet("203.0.113.9", "10.77.0.2")
    assert judged(ingress, far) is None
    near = HostFacts(attached=(Attached(network("203.0.113.0/24"), "eth0"),))
    ingress.admit(LEASE, near)
    assert judged(ingress, far) == "ingress__source__dropped"
    ingress.admit(None, near)
    assert judged(ingress, packet("192.0.2.1", "10.77.0.2")) == "ingress__destination__dropped"
    ingress.admit(LEASE, FACTS)
    for number in range(MAX_PAIRS + 9):
        source = str(ipaddress.IPv4Address(0x08000000 + number))
        assert judged(ingress, packet(source, "10.77.0.2")) is None
    assert len(ingress.passed) <= MAX_PAIRS


def test_a_source_is_judged_by_what_it_stands_for() -> None:
    assert from_far(ip("192.0.2.1"), FACTS, ADDRESSES)
    assert from_far(ip("64:ff9b::808:808"), FACTS, ADDRESSES)
    assert not from_far(ip("64:ff9b::7f00:1"), FACTS, ADDRESSES)
