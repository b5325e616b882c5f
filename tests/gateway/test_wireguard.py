"""WireGuard apps at a composed gateway, over loopback: who gets in, and what survives."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from scapy.layers.inet import IP, TCP
from scapy.packet import Raw

from gateway.gateway import Gateway
from gateway.listeners import ListenError
from gateway.model import Kind, MemoryStore, Via
from gateway.nat.counters import FROM_TUNNEL
from gateway.wireguard_link import TURN_RUNS
from gateway.wireguard_offers import MAX_OFFERS, OFFER_SECONDS, OfferRefused
from gateway.wireguard_sightings import KNOCK_AGE
from sealing.identity import generate_identity, public_key
from tests.fakes.clock import Wall
from tests.fakes.ports import free_port
from tests.fakes.waiting import settle
from tests.gateway.devices import CONFIG, Device, paired
from tests.gateway.wireguard_app import App, let_in
from vshp.events import PeerClosed


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = Gateway(replace(CONFIG, wireguard=free_port()), MemoryStore())
    await gateway.start()
    yield gateway
    await gateway.stop()


def udp_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


async def test_a_device_that_was_made_asks_is_approved_and_speaks(gateway: Gateway) -> None:
    assert udp_is_free(gateway.owner.config.wireguard), "nobody listens before there is a device"
    offer = gateway.owner.wireguard_add("Anna's phone")
    assert not udp_is_free(gateway.owner.config.wireguard)
    app = App(offer.profile.text())
    app.send(app.question())
    await app.listen(0.2)
    (request,) = gateway.snapshots.requests()
    assert (request.label, request.via, request.address, request.code, request.public_key) == (
        "Anna's phone", Via.WIREGUARD, "127.0.0.1", None, offer.public_key,
    )  # fmt: skip
    assert app.peer.received_bytes == 0, "nothing is answered before the owner has"
    assert gateway.snapshots.tunnels() == [] and gateway.snapshots.peers() == []
    app.again()
    await app.listen(0.2)
    assert gateway.snapshots.requests() == [replace(request)]
    gateway.owner.approve(request.id)
    assert gateway.snapshots.tunnels() == []
    app.again()
    answer = await app.asks()
    assert answer is not None and answer[12:16] == app.profile.dns[0]
    (peer,), (tunnel,) = gateway.snapshots.peers(), gateway.snapshots.tunnels()
    assert (peer.kind, peer.label, peer.platform) == (Kind.WIREGUARD, "Anna's phone", "wireguard")
    assert tunnel.connected and tunnel.link is not None
    assert (tunnel.link.via, tunnel.link.port) == ("wireguard", app.sock.getsockname()[1])
    assert tunnel.lease.addresses.ipv4 == app.profile.ipv4 and tunnel.lease.mtu == 1420
    assert gateway.snapshots.status().connected == 1
    app.close()


async def test_auto_approval_takes_who_holds_the_config() -> None:
    config = replace(CONFIG, wireguard=free_port(), auto_approve_qr=True)
    gateway = Gateway(config, MemoryStore())
    await gateway.start()
    app = App(gateway.owner.wireguard_add("tv").profile.text())
    assert await app.asks() is not None
    assert gateway.snapshots.requests() == []
    stranger = App(gateway.owner.wireguard_add("x").profile.text())
    gateway.snapshots.wireguard.expire(gateway.snapshots.now() + OFFER_SECONDS + 1)
    assert await stranger.asks(0.5) is None
    await gateway.stop()


async def test_who_is_denied_or_unknown_gets_no_answer(gateway: Gateway) -> None:
    app = App(gateway.owner.wireguard_add("phone").profile.text())
    app.send(app.question())
    await app.listen(0.2)
    gateway.owner.deny(gateway.snapshots.requests()[0].id)
    app.again()
    await app.listen(0.3)
    assert gateway.snapshots.requests() == [] and app.peer.received_bytes == 0
    assert gateway.snapshots.status().counters["wireguard__initiation_unknown_key__dropped"] >= 1
    assert gateway.snapshots.wireguard.offers() == []


async def test_a_device_that_was_not_used_in_time_is_forgotten_and_its_address_free(
    gateway: Gateway,
) -> None:
    first = gateway.owner.wireguard_add("a")
    later = gateway.snapshots.now() + OFFER_SECONDS
    assert not gateway.snapshots.wireguard.expire(later - 1)
    assert gateway.snapshots.wireguard.get_timer() == pytest.approx(later, abs=1)
    assert gateway.snapshots.wireguard.expire(later)
    assert gateway.snapshots.wireguard.offers() == []
    assert gateway.owner.wireguard_add("b").profile.ipv4 == first.profile.ipv4


async def test_offers_are_bounded(gateway: Gateway) -> None:
    for n in range(MAX_OFFERS):
        gateway.owner.wireguard_add(f"d{n}")
    with pytest.raises(OfferRefused):
        gateway.owner.wireguard_add("one more")
    assert len({offer.profile.ipv4 for offer in gateway.snapshots.wireguard.offers()}) == MAX_OFFERS


async def test_the_gateway_keeps_no_private_key(gateway: Gateway) -> None:
    offer = gateway.owner.wireguard_add("phone")
    assert offer.profile.private_key is not None
    assert all(kept.profile.private_key is None for kept in gateway.snapshots.wireguard.offers())
    assert isinstance(gateway._store, MemoryStore)
    assert offer.profile.private_key not in gateway._store._secrets.values()


async def test_a_key_of_the_devices_own(gateway: Gateway) -> None:
    private = generate_identity()
    offer = gateway.owner.wireguard_add("router", key=public_key(private))
    assert offer.profile.private_key is None
    app = App(replace(offer.profile, private_key=private).text())
    app.send(app.question())
    await app.listen(0.2)
    gateway.owner.approve(gateway.snapshots.requests()[0].id)
    app.again()
    assert await app.asks() is not None
    for bad in (bytes(32), gateway.snapshots.wireguard.public_key, public_key(private)):
        with pytest.raises(OfferRefused):
            gateway.owner.wireguard_add("x", key=bad)


async def test_revocation_ends_everything_at_once(gateway: Gateway) -> None:
    app = await let_in(gateway)
    (peer,) = gateway.snapshots.peers()
    gateway.owner.revoke(peer.id)
    assert gateway.snapshots.tunnels() == [] and gateway.snapshots.wireguard.links() == []
    assert (
        not gateway.snapshots.wireguard.device.peers
        and not gateway.snapshots.wireguard.device.pairs
    )
    assert await app.asks(0.3) is None
    app.again()
    await app.listen(0.2)
    assert gateway.snapshots.requests() == [], "a revoked device does not nag"


async def test_a_rename_shows_and_changes_nothing_else(gateway: Gateway) -> None:
    app = await let_in(gateway)
    gateway.owner.rename(gateway.snapshots.peers()[0].id, "Bert's")
    (tunnel,) = gateway.snapshots.tunnels()
    assert gateway.registry.device(tunnel.public_key).label == "Bert's"
    assert await app.asks() is not None


async def test_spoofed_sources_reach_no_flow(gateway: Gateway) -> None:
    app = await let_in(gateway)
    flows = gateway.snapshots.tunnels()[0].nat_peer.flow_count
    before = gateway.snapshots.tunnels()[0].nat_peer.from_tunnel_bytes
    app.send(app.question(bytes((10, 1, 2, 3))))
    await app.listen(0.2)
    assert gateway.snapshots.status().counters["wireguard__data__inner_source__dropped"] == 1
    (tunnel,) = gateway.snapshots.tunnels()
    assert (tunnel.nat_peer.flow_count, tunnel.nat_peer.from_tunnel_bytes) == (flows, before)


async def test_a_device_may_move(gateway: Gateway) -> None:
    app = await let_in(gateway)
    app.move()
    assert await app.asks() is not None
    (tunnel,) = gateway.snapshots.tunnels()
    assert tunnel.link is not None and tunnel.link.port == app.sock.getsockname()[1]
    assert gateway.snapshots.status().counters["wireguard__endpoint__moved"] == 1


async def test_two_devices_and_one_of_the_other_kind(gateway: Gateway) -> None:
    one, two = await let_in(gateway, "one"), await let_in(gateway, "two")
    other, _ = await paired(gateway)
    assert one.profile.ipv4 != two.profile.ipv4
    assert await one.asks() is not None and await two.asks() is not None
    await other.alive()
    assert gateway.snapshots.status().connected == 3
    assert {tunnel.link.via for tunnel in gateway.snapshots.tunnels() if tunnel.link} == {
        "wireguard",
        "tcp",
    }


async def test_a_wireguard_key_is_not_trusted_by_vshp(gateway: Gateway) -> None:
    app = await let_in(gateway)
    assert app.profile.private_key is not None
    device = Device(gateway, app.profile.private_key)
    await device.until(PeerClosed)
    assert len(gateway.snapshots.tunnels()) == 1 and gateway.snapshots.tunnels()[0].connected


async def test_after_a_restart_the_gateway_knocks_and_the_addresses_are_the_same() -> None:
    store, config = MemoryStore(), replace(CONFIG, wireguard=free_port())
    first = Gateway(config, store)
    await first.start()
    app = await let_in(first)
    key = first.snapshots.wireguard.public_key
    await first.stop()
    again = Gateway(config, store)
    await again.start()
    assert again.snapshots.wireguard.public_key == key
    # The device sends nothing: it only listens.
    await app.listen(0.5)
    await settle(lambda: again.snapshots.status().connected)
    assert again.snapshots.tunnels()[0].lease.addresses.ipv4 == app.profile.ipv4
    assert await app.asks(1.0) is not None
    await again.stop()


@pytest.mark.parametrize("ago", [KNOCK_AGE - 60.0, KNOCK_AGE])
async def test_who_was_heard_long_ago_is_not_looked_for_after_a_start(ago: float) -> None:
    store, config, wall = MemoryStore(), replace(CONFIG, wireguard=free_port()), Wall()
    first = Gateway(config, store, clock=wall.clock)
    await first.start()
    app = await let_in(first)
    await first.stop()
    wall.ahead = ago
    again = Gateway(config, store, clock=wall.clock)
    await again.start()
    (peer,) = again.snapshots.wireguard.device.peers.values()
    assert (peer.endpoint is None) is (ago == KNOCK_AGE)
    app.close()
    await again.stop()


async def test_the_pool_stays_that_of_the_first_config() -> None:
    store, config = MemoryStore(), replace(CONFIG, wireguard=free_port())
    first = Gateway(config, store)
    await first.start()
    app = await let_in(first)
    await first.stop()
    moved = Gateway(replace(config, pool_ipv4="10.99.0.0/24"), store)
    await moved.start()
    other, lease = await paired(moved)
    assert lease.ipv4[:2] == bytes((10, 99))
    assert await app.asks() is not None
    assert moved.owner.wireguard_add("later").profile.ipv4[:3] == app.profile.ipv4[:3]
    other.leave()
    await moved.stop()


async def test_a_long_silence_stops_the_link_being_live_and_a_packet_wakes_it(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await let_in(gateway)
    (tunnel,) = gateway.snapshots.tunnels()
    peer = gateway.snapshots.wireguard.device.peers[tunnel.public_key]
    pair = peer.pairs.current
    assert pair is not None
    pair.born -= 200.0
    peer.timers.expire = gateway.snapshots.now()
    peer._arm()
    gateway._pulse.settle_soon()
    await settle(lambda: not tunnel.connected)
    assert gateway.snapshots.status().connected == 0 and gateway.snapshots.tunnels() == [tunnel]
    mine = app.peer.pairs.current
    assert mine is not None
    mine.born -= 200.0
    app.peer._sent_at = -1e9
    assert await app.asks() is not None
    assert tunnel.connected


async def test_the_port_may_be_taken_and_nothing_else_suffers(gateway: Gateway) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", gateway.owner.config.wireguard))
        with pytest.raises(ListenError):
            gateway.owner.wireguard_add("phone")
        assert gateway.snapshots.wireguard.offers() == []
    gateway.owner.wireguard_add("phone")


async def test_what_cannot_be_listened_at_is_tried_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.wireguard_doors.REOPEN_FIRST", 0.02)
    app = await let_in(gateway)
    doors, counts = gateway.snapshots.wireguard.doors, gateway.counters.counts
    doors._pause = 0.02
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as squatter:
        doors.close()
        squatter.bind(("127.0.0.1", gateway.owner.config.wireguard))
        gateway.owner.relisten()
        # At once, and by the timer, with growing pauses.
        await settle(lambda: counts["wireguard__listen__failed"] >= 3)
        assert doors.listening == [] and doors._pause > 0.02
    await settle(lambda: counts["wireguard__listen__reopened"])
    assert doors.listening == [f"127.0.0.1:{gateway.owner.config.wireguard}"]
    assert doors._pause == 0.02 and await app.asks() is not None
    assert counts["wireguard__listen__reopened"] == 1


async def test_an_address_that_is_not_there_yet_is_listened_at_before_it_comes(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await let_in(gateway)
    doors, absent = gateway.snapshots.wireguard.doors, "198.51.100.7"
    doors._pause = 0.02
    with pytest.raises(ListenError):
        doors.listen([absent], gateway.snapshots.now())
    gateway._pulse.settle_soon()
    await settle(lambda: doors.listening == [f"{absent}:{gateway.owner.config.wireguard}"])


async def test_nobody_is_listened_for_when_there_is_nobody_any_more(gateway: Gateway) -> None:
    await let_in(gateway)
    doors = gateway.snapshots.wireguard.doors
    doors._pause = 0.02
    with pytest.raises(ListenError):
        doors.listen(["198.51.100.7"], gateway.snapshots.now())
    gateway.owner.revoke(gateway.snapshots.peers()[0].id)
    await asyncio.sleep(0.1)
    assert doors.listening == [] and doors.alarm == math.inf


async def test_where_wireguard_is_off_no_device_is_made() -> None:
    gateway = Gateway(replace(CONFIG, wireguard=0), MemoryStore())
    await gateway.start()
    with pytest.raises(OfferRefused):
        gateway.owner.wireguard_add("phone")
    await gateway.stop()


async def test_listening_anew_keeps_sessions(gateway: Gateway) -> None:
    app = await let_in(gateway)
    gateway.owner.relisten()
    # The gateway may be the first to speak.
    heard = app.peer.received_bytes
    peer = gateway.snapshots.wireguard.device.peers[gateway.snapshots.peers()[0].public_key]
    peer._keepalive(gateway.snapshots.now())
    gateway.snapshots.wireguard.send_messages()
    await app.listen(0.2)
    assert app.peer.received_bytes > heard
    assert await app.asks() is not None
    assert gateway.snapshots.status().connected == 1


async def test_with_the_last_device_the_addresses_may_be_others() -> None:
    store, config = MemoryStore(), replace(CONFIG, wireguard=free_port())
    first = Gateway(config, store)
    await first.start()
    await let_in(first)
    await first.stop()
    moved = Gateway(replace(config, pool_ipv4="10.99.0.0/24"), store)
    await moved.start()
    moved.owner.revoke(moved.snapshots.peers()[0].id)
    assert moved.owner.wireguard_add("phone").profile.ipv4[:2] == bytes((10, 99))
    await moved.stop()


async def test_a_clash_of_the_devices_addresses_is_known(gateway: Gateway) -> None:
    there = [(bytes((10, 0, 0, 0)), 8), (bytes(4), 0)]
    assert gateway.snapshots.wireguard.clash(there) is None, "there is no device"
    app = await let_in(gateway)
    beside = [(bytes((192, 168, 1, 0)), 24), (bytes(4), 0), (bytes(16), 0)]
    assert gateway.snapshots.wireguard.clash(beside) is None
    for address, prefix in ((app.profile.ipv4, 8), (app.profile.ipv6, 48)):
        found = gateway.snapshots.wireguard.clash([*beside, (address, prefix)])
        assert found is not None and found[0] != found[1]


async def test_strangers_change_nothing(gateway: Gateway) -> None:
    app = await let_in(gateway)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", gateway.owner.config.wireguard))
        sock.settimeout(0.2)
        for n in range(400):
            sock.send(bytes((n % 6,)) + bytes(3) + bytes(n))
        with pytest.raises(TimeoutError):
            await asyncio.get_running_loop().run_in_executor(None, sock.recv, 2048)
    assert await app.asks() is not None
    assert len(gateway.snapshots.wireguard.device.pairs) <= 2


async def test_segments_of_one_turn_reach_the_nat_as_one(gateway: Gateway) -> None:
    """Datagrams that come one by one, as from devices that cannot send runs of them."""
    app = await let_in(gateway)
    before = gateway.snapshots.status().counters[FROM_TUNNEL]
    for number in range(TURN_RUNS):
        tcp = TCP(sport=1, dport=80, flags="A", seq=1000 * number, ack=1)
        source = socket.inet_ntoa(app.profile.ipv4)
        app.send(bytes(IP(src=source, dst="192.0.2.1") / tcp / Raw(bytes(1000))))
    await app.listen(0.2)
    assert gateway.snapshots.status().counters[FROM_TUNNEL] - before == 1
    app.close()
