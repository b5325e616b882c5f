"""The rules of reconnection as dialogues: states, verdicts, delays, order of endpoints."""

from __future__ import annotations

import pytest

from client.model import ClientState as S
from client.model import EndpointKind, TransportEndpoint
from client.reconnect import (
    BACKOFF_JITTER,
    BACKOFF_MAX,
    FIRST_ROUNDS,
    REASONS,
    TRANSITIONS,
    Backoff,
    Ending,
    IllegalStep,
    Step,
    after,
    in_order,
    judge,
    most_telling,
)
from vshp.config import CloseReason


def walk(*steps: Step) -> list[S]:
    states = [S.IDLE]
    for step in steps:
        states.append(after(states[-1], step))
    return states


def test_a_pairing_that_works_breaks_and_comes_back() -> None:
    assert walk(Step.CONNECT, Step.ASKED, Step.GRANTED, Step.BROKEN, Step.BROKEN, Step.GRANTED) == [
        S.IDLE,
        S.CONNECTING,
        S.WAITING,
        S.CONNECTED,
        S.RECONNECTING,
        S.RECONNECTING,
        S.CONNECTED,
    ]


def test_a_refusal_can_be_tried_again_by_the_user() -> None:
    assert walk(Step.CONNECT, Step.REFUSED, Step.CONNECT) == [
        S.IDLE,
        S.CONNECTING,
        S.FAILED,
        S.CONNECTING,
    ]


def test_a_link_that_breaks_while_waiting_asks_again() -> None:
    assert walk(Step.CONNECT, Step.ASKED, Step.BROKEN)[-1] is S.CONNECTING


def test_disconnecting_is_possible_in_every_state() -> None:
    assert set(TRANSITIONS) == set(S)
    for state in S:
        assert after(state, Step.DISCONNECT) is S.IDLE


@pytest.mark.parametrize(
    ("state", "step"),
    [
        (S.IDLE, Step.GRANTED),
        (S.IDLE, Step.BROKEN),
        (S.CONNECTED, Step.CONNECT),
        (S.CONNECTED, Step.ASKED),
        (S.FAILED, Step.GRANTED),
    ],
)
def test_an_illegal_step_raises(state: S, step: Step) -> None:
    with pytest.raises(IllegalStep):
        after(state, step)


def test_every_reason_a_gateway_may_give_has_a_rule() -> None:
    for reason in CloseReason:
        assert reason.value in REASONS, reason
        assert REASONS[reason.value].sentence.endswith((".", "?"))


@pytest.mark.parametrize("leased", [False, True])
@pytest.mark.parametrize("reason", ["denied", "revoked", "not_paired", "replaced"])
def test_what_the_gateway_says_under_its_key_is_final(reason: str, leased: bool) -> None:
    assert judge(Ending(reason), leased, 1).step is Step.REFUSED


@pytest.mark.parametrize("reason", ["revoked", "not_paired", "secret_used", "handshake_failed"])
def test_what_anybody_could_have_said_never_ends_a_session_that_worked(reason: str) -> None:
    said = Ending(reason, authenticated=False)
    assert judge(said, True, 1000).step is Step.BROKEN
    assert judge(said, False, 1).step is Step.REFUSED


@pytest.mark.parametrize("reason", ["unreachable", "link_dead", "shutdown", "busy", "frame_odd"])
def test_what_passes_is_retried_for_ever_after_a_lease_and_thrice_before(reason: str) -> None:
    assert judge(Ending(reason), True, 1000).step is Step.BROKEN
    assert judge(Ending(reason), False, FIRST_ROUNDS - 1).step is Step.BROKEN
    assert judge(Ending(reason), False, FIRST_ROUNDS).step is Step.REFUSED


def test_without_reconnection_a_break_is_the_end() -> None:
    assert judge(Ending("link_lost"), True, 1, may_retry=False).step is Step.REFUSED


def test_the_detail_follows_the_sentence() -> None:
    assert judge(Ending("busy", "try again in 30 s"), True, 1).sentence.endswith(
        "(try again in 30 s)"
    )


def test_delays_grow_to_a_bound_and_start_over() -> None:
    backoff = Backoff()
    middle = [backoff.next(0.5) for _ in range(10)]
    assert middle == [0, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64]
    assert [backoff.next(0.5) for _ in range(2)] == [BACKOFF_MAX] * 2
    for _ in range(5000):
        assert backoff.next(0.999) <= BACKOFF_MAX * (1 + BACKOFF_JITTER)
    backoff.reset()
    assert backoff.next(0.0) == 0
    assert backoff.next(0.0) == pytest.approx(0.25 * (1 - BACKOFF_JITTER))


def endpoint(
    host: str, kind: EndpointKind = EndpointKind.LAN, by: str = "tcp"
) -> TransportEndpoint:
    return TransportEndpoint(by, host, 47800, kind)


@pytest.mark.parametrize("luck", [0.0, 0.5, 0.999])
def test_after_a_minute_attempts_are_far_apart(luck: float) -> None:
    """By a clock that nobody waits for: each round is over at once, and wakes the machine."""
    backoff, now, attempts = Backoff(), 0.0, []
    while now < 600:
        now += backoff.next(luck)
        attempts.append((now, backoff.quiet))
    late = [quiet for at, quiet in attempts if at > 60]
    assert len(attempts) - len(late) < 12
    assert len(late) / (600 - 60) < 1 / 60
    # A pause that chance has stretched ends later than it began to be quiet.
    assert sum(late) >= len(late) - 1
    assert not any(quiet for at, quiet in attempts if at < 60 * (1 - BACKOFF_JITTER))


def test_on_other_networks_the_delays_begin_anew() -> None:
    backoff = Backoff()
    backoff.again()
    assert backoff.next(0.5) == 0, "the first attempt is made at once"
    delays = [backoff.next(0.5) for _ in range(9)]
    backoff.again()
    assert [backoff.next(0.5) for _ in range(9)] == delays


def test_endpoints_by_kind_then_as_they_came_each_once() -> None:
    hotspot = endpoint("10.0.0.1", EndpointKind.HOTSPOT)
    first, second = endpoint("10.0.0.2"), endpoint("10.0.0.3")
    usb = endpoint("127.0.0.1", EndpointKind.USB)
    udp = endpoint("10.0.0.2", by="udp")
    everything = (hotspot, first, second, first, udp, usb)
    assert in_order(everything) == (usb, first, second, udp, hotspot)
    assert in_order(everything, "udp") == (udp,)


def test_the_most_telling_failure_is_shown() -> None:
    unreachable = Ending("unreachable", authenticated=False)
    refused = Ending("secret_expired", authenticated=False)
    denied = Ending("denied")
    assert most_telling([]).reason == "unreachable"
    assert most_telling([unreachable, refused]) == refused
    assert most_telling([denied, refused, unreachable]) == denied


@pytest.mark.parametrize(
    "text",
    ["tcp:10.1.0.1:47800", "udp:[fd00::1]:1", "tcp:[fe80::1%eth0]:65535", "tcp:phone.lan:47800"],
)
def test_endpoints_as_text_and_back(text: str) -> None:
    assert str(TransportEndpoint.parse(text)) == text


@pytest.mark.parametrize("text", ["", "tcp:", "tcp:a host:1", "tcp:10.0.0.1:0", "x:10.0.0.1:1"])
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(Exception, match="is not TRANSPORT"):
        TransportEndpoint.parse(text)
