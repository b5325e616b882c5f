"""Our bytes against the interface's: when it is an alarm and when it is not."""

from __future__ import annotations

from gateway.vpn.egress import ALARM_RECEIVED, ALARM_SENT, EgressMeter, Totals

MB = 1 << 20


def run(meter: EgressMeter, *looks: Totals, generation: int = 0) -> tuple[str, ...]:
    for totals in looks:
        meter.observe(totals, generation)
    return meter.alarms


def test_others_may_use_the_vpn_too() -> None:
    meter = EgressMeter()
    assert run(meter, Totals(5 * MB, 9 * MB, 0, 0), Totals(90 * MB, 90 * MB, 10 * MB, 9 * MB)) == ()
    assert (meter.interface_sent, meter.stream_sent) == (85 * MB, 10 * MB)


def test_bytes_that_wait_in_buffers_have_not_left() -> None:
    first, later = Totals(0, 0, 0, 0), Totals(1 * MB, 0, 5 * MB, 0, unsent=4 * MB)
    assert run(EgressMeter(), first, *[later] * 9) == ()


def test_bytes_sent_that_the_vpn_never_saw() -> None:
    later = Totals(1 * MB, 0, 5 * MB, 0)
    meter = EgressMeter()
    assert run(meter, Totals(0, 0, 0, 0), later, later) == ()
    assert run(meter, later) == (ALARM_SENT,)


def test_bytes_received_that_the_vpn_never_saw() -> None:
    assert run(EgressMeter(), Totals(0, 0, 0, 0), *[Totals(0, 1 * MB, 0, 3 * MB)] * 3) == (
        ALARM_RECEIVED,
    )


def test_a_disagreement_that_passes_is_none() -> None:
    bad, good = Totals(0, 0, 0, 3 * MB), Totals(0, 3 * MB, 0, 3 * MB)
    assert run(EgressMeter(), Totals(0, 0, 0, 0), bad, bad, good, bad, bad, good) == ()


def test_another_vpn_begins_at_its_own_counters() -> None:
    meter = EgressMeter()
    run(meter, Totals(90 * MB, 90 * MB, 10 * MB, 10 * MB))
    assert run(meter, *[Totals(0, 0, 20 * MB, 20 * MB)] * 5, generation=1) == ()
    assert run(meter, *[Totals(0, 0, 20 * MB, 30 * MB)] * 3, generation=1) == (ALARM_RECEIVED,)


def test_an_alarm_stands_until_it_is_seen() -> None:
    meter = EgressMeter()
    run(meter, Totals(0, 0, 0, 0), *[Totals(0, 0, 0, 3 * MB)] * 3)
    fine = Totals(9 * MB, 9 * MB, 0, 3 * MB)
    assert run(meter, fine) == (ALARM_RECEIVED,)
    meter.acknowledge()
    assert run(meter, fine, fine) == ()
