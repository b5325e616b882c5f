"""The desk, as dialogues: who may wait, who is turned away, and for how long."""

from __future__ import annotations

import pytest

from gateway.model import PairingRequest, Via
from gateway.pairing import (
    DENIAL_SECONDS,
    MAX_DENIAL_SECONDS,
    MAX_DENIALS,
    MAX_LAN_REQUESTS,
    MAX_PER_ADDRESS,
    MAX_QR_REQUESTS,
    MAX_UNDONE,
    REQUEST_SECONDS,
    NoSuchRequest,
    PairingDesk,
    RequestRefused,
)


def key(n: int) -> bytes:
    return n.to_bytes(32, "big")


def ask(
    desk: PairingDesk, n: int, now: float = 0.0, via: Via = Via.LAN, address: str = ""
) -> PairingRequest:
    return desk.submit(key(n), f"device {n}", "linux", via, address or f"10.0.0.{n}", None, now)


def test_a_request_waits_until_it_expires() -> None:
    desk = PairingDesk()
    request = ask(desk, 1, now=5.0)
    assert desk.waiting() == [request]
    assert desk.get_timer() == 5.0 + REQUEST_SECONDS
    assert desk.expire(5.0 + REQUEST_SECONDS - 0.1) == []
    assert desk.expire(5.0 + REQUEST_SECONDS) == [request]
    assert len(desk) == 0


def test_asking_again_keeps_the_place_and_the_id() -> None:
    desk = PairingDesk()
    first = ask(desk, 1)
    ask(desk, 2)
    again = desk.submit(key(1), "renamed", "linux", Via.LAN, "10.0.0.9", "123456", 50.0)
    assert (again.id, again.created, again.expires) == (first.id, first.created, first.expires)
    assert [r.label for r in desk.waiting()] == ["renamed", "device 2"]


def test_a_flood_from_many_addresses_pushes_nobody_out() -> None:
    desk = PairingDesk()
    genuine = ask(desk, 1)
    refused = 0
    for n in range(2, 500):
        try:
            ask(desk, n)
        except RequestRefused as error:
            assert error.reason == "desk_full"
            refused += 1
    assert refused == 498 - (MAX_LAN_REQUESTS - 1)
    assert genuine in desk.waiting()
    scanned = ask(desk, 1000, via=Via.QR)
    assert scanned in desk.waiting()


def test_one_address_has_few_places() -> None:
    desk = PairingDesk()
    for n in range(MAX_PER_ADDRESS):
        ask(desk, n, address="10.0.0.1")
    with pytest.raises(RequestRefused, match="desk_full"):
        ask(desk, 99, address="10.0.0.1")
    ask(desk, 100, address="10.0.0.2")


def test_one_machine_is_one_neighbour_however_many_ipv6_addresses_it_has() -> None:
    desk = PairingDesk()
    for n in range(MAX_PER_ADDRESS):
        ask(desk, n, address=f"2001:db8:1:2::{n + 1:x}")
    with pytest.raises(RequestRefused, match="desk_full"):
        ask(desk, 99, address="2001:db8:1:2:dead:beef:0:1%eth0")
    ask(desk, 100, address="2001:db8:1:3::1")
    desk.deny(ask(desk, 101, address="fd00::1").id, 0.0)
    with pytest.raises(RequestRefused, match="denied_recently"):
        ask(desk, 102, address="fd00::ffff")


def test_a_denial_is_taken_back_with_all_that_it_did() -> None:
    desk = PairingDesk()
    mine = ask(desk, 1, address="10.0.0.7")
    desk.deny(mine.id, 0.0)
    with pytest.raises(RequestRefused, match="denied_recently"):
        ask(desk, 2, 1.0, address="10.0.0.7")
    assert desk.undeny(None, 2.0) == mine
    ask(desk, 2, 2.0, address="10.0.0.7")
    again = ask(desk, 1, 2.0, address="10.0.0.7")
    with pytest.raises(NoSuchRequest):
        desk.undeny(None, 2.0)
    # As if it had not been: the next denial counts as the first.
    desk.deny(again.id, 3.0)
    ask(desk, 1, 3.0 + DENIAL_SECONDS, address="10.0.0.7")


def test_what_was_denied_since_stays_denied() -> None:
    desk = PairingDesk()
    mine, other = ask(desk, 1, address="10.0.0.7"), ask(desk, 2, address="10.0.0.7")
    desk.deny(mine.id, 0.0)
    desk.deny(other.id, 1.0)
    assert desk.undeny(mine.id, 2.0) == mine
    for number in (1, 2):
        with pytest.raises(RequestRefused, match="denied_recently"):
            ask(desk, number, 2.0, address="10.0.0.7")
    assert desk.undeny(None, 2.0) == other
    with pytest.raises(NoSuchRequest):
        desk.undeny("", 1e9)


def test_denials_that_can_be_taken_back_are_few_and_name_one() -> None:
    desk = PairingDesk()
    requests = [ask(desk, n, address=f"10.0.{n}.1") for n in range(MAX_UNDONE + 4)]
    for request in requests:
        desk.deny(request.id, 0.0)
    for request in requests[:4]:
        with pytest.raises(NoSuchRequest):
            desk.undeny(request.id, 1.0)
    with pytest.raises(NoSuchRequest):
        desk.undeny("", 1.0)
    assert [desk.undeny(None, 1.0) for _ in range(MAX_UNDONE)] == requests[:3:-1]


