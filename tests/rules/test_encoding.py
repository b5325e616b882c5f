"""Rules are kept as JSON, changed field by field, and judged when they are given."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.encoding import FIELDS, Moment, changed, from_json, named_in, to_json
from rules.spelling import RuleRefused, read_destination
from rules.value import MAX_DESTINATIONS, NO_RULES, Quota, Rules
from tests.rules import values

UNIX = datetime(2026, 11, 27, 18, 0, tzinfo=UTC).timestamp()
"""A Friday."""


def local_of(unix: float) -> datetime:
    """UTC, but for an hour of 28 March 2027, which is left out: clocks are set forward at 2."""
    shown = datetime.fromtimestamp(unix, UTC).replace(tzinfo=None)
    return shown if shown < SUMMER else shown + timedelta(hours=1)


def unix_of(local: datetime) -> float:
    shown = local if local < SUMMER else local - timedelta(hours=1)
    return shown.replace(tzinfo=UTC).timestamp()


SUMMER = datetime.fromisoformat("2027-03-28 02:00")
MOMENT = Moment(UNIX, local_of, unix_of)


def refused(name: str) -> pytest.RaisesExc[RuleRefused]:
    return pytest.raises(RuleRefused, check=lambda error: error.name == name and " " in str(error))


@given(values.rules)
def test_rules_come_back_from_json_as_they_went(rules: Rules) -> None:
    assert from_json(json.loads(json.dumps(to_json(rules)))) == rules


def test_no_rules_are_an_empty_object() -> None:
    assert to_json(NO_RULES) == {}
    assert from_json({}) == NO_RULES


def test_a_change_sets_what_it_names_and_leaves_the_rest() -> None:
    rules = changed(NO_RULES, {"quota": "1GB/day", "limit_down": "20mbit"}, MOMENT)
    assert rules == Rules(quota=Quota(10**9), limit_down=20_000_000)
    more = changed(rules, {"limit_down": None, "max_flows": "40", "paused": True}, MOMENT)
    assert more == Rules(quota=Quota(10**9), max_flows=40, paused=True)
    assert changed(more, dict.fromkeys(FIELDS), MOMENT) == NO_RULES


def test_a_length_counts_from_now_and_a_time_is_local() -> None:
    assert changed(NO_RULES, {"for": "2h"}, MOMENT).until == UNIX + 7200
    assert changed(NO_RULES, {"until": "20:00"}, MOMENT).until == UNIX + 7200
    assert changed(NO_RULES, {"until": UNIX + 5}, MOMENT).until == UNIX + 5
    summer = changed(NO_RULES, {"until": "2027-03-28 03:30"}, MOMENT).until
    assert summer == datetime(2027, 3, 28, 2, 30, tzinfo=UTC).timestamp()


def test_hours_may_be_one_text() -> None:
    change = {"hours": "mon-fri 07:00-21:00; sat 09:00-22:00"}
    assert to_json(changed(NO_RULES, change, MOMENT)) == {
        "hours": ["mon-fri 07:00-21:00", "sat 09:00-22:00"]
    }


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ([], "rules_unreadable"),
        ({"quotas": "1GB"}, "rule_unknown"),
        ({"quota": 5}, "rules_unreadable"),
        ({"limit_up": True}, "rules_unreadable"),
        ({"limit_up": 10}, "limit_too_low"),
        ({"until": "18:00", "for": "2h"}, "two_ends"),
        ({"until": UNIX}, "end_in_past"),
        ({"until": "2026-11-27 17:59"}, "end_in_past"),
        ({"until": "2126-11-27 17:59"}, "end_too_far"),
        ({"until": float("nan")}, "time_unreadable"),
        ({"until": "2027-03-28 02:30"}, "time_skipped"),
        ({"hours": ["mon 07:00-09:00", "mon-tue 08:59-10:00"]}, "hours_overlap"),
        ({"hours": ["sun 22:00-06:00", "mon 05:00-07:00"]}, "hours_overlap"),
        ({"hours": ["mon-sun 06:00-18:00", "18:00-06:00"]}, "hours_never_apply"),
        ({"hours": ["sat"], "for": "2h"}, "hours_after_end"),
        ({"hours": [1]}, "rules_unreadable"),
        ({"hours": {"mon": 1}}, "rules_unreadable"),
        ({"hours": ["mon 00:00-00:01"] * 65}, "too_many_hours"),
        ({"paused": "yes"}, "rules_unreadable"),
        ({"max_flows": 0}, "flows_refused_always"),
        ({"max_flows": 70_000}, "flows_never_apply"),
        ({"max_flows": 1.5}, "rules_unreadable"),
        ({"destinations": ["deny all"]}, "destinations_refuse_always"),
        ({"destinations": ["allow tcp 443"]}, "destination_never_applies"),
        ({"destinations": ["allow tcp 443", "deny x.example"]}, "destination_never_applies"),
        ({"destinations": ["allow x.example", "allow tcp 443", "deny all"]},
         "destination_never_applies"),
        ({"destinations": ["deny name *", "deny x.example"]}, "destination_never_applies"),
        ({"destinations": ["deny x.example", "deny all"]}, "destinations_refuse_always"),
        ({"destinations": ["deny tcp", "allow tcp 443", "deny udp"]}, "destination_never_applies"),
        ({"destinations": ["deny 10.0.0.0/8", "allow 10.1.0.0/16 tcp", "deny udp"]},
         "destination_never_applies"),
        ({"destinations": ["deny example", "deny x.example"]}, "destination_unreadable"),
        ({"destinations": ["deny name example", "deny x.example"]}, "destination_never_applies"),
        ({"destinations": ["allow tcp 443", "deny all", "deny set mail"]},
         "destination_never_applies"),
        ({"destinations": ["deny tcp 1-600", "deny set mail"]}, "destination_never_applies"),
        ({"destinations": ["deny tcp 25", "deny tcp 25"]}, "destination_never_applies"),
        ({"destinations": ["deny port 25", "deny udp 25"]}, "destination_never_applies"),
        ({"destinations": ["deny 10.0.0.0/8 port 25", "deny 10.1.0.0/16 tcp 25"]},
         "destination_never_applies"),
        ({"destinations": ["deny name *", "deny name x.example"]}, "destination_never_applies"),
        ({"destinations": ["allow name x.example", "deny all"]}, "destination_never_applies"),
        ({"destinations": ["deny name y.example", "allow name x.example", "deny tcp 25"]},
         "destination_never_applies"),
        ({"destinations": [f"deny tcp {port}" for port in range(1, 1002)]},
         "too_many_destinations"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(change: object, name: str) -> None:
    with refused(name):
        changed(NO_RULES, change, MOMENT)


@pytest.mark.parametrize(
    "change",
    [
        {"hours": ["mon 07:00-09:00", "mon 09:00-10:00"]},
        {"hours": ["fri 18:30-19:00"], "for": "31min"},
        {"hours": ["thu 20:00-19:00"], "for": "10min"},
        {"destinations": ["allow tcp 443", "deny all"]},
        {"destinations": ["deny 10.1.0.0/16", "deny 10.0.0.0/8"]},
        {"destinations": ["deny udp 25", "deny port 25"]},
        {"destinations": ["deny tcp 25", "deny tcp 25,26"]},
        {"destinations": ["deny 10.1.0.0/16 tcp 25", "deny 10.0.0.0/8 tcp 25", "deny tcp 25"]},
        {"destinations": ["deny 10.0.0.0/8 tcp", "allow 10.1.0.0/16", "deny udp"]},
        {"destinations": ["allow 10.0.0.0/8", "allow ok.example", "deny name *", "deny all"]},
        {"destinations": ["allow 10.0.0.0/8", "deny all", "deny name x.example"]},
        {"destinations": ["allow 10.0.0.0/8", "deny all", "deny ads.example"]},
        {"destinations": ["allow ok.example", "deny name *", "allow tcp 443", "deny all"]},
        {"destinations": ["deny port 25", "deny icmp", "deny set mail"]},
        {"destinations": [f"deny tcp {port}" for port in range(1, MAX_DESTINATIONS + 1)]},
        {"destinations": [f"deny 10.{n // 200}.{n % 200}.0/24" for n in range(MAX_DESTINATIONS)]},
    ],
)  # fmt: skip
def test_what_does_something_is_taken(change: dict[str, object]) -> None:
    rules = changed(NO_RULES, change, MOMENT)
    assert rules.hours or rules.destinations


def test_an_end_that_has_passed_stands_in_the_way_of_no_other_change() -> None:
    over = Rules(until=UNIX - 5)
    assert changed(over, {"max_flows": 7}, MOMENT) == Rules(until=UNIX - 5, max_flows=7)
    with refused("end_in_past"):
        changed(over, {"until": UNIX - 4}, MOMENT)


def test_the_entry_that_came_before_is_named() -> None:
    entries = ["deny udp", "deny 10.0.0.0/8", "allow 10.0.0.1 tcp port 22", "deny all"]
    with pytest.raises(RuleRefused) as refusal:
        changed(NO_RULES, {"destinations": entries}, MOMENT)
    assert str(refusal.value) == (
        "'allow 10.0.0.1 tcp port 22' (entry 3) never applies: 'deny 10.0.0.0/8' comes before it "
        "and says otherwise."
    )
    assert read_destination(entries[2]).target.network is not None


def test_what_is_kept_is_not_judged_by_the_clock_and_has_no_lengths() -> None:
    assert from_json({"until": 5.0}) == Rules(until=5.0)
    for kept in ({"for": "2h"}, {"until": "18:00"}):
        with pytest.raises(RuleRefused):
            from_json(kept)


def test_what_a_change_names() -> None:
    assert named_in({"for": "2h", "quota": None, "paused": False, "hours": []}) == {"until"}
    assert named_in({"paused": True, "limit_up": 1}) == {"paused", "limit_up"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*FIELDS, "for", "x"]), JSON, max_size=4))
def test_any_change_is_taken_or_refused(change: dict[str, object]) -> None:
    try:
        rules = changed(NO_RULES, change, MOMENT)
    except RuleRefused as refusal:
        assert str(refusal).isprintable()
    else:
        assert from_json(to_json(rules)) == rules
