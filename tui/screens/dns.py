"""The leases' resolver: whom it asks, its cache, what it answers, and the last questions.

The service keeps the last questions only if the owner wants it to
(`dns.recent`), because they tell what people look at; `v` turns that on and
off. Questions are filtered here: there are a thousand of them at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult

from control import schema
from tui import actions, formats
from tui.clipboard import Copied
from tui.screens.listing import ListScreen, filtered
from tui.screens.modals import TextScreen
from tui.widgets.columns import Cell, Column
from tui.widgets.painted import Tone
from tui.widgets.part import Part
from tui.widgets.table import RowTable

KEPT = 200
"""Questions that the service is asked to keep when the owner wants to see them."""
SHOWN_COUNTERS = 6
"""Counters beside the cache's own, the largest first."""

_TONES: dict[str, Tone] = {"hit": "ok", "asked": "plain", "joined": "plain"}


@dataclass(frozen=True, slots=True)
class QuestionRow:
    """A question with an id of its own: questions may be equal."""

    id: tuple[str, str, str, int]
    question: schema.DnsQuestion


def rows(questions: Sequence[schema.DnsQuestion]) -> list[QuestionRow]:
    """The questions, newest first as the service sends them.

    A question's place counted from the oldest of its kind is its id: it does not change
    as newer ones arrive.
    """
    seen: dict[tuple[str, str, str], int] = {}
    made: list[QuestionRow] = []
    for question in reversed(questions):
        same = (question.client, question.name, question.type)
        seen[same] = seen.get(same, 0) + 1
        made.append(QuestionRow((*same, seen[same]), question))
    made.reverse()
    return made


def _outcome(row: QuestionRow) -> Cell:
    outcome = formats.clean(row.question.outcome, 24)
    tone = _TONES.get(outcome, "bad")
    mark = {"ok": "●", "plain": "○"}.get(tone, "✗")
    return f"{mark} {outcome}", tone


COLUMNS = (
    Column[QuestionRow]("age", "Age", 4, lambda row: (
        formats.age(row.question.age), "quiet"), right=True, by=lambda row: row.question.age),
    Column[QuestionRow]("name", "Name", 14, lambda row: (
        formats.clean(row.question.name, 255), "strong"), flex=3),
    Column[QuestionRow]("type", "Type", 6, lambda row: (
        formats.clean(row.question.type, 9), "quiet")),
    Column[QuestionRow]("outcome", "Outcome", 12, _outcome),
    Column[QuestionRow]("label", "Device", 12, lambda row: (
        formats.clean(row.question.label), "plain"), flex=1, tier=1),
)  # fmt: skip


class DnsHead(Part["DnsScreen"]):
    """The resolver in a few lines."""

    def lines(self, width: int) -> list[Text]:
        screen = self.shows
        dns = screen.store.dns
        if dns is None:
            return [Text(" …", self.tone("quiet"))]
        glyphs = self.console_app.glyphs

        def fact(name: str, *rest: Any) -> Text:
            return Text.assemble(self.span(f" {name:<10}", "quiet"), *rest)

        resolvers = ", ".join(formats.clean(each, 60) for each in dns.resolvers)
        asks = (
            self.span(f"{glyphs.ok} {formats.shorten(resolvers, max(8, width - 14))}", "ok")
            if dns.resolvers
            else self.span(f"{glyphs.bad} nobody: questions fail", "bad")
        )
        share = f", {100 * dns.hits / dns.queries:.0f} % from the cache" if dns.queries else ""
        made = [
            fact("Asks", asks),
            fact("Questions", self.span(f"{dns.queries:,}"), self.span(share, "quiet")),
            fact("Cache", self.span(formats.count(dns.entries, "answer")),
                 self.span(f"  {formats.size(dns.bytes)}  {dns.in_flight} being asked", "quiet")),
        ]  # fmt: skip
        if counted := counters(dns):
            made.append(fact("Counted", self.span(formats.shorten(counted, max(8, width - 12)))))
        kept = f"the last {dns.recent_limit}" if dns.recent_limit else f"{glyphs.off} not kept"
        last = fact("Log", self.span(kept, "accent" if dns.recent_limit else "quiet"))
        last.append_text(filtered(self, screen))
        return [*made, last]


def counters(dns: schema.Dns) -> str:
    """The largest counters in words, those of the cache's own line left out."""
    said = {"dns__query__hit"}
    found = sorted(
        ((number, name) for name, number in dns.counters.items() if number and name not in said),
        reverse=True,
    )
    return ", ".join(
        f"{formats.clean(name, 48).removeprefix('dns__').replace('__', ' ').replace('_', ' ')} "
        f"{number:,}"
        for number, name in found[:SHOWN_COUNTERS]
    )


class DnsScreen(ListScreen):
    """The section."""

    SECTION: ClassVar[str] = "dns"
    BINDINGS = actions.bindings("dns")
    FILTER_HINT: ClassVar[str] = "words in name, type, outcome, device"

    def topics(self) -> dict[str, dict[str, Any]]:
        return {"dns": {}}

    def body(self) -> ComposeResult:
        yield DnsHead(self, id="dns-head")
        yield RowTable[QuestionRow](COLUMNS, lambda row: row.id, id="questions")

    def on_mount(self) -> None:
        self.table.focus()

    @property
    def table(self) -> RowTable[QuestionRow]:
        return self.query_one("#questions", RowTable)

    def update(self, topic: str | None) -> None:
        if topic in (None, "dns"):
            dns = self.store.dns
            kept = dns is not None and dns.recent_limit > 0
            self.table.say_empty(
                "No question yet: they come as devices use the network."
                if kept
                else "Not kept, for privacy. Press v to keep them."
                if dns is None or dns.names
                else "Not kept: privacy.names is off. Switch it on in Settings."
            )
            self.table.show(rows(dns.recent) if dns is not None else None)
            self.query_one(DnsHead).redraw()

    def may_here(self, action: actions.Action) -> bool | None:
        if action.id == "dns.recent":
            return True if self.store.dns is not None and self.store.dns.names else None
        if action.id == "dns.question":
            return True if self.table.current is not None else None
        return True

    def action_dns_recent(self) -> None:
        dns = self.store.dns
        if dns is None:
            return
        wanted = 0 if dns.recent_limit else KEPT
        done = f"The last {KEPT} questions are kept." if wanted else "Questions are not kept."
        self.console_app.start("set", done, key="dns.recent", value=wanted)

    @on(RowTable.Selected, "#questions")
    def action_dns_question(self) -> None:
        row = self.table.current
        if row is None:
            return
        question = row.question
        text = Text(
            f"{formats.clean(question.name, 1024)}\n\n"
            f"Type     {formats.clean(question.type, 9)}\n"
            f"Outcome  {formats.clean(question.outcome, 48)}\n"
            f"Device   {formats.clean(question.label)}\n"
            f"Asked    {formats.ago(question.age)}"
        )
        self.app.push_screen(TextScreen("Question", text))

    def copied(self) -> Copied | None:
        row = self.table.current
        return None if row is None else Copied("the name", row.question.name)
