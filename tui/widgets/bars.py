"""The three lines that every section has: tabs above, notices below them, keys at the foot."""

from __future__ import annotations

import textwrap
import time
from typing import ClassVar

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual import events
from textual.screen import Screen
from textual.widgets import Input

from control import calling, schema, words
from control.versions import differ
from tui import actions, formats
from tui.banners import Banner
from tui.console import Console, InConsole
from tui.offered import footer_label
from tui.store import LinkState
from tui.widgets.painted import Painted, Tone

NARROW = 72
MAX_TROUBLE = 300
"""Cells that are looked at of a sentence of which two lines are shown."""
BRAND = "VPN Share"


class _Bar(InConsole, Painted):
    """A painted line whose parts can be tapped."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._targets: list[tuple[int, int, str]] = []

    def on_click(self, event: events.Click) -> None:
        for start, end, key in self._targets:
            if start <= event.x < end:
                self.app.simulate_key(key)
                return


class TopBar(_Bar):
    """Section tabs, and the state in as many words as there is room for."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"topbar--active"}
    DEFAULT_CSS = (
        "TopBar { height: 1; dock: top; background: $surface;"
        " & > .topbar--active { background: $tab-active; color: $tab-active-text;"
        " text-style: bold; } }"
    )

    def lines(self, width: int) -> list[Text]:
        app = self.console_app
        parts = states(app)
        for tabs, form in _FORMS:
            titles, state = tabs(app), form(parts)
            room = width - 1 - sum(map(cell_len, titles)) - sum(cell_len(w) for w, _ in state)
            if room >= 1:
                break
        text = Text()
        self._targets = []
        name = f" {_whose(app) or BRAND}  "
        if tabs is _wide and cell_len(name) <= room:
            text.append(name, self.tone("strong"))
            room -= cell_len(name)
        active = self.get_component_rich_style("topbar--active", partial=True)
        for number, section in enumerate(actions.sections(app.role), start=1):
            start = cell_len(text.plain)
            style = active if section.id == app.section else self.tone("quiet")
            text.append(titles[number - 1], style)
            self._targets.append((start, cell_len(text.plain), str(number)))
        text.append(" " * max(0, room))
        for word, tone in state:
            text.append(word, self.tone(tone))
        return [text]


def _whose(app: Console) -> str:
    """The name of the host whose service this is; empty while it is not known."""
    store = app.store
    if store.client is not None:
        return formats.clean(store.client.label, 20)
    return "" if store.gateway is None else formats.clean(store.gateway.name, 20)


# The tabs, from roomy to narrow


def _wide(app: Console) -> list[str]:
    return [f" {n} {s.title} " for n, s in enumerate(actions.sections(app.role), start=1)]


def _close(app: Console) -> list[str]:
    return [f" {n} {s.title}" for n, s in enumerate(actions.sections(app.role), start=1)]


def _short(app: Console) -> list[str]:
    return [f" {n} {s.short or s.title}" for n, s in enumerate(actions.sections(app.role), start=1)]


def _numbers(app: Console) -> list[str]:
    """Wide enough for a finger."""
    return [
        f" {n} {s.title} " if s.id == app.section else f" {n} "
        for n, s in enumerate(actions.sections(app.role), start=1)
    ]


def _close_numbers(app: Console) -> list[str]:
    return [
        f" {n} {s.title}" if s.id == app.section else f" {n}"
        for n, s in enumerate(actions.sections(app.role), start=1)
    ]


_State = tuple[str, str, Tone]
"""Glyph, word, tone."""


def states(app: Console) -> list[_State]:
    """The service's state as the top bar says it: how it is reached, then how it is."""
    glyphs = app.glyphs
    store = app.store
    how: list[_State] = []
    if app.by_ssh:
        how.append((glyphs.info, "by ssh", "accent"))
    if store.link.state is not LinkState.LIVE:
        word = "service gone" if store.link.state is LinkState.LOST else "connecting"
        tone: Tone = "bad" if store.link.state is LinkState.LOST else "warn"
        return [*how, (glyphs.bad, word, tone)]
    if store.link.read_only:
        how.append((glyphs.info, "read-only", "accent"))
    if store.client is not None:
        return [*how, client_state(store.client, app)]
    status = store.gateway
    if status is None:
        return how
    return [*how, sharing_state(status, app), vpn_state(status, app)]


