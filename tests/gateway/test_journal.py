"""Each thing that happens to a device or to sharing leaves exactly one line."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.gateway import Gateway
from gateway.journal import (
    LINE_BURST,
    MAX_NAME,
    REFUSAL_BURST,
    STRANGERS_PAUSE,
    EventKind,
    Journal,
)
from gateway.link import Link
from gateway.model import MemoryStore, PeerDevice, VpnNetwork, VpnState, peer_id
from gateway.pairing import NoSuchRequest
from rules.value import NO_RULES, Quota, Rules
from sealing.happenings import Event
from tests.fakes.waiting import settle
from tests.gateway.devices import CONFIG, Device, key, offer, paired, port_of
from vshp.config import CloseReason, LeaseConfig, Resume
from vshp.events import ApprovalPending, LeaseGranted, PeerClosed


class Told:
    """A gateway, and the lines that its journal has written since somebody looked."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._lines: list[str] = []
        gateway._journal.on_event = lambda event: self._lines.append(event.text)

    def fresh(self) -> list[str]:
        lines, self._lines[:] = list(self._lines), []
        return lines

    async def line(self) -> str:
        """The one line that what has just been done leaves."""
        await settle(lambda: self._lines)
        await asyncio.sleep(0.02)
        (line,) = self.fresh()
        return line


@pytest.fixture
async def told() -> AsyncIterator[Told]:
    gateway = Gateway(replace(CONFIG, grace=0.3), MemoryStore())
    told = Told(gateway)
    await gateway.start()
    yield told
    await gateway.stop()


async def back(told: Told, device: Device, lease: LeaseConfig) -> tuple[Device, LeaseConfig]:
    resume = Resume(lease.session_id, lease.ticket, lease)
    again = Device(told.gateway, device.identity, resume=resume)
    granted = (await again.until(LeaseGranted)).lease
    await again.alive()
    return again, granted


async def test_the_life_of_a_device(told: Told) -> None:
    gateway = told.gateway
    device = Device(gateway, key(), secret=offer(gateway))
    await device.until(ApprovalPending)
    (request,) = gateway.snapshots.requests()
    who = f"a device ({request.id})"
    assert await told.line() == f"{who} asks to join, by a pairing code from 127.0.0.1"
    peer = gateway.owner.approve(request.id)
    lease = (await device.until(LeaseGranted)).lease
    await device.alive()
    who = f"a device ({peer.id})"
    assert told.fresh() == [f"{who} is approved", f"{who} connected, by tcp from 127.0.0.1"]

    device.leave()
    assert (await told.line()).startswith(f"{who} lost its link, by tcp from 127.0.0.1: ")
    device, lease = await back(told, device, lease)
    assert await told.line() == f"{who} resumed, by tcp from 127.0.0.1"
    _, device = device, (await back(told, device, lease))[0]
    assert await told.line() == f"{who} moved to another link, by tcp from 127.0.0.1"
    device.session.close(CloseReason.DISCONNECTED, asyncio.get_running_loop().time())
    await device.flush()
    assert await told.line() == f"{who} disconnected"

    gateway.owner.revoke(peer.id)
    assert await told.line() == f"{who} is revoked"
    again = Device(gateway, device.identity)
    assert (await again.until(PeerClosed)).reason is CloseReason.REVOKED
    why = "it is revoked"
    assert await told.line() == f"{who} is turned away, by tcp from 127.0.0.1: {why}"


async def test_a_device_is_told_of_by_the_name_that_it_has_by_then(told: Told) -> None:
    gateway = told.gateway
    device = Device(gateway, key(), known=False)
    await device.until(ApprovalPending)
    peer = gateway.owner.approve(gateway.snapshots.requests()[0].id)
    # Its own user has not said yes: it has no tunnel yet.
    gateway.owner.rename(peer.id, "attic")
    device.session.agree(device.loop.time())
    await device.until(LeaseGranted)
    await device.alive()
    assert told.fresh()[-1] == f"attic ({peer.id}) connected, by tcp from 127.0.0.1"
    gateway.registry.rename(peer.public_key, "cellar")
    device.leave()
    assert (await told.line()).startswith(f"cellar ({peer.id}) lost its link")


async def test_who_does_not_come_back(told: Told) -> None:
    device, _ = await paired(told.gateway)
    device.leave()
    await settle(lambda: not told.gateway.snapshots.tunnels())
    await asyncio.sleep(0.02)
    lost, given_up = told.fresh()[-2:]
    assert "lost its link" in lost
    assert given_up.endswith("did not come back: its connections are closed")


async def test_who_is_denied_and_who_gives_up(told: Told) -> None:
    gateway = told.gateway
    for end in ("denied", "gone"):
        device = Device(gateway, key(), secret=offer(gateway))
        await device.until(ApprovalPending)
        assert "asks to join" in await told.line()
        (request,) = gateway.snapshots.requests()
        if end == "denied":
            gateway.owner.deny(request.id)
            assert await told.line() == f"a device ({request.id}) is denied"
        else:
            device.leave()
            assert await told.line() == f"a device ({request.id}) waits no more: it has gone"


async def test_the_owners_rules(told: Told) -> None:
    gateway = told.gateway
    device = Device(gateway, key(), secret=offer(gateway))
    await device.until(ApprovalPending)
    (request,) = gateway.snapshots.requests()
    told.fresh()
    limited = Rules(quota=Quota(10**9), limit_down=5_000_000)
    peer = gateway.owner.approve(request.id, limited)
    who = f"a device ({peer.id})"
    assert told.fresh() == [
        f"{who} is approved", f"{who} has these rules now: 1GB/day; down 5mbit",
    ]  # fmt: skip
    await device.until(LeaseGranted)
    await device.alive()
    told.fresh()
    gateway.owner.set_rules(peer, limited)
    assert told.fresh() == [], "nothing has changed"
    gateway.owner.set_rules(peer, Rules(paused=True))
    assert told.fresh() == [
        f"{who} has these rules now: paused", f"{who} is paused by the owner",
    ]  # fmt: skip
    gateway.owner.set_rules(peer, NO_RULES)
    assert told.fresh() == [
        f"{who} may do everything now: it has no rules", f"{who} may use the tunnel again",
    ]  # fmt: skip
    device.leave()


