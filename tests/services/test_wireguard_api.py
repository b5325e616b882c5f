"""WireGuard devices by the control API, at a real gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from control import methods as m
from control.errors import Code, ControlError
from gateway.gateway import Gateway
from gateway.model import MemoryStore
from services.wireguard_api import add_device, invite_device, renew_device, wireguard_state
from tests.fakes.ports import free_port
from tests.gateway.devices import CONFIG
from tests.gateway.wireguard_app import let_in
from wireguard.profile import parse_profile, spell_key


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = Gateway(replace(CONFIG, wireguard=free_port()), MemoryStore())
    await gateway.start()
    yield gateway
    await gateway.stop()


async def test_a_config_is_given_once_and_the_device_listed(gateway: Gateway) -> None:
    made = add_device(gateway, m.WireguardAddParams("Anna's phone"))
    profile = parse_profile(made.text)
    assert made.tunnel == "Anna-s-phone"
    assert made.endpoint == f"127.0.0.1:{gateway.owner.config.wireguard}"
    assert 599 < made.expires_in <= 600
    state = wireguard_state(gateway)
    assert state.key == spell_key(profile.gateway_key)
    assert state.listen == [made.endpoint]
    (device,) = state.devices
    assert (device.id, device.state, device.told) == (made.id, "offered", made.endpoint)
    assert profile.private_key is not None
    assert spell_key(profile.private_key) not in repr(state)


async def test_a_device_that_was_let_in(gateway: Gateway) -> None:
    await let_in(gateway)
    (device,) = wireguard_state(gateway).devices
    assert device.state == "connected" and device.received_bytes > 0 and device.sent_bytes > 0
    assert device.handshake_age is not None and device.handshake_age < 5
    assert device.endpoint is not None and device.endpoint.startswith("127.0.0.1:")
    assert device.told == f"127.0.0.1:{gateway.owner.config.wireguard}"


async def test_a_new_key_and_an_invitation_are_listed(gateway: Gateway) -> None:
    await let_in(gateway, "phone")
    (phone,) = wireguard_state(gateway).devices
    new = renew_device(gateway, m.WireguardRenewParams("phone", endpoint="a.local"))
    invited = invite_device(gateway, m.WireguardInviteParams("router"))
    assert invited.id == "" and "\nPrivateKey=\n" in invited.text
    _, renewal, invitation = wireguard_state(gateway).devices
    assert (renewal.id, renewal.state, renewal.renews) == (new.id, "offered", phone.id)
    assert (renewal.ipv4, renewal.ipv6) == (phone.ipv4, phone.ipv6)
    assert renewal.told == new.endpoint == f"a.local:{gateway.owner.config.wireguard}"
    assert (invitation.state, invitation.key, invitation.asking) == ("invited", "", [])
    with pytest.raises(ControlError):
        renew_device(gateway, m.WireguardRenewParams("phone", key="short"))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("phone.local", "phone.local:{}"),
        ("phone.local:7", "phone.local:7"),
        ("192.168.1.9", "192.168.1.9:{}"),
        ("fd00::9", "[fd00::9]:{}"),
        ("[fd00::9]", "[fd00::9]:{}"),
        ("[fd00::9]:7", "[fd00::9]:7"),
    ],
)
async def test_where_the_device_shall_look(gateway: Gateway, asked: str, told: str) -> None:
    made = add_device(gateway, m.WireguardAddParams("a", endpoint=asked))
    assert made.endpoint == told.format(gateway.owner.config.wireguard)
    assert parse_profile(made.text).host == asked.strip("[]").removesuffix(":7").strip("[]")


@pytest.mark.parametrize(
    "params",
    [
        m.WireguardAddParams("a", endpoint="https://a"),
        m.WireguardAddParams("a", endpoint="a:0"),
        m.WireguardAddParams("a", endpoint="fe80::1%eth0"),
        m.WireguardAddParams("a", key="short"),
    ],
)
async def test_nonsense_is_refused_in_words(gateway: Gateway, params: m.WireguardAddParams) -> None:
    with pytest.raises(ControlError) as caught:
        add_device(gateway, params)
    assert caught.value.code is Code.INVALID_PARAMS and caught.value.message.endswith(".")
    assert wireguard_state(gateway).devices == []
