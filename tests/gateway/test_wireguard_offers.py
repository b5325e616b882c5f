"""New keys for devices that are let in, and devices that bring their own, at a composed gateway."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from eventloop.clock import SYSTEM, Clock
from gateway.gateway import Gateway
from gateway.model import GatewayStore, Kind, MemoryStore, Via
from gateway.records import GatewayConfig
from gateway.wireguard_offers import MAX_INVITED, OFFER_SECONDS, OfferRefused, WireguardOffer
from sealing.identity import generate_identity, public_key
from tests.fakes.clock import Wall
from tests.fakes.ports import free_port
from tests.gateway.devices import CONFIG, paired
from tests.gateway.wireguard_app import App, let_in
from wireguard.profile import short_key


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = Gateway(replace(CONFIG, wireguard=free_port()), MemoryStore())
    await gateway.start()
    yield gateway
    await gateway.stop()


async def asks_to_be_let_in(app: App) -> None:
    app.again()
    app.send(app.question())
    await app.listen(0.2)


def brought(offer: WireguardOffer, private: bytes) -> App:
    """A device with a key of its own in the config that it was given."""
    return App(replace(offer.profile, private_key=private).text())


# --- renewals ------------------------------------------------------------------------------------


async def test_a_new_key_takes_over_when_it_is_used_and_not_before(gateway: Gateway) -> None:
    old = await let_in(gateway, "phone")
    (before,) = gateway.snapshots.peers()
    used = gateway.books.total(before.public_key)
    assert min(used) > 20
    offer = gateway.owner.wireguard_renew("phone")
    assert offer.profile.private_key not in (None, old.profile.private_key)
    assert (offer.profile.ipv4, offer.profile.ipv6) == (old.profile.ipv4, old.profile.ipv6)
    new = App(offer.profile.text())
    await asks_to_be_let_in(new)
    (request,) = gateway.snapshots.requests()
    assert request.label == "phone" and new.peer.received_bytes == 0
    assert await old.asks() is not None
    assert gateway.owner.approve(request.id).public_key == before.public_key
    assert await old.asks() is not None, "approved is not confirmed"
    # Answered, and silent: as a replay is.
    new.again()
    await new.ignores_the_answer()
    assert gateway.snapshots.status().counters["wireguard__initiation__answered"] >= 2
    assert await old.asks() is not None
    new.again()
    assert await new.asks() is not None
    (peer,) = [peer for peer in gateway.snapshots.peers() if not peer.revoked]
    assert peer.public_key == offer.public_key != before.public_key
    assert (peer.label, peer.first_seen) == ("phone", before.first_seen)
    after = gateway.books.total(peer.public_key)
    assert after[0] > used[0] and after[1] > used[1], "what the device had is the new key's"
    assert gateway.books.total(before.public_key) == (0, 0)
    assert after == gateway.snapshots.totals()
    (tunnel,) = gateway.snapshots.tunnels()
    assert tunnel.public_key == offer.public_key
    assert tunnel.lease.addresses.ipv4 == old.profile.ipv4
    assert list(gateway.snapshots.wireguard.device.peers) == [offer.public_key]
    assert gateway.snapshots.wireguard.offers() == []
    assert await old.asks(0.3) is None, "the old key is out"
    old.again()
    await old.listen(0.2)
    assert gateway.snapshots.requests() == []
    gateway.owner.rename("phone", "Anna's phone")
    assert gateway.registry.find("Anna's phone").public_key == offer.public_key


async def test_a_renewal_outlives_a_restart_once_it_is_confirmed() -> None:
    store, config = MemoryStore(), replace(CONFIG, wireguard=free_port(), auto_approve_qr=True)
    first = Gateway(config, store)
    await first.start()
    old = App(first.owner.wireguard_add("tv").profile.text())
    assert await old.asks() is not None
    new = App(first.owner.wireguard_renew("tv").profile.text())
    assert await new.asks() is not None, "whoever approves beforehand has done so"
    await first.stop()
    again = Gateway(config, store)
    await again.start()
    assert await new.asks() is not None
    assert again.snapshots.tunnels()[0].lease.addresses.ipv4 == old.profile.ipv4
    assert await old.asks(0.3) is None
    other = again.owner.wireguard_add("other")
    assert other.profile.ipv4 != old.profile.ipv4
    await again.stop()


async def test_a_renewal_that_is_not_used_leaves_all_as_it_was(gateway: Gateway) -> None:
    old = await let_in(gateway, "phone")
    unused = App(gateway.owner.wireguard_renew("phone").profile.text())
    gateway.snapshots.wireguard.expire(gateway.snapshots.now() + OFFER_SECONDS)
    assert gateway.snapshots.wireguard.offers() == []
    await asks_to_be_let_in(unused)
    assert gateway.snapshots.requests() == []
    # Let in, and not used from then on.
    late = App(gateway.owner.wireguard_renew("phone").profile.text())
    await asks_to_be_let_in(late)
    gateway.owner.approve(gateway.snapshots.requests()[0].id)
    assert len(gateway.snapshots.wireguard.device.peers) == 2
    later = gateway.snapshots.now() + OFFER_SECONDS
    assert gateway.snapshots.wireguard.get_timer() is not None
    assert not gateway.snapshots.wireguard.expire(later - 5) and gateway.snapshots.wireguard.expire(
        later + 1
    )
    assert len(gateway.snapshots.wireguard.device.peers) == 1
    assert await late.asks(0.3) is None
    assert await old.asks() is not None
    assert gateway.owner.wireguard_add("next").profile.ipv4 != old.profile.ipv4


async def test_one_renewal_at_a_time_and_none_for_who_is_denied_or_revoked(
    gateway: Gateway,
) -> None:
    old = await let_in(gateway, "phone")
    first = App(gateway.owner.wireguard_renew("phone").profile.text())
    await asks_to_be_let_in(first)
    second = App(gateway.owner.wireguard_renew("phone").profile.text())
    assert gateway.snapshots.requests() == [] and len(gateway.snapshots.wireguard.offers()) == 1
    await asks_to_be_let_in(first)
    assert gateway.snapshots.requests() == []
    await asks_to_be_let_in(second)
    gateway.owner.deny(gateway.snapshots.requests()[0].id)
    assert gateway.snapshots.wireguard.offers() == [] and await old.asks() is not None
    for approved in (False, True):
        third = App(gateway.owner.wireguard_renew("phone").profile.text())
        await asks_to_be_let_in(third)
        if approved:
            gateway.owner.approve(gateway.snapshots.requests()[0].id)
            gateway.owner.revoke("phone")
            assert gateway.snapshots.wireguard.device.peers == {}
            assert await third.asks(0.3) is None
        else:
            gateway.owner.wireguard_renew("phone")
    assert gateway.snapshots.wireguard.offers() == [] and gateway.snapshots.requests() == []
    with pytest.raises(OfferRefused):
        gateway.owner.wireguard_renew("phone")


async def test_a_renewal_with_a_key_of_the_devices_own(gateway: Gateway) -> None:
    old = await let_in(gateway, "phone")
    private = generate_identity()
    key = public_key(private)
    offer = gateway.owner.wireguard_renew("phone", key=key)
    with pytest.raises(OfferRefused):
        gateway.owner.wireguard_add("thief", key=key)
    app = brought(offer, private)
    await asks_to_be_let_in(app)
    gateway.owner.approve(gateway.snapshots.requests()[0].id)
    app.again()
    assert await app.asks() is not None
    with pytest.raises(OfferRefused):
        gateway.owner.wireguard_renew("phone", key=key)
    assert gateway.snapshots.tunnels()[0].lease.addresses.ipv4 == old.profile.ipv4


async def test_only_devices_with_an_app_are_renewed(gateway: Gateway) -> None:
    device, _ = await paired(gateway)
    (peer,) = gateway.snapshots.peers()
    assert peer.kind is Kind.VSHP
    with pytest.raises(OfferRefused):
        gateway.owner.wireguard_renew(peer.id)
    device.leave()


# --- invitations ---------------------------------------------------------------------------------


async def test_an_invited_device_brings_its_own_key(gateway: Gateway) -> None:
    offer = gateway.owner.wireguard_invite("router")
    assert "\nPrivateKey=\n" in f"\n{offer.profile.text()}"
    private = generate_identity()
    app = brought(offer, private)
    await asks_to_be_let_in(app)
    (request,) = gateway.snapshots.requests()
    assert request.label == "router" and request.code == short_key(public_key(private))
    gateway.owner.approve(request.code)
    app.again()
    assert await app.asks() is not None
    (tunnel,) = gateway.snapshots.tunnels()
    assert tunnel.lease.addresses.ipv4 == offer.profile.ipv4
    assert gateway.registry.device(tunnel.public_key).label == "router"
    assert gateway.snapshots.wireguard.offers() == []
    late = brought(offer, generate_identity())
    await asks_to_be_let_in(late)
    assert gateway.snapshots.requests() == [], "an invitation is for one device"
    assert gateway.owner.wireguard_add("next").profile.ipv4 != offer.profile.ipv4


async def test_an_invitation_is_proof_of_nothing() -> None:
    config = replace(CONFIG, wireguard=free_port(), auto_approve_qr=True)
    gateway = Gateway(config, MemoryStore())
    await gateway.start()
    app = brought(gateway.owner.wireguard_invite("router"), generate_identity())
    await asks_to_be_let_in(app)
    assert len(gateway.snapshots.requests()) == 1 and app.peer.received_bytes == 0
    await gateway.stop()


async def test_strangers_at_an_invitation_are_few_and_may_be_denied(gateway: Gateway) -> None:
    revoked = await let_in(gateway, "old")
    gateway.owner.revoke("old")
    offer = gateway.owner.wireguard_invite("router")
    revoked.peer.pairs.clear()
    await asks_to_be_let_in(revoked)
    assert gateway.snapshots.requests() == [], "a revoked device does not nag"
    apps = [brought(offer, generate_identity()) for _ in range(MAX_INVITED + 1)]
    for app in apps:
        await asks_to_be_let_in(app)
    assert len(gateway.snapshots.requests()) == MAX_INVITED
    gateway.owner.deny(gateway.snapshots.requests()[0].id)
    await asks_to_be_let_in(apps[-1])
    assert len(gateway.snapshots.requests()) == MAX_INVITED
    gateway.owner.approve(gateway.snapshots.requests()[-1].id)
    assert gateway.snapshots.requests() == [], "who else asked has asked in vain"
    apps[-1].again()
    assert await apps[-1].asks() is not None


async def test_one_invitation_at_a_time_and_not_for_ever(gateway: Gateway) -> None:
    first = gateway.owner.wireguard_invite("a")
    app = brought(first, generate_identity())
    await asks_to_be_let_in(app)
    second = gateway.owner.wireguard_invite("b")
    assert [offer.label for offer in gateway.snapshots.wireguard.offers()] == ["b"]
    assert gateway.snapshots.requests() == [] and second.profile.ipv4 == first.profile.ipv4
    gateway.snapshots.wireguard.expire(gateway.snapshots.now() + OFFER_SECONDS)
    await asks_to_be_let_in(app)
    assert gateway.snapshots.requests() == [] and gateway.snapshots.wireguard.offers() == []
    assert gateway.owner.wireguard_add("c").profile.ipv4 == first.profile.ipv4


async def test_the_key_of_an_invited_device_may_be_given_by_hand(gateway: Gateway) -> None:
    invitation = gateway.owner.wireguard_invite("router")
    private = generate_identity()
    offer = gateway.owner.wireguard_add("router", key=public_key(private))
    assert offer.profile.ipv4 == invitation.profile.ipv4
    assert len(gateway.snapshots.wireguard.offers()) == 1
    stranger = brought(invitation, generate_identity())
    await asks_to_be_let_in(stranger)
    assert gateway.snapshots.requests() == []
    app = brought(invitation, private)
    await asks_to_be_let_in(app)
    gateway.owner.approve(gateway.snapshots.requests()[0].id)
    app.again()
    assert await app.asks() is not None


# --- restarts ------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def running(
    config: GatewayConfig, store: GatewayStore, clock: Clock = SYSTEM
) -> AsyncIterator[Gateway]:
    gateway = Gateway(config, store, clock=clock)
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


@pytest.fixture
def kept() -> tuple[GatewayConfig, MemoryStore]:
    """What a gateway finds again when it starts."""
    return replace(CONFIG, wireguard=free_port()), MemoryStore()


async def test_a_config_is_good_after_a_restart_before_its_first_use(
    kept: tuple[GatewayConfig, MemoryStore],
) -> None:
    async with running(*kept) as first:
        offer = first.owner.wireguard_add("phone")
    async with running(*kept) as again:
        (found,) = again.snapshots.wireguard.offers()
        assert found.label == "phone" and found.profile.private_key is None
        assert found.profile == replace(offer.profile, private_key=None)
        assert again.owner.wireguard_add("tablet").profile.ipv4 != offer.profile.ipv4
        app = App(offer.profile.text())
        await asks_to_be_let_in(app)
        (request,) = again.snapshots.requests()
        assert (request.label, request.via) == ("phone", Via.WIREGUARD)
        again.owner.approve(request.id)
        app.again()
        assert await app.asks() is not None
        assert [made.label for made in kept[1].offers()] == ["tablet"]
    async with running(*kept) as third:
        assert [offer.label for offer in third.snapshots.wireguard.offers()] == ["tablet"]
        assert await app.asks() is not None


async def test_a_config_expires_while_the_gateway_is_off(
    kept: tuple[GatewayConfig, MemoryStore],
) -> None:
    store, wall = kept[1], Wall()
    async with running(*kept, wall.clock) as first:
        offer = first.owner.wireguard_add("phone")
    wall.ahead = OFFER_SECONDS - 60.0
    async with running(*kept, wall.clock) as again:
        (found,) = again.snapshots.wireguard.offers()
        assert 30.0 < found.expires - again.snapshots.now() <= 60.0
    wall.ahead = OFFER_SECONDS
    async with running(*kept, wall.clock) as late:
        assert late.snapshots.wireguard.offers() == [] == store.offers()
        assert not late.snapshots.wireguard.doors.listening
        assert late.owner.wireguard_add("tablet").profile.ipv4 == offer.profile.ipv4


async def test_a_clock_that_went_back_makes_no_offer_longer(
    kept: tuple[GatewayConfig, MemoryStore],
) -> None:
    wall = Wall()
    async with running(*kept, wall.clock) as first:
        first.owner.wireguard_add("phone")
    wall.ahead = -30 * 86400.0
    async with running(*kept, wall.clock) as again:
        (found,) = again.snapshots.wireguard.offers()
        assert found.expires - again.snapshots.now() <= OFFER_SECONDS


async def test_a_renewal_is_good_after_a_restart_asked_for_or_let_in(
    kept: tuple[GatewayConfig, MemoryStore],
) -> None:
    async with running(*kept) as first:
        old = await let_in(first, "phone")
        offer = first.owner.wireguard_renew("phone")
    new = App(offer.profile.text())
    async with running(*kept) as second:
        assert await old.asks() is not None
        await asks_to_be_let_in(new)
        (request,) = second.snapshots.requests()
        second.owner.approve(request.id)
        assert [made.approved for made in kept[1].offers()] == [True]
    async with running(*kept) as third:
        assert await old.asks() is not None, "approved is not confirmed"
        new.again()
        assert await new.asks() is not None
        assert await old.asks(0.3) is None
        assert third.snapshots.tunnels()[0].lease.addresses.ipv4 == old.profile.ipv4
        assert kept[1].offers() == []


async def test_a_renewal_is_over_with_its_device(
    kept: tuple[GatewayConfig, MemoryStore],
) -> None:
    store = kept[1]
    async with running(*kept) as first:
        await let_in(first, "phone")
        first.owner.wireguard_renew("phone")
    (device,) = store.peers()
    store.save_peer(replace(device, revoked=True))
    async with running(*kept) as again:
        assert again.snapshots.wireguard.offers() == [] == store.offers()
        assert store.lease_number(device.public_key) == 2


async def test_an_invitation_is_good_after_a_restart_and_once(
    kept: tuple[GatewayConfig, MemoryStore],
) -> None:
    async with running(*kept) as first:
        offer = first.owner.wireguard_invite("router")
    async with running(*kept) as again:
        app = brought(offer, generate_identity())
        await asks_to_be_let_in(app)
        (request,) = again.snapshots.requests()
        assert request.label == "router" and request.code is not None
        again.owner.approve(request.id)
        app.again()
        assert await app.asks() is not None
        assert kept[1].offers() == []


async def test_what_is_denied_or_withdrawn_is_not_kept(
    kept: tuple[GatewayConfig, MemoryStore],
) -> None:
    async with running(*kept) as first:
        app = App(first.owner.wireguard_add("phone").profile.text())
        await asks_to_be_let_in(app)
        first.owner.deny(first.snapshots.requests()[0].id)
        first.owner.wireguard_invite("router")
        first.owner.wireguard_invite("router again")
        assert [made.label for made in kept[1].offers()] == ["router again"]
        first.owner.wireguard_add("router again", key=public_key(generate_identity()))
        assert [made.invites for made in kept[1].offers()] == [False]


async def test_no_offer_names_a_pool_that_is_not_stored(
    kept: tuple[GatewayConfig, MemoryStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever moment the gateway is killed at."""
    store = kept[1]
    seen: list[bytes | None] = []
    monkeypatch.setattr(
        MemoryStore, "save_offer", lambda self, offer: seen.append(self.secret("wireguard_pool"))
    )
    async with running(*kept) as first:
        first.owner.wireguard_add("phone")
        assert seen == [store.secret("wireguard_pool")] and seen[0] is not None
