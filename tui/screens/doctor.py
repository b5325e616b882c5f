"""The doctor: what the service finds when it examines itself, the worst first, with advice.

An examination costs the service a few seconds and asks the resolver, so it is
made when the section is opened for the first time and when the user wants one,
not by a subscription. It has a connection of its own, so that no key waits for it.
So has a check, which asks servers outside the VPN what they see: only when the user
wants it. Its answer comes in a window, its verdict first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Container

from control import schema, words
from control.errors import ControlError
from tui import actions, formats
from tui.clipboard import Copied
from tui.screens.listing import ListScreen, filtered
from tui.screens.modals import TextScreen
from tui.store import LinkState
from tui.widgets.columns import Cell, Column
from tui.widgets.painted import Tone
from tui.widgets.part import Part
from tui.widgets.table import RowTable

RANKS = ("broken", "warn", "ok", "skipped")
"""In the order in which findings are shown."""
_STATES: dict[str, tuple[str, str, Tone]] = {
    "broken": ("✗", "broken", "bad"),
    "warn": ("▲", "warning", "warn"),
    "ok": ("●", "ok", "ok"),
    "skipped": ("○", "skipped", "quiet"),
}
"""Symbol, word, tone of each status."""


def state(finding: schema.Finding) -> tuple[str, str, Tone]:
    """Symbol, word and tone; a status that is not known is shown as it came."""
    return _STATES.get(finding.status, ("◆", formats.clean(finding.status, 8), "plain"))


def ranked(findings: list[schema.Finding]) -> list[schema.Finding]:
    """The worst first; otherwise in the service's order."""
    return sorted(findings, key=_rank)


def _rank(finding: schema.Finding) -> int:
    return RANKS.index(finding.status) if finding.status in RANKS else 0


def _words(finding: schema.Finding) -> str:
    """What a filter looks in."""
    return f"{state(finding)[1]} {finding.title} {finding.found} {finding.advice or ''}"


def whole(finding: schema.Finding) -> str:
    """The finding in full, to read or to send to somebody."""
    symbol, word, _ = state(finding)
    text = f"{symbol} {word}\n\n{formats.clean(finding.found, 4000)}"
    if finding.advice:
        text += f"\n\nDo this: {formats.clean(finding.advice, 4000)}"
    return text


def check_text(check: schema.Check, glyphs: Mapping[str, str]) -> str:
    """A check in full, the verdict first; `glyphs` by tone."""
    word, tone = words.CHECK.get(check.state, (formats.clean(check.state, 20), "warn"))
    lines = [f"{glyphs.get(tone, '')} {word}".strip(), "", formats.clean(check.sentence, 600)]
    if check.advice:
        lines += ["", f"Do this: {formats.clean(check.advice, 400)}"]
    lines += ["", *(formats.clean(note.sentence, 600) for note in check.notes)]
    facts = words.check_facts(check)
    lines += ["", *(formats.clean(f"{name}: {value}", 300) for name, value in facts)]
    return "\n".join(lines).rstrip()


def _state(finding: schema.Finding) -> Cell:
    symbol, word, tone = state(finding)
    return f"{symbol} {word}", tone


COLUMNS = (
    Column[schema.Finding]("state", "State", 9, _state, by=_rank),
    Column[schema.Finding]("title", "Check", 14, lambda finding: (
        formats.clean(finding.title, 40), "strong"), flex=1),
    Column[schema.Finding]("found", "Found", 24, lambda finding: (
        formats.clean(finding.found, 240), "plain"), flex=3, tier=1),
)  # fmt: skip


class DoctorHead(Part["DoctorScreen"]):
    """How it stands in one line."""

    def lines(self, width: int) -> list[Text]:
        screen = self.shows
        app = self.console_app
        if screen.examining:
            return [Text(" Examining…", self.tone("accent"))]
        if screen.checking:
            return [Text(" Asking servers outside; some seconds…", self.tone("accent"))]
        if screen.error:
            return [Text(f" {app.glyphs.bad} {screen.error}", self.tone("bad"))]
        if screen.at is None:
            return [Text(" Asking…", self.tone("quiet"))]
        line = Text(" ")
        for status in RANKS:
            number = sum(finding.status == status for finding in screen.findings)
            if number:
                symbol, word, tone = _STATES[status]
                line.append(f"{symbol} {number} {word}  ", self.tone(tone))
        line.append(formats.ago(app.now - screen.at), self.tone("quiet"))
        line.append_text(filtered(self, screen))
        return [line]


