"""Each trouble of a WireGuard device made real, by our pure device, at a composed gateway.

The sentences are those that the doctor, the console and `vpnshare wireguard` show.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.gateway import Gateway
from gateway.model import MemoryStore
from gateway.wireguard_diagnosis import (
    FRESH_SECONDS,
    LEAST_UNCONFIRMED,
    MAX_SIGHTS,
    NEVER,
    QUIET_OFFER_SECONDS,
    SHARED_SECONDS,
    Cause,
    Known,
    Log,
    Trouble,
)
from sealing.identity import generate_identity, public_key
from services.wireguard_words import say
from tests.fakes.ports import free_port
from tests.gateway.devices import CONFIG
from tests.gateway.wireguard_app import App, let_in
from tests.services.test_doctor import Pretended
from wireguard.constants import REJECT_AFTER_TIME
from wireguard.profile import spell_key

OWN, NAMED = ["127.0.0.1", "192.168.87.1"], "192.168.87.1"


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = Gateway(replace(CONFIG, wireguard=free_port()), MemoryStore())
    await gateway.start()
    yield gateway
    await gateway.stop()


def troubles(gateway: Gateway, later: float = 0.0) -> list[Trouble]:
    return gateway.snapshots.wireguard.troubles(OWN, NAMED, gateway.snapshots.now() + later)


def said(trouble: Trouble, port: int = 51820, **system: Any) -> tuple[str, str]:
    return say(trouble, port, Pretended(**system))


def text_of(app: App) -> str:
    return app.profile.text()


TURNS = 20
"""Of the loop, in which the gateway reads what lies in its socket: on loopback that is there at
once, but on a busy machine all of a short wait may pass in one turn."""


async def knock(app: App, times: int, listen: bool = True) -> None:
    """Initiations as the app repeats them, but without the five seconds between."""
    for _ in range(times):
        app.peer.wipe()
        app.again()
        if listen:
            await app.listen(0.05)
        else:
            await asyncio.sleep(0.05)
        for _ in range(TURNS):
            await asyncio.sleep(0)


async def test_a_device_that_is_heard_has_no_trouble_whatever_came_before(
    gateway: Gateway,
) -> None:
    offer = gateway.owner.wireguard_add("phone")
    old = App(replace(offer.profile, gateway_key=public_key(generate_identity())).text())
    await knock(old, 3)
    assert [each.cause for each in troubles(gateway)] == [Cause.GATEWAY_KEY]
    app = App(offer.profile.text())
    await knock(app, 1)
    gateway.owner.approve(gateway.snapshots.requests()[0].id)
    app.again()
    assert await app.asks() is not None
    assert troubles(gateway) == []
    assert troubles(gateway, REJECT_AFTER_TIME + 1) == [], "it may just be off"


async def test_a_config_of_another_gateway(gateway: Gateway) -> None:
    profile = gateway.owner.wireguard_add("phone").profile
    app = App(replace(profile, gateway_key=public_key(generate_identity())).text())
    await knock(app, 1)
    assert troubles(gateway) == [], "one may be garbage"
    await knock(app, 2)
    (found,) = troubles(gateway, QUIET_OFFER_SECONDS + 1)
    assert (found.cause, found.host, found.count, found.key) == (
        Cause.GATEWAY_KEY, "127.0.0.1", 3, None,
    )  # fmt: skip
    assert said(found) == (
        "127.0.0.1 has knocked 3 times with another gateway's key: its config is not of this "
        "gateway.",
        "Delete the tunnel there, and make a new one: vpnshare wireguard add NAME",
    )
    after = troubles(gateway, FRESH_SECONDS + 1)
    assert [each.cause for each in after] == [Cause.SILENCE], "who has stopped knocking is gone"


async def test_a_key_that_nobody_let_in(gateway: Gateway) -> None:
    private = generate_identity()
    app = App(replace(gateway.owner.wireguard_add("x").profile, private_key=private).text())
    await knock(app, 2)
    (found,) = troubles(gateway)
    assert (found.cause, found.key, found.label, found.count) == (
        Cause.UNKNOWN_KEY, public_key(private), "", 2,
    )  # fmt: skip
    key = spell_key(public_key(private))
    assert said(found) == (
        f"127.0.0.1 knocks with a key that is not let in, {key[:6]}...{key[-5:]}: its config was "
        "denied, or not used in time.",
        "Delete the tunnel there, and make a new one: vpnshare wireguard add NAME",
    )


async def test_who_was_denied_knocks_on(gateway: Gateway) -> None:
    app = App(gateway.owner.wireguard_add("phone").profile.text())
    await knock(app, 1)
    assert troubles(gateway) == []
    gateway.owner.deny(gateway.snapshots.requests()[0].id)
    await knock(app, 1)
    assert [each.cause for each in troubles(gateway)] == [Cause.UNKNOWN_KEY]


async def test_a_revoked_device_knocks_on(gateway: Gateway) -> None:
    app = await let_in(gateway)
    key = app.device.identity.public
    gateway.owner.revoke(gateway.snapshots.peers()[0].id)
    assert troubles(gateway) == []
    await knock(app, 3)
    (found,) = troubles(gateway)
    assert (found.cause, found.key, found.label, found.count) == (Cause.REVOKED, key, "phone", 3)
    assert said(found) == (
        "phone was revoked, and has knocked 3 times since, from 127.0.0.1.",
        "Turn the tunnel off there; or, to let it in again: vpnshare wireguard add NAME",
    )


@pytest.mark.parametrize(
    ("back", "span"), [(90.5, "90 seconds"), (3 * 86400.0 + 60, "3 days"), (9000.0, "2 hours")]
)
async def test_a_clock_that_went_back(gateway: Gateway, back: float, span: str) -> None:
    app = await let_in(gateway)
    # The device has been started anew, and its clock with it.
    again = App(text_of(app))
    again.device.epoch -= back
    await knock(again, 3)
    (found,) = troubles(gateway)
    assert (found.cause, found.label, found.host, found.count) == (
        Cause.CLOCK, "phone", "127.0.0.1", 3,
    )  # fmt: skip
    assert found.seconds == pytest.approx(back, abs=1)
    assert said(replace(found, seconds=back)) == (
        f"The clock of phone went back by {span}: its handshakes look like old ones and are "
        "refused.",
        "Set the date and time of phone, by the network if it can.",
    )
    # Its clock is set: all is well.
    again.device.epoch += back
    again.peer._stamped = bytes(12)
    await knock(again, 1)
    assert await again.asks() is not None
    assert troubles(gateway) == []


async def test_answers_that_nobody_confirms(gateway: Gateway) -> None:
    app = await let_in(gateway)
    deaf = App(text_of(app))
    await knock(deaf, LEAST_UNCONFIRMED - 1, listen=False)
    assert troubles(gateway) == []
    await knock(deaf, 1, listen=False)
    (found,) = troubles(gateway)
    assert (found.cause, found.label, found.host, found.count) == (
        Cause.UNCONFIRMED, "phone", "127.0.0.1", LEAST_UNCONFIRMED,
    )  # fmt: skip
    found_text, advice = said(found)
    assert found_text == (
        "phone was answered 3 times at 127.0.0.1 and never confirmed: the answers do not arrive."
    )
    assert advice == (
        "Here, let UDP through the firewall, and the local network past the VPN's lock. On the "
        "device, let UDP from this gateway through its firewall, and turn other VPNs off."
    )
    assert "Local network sharing" in said(found, termux=True)[1]
    assert await app.asks() is not None, "it is heard in its session"
    assert troubles(gateway) == []


async def test_one_config_on_two_devices(gateway: Gateway) -> None:
    one = await let_in(gateway)
    other = App(text_of(one))
    for app in (other, one):
        await knock(app, 1)
        assert await app.asks() is not None
    assert troubles(gateway) == [], "a device may move, and come back"
    await knock(other, 1)
    assert await other.asks() is not None
    (found,) = troubles(gateway)
    ports = [app.sock.getsockname()[1] for app in (other, one)]
    assert (found.cause, found.label) == (Cause.SHARED, "phone")
    assert said(found) == (
        f"The config of phone is used in two places in turn: 127.0.0.1 port {ports[0]} and port "
        f"{ports[1]}. They push each other out.",
        "Delete it on one of them, and make that one its own: vpnshare wireguard add NAME",
    )
    assert troubles(gateway, SHARED_SECONDS + 1) == []


async def test_a_device_that_moves_on_and_on_is_one(gateway: Gateway) -> None:
    app = await let_in(gateway)
    for _ in range(6):
        app.move()
        assert await app.asks() is not None
    assert troubles(gateway) == []


async def test_a_config_that_names_an_address_of_yesterday(gateway: Gateway) -> None:
    port = gateway.owner.config.wireguard
    offer = gateway.owner.wireguard_add("phone", ("192.168.43.1", port))
    (found,) = troubles(gateway)
    assert (found.cause, found.label, found.told, found.other) == (
        Cause.ENDPOINT, "phone", f"192.168.43.1:{port}", f"192.168.87.1:{port}",
    )  # fmt: skip
    assert said(found) == (
        f"The config of phone names 192.168.43.1:{port}, an address that this machine does not "
        "have.",
        f"Edit the tunnel in its app: Endpoint = 192.168.87.1:{port}",
    )
    # The device gets here all the same: by a router, perhaps.
    app = App(replace(offer.profile, host="127.0.0.1").text())
    await knock(app, 1)
    gateway.owner.approve(gateway.snapshots.requests()[0].id)
    (found,) = troubles(gateway)
    assert found.cause == Cause.ENDPOINT
    assert said(found)[1] == (
        f"Edit the tunnel in its app: Endpoint = 192.168.87.1:{port}. Or give it another config: "
        "vpnshare wireguard renew phone"
    )
    assert said(replace(found, label="my phone"))[1].endswith("wireguard renew 'my phone'")
    app.again()
    assert await app.asks() is not None
    assert troubles(gateway) == []
    assert [each.cause for each in troubles(gateway, REJECT_AFTER_TIME + 1)] == [Cause.ENDPOINT]


@pytest.mark.parametrize("host", ["phone.local", "9.9.9.9", "2620:fe::fe", "192.168.87.1"])
async def test_names_and_what_routers_forward_from_are_not_judged(
    gateway: Gateway, host: str
) -> None:
    gateway.owner.wireguard_add("phone", (host, 51820))
    assert troubles(gateway) == []


async def test_nothing_ever_came(gateway: Gateway) -> None:
    gateway.owner.wireguard_add("phone")
    assert troubles(gateway, QUIET_OFFER_SECONDS - 1) == []
    (found,) = troubles(gateway, QUIET_OFFER_SECONDS + 1)
    assert (found.cause, found.label, found.reached) == (Cause.SILENCE, "phone", False)
    assert found.seconds == pytest.approx(QUIET_OFFER_SECONDS + 1, abs=1)
    found_text, advice = said(found)
    assert found_text == (
        "Nothing at all has come in on UDP port 51820 in the 61 seconds since the config of phone "
        "was made."
    )
    assert advice == (
        "Turn the tunnel on there, in a network of this machine. Here, let UDP through the "
        "firewall, and the local network past the VPN's lock."
    )
    assert "Mullvad" in said(found, termux=True)[1]
    assert "Nearby devices" in said(found, termux=True, api=37)[1]
    other = await let_in(gateway, "tablet")
    (found,) = troubles(gateway, QUIET_OFFER_SECONDS + 1)
    assert (found.label, found.reached) == ("phone", True)
    found_text, advice = said(found)
    assert found_text.startswith("phone has not come in the ") and "others have" in found_text
    assert "mobile data off" in advice
    other.close()


async def test_who_asks_is_not_silent(gateway: Gateway) -> None:
    app = App(gateway.owner.wireguard_add("phone").profile.text())
    await knock(app, 1)
    assert gateway.snapshots.requests() and troubles(gateway, QUIET_OFFER_SECONDS + 1) == []


async def test_the_gateway_knows_its_own_addresses(gateway: Gateway) -> None:
    gateway.owner.wireguard_add("phone")
    assert gateway.snapshots.wireguard_troubles() == []


def test_strangers_cost_a_bounded_memory() -> None:
    log = Log()
    for n in range(10 * MAX_SIGHTS):
        key, host = n.to_bytes(32, "big"), f"10.0.{n >> 8}.{n & 255}"
        for _ in range(2):
            log.wrong_gateway(host, n)
            log.unknown_key(key, host, n)
            log.went_back(key, 1.0, host, n)
            log.heard(key, host, n, n)
    tables = (log._wrong, log._unknown, log._clocks, log._places)
    assert all(len(table) <= MAX_SIGHTS for table in tables)
    newest = (10 * MAX_SIGHTS - 1).to_bytes(32, "big")
    assert newest in log._unknown and newest in log._places


def test_the_cause_met_last_on_the_way_in_counts() -> None:
    log, key = Log(), b"k" * 32
    device = Known(key, "phone", "192.168.43.1:51820")

    def cause(known: Known) -> list[Cause]:
        found = log.diagnose([known], OWN, f"{NAMED}:51820", lambda _: "", 100.0)
        return [each.cause for each in found]

    assert device.heard_at == NEVER
    assert cause(device) == [Cause.ENDPOINT]
    answered = replace(device, unconfirmed=3, answered_host="10.1.0.2", answered_at=90.0)
    assert cause(answered) == [Cause.UNCONFIRMED]
    for at in (95.0, 96.0):
        log.went_back(key, 60.0, "10.1.0.2", at)
    assert cause(answered) == [Cause.CLOCK]
    assert cause(replace(answered, answered_at=97.0)) == [Cause.UNCONFIRMED]
    assert cause(replace(answered, keys=True, heard_at=98.0)) == []
