"""What all sections share: the bars, the topics they watch, and being told of news."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.screen import Screen

from tui import actions
from tui.clipboard import Copied
from tui.console import InConsole
from tui.offered import footer_label
from tui.store import Store
from tui.timers import SureTimers
from tui.widgets.bars import KeyBar, Notices, TopBar
from tui.widgets.painted import Painted
from tui.wire import SlimCompositor

ALWAYS: dict[str, dict[str, dict[str, Any]]] = {
    "gateway": {"status": {}, "requests": {}, "events": {}},
    "client": {"status": {}, "events": {}},
}
"""Topics that the bars need in every section, by role."""


class SectionScreen(InConsole, SureTimers, Screen[None]):
    """A section. Subclasses give a body, their topics, and what to do with news."""

    SECTION: ClassVar[str] = ""

    def __init__(self) -> None:
        super().__init__()
        self._compositor = SlimCompositor()
        self._facts: list[object] = []
        """What the keys at the foot were last drawn for; empty: not known."""
        self._top_bar = TopBar()
        self._notices = Notices()

    @property
    def store(self) -> Store:
        return self.console_app.store

    def compose(self) -> ComposeResult:
        yield self._top_bar
        yield self._notices
        yield from self.body()
        yield from self.foot()
        yield KeyBar()

    def body(self) -> ComposeResult:
        raise NotImplementedError

    def foot(self) -> ComposeResult:
        """What stands between the body and the keys."""
        yield from ()

    def copied(self) -> Copied | None:
        """What `y` copies now."""
        return None

    def topics(self) -> dict[str, dict[str, Any]]:
        """The topics of this section with their parameters, besides those of the bars."""
        return {}

    def update(self, topic: str | None) -> None:
        """News of a topic came; None: look at everything (the section was just opened)."""

    def tick(self) -> None:
        """A second passed: countdowns move."""

    def may(self, action: actions.Action) -> bool | None:
        """Whether one of the section's actions makes sense now; None greys it."""
        return True

    # Called by the app

    def news(self, topics: Collection[str] | None) -> None:
        """Redraw what shows these topics; None: everything."""
        if not self.is_mounted:
            return
        self._top_bar.redraw()
        self._notices.redraw()
        self.updates(topics)
        if topics is None:
            self.refresh_bindings()
        self.follow_keys()

    def follow_keys(self) -> None:
        """Redraw the keys at the foot if other ones work now."""
        facts = self._key_facts()
        if facts != self._facts:
            self.refresh_bindings()
            self._facts = facts

    def refresh_bindings(self) -> None:
        self._facts = []
        super().refresh_bindings()

    def updates(self, topics: Collection[str] | None) -> None:
        """Several topics at once."""
        for topic in topics if topics is not None else (None,):
            self.update(topic)

    def _key_facts(self) -> list[object]:
        """Everything that the foot's keys depend on: finding out costs less than drawing them."""
        return [
            (owner.check_action(action.method, ()), footer_label(self.console_app, action.id))
            for action in actions.ACTIONS
            for owner in (self.app, self)
            if (action.scope == actions.EVERYWHERE) is (owner is self.app)
            and action.scope in (actions.EVERYWHERE, actions.LISTS, self.SECTION)
        ]

    def second(self) -> None:
        """The clock moved on."""
        if self.is_mounted:
            self._notices.redraw()
            self.tick()

    def want(self) -> None:
        """Watch the section's topics, also behind a dialog."""
        self.console_app.want(self, self.topics())

    def rewatch(self) -> None:
        """The topics' parameters changed."""
        if self.is_current:
            self.want()

    def on_screen_resume(self) -> None:
        self.want()
        self.news(None)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        known = actions.BY_METHOD.get(action)
        if known is None or known.scope not in (self.SECTION, actions.LISTS):
            return True
        if self.console_app.role not in known.roles:
            return False
        if known.write and self.store.link.read_only:
            return False
        return self.may(known)


def redraw_all(screen: SectionScreen) -> None:
    """Have every card of a section compare itself with the store."""
    for painted in screen.query(Painted):
        painted.redraw()
