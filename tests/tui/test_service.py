"""What the console knows of one service, as it comes, goes and tells; without a screen."""

from __future__ import annotations

from dataclasses import replace

from control.errors import ServiceUnavailable
from control.events import KINDS
from control.methods import Hello, Permission
from control.schema import Event, EventPage
from tests.fakes.services import IDLE_CLIENT, PretendGateway, request
from tui.link import Control
from tui.service import MAX_SAID, Service
from tui.store import LinkState
from tui.undo import UNDO_SECONDS, Undo
from tui.waiting import SHOWN_BEFORE_APPROVAL

HELLO = Hello(1, "1.2.3", "gateway", 4711, Permission.WRITE.value)


async def nobody() -> Control:
    raise ServiceUnavailable("The service is not there.", "")


def service(role: str = "gateway") -> Service:
    made = Service(role, nobody)
    made.live(HELLO)
    return made


def undo(done: str, until: float) -> Undo:
    return Undo(done, "share", "Sharing is on.", {}, until)


def test_it_is_lost_since_the_first_attempt_that_failed() -> None:
    shown = service()
    shown.store.remembers = True
    shown.lost("gone\x1b[2J" + "x" * 400, "start it", 10.0)
    shown.lost("gone", "start it", 15.0)
    link = shown.store.link
    assert (link.state, link.since, link.hint) == (LinkState.LOST, 10.0, "start it")
    assert not shown.store.remembers
    shown.lost("\x1b[2J" + "x" * 400, "", 16.0)
    assert "\x1b" not in link.message and len(link.message) <= MAX_SAID
    shown.live(HELLO)
    assert (link.state, link.message, link.hint) == (LinkState.LIVE, "", "")
    assert (link.version, link.read_only) == ("1.2.3", False)
    shown.lost("gone", "", 20.0)
    assert link.since == 20.0


def test_who_may_only_look_is_known_by_the_hello() -> None:
    shown = Service("gateway", nobody)
    shown.live(Hello(1, "1.2.3", "gateway", 4711, Permission.READ.value))
    assert shown.store.link.read_only


def test_a_new_request_is_told_once_and_may_be_approved_after_a_moment() -> None:
    shown = service()
    waits = [request()]
    assert shown.put("requests", waits, 5.0, 0.0)
    assert not shown.put("requests", waits, 6.0, 0.0)
    assert not shown.put("status", None, 6.0, 0.0)
    assert shown.waiting.approvable(5.0) is None
    assert shown.waiting.approvable(5.0 + SHOWN_BEFORE_APPROVAL) == waits[0]


def test_a_change_can_be_taken_back_once_for_a_while() -> None:
    shown = service()
    shown.offer_undo(undo("first", UNDO_SECONDS))
    shown.offer_undo(undo("second", UNDO_SECONDS))
    assert not shown.drop_undo(UNDO_SECONDS - 1)
    taken = shown.take_undo(UNDO_SECONDS - 1)
    assert taken is not None and taken.done == "second"
    assert shown.take_undo(UNDO_SECONDS - 1) is None
    shown.offer_undo(undo("third", UNDO_SECONDS))
    assert shown.undo(UNDO_SECONDS) is None
    assert shown.drop_undo(UNDO_SECONDS)
    assert not shown.drop_undo(UNDO_SECONDS), "it is gone"


def test_nothing_is_taken_back_and_no_banner_stands_while_it_is_lost() -> None:
    shown = service()
    alarm = Event(1, 0.0, 0.0, "alarm", KINDS["alarm"].level, "an alarm", "", "")
    shown.put("events", EventPage([], 0, 0), 0.0, 0.0)
    shown.put("events", EventPage([alarm], 1, 0), 0.0, 0.0)
    shown.offer_undo(undo("it", UNDO_SECONDS))
    assert [each.event for each in shown.banners(5.0)] == [alarm]
    shown.lost("gone", "", 5.0)
    assert shown.undo(5.0) is None and shown.take_undo(5.0) is None
    assert shown.banners(5.0) == [] and not shown.hide_banner(5.0)
    shown.live(HELLO)
    assert shown.undo(5.0) is not None, "it was not taken meanwhile"
    assert shown.hide_banner(5.0)
    assert shown.banners(5.0) == []


def test_a_vpn_that_is_back_needs_no_event_to_end_its_banner() -> None:
    shown = service()
    lost = Event(1, 0.0, 0.0, "vpn_lost", KINDS["vpn_lost"].level, "lost", "", "")
    shown.put("events", EventPage([], 0, 0), 0.0, 0.0)
    shown.put("events", EventPage([lost], 1, 0), 0.0, 0.0)
    assert [each.event for each in shown.banners(9.0)] == [lost]
    gateway = PretendGateway()
    assert gateway.status.vpn.state == "active"
    shown.put("status", gateway.status, 9.0, 0.0)
    assert shown.banners(9.0) == []


def test_the_digits_wait_while_the_client_asks() -> None:
    shown = service("client")
    assert shown.shown_code is None
    for state, digits in (("asked", "483920"), ("waiting", None), ("connected", None)):
        status = replace(IDLE_CLIENT, state=state, code="483920")
        shown.put("status", status, 0.0, 0.0)
        assert shown.shown_code == digits
