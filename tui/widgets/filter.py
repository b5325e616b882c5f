"""The line in which a filter is typed."""

from __future__ import annotations

from textual import events
from textual.widgets import Input


class FilterInput(Input):
    """The filter's line; escape leaves it."""

    def on_key(self, event: events.Key) -> None:
        if event.key in ("escape", "down"):
            event.stop()
            event.prevent_default()
            if event.key == "escape":
                self.value = ""
            self.post_message(self.Submitted(self, self.value))