async def test_approved_by_the_code_alone(told: Told) -> None:
    told.gateway.owner.configure(replace(told.gateway.owner.config, auto_approve_qr=True))
    device = Device(told.gateway, key(), secret=offer(told.gateway))
    await device.until(LeaseGranted)
    await device.alive()
    approved, connected = told.fresh()
    assert approved.endswith("is approved by its pairing code") and "connected" in connected


async def test_sharing_and_the_vpn(told: Told) -> None:
    gateway = told.gateway
    gateway.owner.share()
    gateway.owner.share()
    assert told.fresh() == ["sharing is on"]
    there = VpnNetwork(VpnState.ACTIVE, "tun0", "tun", ("10.8.0.2",), ipv4=True)
    absent = VpnNetwork(VpnState.ABSENT, reason="There is no VPN.")
    for network in (there, replace(there, ipv6=True), absent, absent, there):
        gateway.detector.on_change(network)
    assert told.fresh() == [
        "the VPN is there: tun0", "the VPN is lost: There is no VPN.", "the VPN is there: tun0",
    ]  # fmt: skip
    gateway.owner.unshare()
    assert told.fresh() == ["sharing is off"]


async def test_a_crowd_of_strangers_is_one_line(told: Told) -> None:
    address = ("127.0.0.1", port_of(told.gateway))
    for _ in range(100):
        socket.create_connection(address).close()
        await asyncio.sleep(0)
    assert await told.line() == "strangers are turned away: they ask for more than they may have"


async def test_a_denial_that_is_taken_back(told: Told) -> None:
    gateway = told.gateway
    identity = key()
    device = Device(gateway, identity, secret=offer(gateway))
    await device.until(ApprovalPending)
    (request,) = gateway.snapshots.requests()
    gateway.owner.deny(request.id)
    told.fresh()
    again = Device(gateway, identity, secret=offer(gateway))
    assert (await again.until(PeerClosed)).reason is CloseReason.DENIED
    who = f"a device ({peer_id(request.public_key)})"
    why = "it was denied a moment ago"
    assert await told.line() == f"{who} is turned away, by tcp from 127.0.0.1: {why}"
    gateway.owner.undeny(request.id)
    assert await told.line() == f"a device ({request.id}) may ask again"
    third = Device(gateway, identity, secret=offer(gateway))
    await third.until(ApprovalPending)
    assert "asks to join" in await told.line()
    with pytest.raises(NoSuchRequest):
        gateway.owner.undeny()


async def test_an_alarm_is_an_event(told: Told) -> None:
    told.gateway.owner.share()
    told.fresh()
    told.gateway._sharing._alarm("egress__sent_outside_vpn")
    off, alarm = told.fresh()
    assert off == "sharing is off" and "VPN" in alarm


def test_those_who_are_turned_away_leave_no_gap_in_what_is_told_of_others() -> None:
    events: list[Event] = []
    journal = Journal(events.append)
    link = cast(Link, SimpleNamespace(via="tcp", host="192.0.2.7"))
    for _ in range(1000):
        journal.refused(b"k" * 32, "evil", link, "it is revoked", 1000.0)
    assert len(events) == REFUSAL_BURST
    assert {event.device for event in events} == {peer_id(b"k" * 32)}
    peer = PeerDevice(b"p" * 32, "TV", "linux", 0.0, 0.0)
    journal.connected(peer, link, 1000.0)
    assert events[-1] == Event(
        EventKind.CONNECTED, f"TV ({peer.id}) connected, by tcp from 192.0.2.7", peer.id, "TV"
    )


def test_what_devices_bring_about_is_bounded_and_what_was_left_out_is_told() -> None:
    lines: list[str] = []
    journal = Journal(lambda event: lines.append(event.text))
    link = cast(Link, SimpleNamespace(via="tcp", host="192.0.2.7"))
    peer = PeerDevice(b"k" * 32, "TV", "linux", 0.0, 0.0)
    for _ in range(1000):
        journal.connected(peer, link, 1000.0)
        journal.lost(peer, link, "link__tcp__reset", 1000.0)
    assert len(lines) == LINE_BURST
    journal.revoked(peer)
    assert lines[-1] == f"TV ({peer.id}) is revoked", "what the owner does is always written"
    journal.resumed(peer, link, 1010.0)
    left_out = 2000 - LINE_BURST
    assert lines[-1].endswith(f"({left_out} lines like this were left out before)")
    for now in (0.0, 1.0, STRANGERS_PAUSE):
        journal.strangers(now)
    assert sum("strangers" in line for line in lines) == 2


@pytest.mark.parametrize("label", ["\x1b[2Jevil", "\u202eevil", "a\nb", "x" * 500, ""])
def test_names_are_cleaned_and_bounded(label: str) -> None:
    lines: list[str] = []
    link: Any = SimpleNamespace(via="tcp", host="192.0.2.7")
    peer = PeerDevice(b"k" * 32, label, "linux", 0.0, 0.0)
    Journal(lambda event: lines.append(event.text)).lost(peer, link, "x" * 500, 1000.0)
    (line,) = lines
    assert line.isprintable() and len(line) < MAX_NAME + 150
