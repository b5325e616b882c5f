"""The composed gateway and real sessions over loopback: who gets in, and what survives."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import cast

import pytest

from gateway.gateway import Gateway
from gateway.link import SessionLink
from gateway.listeners import CODE_BURST
from gateway.model import MemoryStore, Via, peer_id
from gateway.offers import MAX_OFFERS
from gateway.pairing import NoSuchRequest
from gateway.peers import NoSuchPeer
from rules.value import NO_RULES, Rules
from services.doctor.doctor import VERSION_REFUSED
from tests.fakes.clock import Wall
from tests.fakes.waiting import settle
from tests.gateway.devices import CONFIG, Device, key, offer, paired, port_of, public
from vshp.config import Carrier, CloseReason, Resume, Route
from vshp.datagram_session import DatagramClientSession
from vshp.events import ApprovalPending, LeaseChanged, LeaseGranted, PeerClosed, StatusReceived
from vshp.session import ClientSession
from vshp.uri import PairingUri


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = Gateway(CONFIG, MemoryStore())
    await gateway.start()
    yield gateway
    await gateway.stop()


@pytest.mark.parametrize("udp", [False, True])
async def test_a_scanned_device_waits_is_approved_and_gets_a_lease(
    gateway: Gateway, udp: bool
) -> None:
    device, lease = await paired(gateway, udp=udp)
    assert lease.ipv4 != lease.gateway_ipv4
    assert not lease.resumed
    (tunnel,) = gateway.snapshots.tunnels()
    assert tunnel.link is not None and tunnel.link.transport == ("udp" if udp else "tcp")
    status = (await device.until(StatusReceived)).status
    assert not status.vpn_up
    device.leave()


@pytest.mark.parametrize("udp", [False, True])
async def test_a_lease_is_renewed_while_its_device_is_connected(udp: bool) -> None:
    gateway = Gateway(replace(CONFIG, lease=2.0), MemoryStore())
    await gateway.start()
    device, lease = await paired(gateway, udp=udp)
    assert lease.expires_in == 2
    (tunnel,) = gateway.snapshots.tunnels()
    first = tunnel.lease.expires
    while tunnel.lease.expires < first + 1.5:
        changed = (await device.until(LeaseChanged)).lease
        assert replace(changed, mtu=lease.mtu, ticket=lease.ticket) == lease
    assert changed.ticket != lease.ticket
    device.leave()
    await gateway.stop()


@pytest.mark.parametrize(("udp", "shown"), [(False, "usb"), (True, "udp")])
async def test_a_cable_is_believed_where_it_can_be_true(
    gateway: Gateway, udp: bool, shown: str
) -> None:
    first, _ = await paired(gateway, udp=udp)
    device = Device(gateway, first.identity, udp=udp, carrier=Carrier.USB)
    await device.until(LeaseGranted)
    await device.alive()
    (link,) = [tunnel.link for tunnel in gateway.snapshots.tunnels()]
    assert isinstance(link, SessionLink)
    assert link.carrier is Carrier.USB and link.via == shown
    link.host = "192.168.1.9"
    assert link.via == link.transport


async def test_an_unapproved_device_gets_nothing(gateway: Gateway) -> None:
    device = Device(gateway, key(), secret=offer(gateway))
    await device.until(ApprovalPending)
    assert gateway.snapshots.tunnels() == [] and gateway.snapshots.peers() == []
    gateway.owner.deny(gateway.snapshots.requests()[0].id)
    assert (await device.until(PeerClosed)).reason is CloseReason.DENIED
    assert (
        gateway.snapshots.tunnels() == []
        and gateway.snapshots.peers() == []
        and gateway.snapshots.requests() == []
    )
    with pytest.raises(NoSuchRequest):
        gateway.owner.approve("00")


async def test_a_secret_is_good_once_and_only_if_issued(gateway: Gateway) -> None:
    assert not gateway.owner.inviting()
    secret = offer(gateway)
    assert gateway.owner.inviting()
    first = Device(gateway, key(), secret=secret)
    await first.until(ApprovalPending)
    assert not gateway.owner.inviting(), "nobody can use it any more: it need not be announced"
    second = Device(gateway, key(), secret=secret)
    assert (await second.until(PeerClosed)).reason is CloseReason.SECRET_USED
    third = Device(gateway, key(), secret=bytes(16))
    assert (await third.until(PeerClosed)).reason is CloseReason.SECRET_UNKNOWN
    assert len(gateway.snapshots.requests()) == 1


@pytest.mark.parametrize("udp", [False, True])
async def test_an_offer_says_who_has_used_it(gateway: Gateway, udp: bool) -> None:
    now = asyncio.get_running_loop().time()
    for_nobody = gateway.owner.pair(1.0)
    handed_out = gateway.owner.pair()
    newest, older = gateway.offers.read()
    assert (newest.id, older.id) == (handed_out.id, for_nobody.id)
    assert newest.id not in handed_out.uri.lower(), "the name is not the secret"
    assert (newest.state(now), older.state(now + 2)) == ("open", "expired")
    device = Device(gateway, key(), secret=PairingUri.decode(handed_out.uri).secret, udp=udp)
    await device.until(ApprovalPending)
    used, untouched = gateway.offers.read()
    (request,) = gateway.snapshots.requests()
    assert (used.state(now), used.used_by) == ("used", request.label)
    assert untouched.used_by is None
    gateway.owner.approve(request.id)
    await device.until(LeaseGranted)
    gateway.owner.rename(gateway.snapshots.peers()[0].id, "My tablet")
    device.leave()
    again = gateway.owner.pair()
    secret = PairingUri.decode(again.uri).secret
    back = Device(gateway, device.identity, secret=secret, udp=udp)
    await back.until(LeaseGranted)
    assert gateway.offers.read()[0].used_by == "My tablet", "by the name that the owner gave it"


async def test_the_offers_are_bounded(gateway: Gateway) -> None:
    ids = [gateway.owner.pair().id for _ in range(MAX_OFFERS + 3)]
    assert [record.id for record in gateway.offers.read()] == ids[:2:-1]


async def test_a_stranger_who_claims_to_be_paired_is_told(gateway: Gateway) -> None:
    device = Device(gateway, key())
    assert (await device.until(PeerClosed)).reason is CloseReason.NOT_PAIRED
    assert gateway.snapshots.requests() == []


async def test_first_contact_shows_the_same_code_on_both_sides(gateway: Gateway) -> None:
    device = Device(gateway, key(), known=False)
    pending = await device.until(ApprovalPending)
    (request,) = gateway.snapshots.requests()
    assert request.code == pending.code and request.code is not None and len(request.code) == 6
    gateway.owner.approve(request.id)
    device.session.agree(device.loop.time())
    await device.until(LeaseGranted)


@pytest.mark.parametrize("udp", [False, True])
@pytest.mark.parametrize("owner_first", [False, True])
async def test_a_lease_needs_the_yes_of_both_in_any_order(
    gateway: Gateway, udp: bool, owner_first: bool
) -> None:
    device = Device(gateway, key(), known=False, udp=udp)
    await device.until(ApprovalPending)
    if owner_first:
        gateway.owner.approve(gateway.snapshots.requests()[0].id)
        await device.alive()
        assert device.session.lease is None and gateway.snapshots.tunnels() == []
        assert gateway.snapshots.requests() == [] and len(gateway.snapshots.peers()) == 1
        device.session.agree(device.loop.time())
    else:
        device.session.agree(device.loop.time())
        await device.alive()
        assert device.session.lease is None and gateway.snapshots.tunnels() == []
        gateway.owner.approve(gateway.snapshots.requests()[0].id)
    await device.until(LeaseGranted)
    await device.alive()
    assert gateway.snapshots.status().connected == 1
    device.leave()


async def test_a_device_that_forgot_us_is_trusted_and_its_user_asked(gateway: Gateway) -> None:
    first, _ = await paired(gateway)
    first.leave()
    device = Device(gateway, first.identity, known=False)
    await device.agree()
    lease = (await device.until(LeaseGranted)).lease
    assert lease.ipv4 and gateway.snapshots.requests() == []


async def test_a_first_contact_by_cable_is_called_so(gateway: Gateway) -> None:
    device = Device(gateway, key(), known=False, carrier=Carrier.USB)
    await device.until(ApprovalPending)
    assert [request.via for request in gateway.snapshots.requests()] == [Via.USB]
    device.leave()


async def test_a_user_who_sees_other_digits_is_counted_and_told_of(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    device = Device(gateway, key(), known=False)
    await device.until(ApprovalPending)
    device.session.close(CloseReason.CODE_REFUSED, device.loop.time())
    await device.flush()
    await settle(lambda: not gateway.snapshots.requests())
    assert gateway.snapshots.status().counters["pairing__code__refused_by_device"] == 1
    assert "other digits are shown there" in caplog.text
    assert gateway.snapshots.peers() == []


@pytest.mark.parametrize("udp", [False, True])
async def test_who_breaks_off_before_the_owner_is_asked_learns_few_codes(
    gateway: Gateway, udp: bool
) -> None:
    for _ in range(int(CODE_BURST)):
        device = Device(gateway, key(), known=False, udp=udp)
        await device.until(ApprovalPending)
        device.session.close(CloseReason.DISCONNECTED, device.loop.time())
        await device.flush()
        await settle(lambda: not gateway.snapshots.requests())
    device = Device(gateway, key(), known=False, udp=udp)
    closed = await device.until(PeerClosed)
    assert (closed.reason, closed.authenticated) == (CloseReason.BUSY, True)
    assert "wait a minute" in closed.detail and "pairing URI" in closed.detail
    assert device.session.code is None and gateway.snapshots.requests() == []
    assert gateway.snapshots.status().counters["listener__codes__refused"] == 1
    scanned = Device(gateway, key(), secret=offer(gateway), udp=udp)
    await scanned.until(ApprovalPending)


async def test_a_request_ends_with_the_connection_it_came_by(gateway: Gateway) -> None:
    device = Device(gateway, key(), secret=offer(gateway))
    await device.until(ApprovalPending)
    device.leave()
    await settle(lambda: not gateway.snapshots.requests())


async def test_resume_keeps_the_session_and_its_tunnel(gateway: Gateway) -> None:
    device, lease = await paired(gateway)
    (before,) = gateway.snapshots.tunnels()
    device.leave()
    await settle(lambda: gateway.snapshots.status().connected == 0)
    assert gateway.snapshots.tunnels() == [before]
    resume = Resume(lease.session_id, lease.ticket, lease)
    again = Device(gateway, device.identity, resume=resume)
    renewed = (await again.until(LeaseGranted)).lease
    await again.flush()
    await settle(lambda: gateway.snapshots.status().connected == 1)
    assert renewed.resumed and renewed.session_id == lease.session_id
    assert renewed.ipv4 == lease.ipv4 and renewed.ticket != lease.ticket
    assert gateway.snapshots.tunnels() == [before]
    again.leave()


@pytest.mark.parametrize("elsewhere", [True, False])
async def test_a_device_gets_addresses_beside_its_networks(
    gateway: Gateway, elsewhere: bool
) -> None:
    device, lease = await paired(gateway)
    device.leave()
    await settle(lambda: gateway.snapshots.status().connected == 0)
    resume = Resume(lease.session_id, lease.ticket, lease)
    lan = Route(lease.ipv4[:2] + bytes(2), 16) if elsewhere else Route(bytes((192, 168, 7, 0)), 24)
    again = Device(gateway, device.identity, resume=resume, networks=(lan,))
    renewed = (await again.until(LeaseGranted)).lease
    await again.flush()
    await settle(lambda: gateway.snapshots.status().connected == 1)
    assert (renewed.ipv4[:2] == lease.ipv4[:2]) is not elsewhere
    assert renewed.ipv4[:3] == renewed.gateway_ipv4[:3] and renewed.ipv6 == lease.ipv6
    assert renewed.resumed is not elsewhere
    (tunnel,) = gateway.snapshots.tunnels()
    assert tunnel.lease.addresses.ipv4 == renewed.ipv4
    again.leave()


@pytest.mark.parametrize("step", [-86_400.0, -301.0, 40 * 86_400.0])
async def test_a_clock_that_is_set_costs_no_session(step: float) -> None:
    wall = Wall()
    gateway = Gateway(CONFIG, MemoryStore(), clock=wall.clock)
    await gateway.start()
    device, lease = await paired(gateway)
    (before,) = gateway.snapshots.tunnels()
    left = before.lease.expires - gateway.snapshots.now()
    wall.ahead = step
    device.leave()
    await settle(lambda: gateway.snapshots.status().connected == 0)
    resume = Resume(lease.session_id, lease.ticket, lease)
    again = Device(gateway, device.identity, resume=resume)
    assert (await again.until(LeaseGranted)).lease.resumed
    await again.alive()
    assert gateway.snapshots.tunnels() == [before]
    assert abs(before.lease.expires - gateway.snapshots.now() - left) < 10
    (peer,) = gateway.snapshots.peers()
    assert abs(peer.last_seen - peer.first_seen - step) < 60, "by the clock as it is set"
    again.leave()
    await gateway.stop()


async def test_a_link_may_outlast_its_first_ticket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vshp.tickets.TICKET_LIFETIME", 2.0)
    gateway = Gateway(replace(CONFIG, lease=1.0), MemoryStore())
    await gateway.start()
    device, lease = await paired(gateway)
    for _ in range(7):
        lease = (await device.until(LeaseChanged)).lease
    device.leave()
    await settle(lambda: gateway.snapshots.status().connected == 0)
    again = Device(gateway, device.identity, resume=Resume(lease.session_id, lease.ticket, lease))
    assert (await again.until(LeaseGranted)).lease.resumed
    again.leave()
    await gateway.stop()


async def test_a_datagram_sent_on_from_elsewhere_takes_the_link_nowhere(
    gateway: Gateway,
) -> None:
    device, _ = await paired(gateway, udp=True)
    await device.alive()
    (link,) = [tunnel.link for tunnel in gateway.snapshots.tunnels()]
    assert link is not None
    before = link.port
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as victim:
        victim.connect(("127.0.0.1", port_of(gateway)))
        victim.settimeout(5)
        device.session.ping(device.loop.time())
        assert isinstance(device.session, DatagramClientSession)
        ((stolen, _size),) = device.session.datagrams_to_send()
        victim.send(stolen)
        asked = await device.loop.run_in_executor(None, victim.recv, 2048)
        assert len(asked) == 44
        await device.alive()
        assert link.port == before
        victim.setblocking(False)
        with pytest.raises(BlockingIOError):
            victim.recv(2048)
        # The device itself may go there: it can read what is asked.
        device.sock.close()
        device.sock = victim.dup()
        device.sock.setblocking(False)
        device.session.receive_datagram(
            memoryview(bytearray(asked)), "gateway", gateway.snapshots.now()
        )
        await device.flush()
        await device.alive()
        assert link.port == victim.getsockname()[1] != before
    device.leave()


async def test_two_copies_of_a_device_share_no_key_and_take_turns(gateway: Gateway) -> None:
    """A virtual machine that was cloned while connected: both copies come back by resuming."""
    device, lease = await paired(gateway)
    resume = Resume(lease.session_id, lease.ticket, lease)
    copies = [Device(gateway, device.identity, resume=resume) for _ in range(2)]
    leases, keys = [], []
    for copy in copies:
        leases.append((await copy.until(LeaseGranted)).lease)
        await copy.alive()
        sealing = copy.session.writer._key
        assert sealing is not None
        keys.append(sealing._key)
    assert [lease.resumed for lease in leases] == [True, False]
    assert leases[0].session_id != leases[1].session_id and keys[0] != keys[1]
    assert (await device.until(PeerClosed)).reason is CloseReason.REPLACED
    assert (await copies[0].until(PeerClosed)).reason is CloseReason.REPLACED
    assert gateway.snapshots.status().connected == 1


async def test_a_used_ticket_begins_a_new_session_with_the_same_addresses(
    gateway: Gateway,
) -> None:
    device, lease = await paired(gateway)
    resume = Resume(lease.session_id, lease.ticket, lease)
    second = Device(gateway, device.identity, resume=resume)
    await second.until(LeaseGranted)
    await second.flush()
    await settle(lambda: gateway.snapshots.status().counters.get("session__resumed"))
    third = Device(gateway, device.identity, resume=resume)
    fresh = (await third.until(LeaseGranted)).lease
    assert not fresh.resumed and fresh.session_id != lease.session_id
    assert fresh.ipv4 == lease.ipv4 and fresh.ipv6 == lease.ipv6
    assert gateway.snapshots.status().counters["session__ticket_used__not_resumed"] == 1


async def test_anothers_ticket_is_useless(gateway: Gateway) -> None:
    owner, lease = await paired(gateway)
    thief, _ = await paired(gateway)
    resume = Resume(lease.session_id, lease.ticket, replace(lease))
    attempt = Device(gateway, thief.identity, resume=resume)
    granted = (await attempt.until(LeaseGranted)).lease
    assert not granted.resumed and granted.ipv4 != lease.ipv4
    assert gateway.snapshots.status().counters["session__ticket_invalid__not_resumed"] == 1
    assert any(t.public_key == public(owner.identity) for t in gateway.snapshots.tunnels())


async def test_devices_of_another_version_are_counted_whatever_they_come_by(
    gateway: Gateway,
) -> None:
    address = ("127.0.0.1", port_of(gateway))
    with socket.create_connection(address) as stream:
        stream.sendall(b"VSHP\x02\x01\x01\x00")
        await settle(lambda: VERSION_REFUSED[0] in gateway.snapshots.status().counters)
    device = Device(gateway, key(), udp=True)
    session = cast(DatagramClientSession, device.session)
    ((run, size),) = session.datagrams_to_send()
    first = bytearray(run[:size])
    first[first.index(b"VSHP") + 4] = 2
    device.sock.send(first)
    await settle(lambda: VERSION_REFUSED[1] in gateway.snapshots.status().counters)
    gateway.owner.relisten()
    counts = gateway.snapshots.status().counters
    assert [counts[name] for name in VERSION_REFUSED] == [1, 1]
    device.leave()


async def test_a_replayed_first_message_displaces_nobody(gateway: Gateway) -> None:
    device, _ = await paired(gateway)
    device.leave()
    await settle(lambda: gateway.snapshots.status().connected == 0)
    again = Device(gateway, device.identity)
    assert isinstance(again.session, ClientSession)
    first_message = bytes(again.session.writer.output())
    await again.until(LeaseGranted)
    await again.flush()
    await settle(lambda: gateway.snapshots.status().connected == 1)
    (tunnel,) = gateway.snapshots.tunnels()
    with socket.create_connection(("127.0.0.1", port_of(gateway))) as replay:
        replay.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(replay, first_message)
        assert await asyncio.wait_for(loop.sock_recv(replay, 4096), 10)
    await asyncio.sleep(0.05)
    assert gateway.snapshots.tunnels() == [tunnel] and tunnel.link is not None


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
async def test_a_grant_that_is_confirmed_late_takes_nothing_over(
    gateway: Gateway, udp: bool
) -> None:
    """What a device said on a link that it gave up may come when it is long on another."""
    device, _ = await paired(gateway)
    late = Device(gateway, device.identity, udp=udp)
    await late.flush()
    await settle(lambda: gateway._tunnels._granted)  # its confirmation is on the way...
    now = Device(gateway, device.identity)
    await now.until(LeaseGranted)
    await now.flush()
    await settle(lambda: gateway.snapshots.status().counters.get("session__opened") == 2)
    (tunnel,) = gateway.snapshots.tunnels()
    in_use = tunnel.link
    ended = await late.until(PeerClosed)  # ...and arrives
    assert ended.reason is CloseReason.REPLACED
    await now.alive()
    assert gateway.snapshots.tunnels() == [tunnel] and tunnel.link is in_use is not None
    assert not gateway._tunnels._granted


async def test_revocation_ends_the_session_at_once_and_keeps_the_device_out(
    gateway: Gateway,
) -> None:
    device, _ = await paired(gateway)
    gateway.owner.revoke(peer_id(public(device.identity)))
    assert (await device.until(PeerClosed)).reason is CloseReason.REVOKED
    assert gateway.snapshots.tunnels() == []
    again = Device(gateway, device.identity)
    assert (await again.until(PeerClosed)).reason is CloseReason.REVOKED
    with pytest.raises(NoSuchPeer):
        gateway.owner.revoke("nobody")


async def test_speed_limits_are_those_of_the_rules_whenever_they_change(gateway: Gateway) -> None:
    device, _ = await paired(gateway)
    (tunnel,) = gateway.snapshots.tunnels()

    def limits() -> tuple[int | None, int | None]:
        up, down = tunnel.nat_peer.paced_windows, tunnel.nat_peer.throttle_down
        return (
            None if up is None else up.throttle.bits,
            None if down is None else down.bits,
        )

    assert limits() == (None, None)
    one, other = Rules(limit_up=1_000_000, limit_down=20_000_000), Rules(limit_down=8_000)
    gateway.registry.set_rules(tunnel.public_key, one)
    assert limits() == (1_000_000, 20_000_000)
    gateway.registry.set_rules(public(key()), other)
    assert limits() == (1_000_000, 20_000_000), "those of another device"
    gateway.registry.set_rules(tunnel.public_key, other)
    assert limits() == (None, 8_000)
    device.leave()
    before = tunnel
    again = Device(gateway, device.identity)
    await again.until(LeaseGranted)
    await again.alive()
    (tunnel,) = gateway.snapshots.tunnels()
    assert tunnel is not before
    assert limits() == (None, 8_000), "of a new tunnel, too"
    gateway.registry.set_rules(tunnel.public_key, NO_RULES)
    assert limits() == (None, None)
    again.leave()


async def test_goodbye_gives_the_lease_up_at_once(gateway: Gateway) -> None:
    device, _ = await paired(gateway)
    device.session.close(CloseReason.DISCONNECTED, asyncio.get_running_loop().time())
    await device.flush()
    await settle(lambda: gateway.snapshots.tunnels() == [])


async def test_garbage_on_the_port_changes_nothing(gateway: Gateway) -> None:
    device, _ = await paired(gateway)
    port = port_of(gateway)
    for junk in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 4000, b"VSHP\xff" * 100, b"VSHP\x01"):
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(junk)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(junk, ("127.0.0.1", port))
    await asyncio.sleep(0.1)
    assert gateway.snapshots.status().connected == 1
    assert gateway.snapshots.requests() == []
    device.session.ping(asyncio.get_running_loop().time())
    device.session.writer.flush()
    await device.flush()
    assert gateway.snapshots.status().connected == 1


async def test_round_trips_are_measured_when_somebody_looks(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, _ = await paired(gateway)
    link = gateway.snapshots.tunnels()[0].link
    assert isinstance(link, SessionLink)
    asked: list[float] = []
    ping = link.session.ping

    def asks(now: float) -> None:
        asked.append(now)
        ping(now)

    monkeypatch.setattr(link.session, "ping", asks)
    await asyncio.sleep(0.1)
    assert gateway.snapshots.tunnels()[0].rtt is None and asked == [], "nobody looked"
    for _ in range(3):  # a console that looks again and again
        gateway.snapshots.ask_round_trips()
    until = asyncio.get_running_loop().time() + 5
    while gateway.snapshots.tunnels()[0].rtt is None and asyncio.get_running_loop().time() < until:
        await asyncio.sleep(0.02)
        await device.alive()  # reads the PING, which its session answers
    assert 0 < (gateway.snapshots.tunnels()[0].rtt or 0) < 5
    assert len(asked) == 1
    monkeypatch.setattr("gateway.snapshots.ROUND_TRIP_AGE", 0.0)
    gateway.snapshots.ask_round_trips()
    assert len(asked) == 2


async def test_trust_outlives_the_process() -> None:
    store = MemoryStore()
    first = Gateway(CONFIG, store)
    await first.start()
    device, lease = await paired(first)
    await first.stop()
    assert (await device.until(PeerClosed)).reason is CloseReason.SHUTDOWN
    second = Gateway(CONFIG, store)
    await second.start()
    try:
        assert second.public_key == first.public_key
        again = Device(second, device.identity)
        renewed = (await again.until(LeaseGranted)).lease
        assert (renewed.ipv4, renewed.ipv6) == (lease.ipv4, lease.ipv6)
    finally:
        await second.stop()
