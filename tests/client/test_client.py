"""The client against a gateway with real sessions, on a host that only remembers."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from client.client import Client
from client.guard import GuardState
from client.model import (
    ClientConfig,
    ClientError,
    ClientState,
    ClientStore,
    MemoryStore,
    fingerprint,
)
from client.nudge import Nudge
from client.outlet.nic.outlet import NicOutlet
from eventloop.clock import SYSTEM, Clock
from tests.client.fakes import MemoryHost
from tests.client.gateway_double import LEASE, GatewayDouble, Guest
from tests.fakes.adb import served_cable
from tests.fakes.clock import Wall
from tests.fakes.ports import free_port
from vshp.config import CloseReason
from vshp.endpoints import Endpoint
from vshp.events import HelloReceived

SET_UP = "set_up 10.77.0.2 fd77::2"
BEGUN = ["found", "undo", "prepare", "open_nic"]
APPLIED = ["enforce block", SET_UP, "enforce tunnel", "set_resolver 10.77.0.1"]
UDP = (
    bytes.fromhex("45000021000040004011")
    + bytes(2)
    + bytes((10, 77, 0, 2, 192, 0, 2, 1))
    + b"x" * 13
)
DOWN = UDP[:12] + UDP[16:20] + UDP[12:16] + UDP[20:]
"""The same from the far side."""


class Device:
    """A client with its store and host; several may live on the same store."""

    def __init__(
        self,
        path: Path,
        store: ClientStore | None = None,
        offload: bool = True,
        clock: Clock = SYSTEM,
    ) -> None:
        self.store = MemoryStore() if store is None else store
        self.host = MemoryHost(offload)
        config = ClientConfig(path, label="laptop")
        outlet = NicOutlet(self.host, config)
        self.client = Client(self.store, config, outlet, cable=served_cable(path), clock=clock)
        self.changes = 0
        self.client.on_change = self._changed

    def _changed(self) -> None:
        self.changes += 1

    @property
    def state(self) -> ClientState:
        return self.client.status().state

    @property
    def mtu(self) -> int | None:
        """The lease's."""
        lease = self.client.status().lease
        return None if lease is None else lease.mtu

    async def __aenter__(self) -> Self:
        await self.client.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.client.stop()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)

    async def read(self) -> bytes:
        """What the NIC was given to hand to the kernel."""
        assert self.host.nic is not None
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(5):
            return await loop.sock_recv(self.host.nic.host, 70000)

    def write(self, packet: bytes) -> None:
        assert self.host.nic is not None
        self.host.nic.host.send(packet)


