"""What may be a template, and that those that are shipped may be."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from rules.encoding import Moment, changed
from rules.spelling import RuleRefused, summary
from rules.templates import SHIPPED, check_template
from rules.value import NO_RULES, Rules


def local_of(unix: float) -> datetime:
    return datetime.fromtimestamp(unix, UTC).replace(tzinfo=None)


MOMENT = Moment(1.8e9, local_of, lambda local: local.replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_what_is_shipped_may_be_given(name: str) -> None:
    rules = changed(NO_RULES, SHIPPED[name], MOMENT)
    assert rules != NO_RULES
    lasting = check_template(name, SHIPPED[name])
    assert lasting.until is None and rules.destinations == lasting.destinations


def test_a_template_is_good_at_any_time() -> None:
    assert check_template("short", {"hours": "sat", "for": "1h"}).hours
    assert check_template("visit", {"for": "2h"}) == NO_RULES


@pytest.mark.parametrize(
    ("name", "template", "reason"),
    [
        ("", {"paused": True}, "template_name"),
        ("Guest", {"paused": True}, "template_name"),
        ("a b", {"paused": True}, "template_name"),
        ("x" * 33, {"paused": True}, "template_name"),
        ("guest", [], "rules_unreadable"),
        ("guest", {}, "template_empty"),
        ("guest", {"quota": None, "hours": []}, "template_empty"),
        ("guest", {"until": "18:00"}, "template_until"),
        ("guest", {"until": 5}, "template_until"),
        ("guest", {"for": 5}, "rules_unreadable"),
        ("guest", {"for": "soon"}, "length_unreadable"),
        ("guest", {"speed": "1mbit"}, "rule_unknown"),
        ("guest", {"destinations": ["deny all"]}, "destinations_refuse_always"),
        ("guest", {"hours": ["mon", "mon 07:00-08:00"]}, "hours_overlap"),
    ],
)
def test_what_is_no_template_is_refused(name: str, template: object, reason: str) -> None:
    with pytest.raises(RuleRefused, check=lambda error: error.name == reason):
        check_template(name, template)


def test_rules_are_one_line_for_people() -> None:
    change = {
        "quota": "1GB/day", "limit_up": "5mbit", "limit_down": "20mbit", "for": "2h",
        "hours": ["mon-fri 07:00-21:00", "sat"], "paused": True,
        "destinations": ["deny udp", "deny port 25"], "max_flows": 40,
    }  # fmt: skip
    assert summary(changed(NO_RULES, change, MOMENT), local_of) == (
        "paused; 1GB/day; up 5mbit; down 20mbit; until 2027-01-15 10:00; "
        "mon-fri 07:00-21:00, sat 00:00-24:00; 2 destinations; 40 flows"
    )
    assert summary(NO_RULES, local_of) == ""
    assert summary(Rules(max_flows=1), local_of, "1d") == "for 1d; 1 flows"
