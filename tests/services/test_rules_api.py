"""Rules and templates through the control API: judged as a whole, or all stays as it was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from control.errors import Code, ControlError
from control.methods import (
    ApproveParams,
    EventsParams,
    IdParams,
    NoParams,
    SetParams,
    SetRulesParams,
    SetTemplateParams,
)
from control.schema import Finding
from eventloop.clock import SYSTEM
from gateway.enforced import ENFORCED
from gateway.gateway import Gateway
from gateway.model import MemoryStore, PeerDevice
from gateway.peers import PeerRegistry
from rules.encoding import FIELDS
from rules.value import NO_RULES, Quota, Rules
from services.config import load
from services.doctor.doctor import Doctor
from services.events import EventBook
from services.gateway_api import GatewayApi
from services.logs import Ring
from services.rules_api import RulesApi
from services.settings import Settings
from services.wake import WakeLock
from tests.fakes.waiting import settle
from tests.gateway.devices import CONFIG, Device, key, offer
from vshp.events import ApprovalPending, LeaseGranted


@dataclass
class Meter:
    """A tunnel, as far as the books are concerned."""

    from_tunnel_bytes: int
    to_tunnel_bytes: int


class Place:
    """Everything is enforced here, whatever this gateway carries out."""

    def __init__(self, folder: Path) -> None:
        self.registry = PeerRegistry(MemoryStore(), SYSTEM)
        self.settings = Settings("gateway", folder / "config.toml", load(folder / "config.toml"))
        self.api = RulesApi(self.registry, self.settings, SYSTEM)
        self.api.enforced = frozenset(FIELDS)
        self.tablet = self.registry.approve(b"t" * 32, "tablet", "android")

    def set(self, *, template: str | None = None, clear: bool = False, **change: object) -> Rules:
        return self.change(change, template, clear)

    def change(
        self, change: dict[str, object], template: str | None = None, clear: bool = False
    ) -> Rules:
        key = self.tablet.public_key
        params = SetRulesParams("tablet", change, template, clear)
        self.registry.set_rules(key, self.api.judged(key, params))
        return self.registry.rules(key)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    yield Place(tmp_path)


def refused(name: str, code: Code = Code.INVALID_PARAMS) -> pytest.RaisesExc[ControlError]:
    return pytest.raises(ControlError, check=lambda error: (error.code, error.name) == (code, name))


def test_a_quota_that_is_used_up_already_is_refused(place: Place) -> None:
    key = place.tablet.public_key
    meter = Meter(3_456_789, 7_000_000)
    place.registry.books.open(key, meter)
    with refused("quota_used_up") as caught:
        place.set(quota="10MB/day", limit_down="20mbit")
    assert str(caught.value) == (
        "It has used 10.4MB in that time already, and 10MB/day is no more: "
        "give it more, or pause it."
    )
    assert place.registry.rules(key) == NO_RULES
    place.set(quota="8MB/day down")
    with refused("quota_used_up"):
        place.set(quota="3MB/day up")
    # Others of its rules may change when it is used up by and by.
    meter.to_tunnel_bytes = 9_000_000
    assert place.set(paused=True).paused


def test_a_change_is_made_and_shown(place: Place) -> None:
    assert place.api.show(place.tablet).rules == {}
    place.set(quota="1GB/day", limit_down="20mbit")
    shown = place.api.show(place.tablet)
    assert shown.rules == {"quota": "1GB/day", "limit_down": 20_000_000}
    assert shown.line == place.api.line(b"t" * 32) == "1GB/day; down 20mbit"
    assert shown.texts == {"quota": "1GB/day", "limit_down": "20mbit"}
    assert place.set(limit_down=None) == Rules(quota=Quota(10**9))
    assert place.set(clear=True, max_flows=5) == Rules(max_flows=5)
    assert place.set(clear=True) == NO_RULES


def test_what_is_refused_changes_nothing(place: Place) -> None:
    place.set(quota="1GB/day")
    with refused("hours_overlap"):
        place.set(limit_down="5mbit", hours=["mon", "mon 07:00-08:00"], clear=True)
    assert place.registry.rules(b"t" * 32) == Rules(quota=Quota(10**9))


def test_what_nothing_carries_out_is_refused_with_a_sentence(place: Place) -> None:
    change = {
        "quota": "1GB", "limit_up": "1mbit", "limit_down": "1mbit", "until": "18:00",
        "hours": "mon", "paused": True, "destinations": ["deny udp"], "max_flows": 5,
    }  # fmt: skip
    assert change.keys() == set(FIELDS) and set(FIELDS) >= ENFORCED
    for field, value in change.items():
        place.api.enforced = frozenset(FIELDS) - {field}
        with refused("rule_not_enforced") as refusal:
            place.change({field: value})
        assert "are not carried out by this gateway" in refusal.value.message
        assert place.change({field: None}) == NO_RULES, "what is taken away needs nobody"
    place.api.enforced = frozenset()
    assert all(each.reason for each in place.api.templates())


def test_a_template_is_in_place_of_what_is_there_and_a_change_goes_before_it(place: Place) -> None:
    place.set(max_flows=7)
    now = time.time()
    rules = place.set(template="guest", quota="500MB/day")
    assert rules.quota == Quota(500_000_000) and rules.max_flows is None
    assert rules.until is not None and 86_000 < rules.until - now < 87_000
    brief = place.set(template="guest", until=now + 60)
    assert brief.until == now + 60, "one end goes before the other"
    assert place.set(template="family").until is None
    with refused("template_unknown", Code.NOT_FOUND) as refusal:
        place.set(template="gone")
    assert "there is family, guest" in refusal.value.message


def test_an_approval_has_the_rules_that_come_with_it_or_those_of_before(place: Place) -> None:
    place.set(max_flows=7)
    assert place.api.approving(b"t" * 32, ApproveParams("r1")) is None
    given = place.api.approving(b"t" * 32, ApproveParams("r1", change={"quota": "1GB/day"}))
    assert given == Rules(quota=Quota(10**9)), "and not those of before"
    with refused("length_zero"):
        place.api.approving(b"n" * 32, ApproveParams("r1", change={"for": "0h"}))


def test_templates_are_settings_and_shipped_ones_come_back(place: Place) -> None:
    assert [(each.name, each.shipped) for each in place.api.templates()] == [
        ("family", True), ("guest", True),
    ]  # fmt: skip
    place.api.set_template(SetTemplateParams("guest", {"for": "2h"}))
    found = place.api.set_template(SetTemplateParams("child", {"hours": ["07:00-20:00"]}))
    assert [(each.name, each.shipped, each.line) for each in found if not each.shipped] == [
        ("child", False, "mon-sun 07:00-20:00"), ("guest", False, "for 2h"),
    ]  # fmt: skip
    place.settings._ledger.flush()
    kept = load(place.settings._path)["gateway", "templates"]
    assert kept == {"guest": {"for": "2h"}, "child": {"hours": ["07:00-20:00"]}}
    for name in ("guest", "child"):
        place.api.set_template(SetTemplateParams(name))
    assert all(each.shipped for each in place.api.templates())
    with refused("template_unknown", Code.NOT_FOUND):
        place.api.set_template(SetTemplateParams("guest"))
    with refused("template_name"):
        place.api.set_template(SetTemplateParams("My guest", {"for": "2h"}))


def test_a_template_of_the_file_is_a_table_and_is_checked_like_a_rule(place: Place) -> None:
    with pytest.raises(ControlError, match="is no size"):
        place.settings.set(SetParams("gateway.templates", {"guest": {"quota": "much"}}))
    text = '{"visit": {"for": "1h", "max_flows": 50}}'
    assert place.settings.set(SetParams("gateway.templates", text)).value == {
        "visit": {"for": "1h", "max_flows": 50}
    }
    many = {f"t{number}": {"for": "1h"} for number in range(33)}
    with pytest.raises(ControlError, match="at most 32"):
        place.settings.set(SetParams("gateway.templates", many))


def test_every_shipped_template_is_carried_out(place: Place) -> None:
    place.api.enforced = ENFORCED
    assert [each.reason for each in place.api.templates()] == ["", ""]
    assert place.set(template="guest").destinations != ()


async def test_a_device_has_its_rules_from_its_first_packet(place: Place) -> None:
    book = EventBook(None, "gateway")
    gateway = Gateway(CONFIG, MemoryStore(), book.note)
    await gateway.start()
    api = GatewayApi(
        gateway, Ring(), lambda: None, place.settings, WakeLock(False), Doctor(nobody_is_ill),
        events=book,
    )  # fmt: skip
    device = Device(gateway, key(), secret=offer(gateway))
    await device.until(ApprovalPending)
    (request,) = gateway.snapshots.requests()
    with refused("hours_overlap"):
        api.approve(ApproveParams(request.id, change={"hours": ["mon", "mon"]}))
    assert gateway.snapshots.requests() == [request] and gateway.snapshots.peers() == []
    with pytest.raises(ControlError, match="No request"):
        api.approve(ApproveParams("nobody", change={"max_flows": 5}))
    api.approve(ApproveParams(request.id, "guest", {"limit_down": "1mbit"}))
    await device.until(LeaseGranted)
    await device.flush()
    await settle(lambda: gateway.snapshots.status().connected)
    (tunnel,) = gateway.snapshots.tunnels()
    rules = gateway.registry.rules(request.public_key)
    assert rules.limit_down == 1_000_000 and rules.limit_up == 5_000_000
    throttle = tunnel.nat_peer.throttle_down
    assert throttle is not None and throttle.bits == 1_000_000
    (shown,) = api.peers(NoParams())
    assert (shown.gate, shown.shut_out) == ("open", "")
    tunnel.nat_peer.from_tunnel_bytes += 10_000
    (shown,), (lease,) = api.peers(NoParams()), api.leases(NoParams())
    used = shown.from_tunnel_bytes + shown.to_tunnel_bytes
    assert shown.quota_left == lease.quota_left == 2 * 10**9 - used and used >= 10_000
    assert shown.rules == api.rules(IdParams(shown.id)).line and "down 1mbit" in shown.rules
    changed = api.set_rules(SetRulesParams(shown.id, clear=True))
    assert (changed.rules, changed.line) == ({}, "") and tunnel.nat_peer.throttle_down is None
    with pytest.raises(ControlError, match="No device"):
        api.set_rules(SetRulesParams("nobody", {"max_flows": 5}))
    told = [each for each in book.page(EventsParams()).events if each.kind == "rules_changed"]
    assert [(each.device, each.level) for each in told] == [(shown.id, "info")] * 2
    assert shown.rules in told[0].text and "everything" in told[1].text
    # Also while it is away: what is left of its quota, and that it may not come.
    api.set_rules(SetRulesParams(shown.id, {"quota": "1GB/total", "paused": True}))
    api.revoke(IdParams(shown.id))
    (shown,) = api.peers(NoParams())
    assert not shown.connected and (shown.gate, shown.shut_out) == (
        "paused", "is paused by the owner",
    )  # fmt: skip
    assert shown.quota_left == 10**9 - shown.from_tunnel_bytes - shown.to_tunnel_bytes
    device.leave()
    await gateway.stop()


async def nobody_is_ill() -> list[Finding]:
    return []


def test_a_device_that_is_shown_is_named(place: Place) -> None:
    tv = PeerDevice(b"v" * 32, "TV", "linux", 0.0, 0.0)
    shown = place.api.show(tv)
    assert (shown.id, shown.label, shown.line) == (tv.id, "TV", "")