def shown(state: tuple[str, words.Tone], app: Console) -> _State:
    """A state of `control/words.py` in a glyph, its word and a tone."""
    word, tone = state
    glyphs = app.glyphs
    looks: dict[words.Tone, tuple[str, Tone]] = {
        "ok": (glyphs.ok, "ok"),
        "busy": (glyphs.info, "accent"),
        "warn": (glyphs.warn, "warn"),
        "danger": (glyphs.warn, "bad"),
        "bad": (glyphs.bad, "bad"),
        "off": (glyphs.off, "quiet"),
    }
    glyph, painted = looks[tone]
    return glyph, formats.clean(word, 24), painted


def sharing_state(status: schema.GatewayStatus, app: Console) -> _State:
    """Whether sharing is on, in a glyph, words and a tone."""
    return shown(words.sharing(status), app)


def vpn_state(status: schema.GatewayStatus, app: Console) -> _State:
    """Whether there is a VPN, in a glyph, words and a tone."""
    return shown(words.vpn(status), app)


def client_state(status: schema.ClientStatus, app: Console) -> _State:
    """The client's state in a glyph, words and a tone."""
    return shown(words.client(status), app)


def _whole(parts: list[_State]) -> list[tuple[str, Tone]]:
    return [(f"{glyph} {word}  ", tone) for glyph, word, tone in parts]


def _words(parts: list[_State]) -> list[tuple[str, Tone]]:
    return [(f"{glyph} {_SHORT.get(word, (word[:8],))[0]} ", tone) for glyph, word, tone in parts]


def _labels(parts: list[_State]) -> list[tuple[str, Tone]]:
    return [(f"{glyph}{_SHORT.get(word, ('', 'VPN'))[1]} ", tone) for glyph, word, tone in parts]


def _packed(parts: list[_State]) -> list[tuple[str, Tone]]:
    return [(label.rstrip(), tone) for label, tone in _labels(parts)]


_SHORT = {
    "by ssh": ("ssh", "ssh"),
    "read-only": ("read-only", "ro"),
    "service gone": ("service gone", "gone"),
    "connecting": ("connecting", "conn"),
    "sharing": ("sharing", "on"),
    "waiting for VPN": ("waiting", "wait"),
    "not sharing": ("off", "off"),
    "BYPASS": ("BYPASS", "BYPASS"),
    "VPN excludes us": ("excluded", "VPN"),
    "no VPN": ("no VPN", "VPN"),
    "idle": ("idle", "idle"),
    "compare the digits": ("digits", "code"),
    "waiting for approval": ("waiting", "wait"),
    "connected": ("connected", "on"),
    "connected, no VPN there": ("no VPN", "VPN"),
    "connected, not sharing": ("off", "off"),
    "connected, shut out": ("shut out", "out"),
    "reconnecting": ("reconnecting", "retry"),
    "failed": ("failed", "fail"),
}
"""A state's words where there is less room, and where there is hardly any. The interface of the
VPN has none: it is the VPN."""


def _glyphs(parts: list[_State]) -> list[tuple[str, Tone]]:
    return [(f"{glyph} ", tone) for glyph, _, tone in parts]


def _worst(parts: list[_State]) -> list[tuple[str, Tone]]:
    ranks: list[Tone] = ["bad", "warn", "accent", "quiet", "plain", "ok"]
    return [
        (glyph, tone) for glyph, _, tone in sorted(parts, key=lambda part: ranks.index(part[2]))
    ][:1]


