"""The console: one Textual app for both services, over the control socket.

It is put together here, of parts that do not know it: how it follows its services
(`tui.watching`), calls and tells (`tui.telling`), looks (`tui.looks`), is set
(`tui.following`), and what its actions do (`tui.answers`, `tui.switches`). Each section is a
screen in a mode of its own, and knows `tui.console`. Requests of waiting devices are
announced in every section and can be answered there; a request can be approved
only after its name and code have stood on the screen for a moment, so that a
key that was meant for one device never lets another one in.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual.command import Provider
from textual.driver import Driver
from textual.drivers.linux_driver import LinuxDriver
from textual.filter import LineFilter
from textual.widgets import Input

from control import schema
from control.changes import Changes
from control.methods import DEFAULT_INTERVAL
from tui import actions, answers, terminal, themes
from tui.clipboard import Copied
from tui.driver import IdleDriver
from tui.following import Settings
from tui.formats import Glyphs
from tui.link import Connect, connector
from tui.looks import Looks
from tui.offered import offered
from tui.palette import ConsoleCommands
from tui.screens.dialog import Palette
from tui.screens.flows import FlowsScreen
from tui.screens.listing import ListScreen
from tui.screens.modals import HelpScreen
from tui.screens.rules import approve_with_rules
from tui.screens.section import SectionScreen, redraw_all
from tui.screens.sections import SCREENS
from tui.switches import switch_sharing, switch_tunnel
from tui.timers import SureTimers
from tui.watching import SECOND, Watching
from tui.widgets.painted import TONE_CSS, TONES

TERMINATED = 128 + signal.SIGTERM
"""The exit code after SIGTERM, as shells give it."""
WIDTHS = [(0, "-narrow"), (72, "-normal"), (120, "-wide")]
HEIGHTS = [(0, "-short"), (34, "-tall")]
"""Classes of every screen, by the columns and rows from which on it has them."""


class ConsoleApp(SureTimers, Watching):
    """The console.

    Args:
        services: how to reach the service of each role that there is.
        role: the one to begin with.
        section: the section to begin with; None: the role's first.
        theme: name of a theme.
        themes_dir: the user's own themes.
        interval: seconds between two snapshots of a topic.
        keymap: action ids to keys.
        bell: ring when a device begins to wait.
        ascii: no symbols beyond ASCII.
        by_ssh: the services are on another machine.
        on_theme: told the theme that the user chose to keep.
        changes: what has changed in the console's settings, asked once a second.
        on_failure: told what nobody foresaw; the console ends then, with exit code 1.
        version: which version this program is; one of the service that differs is said.
        clock, wall: monotonic and Unix time.
    """

    TITLE = "VPN Share"
    COMPONENT_CLASSES: ClassVar[set[str]] = set(TONES)
    CSS_PATH = "console.tcss"
    DEFAULT_CSS = "ConsoleApp { " + TONE_CSS + "}"
    HORIZONTAL_BREAKPOINTS = WIDTHS
    VERTICAL_BREAKPOINTS = HEIGHTS
    BINDINGS = actions.bindings(actions.EVERYWHERE)
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {ConsoleCommands}
    COMMAND_PALETTE_BINDING = "ctrl+backslash"
    ENABLE_COMMAND_PALETTE = True

    def __init__(
        self,
        services: Mapping[str, Connect],
        role: str = "gateway",
        *,
        section: str | None = None,
        theme: str = themes.DEFAULT_THEME,
        themes_dir: Path | None = None,
        interval: float = DEFAULT_INTERVAL,
        keymap: Mapping[str, str] | None = None,
        bell: bool = True,
        ascii: bool = False,
        by_ssh: bool = False,
        on_theme: Callable[[str], None] | None = None,
        changes: Callable[[], Changes] | None = None,
        on_failure: Callable[[Exception], None] | None = None,
        version: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(services, role, clock, wall)
        self.animation_level = "none"
        self.section = section or actions.sections(role)[0].id
        self.looks = Looks(self, themes_dir, ascii)
        self.settings = Settings(
            self, keymap=keymap or {}, bell=bell, interval=interval, changes=changes
        )
        self.by_ssh = by_ssh
        self._theme_wanted = theme
        self._on_theme = on_theme
        self._on_failure = on_failure
        self.version = version
        for (owner, name), screen in SCREENS.items():
            self.add_mode(f"{owner}.{name}", screen)

    # Start

    def get_driver_class(self) -> type[Driver]:
        wanted = super().get_driver_class()  # or what TEXTUAL_DRIVER names
        return IdleDriver if wanted is LinuxDriver else wanted

    def get_line_filters(self) -> Sequence[LineFilter]:
        return self.looks.filters(super().get_line_filters())

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return themes.variable_defaults()

    def on_mount(self) -> None:
        if not self.is_headless:
            terminal.at_termination(partial(self.exit, return_code=TERMINATED))
        for problem in self.looks.start(self._theme_wanted):
            self.tell(problem, "warning")
        self.settings.use_keys(self.settings.keymap)
        self.open_link()
        self.set_interval(SECOND, self.second)
        self.screen_change_signal.subscribe(self, self.screen_changed)
        self.open_section(self.section)

    # Facts, besides those of its services

    @property
    def glyphs(self) -> Glyphs:
        return self.looks.glyphs

    @property
    def themes(self) -> Mapping[str, themes.ThemeFile]:
        return self.looks.themes

    @property
    def interval(self) -> float:
        return self.settings.interval

    @property
    def at_section(self) -> bool:
        return isinstance(self.screen, SectionScreen) and not isinstance(self.focused, Input)

    def copied(self) -> Copied | None:
        screen = self.section_screen
        return screen.copied() if screen is not None and screen.is_mounted else None

    # Sections

    def open_section(self, section: str) -> None:
        """Show a section of the present role."""
        self.section = section
        self.switch_mode(f"{self.role}.{section}")

    def action_section(self, number: int) -> None:
        found = actions.sections(self.role)
        if 1 <= number <= len(found):
            self.open_section(found[number - 1].id)

    def show_flows(self, peer: str, label: str) -> None:
        """Show one device's flows."""
        self.open_section("flows")
        screen = self.section_screen
        if isinstance(screen, FlowsScreen):
            screen.show_peer(peer, label)

    def show_row(self, section: str, row_id: str) -> None:
        """Show a section's list with the cursor on that row, whatever was filtered there."""
        self.open_section(section)
        screen = self.section_screen
        if isinstance(screen, ListScreen):
            screen.look_for("", row_id)

    def find_flows(self, words: str) -> None:
        """Show the flows that contain these words."""
        self.open_section("flows")
        screen = self.section_screen
        if isinstance(screen, FlowsScreen):
            screen.look_for(words)

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return offered(self, action)

    def ask(self, question: Coroutine[Any, Any, None]) -> None:
        self.run_worker(question, group="ask", exclusive=True)

    def action_change_undo(self) -> None:
        if (undo := self.service.take_undo(self.now)) is not None:
            self.start(undo.method, undo.undone, **undo.params)
            self.redraw_bars()

    def action_banner_hide(self) -> None:
        if self.service.hide_banner(self.now) and (screen := self.section_screen) is not None:
            screen.second()

    def action_request_approve(self) -> None:
        if (request := self.service.waiting.approvable(self.now)) is not None:
            answers.approve(self, request)

    def action_request_rules(self) -> None:
        if (request := self.service.waiting.approvable(self.now)) is not None:
            self.ask(approve_with_rules(self, request))

    def action_request_deny(self) -> None:
        if (request := self.current_request) is not None:
            self.run_worker(answers.deny(self, request), group="calls")

    def action_code_agree(self) -> None:
        if (code := self.shown_code) is not None:
            answers.agree(self, code)

    def action_code_refuse(self) -> None:
        if self.shown_code is not None:
            answers.refuse(self)

    def action_share_toggle(self) -> None:
        switch_sharing(self)

    def action_tunnel_toggle(self) -> None:
        switch_tunnel(self)

    def action_pair_open(self) -> None:
        self.open_section("pair")

    def action_item_copy(self) -> None:
        if (found := self.copied()) is not None:
            self.copy(found)

    def action_link_retry(self) -> None:
        self.link.retry()

    def action_role_switch(self) -> None:
        others = [role for role in self.roles if role != self.role]
        if others:
            self.role = others[0]
            self.open_link()
            self.open_section(actions.sections(self.role)[0].id)

    def action_theme_pick(self) -> None:
        self.push_screen(self.looks.chooser(), self._theme_picked)

    async def choose_theme(self) -> str | None:
        return await self.push_screen_wait(self.looks.chooser())

    def _theme_picked(self, name: str | None) -> None:
        if name is not None:
            self.keep_theme(name)

    def keep_theme(self, name: str) -> None:
        """Switch to a theme and say so to whoever remembers it."""
        self.theme = name
        if self._on_theme is not None:
            self._on_theme(name)

    def follow_setting(self, setting: schema.Setting) -> None:
        self.settings.follow(setting)

    def redraw(self) -> None:
        """Draw everything anew: its symbols are others."""
        self.refresh_css(animate=False)
        for screen in self.screen_stack:
            if isinstance(screen, SectionScreen):
                redraw_all(screen)

    def action_command_palette(self) -> None:
        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(id="--command-palette"))

    def action_palette_open(self) -> None:
        self.action_command_palette()

    def action_help_open(self) -> None:
        self.push_screen(HelpScreen(self.role, self.section, self.settings.keymap))

    def action_console_quit(self) -> None:
        self.exit(0)

    def _handle_exception(self, error: Exception) -> None:
        """End without a traceback on the user's screen. Whoever runs the console is told."""
        if self._on_failure is None:
            super()._handle_exception(error)
            return
        self._return_code = 1
        self._on_failure(error)
        self._close_messages_no_wait()


def run(
    socket_path: str,
    role: str = "gateway",
    *,
    other_socket: str | None = None,
    read_only: bool = False,
    **options: Any,
) -> int:
    """Run the console on a service's control socket until the user leaves it.

    Args:
        socket_path: the socket of the service of `role`.
        role: `gateway` or `client`.
        other_socket: the socket of the other service, if that can be reached too.
        read_only: give up the permission to change anything.
        options: those of `ConsoleApp`.

    Returns:
        The exit code.
    """
    services = {role: connector(socket_path, role, read_only)}
    if other_socket is not None:
        other = "client" if role == "gateway" else "gateway"
        services[other] = connector(other_socket, other, read_only)
    app = ConsoleApp(services, role, **options)
    return app.run() or app.return_code or 0
