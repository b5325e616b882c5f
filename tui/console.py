"""What the console is to all that stands in it: what it knows, and what it can be asked to do.

Sections, cards, bars and the palette know this and not the app, which knows all of them: so
each of them is read, and changed, without the others. They find it as `console_app`.
"""

from __future__ import annotations

from collections.abc import Collection, Coroutine, Mapping
from typing import Any, Protocol, TypeVar, cast

from textual.app import App
from textual.message_pump import MessagePump
from textual.notifications import SeverityLevel
from textual.screen import Screen

from control import schema
from tui.banners import Banner
from tui.clipboard import Copied
from tui.formats import Glyphs
from tui.link import Link, Topics
from tui.store import Store
from tui.themes import ThemeFile
from tui.undo import Undo

Answer = TypeVar("Answer")


class Console(Protocol):
    """The console, as its parts see it; `tui.app` has it."""

    # What it knows

    @property
    def role(self) -> str:
        """The service that is shown: `gateway` or `client`."""

    @property
    def roles(self) -> Collection[str]:
        """The services that can be reached."""

    @property
    def section(self) -> str:
        """The section that is shown."""

    @property
    def store(self) -> Store:
        """What is known of that service."""

    @property
    def link(self) -> Link:
        """The line to it."""

    @property
    def version(self) -> str | None:
        """Which version this program is."""

    @property
    def by_ssh(self) -> bool:
        """Whether the services are on another machine."""

    @property
    def interval(self) -> float:
        """Seconds between two snapshots of a topic."""

    @property
    def now(self) -> float:
        """Monotonic seconds."""

    @property
    def wall(self) -> float:
        """Unix time."""

    @property
    def glyphs(self) -> Glyphs: ...

    @property
    def themes(self) -> Mapping[str, ThemeFile]:
        """Those that there are, by name."""

    @property
    def banners(self) -> list[Banner]:
        """What has happened and is not well again, the gravest first."""

    @property
    def undo(self) -> Undo | None:
        """What can be taken back now."""

    @property
    def current_request(self) -> schema.Request | None:
        """The waiting device that the keys mean."""

    @property
    def shown_code(self) -> str | None:
        """The digits of a first contact that wait for this device's user."""

    @property
    def at_section(self) -> bool:
        """Whether keys go to the section: no question is asked, and no letter is typed."""

    def copied(self) -> Copied | None:
        """What would be copied now."""

    # What it does

    def want(self, section: Screen[None], topics: Topics) -> None:
        """Watch these topics for a section, while it is the one that is shown."""

    def tell(self, text: str, severity: SeverityLevel = ...) -> None:
        """A sentence beside what is in use, for a few seconds. Never read as markup."""

    def tell_unwritten(self, unwritten: list[schema.Unwritten]) -> None:
        """A change is in force and was not stored."""

    def copy(self, copied: Copied) -> None:
        """Have the terminal put a text on its clipboard, and say what it is."""

    def start(self, method: str, done: str, **params: Any) -> None:
        """Call a method of the service and tell how it went."""

    async def carry_out(self, method: str, done: str, **params: Any) -> bool:
        """The same, for those who wait for it. Whether it succeeded."""

    async def push_screen_wait(self, screen: Screen[Answer]) -> Answer:
        """Ask by a dialog; only in a worker."""

    def ask(self, question: Coroutine[Any, Any, None]) -> None:
        """Begin to ask, in the place of a question that is open."""

    def offer_undo(self, done: str, method: str, undone: str, **params: Any) -> None:
        """Let a change be taken back for a while, by calling `method`.

        `done` says what was changed; `undone` is told when it was taken back.
        """

    def select_request(self, id: str | None) -> None:
        """Make another request the one that the banner shows."""

    def follow_setting(self, setting: schema.Setting) -> None:
        """Be as a changed setting of the console says, as far as that is possible now."""

    def keep_theme(self, name: str) -> None:
        """Switch to a theme and say so to whoever remembers it."""

    async def choose_theme(self) -> str | None:
        """Have a theme chosen, each tried on before; only in a worker."""

    def action_section(self, number: int) -> None:
        """Show the section with that key."""

    def show_flows(self, peer: str, label: str) -> None:
        """Show one device's flows."""

    def show_row(self, section: str, row_id: str) -> None:
        """Show a section's list with the cursor on that row, whatever was filtered there."""

    def find_flows(self, words: str) -> None:
        """Show the flows that contain these words."""


def console_of(app: App[Any]) -> Console:
    """The console that an app is: our sections, cards and bars stand in no other."""
    return cast("Console", app)


class InConsole(MessagePump):
    """Mixed in before a class of Textual's."""

    @property
    def console_app(self) -> Console:
        return console_of(self.app)