def crowd(desk: PairingDesk, now: float, each: int = 2) -> list[PairingRequest]:
    """A machine with many addresses fills the desk."""
    return [
        ask(desk, 1000 + n + int(now), now, address=f"10.0.0.{100 + n // each}")
        for n in range(MAX_LAN_REQUESTS)
    ]


def test_who_holds_several_places_makes_room_for_a_newcomer() -> None:
    desk = PairingDesk()
    strangers = crowd(desk, 0.0)
    newcomer = ask(desk, 1, address="10.0.0.1")
    assert newcomer in desk.waiting() and len(desk) == MAX_LAN_REQUESTS
    (gone,) = desk.given_way()
    assert gone == strangers[-1] and desk.given_way() == []
    with pytest.raises(RequestRefused):
        ask(desk, 2, address="10.0.0.100")


def test_places_cannot_be_held_by_renewing() -> None:
    desk = PairingDesk()
    for turn in range(3):
        crowd(desk, turn * REQUEST_SECONDS, each=1)
    for n in range(8):
        newcomer = ask(desk, n, 2 * REQUEST_SECONDS + 1, address=f"10.0.0.{n}")
        assert newcomer in desk.waiting()
    assert len(desk.given_way()) == 8 and len(desk) == MAX_LAN_REQUESTS


def test_who_is_here_for_the_first_time_is_not_pushed_out() -> None:
    desk = PairingDesk()
    waiting = crowd(desk, 0.0, each=1)
    with pytest.raises(RequestRefused, match="desk_full"):
        ask(desk, 1, address="10.0.0.1")
    assert desk.waiting() == waiting


def test_the_owner_finds_a_request_by_the_digits_of_the_device_he_looks_at() -> None:
    desk = PairingDesk()
    crowd(desk, 0.0)
    mine = desk.submit(key(1), "mine", "linux", Via.LAN, "10.0.0.1", "004711", 0.0)
    assert desk.find("004711") == desk.find("004 711") == mine
    with pytest.raises(NoSuchRequest):
        desk.find("004712")
    desk.submit(key(2), "mine, too", "linux", Via.LAN, "10.0.0.2", "004711", 0.0)
    with pytest.raises(NoSuchRequest):
        desk.approve("004711")


def test_cables_are_counted_with_each_other_and_not_with_who_was_denied() -> None:
    """Every cable's stream comes from the machine's own address, as adb's does."""
    desk = PairingDesk()
    for n in range(MAX_PER_ADDRESS):
        ask(desk, n, address="127.0.0.1")
    first = ask(desk, 10, via=Via.USB, address="127.0.0.1")
    desk.deny(first.id, 0.0)
    with pytest.raises(RequestRefused, match="denied_recently"):
        ask(desk, 10, now=1.0, via=Via.USB, address="127.0.0.1")
    desk.deny(ask(desk, 11, now=1.0, via=Via.USB, address="127.0.0.1").id, 1.0)
    assert ask(desk, 12, now=2.0, via=Via.USB, address="127.0.0.1") in desk.waiting()


def test_qr_requests_are_bounded_too() -> None:
    desk = PairingDesk()
    for n in range(MAX_QR_REQUESTS):
        ask(desk, n, via=Via.QR)
    with pytest.raises(RequestRefused) as refused:
        ask(desk, 99, now=20.0, via=Via.QR)
    assert refused.value.retry_in == REQUEST_SECONDS - 20.0


def test_denials_back_off_and_double() -> None:
    desk = PairingDesk()
    now = 0.0
    wait = DENIAL_SECONDS
    for _ in range(10):
        desk.deny(ask(desk, 1, now).id, now)
        with pytest.raises(RequestRefused) as refused:
            ask(desk, 1, now + wait - 1)
        assert refused.value.reason == "denied_recently"
        assert refused.value.retry_in == pytest.approx(1.0)
        now += wait
        wait = min(wait * 2, MAX_DENIAL_SECONDS)


def test_a_denied_lan_address_is_kept_away_under_new_keys_but_may_scan() -> None:
    desk = PairingDesk()
    desk.deny(ask(desk, 1, address="10.0.0.7").id, 0.0)
    with pytest.raises(RequestRefused, match="denied_recently"):
        ask(desk, 2, now=1.0, address="10.0.0.7")
    assert ask(desk, 2, now=1.0, via=Via.QR, address="10.0.0.7") in desk.waiting()


def test_denials_remembered_are_bounded() -> None:
    desk = PairingDesk()
    for n in range(MAX_DENIALS * 2):
        desk.deny(ask(desk, n, via=Via.QR).id, 0.0)
    assert len(desk._denials) == MAX_DENIALS


def test_ids_may_be_shortened_but_must_be_unique() -> None:
    desk = PairingDesk()
    request = ask(desk, 1)
    assert desk.find(request.id[:4]) == request
    with pytest.raises(NoSuchRequest):
        desk.find("")
    with pytest.raises(NoSuchRequest):
        desk.approve("zzz")
    assert desk.approve(request.id) == request
    with pytest.raises(NoSuchRequest):
        desk.approve(request.id)


def test_a_device_that_gives_up_frees_its_place() -> None:
    desk = PairingDesk()
    ask(desk, 1)
    desk.withdraw(key(1), 0.0)
    desk.withdraw(key(2), 0.0)
    assert desk.waiting() == []
