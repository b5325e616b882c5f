"""Rules that go by a name: those that are shipped, and what may be one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rules.encoding import FIELDS, from_json
from rules.judging import judge_lasting
from rules.spelling import RuleRefused, read_length
from rules.value import Rules

MAX_TEMPLATES = 32
"""Of the owner's: a list that is chosen from."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)

SHIPPED: dict[str, dict[str, Any]] = {
    "guest": {
        "quota": "2GB/day",
        "limit_up": "5mbit",
        "limit_down": "20mbit",
        "for": "1d",
        "destinations": ["deny set private", "deny set mail"],
    },
    "family": {
        "hours": ["06:00-22:00"],
        "destinations": ["deny set encrypted-dns"],
    },
}
"""Changes (`rules.encoding.changed`) by name; the owner's of the same name go before them."""


def check_template(name: str, template: object) -> Rules:
    """The rules that a template gives, without its length. Raises `RuleRefused`.

    It is a change as `rules.encoding.changed` takes it, but for an end, which is a length: what
    is good today is good at any time.
    """
    if not _NAME.fullmatch(name):
        raise RuleRefused(
            "template_name",
            f"{name[:60]!r} is no name of a template: a word in lower case, such as guest.",
        )
    if not isinstance(template, Mapping):
        raise RuleRefused("rules_unreadable", "A template is a table with a line for each rule.")
    rest = {key: value for key, value in template.items() if key != "for"}
    if rest.get("until") is not None:
        raise RuleRefused(
            "template_until", 'A template has a length: write for = "2h" in place of until.'
        )
    length = template.get("for")
    if length is not None:
        if not isinstance(length, str):
            raise RuleRefused("rules_unreadable", "A length is a text, such as 2h.")
        read_length(length)
    rules = from_json(rest)
    judge_lasting(rules)
    if not any(template.get(field) not in (None, "", [], False) for field in (*FIELDS, "for")):
        raise RuleRefused("template_empty", "A template without a rule does nothing.")
    return rules