async def test_a_uri_connects_and_disconnecting_undoes(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        now = await device.client.wait(5)
        assert now.state is ClientState.CONNECTED
        assert (now.gateway, now.transport, now.interface) == ("phone", "tcp", "vshp0")
        assert now.lease is not None and now.lease.ipv4 == "10.77.0.2"
        assert now.lease.dns == ("10.77.0.1", "fd77::1")
        assert device.host.log == BEGUN + APPLIED
        assert device.host.nic is not None and device.host.nic.mtu == 1500
        hello = gateway.guests[0].hello
        assert hello is not None and (hello.label, hello.proof) == ("laptop", "secret")
        await device.until(lambda: device.client.status().sharing == "on")
        await device.client.disconnect()
        assert device.state is ClientState.IDLE
        assert device.host.log[-1] == "undo"
        await gateway.until(lambda: gateway.guests[0].closed is not None)
        closed = gateway.guests[0].closed
        assert closed is not None and closed.reason is CloseReason.DISCONNECTED
        assert device.store.wanted() is None


async def test_packets_pass_whole_both_ways(tmp_path: Path) -> None:
    header = struct.pack("<BBHHHH", 1, 1, 54, 1448, 20, 16)
    big = UDP[:20] + bytes(range(256)) * 250
    answer = DOWN[:20] + big[20:]
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        device.write(header + big)
        device.write(bytes(10) + UDP)
        await gateway.until(lambda: len(gateway.packets) == 2)
        assert gateway.packets == [(header, big), (bytes(10), UDP)]
        gateway.guests[0].send_packet(
            answer, gso_type=1, gso_size=1448, hdr_len=54, csum_start=20, csum_offset=16
        )
        gateway.guests[0].send_packet(DOWN)
        assert await device.read() == header + answer
        assert await device.read() == bytes(10) + DOWN
        now = device.client.status()
        assert now.from_tunnel_bytes == now.to_tunnel_bytes == len(big) + len(UDP)


@pytest.mark.parametrize("offload", [True, False])
async def test_without_offload_packets_are_plain(tmp_path: Path, offload: bool) -> None:
    """The NIC may have a header although the lease has none, or neither has one."""
    async with GatewayDouble() as gateway, Device(tmp_path, offload=offload) as device:
        gateway.lease = replace(LEASE, offload=False)
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        nic = device.host.nic
        assert nic is not None and nic.offload == (False, False)
        head = bytes(10) if offload else b""
        device.write(head + UDP)
        await gateway.until(lambda: len(gateway.packets) == 1)
        assert gateway.packets == [(None, UDP)]
        gateway.guests[0].send_packet(DOWN)
        assert await device.read() == head + DOWN
        assert device.client.status().to_tunnel_bytes == len(UDP)


async def test_a_broken_link_is_resumed_with_the_newest_ticket(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        for turn in range(1, 4):
            gateway.guests[-1].cut()
            await gateway.heard(turn + 1)
            await device.until(lambda: device.state is ClientState.CONNECTED)
            resume = gateway.resumes[-1]
            assert resume is not None and resume.ticket == b"ticket-%d" % turn
        device.write(bytes(10) + UDP)
        await gateway.until(lambda: gateway.packets == [(bytes(10), UDP)])
        assert device.client.status().reconnects == 3
        assert device.host.log == BEGUN + APPLIED, "nothing set up anew"


async def test_it_waits_for_a_gateway_that_comes_back(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        await gateway.deafen()
        gateway.guests[0].close(CloseReason.SHUTDOWN)
        await device.until(lambda: device.client.status().error == "unreachable")
        assert device.state is ClientState.RECONNECTING
        assert device.host.log == BEGUN + APPLIED
        await gateway.listen()
        await device.until(lambda: device.state is ClientState.CONNECTED)
        assert device.client.status().error is None


async def test_another_lease_is_moved_to(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        other = replace(LEASE, ipv4=bytes((10, 77, 0, 9)), mtu=1400, ticket=b"t")
        gateway.guests[0].change(other)
        await device.until(lambda: "set_up 10.77.0.9 fd77::2 for 10.77.0.2" in device.host.log)
        await device.until(lambda: device.mtu == 1400)
        assert device.host.nic is not None and device.host.nic.mtu == 1400
        assert device.state is ClientState.CONNECTED


async def test_a_gateway_that_listens_elsewhere_is_remembered_there(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        told = (Endpoint.of("tcp", "192.0.2.7", 47801),)
        gateway.guests[0].change(replace(LEASE, endpoints=told))
        new = "tcp:192.0.2.7:47801"
        await device.until(lambda: new in [str(e) for e in device.store.gateways()[0].endpoints])
        here, *others = device.store.gateways()[0].endpoints
        assert str(here) == device.client.status().endpoint and str(others[0]) == new
        assert device.state is ClientState.CONNECTED and device.client.status().reconnects == 0


async def test_the_owner_is_asked_and_says_yes(tmp_path: Path) -> None:
    def ask(guest: Guest, hello: HelloReceived) -> None:
        guest.session.pending(120, time.monotonic())

    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        gateway.decide = ask
        await device.client.connect(gateway.uri())
        await device.until(lambda: device.state is ClientState.WAITING)
        assert device.host.log == BEGUN
        device.host.on_step = lambda step: None
        gateway.guests[0].approve(LEASE)
        assert (await device.client.wait(5)).state is ClientState.CONNECTED


@pytest.mark.parametrize(
    "reason",
    [CloseReason.DENIED, CloseReason.REVOKED, CloseReason.NOT_PAIRED, CloseReason.APPROVAL_EXPIRED],
)
async def test_a_no_is_final_and_named(tmp_path: Path, reason: CloseReason) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        gateway.decide = lambda guest, hello: guest.session.deny(reason, time.monotonic())
        await device.client.connect(gateway.uri())
        now = await device.client.wait(5)
        assert (now.state, now.error) == (ClientState.FAILED, reason.value)
        assert now.reason
        assert device.host.log[-1] == "undo"
        assert device.store.gateways() == []
        assert len(gateway.guests) == 1


async def test_revoked_while_connected_it_stays_closed_until_the_user_opens(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        gateway.guests[0].close(CloseReason.REVOKED)
        await device.until(lambda: device.state is ClientState.FAILED)
        assert device.client.status().error == "revoked"
        assert device.client.status().lease is None
        assert device.host.log[len(BEGUN + APPLIED) :] == ["enforce block"]
        assert device.client.status().guard.state is GuardState.HOLDING
        assert device.store.wanted() is not None
        await device.client.disconnect()
        assert device.host.log[-1] == "undo"
        assert device.client.status().guard.state is GuardState.OFF
        assert device.store.wanted() is None


async def test_a_used_uri_works_again_for_who_is_paired_and_is_refused_by_name_to_others(
    tmp_path: Path,
) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path / "1") as device:
        uri = gateway.uri()
        await device.client.connect(uri)
        await device.client.wait(5)
        await device.client.disconnect()
        await device.client.connect(uri)
        now = await device.client.wait(5)
        assert now.state is ClientState.CONNECTED
        assert gateway.guests[-1].hello is not None
        assert gateway.guests[-1].hello.proof == "known"
        async with Device(tmp_path / "2") as other:
            await other.client.connect(uri)
            now = await other.client.wait(5)
            assert (now.state, now.error) == (ClientState.FAILED, "secret_used")


async def test_dead_endpoints_do_not_stand_in_the_way(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        dead = Endpoint.of("tcp", "127.0.0.1", free_port())
        mute = socket.create_server(("127.0.0.1", 0))  # nobody accepts
        silent = Endpoint.of("tcp", "127.0.0.1", mute.getsockname()[1])
        await device.client.connect(gateway.uri(dead, silent))
        now = await device.client.wait(10)
        mute.close()
        assert now.state is ClientState.CONNECTED
        assert now.endpoint == f"tcp:127.0.0.1:{gateway.port}"
        known = device.store.gateways()[0]
        assert str(known.endpoints[0]) == now.endpoint, "the one that works is tried first"
        assert len(known.endpoints) == 3


async def test_nobody_there_on_first_contact_fails(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        uri = gateway.uri()
        await gateway.deafen()
        await device.client.connect(uri)
        now = await device.client.wait(10)
        assert (now.state, now.error) == (ClientState.FAILED, "unreachable")
        assert "Connection refused" in (now.reason or "")


async def test_an_impostor_at_the_address_is_named(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, GatewayDouble() as impostor, Device(tmp_path) as device:
        here = Endpoint.of("tcp", "127.0.0.1", impostor.port)
        uri = gateway.uri(here)
        await gateway.deafen()
        await device.client.connect(uri)
        now = await device.client.wait(20)
        assert now.state is ClientState.FAILED
        assert impostor.resumes == [], "it never learns who asks"


async def test_a_known_gateway_needs_no_uri(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        await device.client.disconnect()
        for target in (None, "Phone", device.store.gateways()[0].fingerprint[:5]):
            await device.client.connect(target)
            assert (await device.client.wait(5)).state is ClientState.CONNECTED
            await device.client.disconnect()
        assert gateway.guests[-1].hello is not None
        assert gateway.guests[-1].hello.proof == "known"
        device.client.forget("phone")
        with pytest.raises(ClientError) as caught:
            await device.client.connect("phone")
        assert caught.value.name == "gateway_unknown"


async def test_the_gateway_seen_last_is_so_also_when_the_clock_was_put_back(tmp_path: Path) -> None:
    wall = Wall()
    async with (
        GatewayDouble() as first,
        GatewayDouble() as second,
        Device(tmp_path, clock=wall.clock) as device,
    ):
        await device.client.connect(first.uri())
        await device.client.wait(5)
        wall.ahead = -86_400
        await device.client.connect(second.uri())
        await device.client.wait(5)
        await device.client.disconnect()
        await device.client.connect()
        assert (await device.client.wait(5)).gateway_fingerprint == fingerprint(second.public_key)


@pytest.mark.parametrize("step", ["prepare", "open_nic", "set_up"])
async def test_a_set_up_that_fails_midway_is_undone(tmp_path: Path, step: str) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        device.host.fail_at = step
        if step == "set_up":
            await device.client.connect(gateway.uri())
            now = await device.client.wait(5)
            assert (now.state, now.error) == (ClientState.FAILED, "tool_failed")
            assert now.guard.state is GuardState.HOLDING, "a lease was granted: it stays closed"
            await device.client.disconnect()
        else:
            with pytest.raises(ClientError):
                await device.client.connect(gateway.uri())
            assert device.state is ClientState.IDLE
            assert gateway.guests == [], "the secret is not spent"
        assert device.host.log[-1] == "undo"
        device.host.fail_at = None
        await device.client.connect(gateway.uri())
        assert (await device.client.wait(5)).state is ClientState.CONNECTED


async def test_stopping_in_the_middle_of_set_up_undoes_after_it(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        began = asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow(step: str) -> None:
            if step == SET_UP:
                loop.call_soon_threadsafe(began.set)
                time.sleep(0.2)
                device.host.log.append("set_up done")

        device.host.on_step = slow
        await device.client.connect(gateway.uri())
        await began.wait()
        await device.client.stop()
        assert device.host.log[-3:] == [SET_UP, "set_up done", "undo"]


async def test_after_a_crash_the_next_start_connects_again(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway:
        first = Device(tmp_path)
        await first.client.start()
        await first.client.connect(gateway.uri())
        await first.client.wait(5)
        assert first.store.wanted() is not None
        async with Device(tmp_path, first.store) as second:
            await second.until(lambda: second.state is ClientState.CONNECTED)
            assert second.host.log[:2] == ["found", "enforce block"], "before anything else"
            assert "undo" not in second.host.log
            assert gateway.resumes[-1] is not None
        await first.client.stop()


async def test_a_removed_nic_is_replaced(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        assert device.host.nic is not None
        device.host.nic.vanish()
        await device.until(lambda: device.host.log.count(SET_UP) == 2)
        await device.until(lambda: device.state is ClientState.CONNECTED)
        device.write(bytes(10) + UDP)
        await gateway.until(lambda: gateway.packets == [(bytes(10), UDP)])
        assert "undo" not in device.host.log[2:] and "enforce nothing" not in device.host.log


@pytest.mark.parametrize(
    ("target", "transport", "name"),
    [
        ("VSHP:NONSENSE", "auto", "uri_invalid"),
        ("nobody", "auto", "gateway_unknown"),
        (None, "auto", "gateway_unknown"),
        (None, "pigeon", "transport_unavailable"),
    ],
)
async def test_what_cannot_be_tried_is_said_at_once(
    tmp_path: Path, target: str | None, transport: str, name: str
) -> None:
    async with Device(tmp_path) as device:
        with pytest.raises(ClientError) as caught:
            await device.client.connect(target, transport)
        assert caught.value.name == name
        assert caught.value.hint
        assert device.host.log == ["found", "undo"]


# What was promised


async def known_then_away(gateway: GatewayDouble, device: Device) -> None:
    """Paired once, disconnected, and the gateway is not there any more."""
    await device.client.connect(gateway.uri())
    await device.client.wait(5)
    await device.client.disconnect()
    await gateway.deafen()
    device.host.log.clear()


def guard(device: Device) -> GuardState:
    return device.client.status().guard.state


async def test_a_known_gateway_that_is_away_is_sought_for_ever_behind_a_closed_door(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.reconnect.BACKOFF_MAX", 0.01)
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await known_then_away(gateway, device)
        await device.client.connect("phone")
        assert device.host.log == ["prepare", "open_nic", "enforce block"], "before anything else"
        rounds = 0
        real = Nudge.pause

        async def count(nudge: Nudge, seconds: float) -> None:
            nonlocal rounds
            rounds += 1
            await real(nudge, seconds)

        monkeypatch.setattr(Nudge, "pause", count)
        await device.until(lambda: rounds > 5)
        assert device.state is ClientState.CONNECTING and guard(device) is GuardState.HOLDING
        await gateway.listen()
        await device.until(lambda: device.state is ClientState.CONNECTED)


async def test_a_wish_outlives_its_run_whatever_ends_it(tmp_path: Path) -> None:
    """Not on purpose, as when the control socket cannot be opened: nothing is undone."""
    async with GatewayDouble() as gateway:
        first = Device(tmp_path)
        await first.client.start()
        await first.client.connect(gateway.uri())
        await first.client.wait(5)
        await gateway.deafen()
        await first.client.stop(on_purpose=False)
        assert "undo" not in first.host.log[2:] and "enforce nothing" not in first.host.log
        second = Device(tmp_path, first.store)
        second.host.standing = True
        async with second:
            await second.until(lambda: second.client.status().error == "unreachable")
            assert guard(second) is GuardState.HOLDING
            await gateway.listen()
            await second.until(lambda: second.state is ClientState.CONNECTED)
            assert "undo" not in second.host.log


async def test_a_wish_for_a_gateway_that_was_forgotten_stays_and_says_so(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway:
        first = Device(tmp_path)
        await first.client.start()
        await first.client.connect(gateway.uri())
        await first.client.wait(5)
        first.client.forget("phone")
        await first.client.stop(on_purpose=False)
        second = Device(tmp_path, first.store)
        second.host.standing = True
        async with second:
            now = second.client.status()
            assert (now.state, now.error) == (ClientState.FAILED, "gateway_unknown")
            assert "does not know any more" in (now.reason or "")
            assert "vpnshare connect -" in (now.reason or "")
            assert guard(second) is GuardState.HOLDING


async def test_a_block_without_a_note_is_a_wish_too(tmp_path: Path) -> None:
    """The disk was full when it should have been noted; or there is nobody to connect to."""
    async with GatewayDouble() as gateway, Device(tmp_path / "1") as first:
        await first.client.connect(gateway.uri())
        await first.client.wait(5)
        await first.client.disconnect()
        second = Device(tmp_path / "1", first.store)
        second.host.standing = True
        async with second:
            await second.until(lambda: second.state is ClientState.CONNECTED)
    lonely = Device(tmp_path / "2")
    lonely.host.standing = True
    async with lonely:
        now = lonely.client.status()
        assert (now.state, now.error) == (ClientState.FAILED, "gateway_unknown")
        assert guard(lonely) is GuardState.HOLDING
        await lonely.client.disconnect()
        assert guard(lonely) is GuardState.OFF


@pytest.mark.parametrize("fault", ["host", "bug"])
async def test_an_error_of_ours_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        if fault == "host":
            device.host.fail_at = "set_up"
            gateway.lease = replace(LEASE, ipv4=bytes((10, 77, 0, 9)), ticket=b"t2")
            gateway.guests[0].change(gateway.lease)
            await device.until(lambda: device.client.status().error == "tool_failed")
            assert guard(device) is GuardState.HOLDING
            device.host.fail_at = None
            await device.until(lambda: device.state is ClientState.CONNECTED)
        else:

            def fail(*_: object) -> None:
                raise RuntimeError("a bug")

            monkeypatch.setattr(device.client._standing.history, "ended", fail)
            gateway.guests[0].cut()
            await device.until(lambda: device.state is ClientState.FAILED)
            assert device.client.status().error == "internal_error"
            assert guard(device) is GuardState.HOLDING
        assert "undo" not in device.host.log[2:] and "enforce nothing" not in device.host.log


async def test_another_gateway_is_gone_to_without_a_moment_outside(tmp_path: Path) -> None:
    """The second is a stranger, and denies: what the first was promised for stays."""
    async with GatewayDouble() as gateway, GatewayDouble() as other, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        other.decide = lambda guest, hello: guest.session.deny(CloseReason.DENIED, time.monotonic())
        await device.client.connect(other.uri())
        now = await device.client.wait(5)
        assert (now.state, now.error) == (ClientState.FAILED, "denied")
        assert now.guard.state is GuardState.HOLDING
        assert "undo" not in device.host.log[2:] and "enforce nothing" not in device.host.log


async def test_the_weaker_promise_opens_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.hold.HOLD_SECONDS", 0.05)
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri(), open_on_failure=True)
        now = await device.client.wait(5)
        assert now.guard.open_on_failure and now.guard.state is GuardState.ARMED
        await gateway.deafen()
        gateway.guests[0].cut()
        await device.until(lambda: guard(device) is GuardState.OFF)
        assert device.host.log[-1] == "enforce nothing"
        assert device.client.status().guard.open_on_failure
        await gateway.listen()
        device.client._host_news.told()
        await device.until(lambda: guard(device) is GuardState.ARMED)
