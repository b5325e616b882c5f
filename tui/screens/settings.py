"""Settings: all of the service's configuration, changed while it runs.

The service checks each value by the setting's own rules and writes the file;
what it says against a value is shown in the dialog, which stays open. A switch
changes at once; one that weakens a promise asks before it is turned on. What
the console itself is set to (`console.*`) is followed by this console at once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Container

from control import schema
from control.errors import ControlError
from tui import actions, formats
from tui.clipboard import Copied
from tui.screens.edit import OTHER, Choice, ChoiceScreen, EditScreen
from tui.screens.listing import ListScreen, filtered
from tui.screens.modals import ConfirmScreen
from tui.widgets.columns import Cell, Column
from tui.widgets.painted import Tone
from tui.widgets.part import Part
from tui.widgets.table import RowTable

MAX_VALUE = 4_096
"""Characters of a value that are looked at."""
MAX_LINES = 6
"""Lines that a value takes in the details at most; `y` copies all of it."""


@dataclass(frozen=True, slots=True)
class Heading:
    """The name of a part of the file, above its settings."""

    section: str


Row = schema.Setting | Heading


def rows(settings: list[schema.Setting]) -> list[Row]:
    """The settings, each section under its heading."""
    made: list[Row] = []
    last = ""
    for setting in settings:
        section = setting.key.partition(".")[0]
        if section != last:
            made.append(Heading(section))
            last = section
        made.append(setting)
    return made


def _text(row: Row) -> str:
    """What a filter looks in."""
    if isinstance(row, Heading):
        return ""
    return f"{row.key} {row.help} {shown(row)}"


def row_id(row: Row) -> str:
    return f"[{row.section}]" if isinstance(row, Heading) else row.key


def spelled(value: Any) -> str:
    """A value as people write it; what they type in this form, the service reads."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}" if abs(value) < 1e6 else f"{value:.0f}"
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    if isinstance(value, dict) and any(isinstance(each, dict) for each in value.values()):
        return json.dumps(value)
    if isinstance(value, dict):
        return " ".join(f"{name}={each}" for name, each in value.items())
    return str(value)


def shown(setting: schema.Setting) -> str:
    """The value to be read: of a secret, that there is one."""
    return "(set, not shown)" if setting.kept else spelled(setting.value)


def bounds(setting: schema.Setting) -> str:
    """What the value may be, in words."""
    if setting.secret:
        return "text that is not shown"
    if setting.choices:
        return ", ".join(formats.clean(choice, 32) for choice in setting.choices)
    if setting.suggestions:
        named = [formats.clean(each.value, 32) for each in setting.suggestions if each.value]
        return ", ".join([*named, "or another"])
    if setting.low is not None and setting.high is not None:
        return f"{spelled(setting.low)} to {spelled(setting.high)}"
    return {
        "bool": "on or off", "int": "a whole number", "float": "a number",
        "list": "a list, with commas between", "table": "name=value pairs",
    }.get(setting.kind, "text")  # fmt: skip


def choices(setting: schema.Setting) -> list[Choice] | None:
    """What is offered to choose from; None where the value has to be written.

    A list of several things is written, too: what is chosen takes the place of all.
    """
    if setting.choices:
        return [Choice(each, formats.clean(each, 32)) for each in setting.choices]
    several = isinstance(setting.value, list) and len(setting.value) > 1
    if several or not setting.suggestions:
        return None
    return [
        Choice(each.value, formats.clean(each.value, 32) or "(empty)", formats.clean(each.note, 60))
        for each in setting.suggestions
    ]


def _setting(row: Row) -> schema.Setting:
    assert isinstance(row, schema.Setting)  # headings never come to a column
    return row


def _value(row: Row) -> Cell:
    setting = _setting(row)
    text = formats.clean(shown(setting), 120)
    if setting.kind == "bool":
        return f"{'●' if setting.value else '○'} {text}", _switch_tone(setting)
    if not text:
        return "(empty)", "quiet"
    return text, "strong" if setting.source != "default" else "plain"


def _switch_tone(setting: schema.Setting) -> Tone:
    if not setting.value:
        return "quiet"
    return "bad" if setting.danger else "ok"


def _note(row: Row) -> Cell:
    setting = _setting(row)
    if setting.pending:
        return "▲ restart", "warn"
    return {"default": "", "option": "option"}.get(setting.source, "set"), "accent"