class FindingDetails(Part["DoctorScreen"]):
    """The finding under the cursor with its advice."""

    def lines(self, width: int) -> list[Text]:
        screen = self.shows
        finding = screen.table.current
        if finding is None:
            return []
        symbol, word, tone = state(finding)
        made = [Text.assemble(
            self.span(formats.clean(finding.title, 40), "strong"),
            self.span(f"  {symbol} {word}", tone),
        )]  # fmt: skip
        found = Text(formats.clean(finding.found, 600))
        made += list(found.wrap(self.app.console, max(width, 10)))
        if finding.advice:
            advice = Text.assemble(
                self.span("Do this: ", "key"), formats.clean(finding.advice, 400)
            )
            made += list(advice.wrap(self.app.console, max(width, 10)))
        return made


class DoctorScreen(ListScreen):
    """The section."""

    SECTION: ClassVar[str] = "doctor"
    BINDINGS = actions.bindings("doctor")
    FILTER_HINT: ClassVar[str] = "words in state, check, finding, advice"

    def __init__(self) -> None:
        super().__init__()
        self.findings: list[schema.Finding] = []
        self.at: float | None = None
        """When they were found; None: never."""
        self.examining = False
        self.checking = False
        self.error = ""

    def body(self) -> ComposeResult:
        yield DoctorHead(self, id="doctor-head")
        with Container(classes="list-and-details"):
            yield RowTable[schema.Finding](
                COLUMNS, lambda finding: (finding.side, finding.id), id="findings",
                empty="", text_of=_words,
            )  # fmt: skip
            yield FindingDetails(self, classes="details")

    def on_mount(self) -> None:
        self.table.focus()

    @property
    def table(self) -> RowTable[schema.Finding]:
        return self.query_one("#findings", RowTable)

    def update(self, topic: str | None) -> None:
        live = self.store.link.state is LinkState.LIVE
        if topic is None and self.at is None and live and not self.examining and self.is_current:
            self.action_doctor_run()
        self.query_one(DoctorHead).redraw()

    def tick(self) -> None:
        self.query_one(DoctorHead).redraw()

    def may_here(self, action: actions.Action) -> bool | None:
        if action.id == "doctor.run":
            return None if self.examining else True
        if action.id == "doctor.check":
            return None if self.checking else True
        return True if self.table.current is not None else None

    def action_doctor_run(self) -> None:
        if self.examining:
            return
        self.examining = True
        self.refresh_bindings()
        self.query_one(DoctorHead).redraw()
        self.run_worker(self._examine(), group="doctor", exclusive=True)

    async def _examine(self) -> None:
        app = self.console_app
        try:
            self.findings = ranked(await app.link.call_apart("doctor"))
            self.at, self.error = app.now, ""
        except ControlError as error:
            words = " ".join(filter(None, (error.message, error.hint)))
            self.error = formats.clean(words, 200)
        finally:
            self.examining = False
        self.table.show(self.findings)
        self.query_one(DoctorHead).redraw()
        self.query_one(FindingDetails).redraw()
        self.refresh_bindings()

    def action_doctor_check(self) -> None:
        if self.checking:
            return
        self.checking = True
        self.refresh_bindings()
        self.query_one(DoctorHead).redraw()
        self.run_worker(self._check(), group="check", exclusive=True)

    async def _check(self) -> None:
        app = self.console_app
        try:
            check: schema.Check = await app.link.call_apart("check")
        except ControlError as error:
            told = " ".join(filter(None, (error.message, error.hint)))
            heading, text = "Not checked", formats.clean(told, 400)
            said = text
        else:
            marks = {"ok": app.glyphs.ok, "bad": app.glyphs.bad, "warn": app.glyphs.warn}
            heading, text = "Does it leave by the VPN?", check_text(check, marks)
            said = formats.clean(check.sentence, 200)
        finally:
            self.checking = False
        self.query_one(DoctorHead).redraw()
        self.refresh_bindings()
        if self.is_current:
            self.app.push_screen(TextScreen(heading, Text(text)))
        else:  # Whoever has gone on to something else is not taken away from it.
            app.tell(f"{heading} {said}")

    @on(RowTable.Highlighted, "#findings")
    def _moved(self) -> None:
        self.query_one(FindingDetails).redraw()
        self.follow_keys()

    @on(RowTable.Selected, "#findings")
    def action_doctor_details(self) -> None:
        finding = self.table.current
        if finding is None:
            return
        text = Text(whole(finding))
        self.app.push_screen(TextScreen(formats.clean(finding.title, 40), text))

    def copied(self) -> Copied | None:
        finding = self.table.current
        if finding is None:
            return None
        return Copied("the finding", f"{formats.clean(finding.title, 40)}\n{whole(finding)}")
