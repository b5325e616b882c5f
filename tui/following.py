"""The console's own settings: it begins with them, and follows whoever changes them.

A setting is changed in Settings, and then this console is told by the service's answer; or by
another console, a command or an editor, and then the file is another one at the next look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from textual.notifications import SeverityLevel

from control import schema
from control.changes import Changes
from tui import actions, themes
from tui.link import Link
from tui.looks import Looks


class Host(Protocol):
    """What the settings are carried out on; `tui.app` has it."""

    @property
    def link(self) -> Link: ...

    @property
    def looks(self) -> Looks: ...

    def tell(self, text: str, severity: SeverityLevel = ...) -> None: ...

    def set_keymap(self, keymap: Mapping[str, str]) -> None: ...

    def redraw(self) -> None:
        """Draw everything anew."""


class Settings:
    """How a console is set.

    Args:
        keymap: action ids to keys.
        bell: ring when a device begins to wait.
        interval: seconds between two snapshots of a topic.
        changes: what has changed in the file since the last look.
    """

    def __init__(
        self,
        host: Host,
        *,
        keymap: Mapping[str, str],
        bell: bool,
        interval: float,
        changes: Callable[[], Changes] | None,
    ) -> None:
        self._host = host
        self.keymap = dict(keymap)
        self.bell = bell
        self.interval = interval
        self._changes = changes

    def use_keys(self, keymap: Mapping[str, str]) -> None:
        """Have these keys, as far as they can be used; what is wrong with some is told."""
        for problem in actions.keymap_problems(keymap):
            self._host.tell(problem, "warning")
        self.keymap = actions.usable(keymap)
        self._host.set_keymap(self.keymap)

    def follow(self, setting: schema.Setting) -> None:
        """Be as a changed setting of the console says, as far as that is possible now."""
        host, value = self._host, setting.value
        match setting.key:
            case "console.theme":
                if problem := host.looks.use(value or themes.DEFAULT_THEME):
                    host.tell(problem, "warning")
            case "console.bell":
                self.bell = bool(value)
            case "console.refresh":
                self.interval = float(value)
                host.link.set_interval(self.interval)
            case "console.keys":
                if actions.usable(value) != self.keymap:
                    self.use_keys(value)
            case "console.ascii":
                host.looks.use_ascii(bool(value))
                host.redraw()

    def look(self) -> None:
        """See whether somebody has changed them elsewhere."""
        if self._changes is None:
            return
        found = self._changes()
        if found.problem:
            self._host.tell(f"Settings stay as they are. {found.problem}", "warning")
        for setting in found.settings:
            self.follow(setting)
