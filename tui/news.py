"""What the link tells, as messages to the app.

Snapshots may replace each other in the queue: only the newest of a topic is
worth drawing. That the line came or went is never merged with anything.
"""

from __future__ import annotations

from textual.message import Message
from textual.message_pump import MessagePump

from control.client import Snapshot
from control.methods import Hello


class News(Message):
    """A snapshot came. A newer one of the same topic takes its place in the queue."""

    def __init__(self, role: str, snapshot: Snapshot) -> None:
        super().__init__()
        self.role = role
        self.snapshot = snapshot

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, News) and message.snapshot.topic == self.snapshot.topic


class LinkChanged(Message):
    """The service is there, or it is not."""

    def __init__(self, role: str, hello: Hello | None, message: str = "", hint: str = "") -> None:
        super().__init__()
        self.role = role
        self.hello = hello
        self.message = message
        self.hint = hint


class Reporter:
    """Turns what the link tells into messages (`tui.link.Listener`)."""

    def __init__(self, app: MessagePump, role: str) -> None:
        self._app = app
        self._role = role

    def link_live(self, hello: Hello) -> None:
        self._app.post_message(LinkChanged(self._role, hello))

    def link_lost(self, message: str, hint: str) -> None:
        self._app.post_message(LinkChanged(self._role, None, message, hint))

    def link_news(self, snapshot: Snapshot) -> None:
        self._app.post_message(News(self._role, snapshot))