COLUMNS = (
    Column[Row]("key", "Setting", 16, lambda row: (
        " " + formats.clean(_setting(row).key.partition(".")[2], 40), "plain")),
    Column[Row]("value", "Value", 14, _value, whole=True),
    Column[Row]("note", "", 9, _note),
    Column[Row]("help", "What it is", 20, lambda row: (
        formats.clean(_setting(row).help, 160), "quiet"), flex=1, tier=1),
)  # fmt: skip


class SettingsHead(Part["SettingsScreen"]):
    """How many, how many are not the default, what waits for a restart."""

    def lines(self, width: int) -> list[Text]:
        screen = self.shows
        if not screen.store.has("settings"):
            return [Text()]
        settings = screen.store.settings
        changed = sum(setting.source != "default" for setting in settings)
        pending = sum(setting.pending for setting in settings)
        line = Text.assemble(
            " ", self.span(formats.count(len(settings), "setting"), "strong"),
            self.span(f"  {changed} set", "quiet"),
        )  # fmt: skip
        if pending:
            glyph = self.console_app.glyphs.warn
            line.append(f"  {glyph} {pending} after a restart", self.tone("warn"))
        line.append_text(filtered(self, screen))
        return [line]


class SettingDetails(Part["SettingsScreen"]):
    """The setting under the cursor."""

    def lines(self, width: int) -> list[Text]:
        setting = self.shows.current
        if setting is None:
            return []
        glyphs = self.console_app.glyphs
        made = [Text(formats.clean(setting.key, 60), self.tone("strong"))]
        about = formats.clean(setting.help, 240)
        words = Text(about[:1].upper() + about[1:] + ".")
        made += list(words.wrap(self.app.console, max(width, 10)))
        if setting.danger:
            mind = Text(f"{glyphs.warn} It weakens a promise.", self.tone("bad"))
            made += list(mind.wrap(self.app.console, max(width, 10)))

        def fact(name: str, value: str, tone: Tone = "plain") -> None:
            value = formats.shorten(value, max(6, width - 9))
            made.append(Text.assemble(self.span(f"{name:<9}", "quiet"), self.span(value, tone)))

        if len(value := formats.clean(shown(setting), MAX_VALUE)) > 14:
            wrapped = Text(value).wrap(self.app.console, max(6, width - 9))
            lines = [line.plain.rstrip() for line in wrapped]
            if len(lines) > MAX_LINES:
                lines[MAX_LINES - 1] += "…"
            for position, line in enumerate(lines[:MAX_LINES]):
                fact("" if position else "Value", line)
        if setting.note:
            mind = Text(f"{glyphs.warn} {formats.clean(setting.note, 240)}", self.tone("warn"))
            made += list(mind.wrap(self.app.console, max(width, 10)))
        fact("May be", bounds(setting))
        fact("Default", formats.clean(spelled(setting.default), 120) or "(empty)", "quiet")
        when = "at once" if setting.live else "from the service's next start"
        fact("Counts", when, "plain" if setting.live else "warn")
        return made


