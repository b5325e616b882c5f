"""The detector's bookkeeping over a scripted source, and the guard's over the detector."""

from __future__ import annotations

import asyncio
import socket

import pytest

from gateway.model import VpnNetwork, VpnState
from gateway.vpn.detector import VpnDetector
from gateway.vpn.guard import EgressGuard, GuardRefused
from gateway.vpn.snapshot import INET, INET6, Attached, Snapshot
from tests.fakes.waiting import settle
from tests.gateway.vpn.fakes import LOOPBACK, TUNNEL, ScriptedSource, interface

LO = interface(1, "lo", "127.0.0.1/8", flags=LOOPBACK)


def vpn(index: int = 5, *addresses: str) -> Snapshot:
    addresses = addresses or ("10.8.0.2/24", "fd08::2/64")
    tun = interface(index, "tun0", *addresses, flags=TUNNEL, kind="tun")
    return Snapshot((LO, tun), {INET: index, INET6: index})


NONE = Snapshot((LO,))


async def detect(snapshot: Snapshot) -> tuple[VpnDetector, ScriptedSource, list[VpnNetwork]]:
    source = ScriptedSource(snapshot)
    detector = VpnDetector(source=source)
    news: list[VpnNetwork] = []
    detector.on_change = news.append
    await detector.start()
    return detector, source, news


async def test_news_comes_once_per_change() -> None:
    detector, source, news = await detect(vpn())
    detector.look()
    source.now = NONE
    detector.look()
    detector.look()
    assert [n.state for n in news] == [VpnState.ACTIVE, VpnState.ABSENT]


async def test_generation_rises_when_sockets_of_the_past_are_worth_nothing() -> None:
    detector, source, _ = await detect(vpn())
    steps = [
        (vpn(5, "10.8.0.2/24", "fd08::2/64", "fd08::3/64"), 0),  # An address more.
        (vpn(5, "10.8.0.2/24", "fd08::3/64"), 1),  # One less.
        (vpn(6, "10.8.0.2/24", "fd08::3/64"), 2),  # Another device of the same name.
        (NONE, 3),
        (NONE, 3),
        (vpn(7), 3),  # What comes after nothing has no past.
    ]
    for snapshot, generation in steps:
        source.now = snapshot
        detector.look()
        assert detector.generation == generation


async def test_notices_that_pour_in_cost_a_look_now_and_then() -> None:
    detector, source, news = await detect(vpn())
    for number in range(200):
        source.change(vpn(5, f"10.8.0.{number + 2}/24"))
    assert len(news) == 1
    await settle(lambda: len(news) == 2)
    await asyncio.sleep(0.12)
    assert len(news) == 2, "that was all of them"
    assert detector.network.addresses == ("10.8.0.201",)


async def test_a_source_that_fails_is_a_vpn_that_is_not_there() -> None:
    detector, source, _ = await detect(vpn())
    source.now = OSError(24, "Too many open files")
    assert not detector.look().usable
    assert "Too many open files" in (detector.network.reason or "")
    assert detector.generation == 1
    assert detector.attached().own, "what was known stays refused"


async def test_attached_networks_are_told_when_they_change() -> None:
    detector, source, _ = await detect(vpn())
    news: list[Attached] = []
    detector.on_attached = news.append
    lan = interface(2, "wlan0", "192.168.1.20/24")
    source.now = Snapshot((LO, lan))
    detector.look()
    assert len(news) == 1
    assert news[0].networks == ((b"\xc0\xa8\x01\x00", 24),)


async def test_confirm_asks_again_when_in_doubt() -> None:
    detector, source, _ = await detect(vpn())
    assert detector.confirm()
    source.now, source.stays = NONE, False
    assert not detector.confirm()
    assert detector.network.state is VpnState.ABSENT


async def test_guard_refuses_by_name() -> None:
    detector, source, _ = await detect(NONE)
    guard = EgressGuard(detector)
    with pytest.raises(GuardRefused) as refusal:
        guard.tcp_socket(socket.AF_INET)
    assert refusal.value.reason == "vpn_absent"
    only4 = vpn(1, "10.8.0.2/24")
    source.now = Snapshot(only4.interfaces[1:], {INET: 1})
    detector.look()
    with pytest.raises(GuardRefused) as refusal:
        guard.udp_socket(socket.AF_INET6)
    assert refusal.value.reason == "ipv6_unavailable"
    assert guard.counters == {
        "guard__refused__vpn_absent": 1,
        "guard__refused__ipv6_unavailable": 1,
    }
    with guard.udp_socket(socket.AF_INET) as sock:
        assert not sock.getblocking()
        assert not sock.get_inheritable()


async def test_bypass_is_open_and_says_so() -> None:
    detector, _, _ = await detect(NONE)
    guard = EgressGuard(detector, bypass=True)
    guard.udp_socket(socket.AF_INET6).close()
    assert guard.strength == "none"
    assert guard.network.usable
    assert guard.network.kind == "bypass"
    assert "Bypass is on" in (guard.network.reason or "")


async def test_a_loopback_socket_cannot_leave() -> None:
    detector, _, _ = await detect(NONE)
    with EgressGuard(detector).loopback_socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"