_FORMS = (
    (_wide, _whole), (_wide, _words), (_close, _words), (_short, _words), (_wide, _labels),
    (_close, _labels), (_short, _labels), (_numbers, _whole), (_numbers, _words),
    (_numbers, _labels), (_close_numbers, _labels), (_close_numbers, _packed),
    (_numbers, _glyphs), (_numbers, _worst),
)  # fmt: skip
"""Tabs and state, the best first: words beside the state's glyphs go before whole titles."""


class Notices(InConsole, Painted):
    """What must be seen in every section: no service, a bypass, unwritten books, what has
    happened and is not well again, what can be taken back, a request."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "notices--banner", "notices--bad", "notices--good",
    }  # fmt: skip
    DEFAULT_CSS = """Notices { height: auto; dock: top; margin-top: 1;
        & > .notices--banner { background: $banner; color: $banner-text; text-style: bold; }
        & > .notices--bad { background: $error; color: $background; text-style: bold; }
        & > .notices--good { background: $success; color: $background; text-style: bold; }
    }"""

    def lines(self, width: int) -> list[Text]:
        app = self.console_app
        found: list[Text] = []
        banner = self.get_component_rich_style("notices--banner", partial=True)
        bad = self.get_component_rich_style("notices--bad", partial=True)
        link = app.store.link
        if link.state is LinkState.LOST:
            age = formats.duration(app.now - link.since)
            message = link.message if width >= NARROW else "No service."
            tail = f" Data is {age} old; retrying."
            room = width - len(tail) - 3
            head = f" {app.glyphs.bad} {formats.shorten(message, room)}"
            found.append(_filled(head + tail, bad, width))
            if link.hint:
                found.append(_filled(f"   {link.hint}", bad, width))
        if link.state is LinkState.LIVE and app.version and link.version:
            for told in differ(app.role, link.version, app.version) or ():
                text = formats.clean(calling.pasted(told), MAX_TROUBLE)
                found += [
                    _filled(f" {line}", banner, width) for line in textwrap.wrap(text, width - 2)
                ]
        status = app.store.gateway
        if status is not None and status.bypass:
            text = f" {app.glyphs.warn} BYPASS IS ON: traffic may leave outside the VPN."
            found.append(_filled(text, bad, width))
        for service in (status, app.store.client):
            for trouble in () if service is None else service.unwritten[:1]:
                text = f"{app.glyphs.warn} {formats.clean(trouble.found, MAX_TROUBLE)}"
                lines = textwrap.wrap(text, width - 2, max_lines=2, placeholder=" …")
                found += [_filled(f" {line}", bad, width) for line in lines]
        if standing := app.banners:
            shown = standing[0].rule
            style = banner
            if shown.good:
                style = self.get_component_rich_style("notices--good", partial=True)
            elif standing[0].event.level == "error" or shown.rank <= 1:
                style = bad
            found.append(_filled(self._happened(app, standing, width), style, width))
        if (undo := app.undo) is not None:
            left = formats.duration(undo.until - app.now)
            head = f" {app.glyphs.info} {formats.shorten(undo.done, max(10, width - 30))}"
            found.append(_filled(f"{head}  u takes it back ({left})", banner, width))
        request = app.current_request
        if request is not None:
            found += [_filled(line, banner, width) for line in self._request(app, request, width)]
        return found

    def _happened(self, app: Console, standing: list[Banner], width: int) -> str:
        """One line: what, when, what follows, the key that leads to the cause, how many more."""
        glyphs, dot = app.glyphs, app.glyphs.dot
        rule, event = standing[0].rule, standing[0].event
        key = actions.section_key(app.role, rule.section)
        where = "" if app.section == rule.section else f" {dot} {key}"
        more = f" +{len(standing) - 1}" if len(standing) > 1 else ""
        clock = time.strftime("%H:%M:%S", time.localtime(event.at))
        glyph = glyphs.ok if rule.good else glyphs.bad if rule.rank <= 1 else glyphs.warn
        what = rule.what.replace("{}", formats.clean(event.label, 24) or "A device")
        if rule.said and width >= NARROW:
            what = formats.clean(event.text.replace(f" ({event.device})", ""), 200)
        tail = f" {clock}{where}{more}"
        if width >= NARROW:
            so = f" {dot} {rule.so}" if rule.so else ""
            tail = f" {clock}{so}{where}{more}   esc hides"
        room = width - cell_len(tail) - 3
        return f" {glyph} {formats.shorten(what, max(room, 8))}{tail}"

    def _request(self, app: Console, request: schema.Request, width: int) -> list[str]:
        glyphs = app.glyphs
        more = len(app.store.requests) - 1
        label = formats.clean(request.label, 24) or "A device without a name"
        platform = formats.clean(request.platform, 10)
        left = formats.countdown(app.store.left("requests", request.expires_in, app.now))
        proof = f"code {formats.code(request.code)}" if request.code else "scanned your QR"
        keys = "a approve  d deny" if not app.store.link.read_only else "read only"
        who = f" {glyphs.warn} {label}" + (f" ({platform})" if platform else "")
        others = f" {glyphs.dot} +{more}" if more > 0 else ""
        if width < NARROW:
            first = formats.shorten(who + " wants in", width - 8) + others
            return [first, f"   {proof} {glyphs.dot} {left}  {keys}"]
        via = formats.clean(request.via, 6)
        head = f"{who} wants to join: " if width >= 100 else "   "
        second = f"{proof} {glyphs.dot} by {via} {glyphs.dot} {left}{others}   "
        more_keys = keys.replace("  d", "  A with rules  d")
        if cell_len(head + second + more_keys) <= width:
            keys = more_keys
        lines = [] if width >= 100 else [f"{who} wants to join"]
        return [*lines, f"{head}{second}{keys}"]


def _filled(line: str, style: Style, width: int) -> Text:
    return Text(formats.fit(line, width), style)


class KeyBar(_Bar):
    """The keys that work now, most specific first, as many as fit; all can be tapped."""

    DEFAULT_CSS = "KeyBar { height: 1; dock: bottom; background: $surface; }"

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._bindings_changed)

    def _bindings_changed(self, _: Screen[object]) -> None:
        self.redraw()

    def lines(self, width: int) -> list[Text]:
        self._targets = []
        if isinstance(self.screen.focused, Input):
            return [self._typing()]
        found: dict[str, tuple[str, str, str, bool]] = {}
        for _node, binding, enabled, _tip in self.screen.active_bindings.values():
            if binding.show and binding.id in actions.ORDER and binding.id not in found:
                found[binding.id] = (
                    self.app.get_key_display(binding),
                    footer_label(self.console_app, binding.id) or binding.description,
                    binding.key,
                    enabled,
                )
        ordered = sorted(found, key=actions.ORDER.__getitem__)
        # Help and quit come last in the registry but must always be reachable by touch.
        kept = [id for id in ordered if id in _ALWAYS]
        room = width - 1 - sum(_key_cells(found[id]) for id in kept)
        chosen = []
        for id in ordered:
            if id in _ALWAYS:
                continue
            cells = _key_cells(found[id])
            if cells <= room:
                room -= cells
                chosen.append(id)
        text = Text(" ")
        for id in (*chosen, *kept):
            key, label, name, enabled = found[id]
            start = cell_len(text.plain)
            text.append(key, self.tone("key" if enabled else "quiet"))
            text.append(f" {label}  ", self.tone("plain" if enabled else "quiet"))
            self._targets.append((start, cell_len(text.plain), name))
        return [text]

    def _typing(self) -> Text:
        """While letters go to an input, no letter is a key."""
        text = Text(" ")
        for key, label in (("enter", "keep"), ("escape", "clear")):
            start = cell_len(text.plain)
            text.append(actions.display_key(key), self.tone("key"))
            text.append(f" {label}  ")
            self._targets.append((start, cell_len(text.plain), key))
        return text


_ALWAYS = ("help.open", "console.quit")


def _key_cells(part: tuple[str, str, str, bool]) -> int:
    return cell_len(part[0]) + cell_len(part[1]) + 3