class SettingsScreen(ListScreen):
    """The section."""

    SECTION: ClassVar[str] = "settings"
    BINDINGS = actions.bindings("settings")
    FILTER_HINT: ClassVar[str] = "words in name, value, meaning"

    def topics(self) -> dict[str, dict[str, Any]]:
        return {"settings": {}}

    def body(self) -> ComposeResult:
        yield SettingsHead(self, id="settings-head")
        with Container(classes="list-and-details"):
            yield RowTable[Row](
                COLUMNS, row_id, heading=self._heading, empty="No settings.", text_of=_text,
                id="settings",
            )  # fmt: skip
            yield SettingDetails(self, classes="details")

    def on_mount(self) -> None:
        self.table.focus()

    @property
    def table(self) -> RowTable[Row]:
        return self.query_one("#settings", RowTable)

    @property
    def current(self) -> schema.Setting | None:
        row = self.table.current
        return row if isinstance(row, schema.Setting) else None

    def _heading(self, row: Row) -> Cell | None:
        return (f"[{row.section}]", "accent") if isinstance(row, Heading) else None

    def update(self, topic: str | None) -> None:
        if topic in (None, "settings"):
            begins = self.table.current is None
            self.table.show(rows(self.store.settings) if self.store.has("settings") else None)
            if begins:
                self._off_the_heading()
            self.query_one(SettingsHead).redraw()
            self.query_one(SettingDetails).redraw()

    def choose(self, settled: bool) -> None:
        super().choose(settled)
        self._off_the_heading()

    def _off_the_heading(self) -> None:
        """The first setting, where the cursor stands above it: nothing can be done there."""
        table = self.table
        if isinstance(table.current, Heading) and len(table.rows) > 1:
            position = table.rows.index(table.current) + 1
            table.move_to(table.row_id(table.rows[position]))

    def copied(self) -> Copied | None:
        setting = self.current
        if setting is None:
            return None
        return Copied("the setting", f"{setting.key} {spelled(setting.value)}")

    @on(RowTable.Highlighted, "#settings")
    def _moved(self) -> None:
        self.query_one(SettingDetails).redraw()
        self.follow_keys()

    def may_here(self, action: actions.Action) -> bool | None:
        setting = self.current
        if action.id == "setting.change":
            return True if setting is not None else None
        if action.id == "setting.default":
            return True if setting is not None and setting.source != "default" else None
        return True

    # Changing

    @on(RowTable.Selected, "#settings")
    def action_setting_change(self) -> None:
        if self.current is not None and not self.store.link.read_only:
            self.run_worker(self._change(self.current), group="ask", exclusive=True)

    def action_setting_default(self) -> None:
        setting = self.current
        if setting is not None and setting.source != "default":
            self.run_worker(self._to_default(setting), group="ask", exclusive=True)

    async def _change(self, setting: schema.Setting) -> None:
        if setting.kind == "bool":
            if await self._sure(setting, not setting.value):
                await self._tell_of(setting.key, not setting.value)
        elif setting.key == "console.theme":
            await self._change_theme(setting)
        elif (offered := choices(setting)) is not None:
            # What may be anything else as well is also written by hand.
            free = not setting.choices
            chosen = await self.app.push_screen_wait(
                ChoiceScreen(setting.key, offered, spelled(setting.value), free)
            )
            if chosen is OTHER:
                await self._write(setting)
            elif chosen is not None:
                await self._tell_of(setting.key, chosen.value or None)
        else:
            await self._write(setting)

    async def _write(self, setting: schema.Setting) -> None:
        """Have the value typed."""
        await self.app.push_screen_wait(EditScreen(
            setting.key, setting.help, spelled(setting.value), bounds(setting),
            lambda text: self._set(setting.key, text), setting.secret,
        ))  # fmt: skip

    async def _change_theme(self, setting: schema.Setting) -> None:
        """The themes are this console's: it knows which ones there are, and shows each."""
        before = self.app.theme
        chosen = await self.console_app.choose_theme()
        if chosen is not None and (problem := await self._set(setting.key, chosen)):
            self.app.theme = before
            self.console_app.tell(problem, "error")

    async def _to_default(self, setting: schema.Setting) -> None:
        if await self._sure(setting, setting.default):
            await self._tell_of(setting.key, None)

    async def _sure(self, setting: schema.Setting, value: Any) -> bool:
        """Ask, where the change weakens a promise."""
        if not setting.danger or not value or value == setting.value:
            return True
        about = formats.clean(setting.help, 160)
        sure: bool = await self.app.push_screen_wait(ConfirmScreen(
            f"Turn {formats.clean(setting.key, 60)} on?",
            f"It weakens a promise: {about}.", "Turn on",
        ))  # fmt: skip
        return sure

    async def _tell_of(self, key: str, value: Any) -> None:
        if problem := await self._set(key, value):
            self.console_app.tell(problem, "error")

    async def _set(self, key: str, value: Any) -> str | None:
        """Change it in the service; what is wrong with the value, if something is."""
        app = self.console_app
        try:
            # `null` is the default, and a missing parameter means null.
            given = {} if value is None else {"value": value}
            done: schema.Setting = await app.link.call("set", key=key, **given)
        except ControlError as error:
            return formats.clean(" ".join(filter(None, (error.message, error.hint))), 240)
        now = "set" if done.kept else formats.clean(spelled(done.value), 60) or "empty"
        later = " from the service's next start" if done.pending else ""
        app.tell(f"{formats.clean(done.key, 60)} is {now}{later or ' now'}.")
        if done.note:
            app.tell(formats.clean(done.note, 240), "warning")
        app.tell_unwritten(done.unwritten)
        app.follow_setting(done)
        return None
