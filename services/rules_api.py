"""What devices may do, in the control API's words: changes judged, templates, spellings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from control import methods as m
from control import schema as s
from control.errors import Code, ControlError
from eventloop.clock import Clock
from gateway.enforced import ENFORCED
from gateway.model import PeerDevice
from gateway.peers import PeerRegistry
from gateway.zone import LOCAL
from rules.calendar import period_began
from rules.encoding import Moment, changed, to_json
from rules.gate import counted
from rules.spelling import RuleRefused, spell_quota, spell_size, summary, texts
from rules.templates import SHIPPED, check_template
from rules.value import NO_RULES, Rules
from services.settings import Settings

_WORDS = {
    "quota": "Quotas",
    "limit_up": "Speed limits",
    "limit_down": "Speed limits",
    "until": "Ends",
    "hours": "Hours",
    "paused": "Pauses",
    "destinations": "Destinations",
    "max_flows": "Bounds on flows",
}
"""What a rule is called that this gateway does not carry out."""


class RulesApi:
    """The rules of devices and the templates. What is refused raises `ControlError`."""

    def __init__(self, registry: PeerRegistry, settings: Settings, clock: Clock) -> None:
        self.enforced = ENFORCED
        self._registry = registry
        self._settings = settings
        self._clock = clock

    def show(self, peer: PeerDevice) -> s.DeviceRules:
        rules = self._registry.rules(peer.public_key)
        return s.DeviceRules(
            peer.id, peer.label, to_json(rules), self.line(peer.public_key),
            texts(rules, datetime.fromtimestamp),
        )  # fmt: skip

    def line(self, public_key: bytes) -> str:
        return summary(self._registry.rules(public_key), datetime.fromtimestamp)

    def judged(self, public_key: bytes, params: m.SetRulesParams) -> Rules:
        """The rules that the device of that key is to have."""
        before = NO_RULES if params.clear else self._registry.rules(public_key)
        change: Mapping[str, Any] = params.change
        if params.template is not None:
            before, change = NO_RULES, self._merged(params.template, change)
        return self._judged(public_key, before, change)

    def approving(self, public_key: bytes, params: m.ApproveParams) -> Rules | None:
        """Those for a device that is about to be let in; None: none are given with it."""
        if params.template is None and not params.change:
            return None
        given = m.SetRulesParams("?", params.change, params.template, clear=True)
        return self.judged(public_key, given)

    def templates(self) -> list[s.RuleTemplate]:
        """Those of the owner, and the shipped ones."""
        return [self._template(name, value) for name, value in sorted(self._all().items())]

    def set_template(self, params: m.SetTemplateParams) -> list[s.RuleTemplate]:
        own = dict(self._settings.config["gateway", "templates"])
        if params.rules is None:
            if own.pop(params.name, None) is None:
                raise self._no_template(params.name, "of yours")
        else:
            try:
                self._enforceable(check_template(params.name, params.rules))
            except RuleRefused as refusal:
                raise _refused(refusal) from None
            own[params.name] = params.rules
        self._settings.set(m.SetParams("gateway.templates", own or None))
        return self.templates()

    def _template(self, name: str, value: dict[str, Any]) -> s.RuleTemplate:
        length, reason, line = value.get("for", ""), "", ""
        try:
            rules = check_template(name, value)
            line = summary(rules, datetime.fromtimestamp, length)
            self._enforceable(rules)
        except RuleRefused as refusal:
            reason = str(refusal)
        own = name in self._settings.config["gateway", "templates"]
        return s.RuleTemplate(name, value, line, not own, reason)

    def _all(self) -> dict[str, dict[str, Any]]:
        own: dict[str, dict[str, Any]] = self._settings.config["gateway", "templates"]
        return SHIPPED | own

    def _merged(self, name: str, change: Mapping[str, Any]) -> dict[str, Any]:
        template = self._all().get(name)
        if template is None:
            raise self._no_template(name)
        ends = {"for", "until"} if {"for", "until"} & change.keys() else set()
        return {key: value for key, value in template.items() if key not in ends} | dict(change)

    def _judged(self, public_key: bytes, before: Rules, change: Mapping[str, Any]) -> Rules:
        moment = Moment(self._clock.wall(), datetime.fromtimestamp, datetime.timestamp)
        try:
            rules = changed(before, change, moment)
            self._enforceable(rules)
            if rules.quota != before.quota:
                self._not_used_up(public_key, rules, moment.unix)
        except RuleRefused as refusal:
            raise _refused(refusal) from None
        return rules

    def _enforceable(self, rules: Rules) -> None:
        for field in to_json(rules):
            if field not in self.enforced:
                raise RuleRefused(
                    "rule_not_enforced",
                    f"{_WORDS[field]} are not carried out by this gateway, so it takes none.",
                )

    def _not_used_up(self, public_key: bytes, rules: Rules, now: float) -> None:
        """A quota of which nothing is left would be a pause by another name."""
        quota = rules.quota
        if quota is None:
            return
        since = int(period_began(quota, now, LOCAL) or 0)
        used = counted(quota, *self._registry.books.used(public_key, since, now))
        if used >= quota.bytes:
            # What is said is rounded to three figures, down, so as not to say more than it was.
            unit = 10 ** max(0, len(str(used)) - 3)
            raise RuleRefused(
                "quota_used_up",
                f"It has used {spell_size(used // unit * unit)} in that time already, and "
                f"{spell_quota(quota)} is no more: give it more, or pause it.",
            )

    def _no_template(self, name: str, whose: str = "") -> ControlError:
        there = ", ".join(sorted(self._all()))
        return ControlError(
            Code.NOT_FOUND,
            f"There is no template {name[:60]!r}{whose and f' {whose}'}: there is {there}.",
            "See: vpnshare templates",
            "template_unknown",
        )


def _refused(refusal: RuleRefused) -> ControlError:
    return ControlError(Code.INVALID_PARAMS, str(refusal), "Nothing was changed.", refusal.name)
