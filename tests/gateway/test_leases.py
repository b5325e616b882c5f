"""Pools clash with nothing in use and give every peer addresses of its own."""

from __future__ import annotations

import ipaddress

import pytest

from gateway.leases import IPV4_CANDIDATES, AddressPool, PoolError, choose_pool

KEY = bytes(range(32))


def net(text: str) -> tuple[bytes, int]:
    network = ipaddress.ip_network(text)
    return network.network_address.packed, network.prefixlen


def test_the_first_candidate_that_is_free_is_taken() -> None:
    assert str(choose_pool(KEY, []).ipv4) == IPV4_CANDIDATES[0]
    assert str(choose_pool(KEY, [net("10.0.0.0/8")]).ipv4) == IPV4_CANDIDATES[1]
    assert (
        str(choose_pool(KEY, [net("10.0.0.0/8"), net("172.16.0.0/12")]).ipv4)
        == (IPV4_CANDIDATES[2])
    )


def test_a_default_route_is_not_a_network_in_use() -> None:
    assert str(choose_pool(KEY, [net("0.0.0.0/0"), net("::/0")]).ipv4) == IPV4_CANDIDATES[0]


def test_when_everything_is_in_use_the_error_names_the_setting() -> None:
    with pytest.raises(PoolError, match="pool_ipv4"):
        choose_pool(KEY, [net(candidate) for candidate in IPV4_CANDIDATES])


@pytest.mark.parametrize(
    "setting", ["10.0.0.0/30", "10.0.0.1/24", "fd00::/64", "10.1", "0.0.0.0/0"]
)
def test_a_bad_ipv4_setting_is_refused(setting: str) -> None:
    with pytest.raises(PoolError):
        choose_pool(KEY, [], ipv4=setting)


def test_a_setting_that_clashes_is_refused() -> None:
    with pytest.raises(PoolError, match=r"overlaps 10\.1\.0\.0/16"):
        choose_pool(KEY, [net("10.1.0.0/16")], ipv4="10.1.2.0/24")
    with pytest.raises(PoolError, match="overlaps"):
        choose_pool(KEY, [net("fd01::/48")], ipv6="fd01::/64")


@pytest.mark.parametrize(
    ("ipv4", "ipv6"),
    [("8.8.8.0/24", None), ("192.0.2.0/24", None), ("0.0.0.0/8", None), (None, "2001:db8::/64")],
)
def test_a_pool_that_is_somebodys_is_refused(ipv4: str | None, ipv6: str | None) -> None:
    with pytest.raises(PoolError, match="must be a"):
        choose_pool(KEY, [], ipv4, ipv6)


def test_a_device_that_has_the_pool_in_use_gets_another() -> None:
    pool = choose_pool(KEY, [net("172.16.0.0/12")])
    first, second = IPV4_CANDIDATES[0], IPV4_CANDIDATES[2]
    assert str(pool.beside([]).ipv4) == first
    assert str(pool.beside([net("10.187.61.53/32")]).ipv4) == second
    assert str(pool.beside([net("10.0.0.0/8"), net("fd00::/8")]).ipv4) == second
    assert pool.beside([net("10.0.0.0/8")]).ipv6 == pool.ipv6
    held = ipaddress.ip_address("192.168.187.9").packed
    assert str(pool.beside([], held).ipv4) == second, "a session goes on with its addresses"
    assert str(pool.beside([net("192.168.0.0/16")], held).ipv4) == first
    everything = [net(candidate) for candidate in IPV4_CANDIDATES]
    assert pool.beside(everything) is pool and pool.beside([net("0.0.0.0/0")]).ipv4 == pool.ipv4
    chosen = choose_pool(KEY, [], ipv4="10.9.8.0/24")
    assert chosen.beside([net("10.0.0.0/8")]) == chosen, "the owner's word"


def test_ipv6_is_unique_local_and_differs_per_gateway() -> None:
    mine, other = choose_pool(KEY, []).ipv6, choose_pool(bytes(32), []).ipv6
    assert mine != other
    assert mine.prefixlen == 64
    assert mine.subnet_of(ipaddress.IPv6Network("fd00::/8"))


def test_addresses_are_distinct_and_never_the_gateways() -> None:
    pool: AddressPool = choose_pool(KEY, [], ipv4="10.9.8.0/28")
    given = [pool.addresses(number) for number in range(2, 15)]
    assert pool.capacity == len(given)
    assert len({each.ipv4 for each in given}) == len({each.ipv6 for each in given}) == 13
    assert {each.gateway_ipv4 for each in given} == {pool.gateway_ipv4}
    assert pool.gateway_ipv4 not in {each.ipv4 for each in given}
    assert str(ipaddress.ip_address(given[0].ipv4)) == "10.9.8.2"
    for number in (0, 1, 15, 16):
        with pytest.raises(PoolError):
            pool.addresses(number)
