"""The egress policy: every spelling of a refused destination is refused."""

from __future__ import annotations

import socket

import pytest

from gateway.nat.policy import MAX_VERDICTS, EgressPolicy


def packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


@pytest.fixture
def policy() -> EgressPolicy:
    policy = EgressPolicy()
    policy.set_networks(
        own=["192.168.1.7", "fe80::7%wlan0", "2001:db8:1::7", "203.0.113.7"],
        attached=["192.168.1.0/24", "2001:db8:1::/64", "10.66.0.9/30"],
    )
    return policy


REFUSED = {
    "0.0.0.0": "unspecified",
    "127.0.0.1": "loopback",
    "127.200.3.4": "loopback",
    "169.254.169.254": "link_local",
    "224.0.0.251": "multicast",
    "255.255.255.255": "reserved",
    "250.1.1.1": "reserved",
    "192.168.1.7": "own_address",
    "192.168.1.1": "attached_network",
    "192.168.1.255": "attached_network",
    "10.66.0.8": "attached_network",
    "203.0.113.7": "own_address",
    "::": "unspecified",
    "::1": "loopback",
    "fe80::1": "link_local",
    "ff02::fb": "multicast",
    "2001:db8:1::7": "own_address",
    "2001:db8:1::1": "attached_network",
    "::ffff:127.0.0.1": "loopback",
    "::ffff:192.168.1.1": "attached_network",
    "::ffff:8.8.8.8": "mapped",
    "::127.0.0.1": "loopback",
    "::ffff:0:127.0.0.1": "loopback",
    "64:ff9b::127.0.0.1": "loopback",
    "64:ff9b::192.168.1.1": "attached_network",
    "64:ff9b:1::169.254.169.254": "link_local",
    "64:ff9b:1:a9fe:a9:fe00::": "link_local",
    "2002:7f00:1::1": "loopback",
    "2002:c0a8:101::1": "attached_network",
    "2001:0:c0a8:101::": "attached_network",
    "2001:0:808:808::80ff:fffe": "loopback",
    "2001:db8:5::5efe:127.0.0.1": "loopback",
    "2001:db8:5::200:5efe:192.168.1.1": "attached_network",
}

ALLOWED = [
    "8.8.8.8",
    "10.66.0.1",
    "192.168.2.1",
    "100.64.0.1",
    "2606:4700::1111",
    "fd00::1",
    "64:ff9b::8.8.8.8",
    "64:ff9b:1::8.8.8.8",
    "2002:808:808::1",
]


@pytest.mark.parametrize(("host", "reason"), REFUSED.items())
def test_refused(policy: EgressPolicy, host: str, reason: str) -> None:
    assert policy.verdict(packed(host)) == reason
    assert policy.verdict(packed(host)) == reason


@pytest.mark.parametrize("host", ALLOWED)
def test_allowed(policy: EgressPolicy, host: str) -> None:
    assert policy.verdict(packed(host)) == ""


def test_new_networks_void_old_verdicts(policy: EgressPolicy) -> None:
    assert policy.verdict(packed("192.168.1.1"))
    assert not policy.verdict(packed("10.0.0.1"))
    version = policy.version
    policy.set_networks(own=[], attached=["10.0.0.0/8"])
    assert not policy.verdict(packed("192.168.1.1"))
    assert policy.verdict(packed("10.0.0.1"))
    assert policy.version > version


def test_a_scan_does_not_grow_the_cache_without_bound(policy: EgressPolicy) -> None:
    for number in range(MAX_VERDICTS + 100):
        policy.verdict((0x08000000 + number).to_bytes(4, "big"))
    assert len(policy._cache) <= MAX_VERDICTS
