"""First contact without a QR code: nothing is taken before this device's own user has agreed."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from client.model import (
    ClientError,
    ClientSnapshot,
    ClientState,
    KnownGateway,
    TransportEndpoint,
    fingerprint,
)
from sealing.identity import generate_identity, public_key
from tests.client.datagram_double import DatagramDouble
from tests.client.gateway_double import LEASE, GatewayDouble, Guest
from tests.client.test_client import Device
from vshp.config import CloseReason
from vshp.constants import DEFAULT_PORT
from vshp.events import HelloReceived
from vshp.frames import FrameType, encode_config
from vshp.states import State

NOTHING_DONE = ["found", "undo", "prepare", "open_nic"]


def here(gateway: GatewayDouble) -> str:
    return f"127.0.0.1:{gateway.port}"


def ask(guest: Guest, hello: HelloReceived) -> None:
    guest.session.pending(120, time.monotonic())


async def shown(device: Device, gateway: GatewayDouble) -> ClientSnapshot:
    """First contact, up to where both screens show the digits."""
    gateway.decide = ask
    await device.client.connect(here(gateway))
    await device.until(lambda: device.state is ClientState.ASKED)
    await gateway.heard(len(gateway.guests))
    now = device.client.status()
    assert now.error == "code_unconfirmed" and "--code" in (now.reason or "")
    assert now.code is not None and len(now.code) == 6
    assert now.gateway_fingerprint == fingerprint(gateway.public_key)
    return now


def granting(guest: Guest, hello: HelloReceived) -> None:
    """A gateway of the man in the middle."""
    guest.session.writer.frame(FrameType.CONFIG, encode_config(LEASE))
    guest.flush()


async def test_whoever_grants_by_himself_gets_no_route(tmp_path: Path) -> None:
    async with GatewayDouble() as mallory, Device(tmp_path) as device:
        mallory.decide = granting
        await device.client.connect(here(mallory))
        now = await device.client.wait(10)
        assert now.state is ClientState.FAILED and now.lease is None
        assert device.host.log == [*NOTHING_DONE, "undo"]
        assert device.store.gateways() == []
        assert now.error == "config_before_consent" and "honest" in (now.reason or "")
        assert now.counters["session__config_before_consent__closed"] >= 1


@pytest.mark.parametrize("spell", ["{}", "{:.3} {:.3}"])
async def test_digits_that_are_typed_let_it_go_on(tmp_path: Path, spell: str) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await shown(device, gateway)
        guest = gateway.guests[-1]
        assert guest.hello is not None and guest.hello.code is not None
        code = guest.hello.code
        typed = code if spell == "{}" else f"{code[:3]} {code[3:]}"
        await device.client.connect(here(gateway), code=typed)
        assert device.state is ClientState.WAITING
        await gateway.until(lambda: guest.session.agreed)
        assert device.host.log == NOTHING_DONE
        await device.client.confirm(code)
        guest.approve(LEASE)
        assert (await device.client.wait(5)).state is ClientState.CONNECTED
        (known,) = device.store.gateways()
        assert known.public_key == gateway.public_key


async def test_the_owner_first(tmp_path: Path) -> None:
    def approved(guest: Guest, hello: HelloReceived) -> None:
        guest.session.approved(120, time.monotonic())

    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        gateway.decide = approved
        await device.client.connect(here(gateway))
        await device.until(lambda: device.state is ClientState.ASKED)
        await gateway.heard(1)
        code = device.client.status().code
        assert code is not None
        await device.client.confirm(code)
        await gateway.until(lambda: gateway.guests[0].session.agreed)
        gateway.guests[0].approve(LEASE)
        assert (await device.client.wait(5)).state is ClientState.CONNECTED


@pytest.mark.parametrize("way", ["other digits", "no"])
async def test_digits_that_differ_end_it_and_the_gateway_is_told(tmp_path: Path, way: str) -> None:
    """The digits of another session, as a man in the middle would have them typed."""
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        now = await shown(device, gateway)
        if way == "no":
            await device.client.refuse()
        else:
            assert now.code is not None
            await device.client.confirm(f"{(int(now.code) + 1) % 1_000_000:06}")
        now = await device.client.wait(5)
        assert (now.state, now.error) == (ClientState.FAILED, "code_refused")
        assert device.store.gateways() == []
        await gateway.until(lambda: gateway.guests[-1].closed is not None)
        closed = gateway.guests[-1].closed
        assert closed is not None and closed.reason is CloseReason.CODE_REFUSED
        with pytest.raises(ClientError) as caught:
            await device.client.confirm("123456")
        assert caught.value.name == "code_unasked"


async def test_digits_without_an_attempt_are_no_attempt(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        with pytest.raises(ClientError) as caught:
            await device.client.connect(here(gateway), code="123456")
        assert caught.value.name == "code_unasked"
        assert gateway.guests == []
        assert device.client.status().state is ClientState.IDLE
        await shown(device, gateway)
        with pytest.raises(ClientError):
            await device.client.connect(f"127.0.0.2:{DEFAULT_PORT}", code="123456")
        assert device.state is ClientState.ASKED, "digits for another place change nothing"


async def test_who_does_not_look_is_let_through(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        gateway.decide = ask
        await device.client.connect(here(gateway), unseen=True)
        await device.until(lambda: device.state is ClientState.WAITING)
        await gateway.until(lambda: bool(gateway.guests) and gateway.guests[0].session.agreed)
        gateway.guests[0].approve(LEASE)
        assert (await device.client.wait(5)).state is ClientState.CONNECTED


async def test_a_yes_outlives_the_link(tmp_path: Path) -> None:
    """The link breaks while the owner is asked: other digits, the same key, the same yes."""
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        code = (await shown(device, gateway)).code
        assert code is not None
        await device.client.confirm(code)
        gateway.guests[-1].cut()
        await gateway.heard(2)
        await gateway.until(lambda: gateway.guests[-1].session.agreed)
        assert device.state is ClientState.WAITING
        hello = gateway.guests[-1].hello
        assert hello is not None and device.client.status().code == hello.code
        gateway.guests[-1].approve(LEASE)
        assert (await device.client.wait(5)).state is ClientState.CONNECTED


async def test_without_a_yes_a_broken_link_asks_again(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        old = (await shown(device, gateway)).code
        gateway.guests[-1].cut()
        await gateway.heard(2)
        await device.until(
            lambda: device.state is ClientState.ASKED and device.client.status().code != old
        )
        assert not gateway.guests[-1].session.agreed
        assert device.host.log == NOTHING_DONE


async def test_a_yes_is_for_one_key(tmp_path: Path) -> None:
    """Somebody else answers at the address once the user has agreed."""
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        code = (await shown(device, gateway)).code
        assert code is not None
        await device.client.confirm(code)
        honest = gateway.public_key
        gateway.identity = generate_identity()
        gateway.decide = granting
        gateway.guests[-1].cut()
        now = await device.client.wait(10)
        assert (now.state, now.error) == (ClientState.FAILED, "handshake_failed")
        for key in (honest, public_key(gateway.identity)):
            assert fingerprint(key) in (now.reason or "")
        assert device.host.log == [*NOTHING_DONE, "undo"] and device.store.gateways() == []


async def test_a_yes_is_for_the_digits_that_were_shown(tmp_path: Path) -> None:
    """Another session has begun, and its digits are not on the screen yet."""
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        code = (await shown(device, gateway)).code
        assert code is not None
        client = device.client
        assert client._pursuit.plan is not None and client._pursuit.round is not None
        link = client._pursuit.round.link
        assert link is not None and hasattr(link, "session")
        client._pursuit.plan.met = public_key(generate_identity())
        link.session.code = "000000" if code != "000000" else "111111"
        await client.confirm(code)
        assert client._pursuit.plan.agreed == gateway.public_key
        assert link.session.state is State.CONSENT, "nothing was said to the other"


@pytest.mark.parametrize("by_name", [True, False])
async def test_another_key_at_a_known_address_is_named(tmp_path: Path, by_name: bool) -> None:
    """Set up anew, or an impostor: both fingerprints, and what to do."""
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        await device.client.disconnect()
        before = gateway.public_key
        gateway.identity = generate_identity()
        gateway.decide = granting
        heard, met = len(gateway.resumes), len(gateway.guests)
        await device.client.connect("phone" if by_name else here(gateway))
        now = await device.client.wait(20)
        assert (now.state, now.error) == (ClientState.FAILED, "handshake_failed")
        for key in (before, public_key(gateway.identity)):
            assert fingerprint(key) in (now.reason or "")
        assert "vpnshare forget" in (now.reason or "")
        assert gateway.resumes[heard:] == [], "it learns nothing of who asks"
        strangers = [guest.session for guest in gateway.guests[met:]]
        assert sum(s.counters.get("handshake__key__shown", 0) for s in strangers) == 1
        assert {s.peer_key for s in strangers} == {None}, "no key, no digits, no request"


@pytest.mark.parametrize("restarted", [True, False])
async def test_who_passes_by_with_another_key_is_named_and_ends_no_pursuit(
    tmp_path: Path, restarted: bool
) -> None:
    """At the known address of another network somebody else's gateway listens."""
    async with GatewayDouble() as gateway:
        first = Device(tmp_path)
        await first.client.start()
        await first.client.connect(gateway.uri())
        await first.client.wait(5)
        mine, heard = gateway.identity, len(gateway.resumes)
        gateway.identity = generate_identity()
        device = first
        if restarted:
            await first.client.stop(on_purpose=False)
            device = Device(tmp_path, first.store)
            device.host.standing = True
            await device.client.start()
        else:
            gateway.guests[-1].cut()
        async with asyncio.timeout(20):
            while device.client.status().error != "handshake_failed":
                await asyncio.sleep(0.02)
        attempts = len(gateway.guests)
        await gateway.until(lambda: len(gateway.guests) > attempts)
        now = device.client.status()
        assert now.state in (ClientState.CONNECTING, ClientState.RECONNECTING)
        for key in (mine, gateway.identity):
            assert fingerprint(public_key(key)) in (now.reason or ""), "also in the next rounds"
        assert gateway.resumes[heard:] == [], "it learns nothing of who asks"
        assert not {"undo", "enforce nothing"} & set(device.host.log[2:])
        gateway.identity = mine
        await device.until(lambda: device.state is ClientState.CONNECTED)
        assert device.client.status().error is None
        await device.client.stop()


async def test_another_key_by_udp_is_named(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        door = DatagramDouble(gateway)
        port = await door.listen()
        before = generate_identity()
        device.store.save_gateway(
            KnownGateway(
                public_key(before),
                "phone",
                (TransportEndpoint("udp", "127.0.0.1", port),),
                time.time(),
            )
        )
        await device.client.connect("phone", "udp")
        now = await device.client.wait(30)
        assert (now.state, now.error) == (ClientState.FAILED, "handshake_failed")
        for shown in (public_key(before), gateway.public_key):
            assert fingerprint(shown) in (now.reason or "")
        assert door.hellos == [], "it learns nothing of who asks"
        assert {session.peer_key for session in door.sessions} == {None}
        door.transport.close()


async def test_a_forgotten_gateway_is_a_first_contact_again(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        await device.client.disconnect()
        device.client.forget("phone")
        gateway.decide = granting
        await device.client.connect(here(gateway))
        assert (await device.client.wait(10)).state is ClientState.FAILED
        assert "set_up" not in device.host.log[-1] and device.store.gateways() == []
