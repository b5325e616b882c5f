"""The console: one Textual app for both services, over the control socket.

The app owns the link to the service, the store of what the link brought, the
themes, and the actions that work everywhere. Each section is a screen in a
mode of its own. News goes one way: link > message > store > the section on the
screen. Only that section's topics are watched. Requests of waiting devices are
announced in every section and can be answered there; a request can be approved
only after its name and code have stood on the screen for a moment, so that a
key that was meant for one device never lets another one in.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import App
from textual.command import Provider
from textual.driver import Driver
from textual.drivers.linux_driver import LinuxDriver
from textual.filter import LineFilter, Monochrome
from textual.screen import Screen
from textual.widgets import Input

from services.console_settings import Changes
from services.control import schema
from services.control.errors import ControlError
from services.control.methods import DEFAULT_INTERVAL
from tui import actions, formats, messages, terminal, themes
from tui.banners import Banner, Banners
from tui.clipboard import Copied
from tui.colourless import Colourless
from tui.driver import IdleDriver
from tui.link import Connect, Link, Topics, connector, is_read_only
from tui.news import LinkChanged, News, Reporter
from tui.palette import ConsoleCommands
from tui.plain import AsciiFilter
from tui.screens.dialog import Palette
from tui.screens.flows import FlowsScreen
from tui.screens.listing import ListScreen
from tui.screens.modals import ConfirmScreen, HelpScreen, ThemeScreen
from tui.screens.rules import approve_with_rules
from tui.screens.section import ALWAYS, SectionScreen, redraw_all
from tui.screens.sections import SCREENS
from tui.store import LinkState, Store
from tui.timers import SureTimers
from tui.undo import UNDO_SECONDS, Undo
from tui.waiting import Waiting
from tui.widgets.table import RowTable

TERMINATED = 128 + signal.SIGTERM
"""The exit code after SIGTERM, as shells give it."""
SECOND = 1.0


class ConsoleApp(SureTimers, App[int]):
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
    CSS_PATH = "console.tcss"
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
        super().__init__()
        self.animation_level = "none"
        self.services = services
        self.role = role
        self.section = section or actions.sections(role)[0].id
        self.stores = {known: Store() for known in services}
        self.link: Link
        self.glyphs = formats.ASCII if ascii else formats.UNICODE
        self._ascii = AsciiFilter()
        self._colourless: dict[str, Colourless] = {}
        """By theme."""
        self.themes: dict[str, themes.ThemeFile] = {}
        self.user_keymap = dict(keymap or {})
        self.by_ssh = by_ssh
        self._theme_wanted = theme
        self._themes_dir = themes_dir
        self.interval = interval
        self._bell = bell
        self._on_theme = on_theme
        self._changes = changes
        self._on_failure = on_failure
        self.version = version
        self._clock = clock
        self._wall = wall
        self._waiting = {known: Waiting() for known in services}
        self._banners = {known: Banners(known) for known in services}
        self._undo: dict[str, Undo] = {}
        """What can be taken back, by role."""
        self._fresh: set[str] = set()
        """Topics with news that are not on the screen yet."""
        self._moved = float("-inf")
        """When time was last let move on the screen."""
        for (owner, name), screen in SCREENS.items():
            self.add_mode(f"{owner}.{name}", screen)

    # Start

    def get_driver_class(self) -> type[Driver]:
        wanted = super().get_driver_class()  # or what TEXTUAL_DRIVER names
        return IdleDriver if wanted is LinuxDriver else wanted

    def get_line_filters(self) -> Sequence[LineFilter]:
        filters = [each for each in super().get_line_filters() if not isinstance(each, Monochrome)]
        if self.colourless:
            if self.theme not in self._colourless:
                self._colourless[self.theme] = Colourless(self.get_css_variables())
            filters.append(self._colourless[self.theme])
        if self.glyphs is formats.ASCII:
            filters.append(self._ascii)
        return filters

    @property
    def colourless(self) -> bool:
        """Whether all is drawn in the terminal's own two colours."""
        theme = self.themes.get(self.theme)
        return self.no_color or (theme is not None and theme.two_colors)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return themes.variable_defaults()

    def on_mount(self) -> None:
        if not self.is_headless:
            terminal.at_termination(partial(self.exit, return_code=TERMINATED))
        self._load_themes()
        for problem in actions.keymap_problems(self.user_keymap):
            self.tell(problem, "warning")
        self.user_keymap = actions.usable(self.user_keymap)
        self.set_keymap(self.user_keymap)
        self._open_link()
        self.set_interval(SECOND, self._second)
        self.open_section(self.section)

    def _read_themes(self) -> list[str]:
        """Take the themes from their files; what is wrong with some."""
        self.themes, problems = themes.load(self._themes_dir)
        self._colourless.clear()
        for theme in self.themes.values():
            self.register_theme(theme.to_theme())
        return problems

    def _load_themes(self) -> None:
        problems = self._read_themes()
        wanted = self._theme_wanted
        if wanted not in self.themes:
            problems.append(f"There is no theme {formats.clean(wanted, 32)!r}.")
            wanted = themes.DEFAULT_THEME
        self.theme = wanted
        for problem in problems:
            self.tell(problem, "warning")

    def _open_link(self) -> None:
        self.link = Link(self.services[self.role], Reporter(self, self.role), self.interval)
        self.store.link.state = LinkState.CONNECTING
        self.run_worker(
            self.link.run(), name="link", group="link", exclusive=True, exit_on_error=False
        )

    # Facts for the screens

    @property
    def store(self) -> Store:
        return self.stores[self.role]

    @property
    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock()

    @property
    def wall(self) -> float:
        """Unix time."""
        return self._wall()

    @property
    def section_screen(self) -> SectionScreen | None:
        """The section on the screen, under whatever stands in front of it."""
        for screen in reversed(self.screen_stack):
            if isinstance(screen, SectionScreen):
                return screen
        return None

    @property
    def current_request(self) -> schema.Request | None:
        """The request that the banner shows and that `a` and `d` mean."""
        return self._waiting[self.role].current

    @property
    def banners(self) -> list[Banner]:
        """What has happened and is not well again, the gravest first."""
        if self.store.link.state is not LinkState.LIVE:
            return []
        status = self.store.gateway
        well = set()
        if status is not None and (status.sharing == "off" or status.vpn.state == "active"):
            well.add("vpn_lost")
        return self._banners[self.role].standing(self.now, frozenset(well))

    @property
    def undo(self) -> Undo | None:
        """What can be taken back now."""
        undo = self._undo.get(self.role)
        live = self.store.link.state is LinkState.LIVE
        return undo if live and undo is not None and self.now < undo.until else None

    def offer_undo(self, done: str, method: str, undone: str, **params: Any) -> None:
        """Let a change be taken back for a while, by calling `method`.

        `done` says what was changed; `undone` is told when it was taken back.
        """
        until = self.now + UNDO_SECONDS
        self._undo[self.role] = Undo(done, method, undone, params, until)
        if (screen := self.section_screen) is not None:
            screen.news(())

    def action_label(self, id: str) -> str | None:
        """The footer's words where they depend on the state."""
        store = self.store
        if id == "dns.recent" and store.dns is not None:
            return "Forget" if store.dns.recent_limit else "Keep"
        if id == "share.toggle" and store.gateway is not None:
            return "Share" if store.gateway.sharing == "off" else "Unshare"
        if id == "role.switch":
            return "Client" if self.role == "gateway" else "Gateway"
        if id == "tunnel.toggle" and store.client is not None:
            return "Connect" if store.client.state in ("idle", "failed") else "Disconnect"
        return None

    # News

    def on_link_changed(self, event: LinkChanged) -> None:
        if event.role != self.role:
            return
        link = self.store.link
        if event.hello is not None:
            link.state = LinkState.LIVE
            link.message = link.hint = ""
            link.read_only = is_read_only(event.hello)
            link.version = event.hello.version
            self.run_worker(self._recall(self.role), group="recall", exclusive=True)
        else:
            if link.state is not LinkState.LOST:
                link.since = self.now
            link.state = LinkState.LOST
            link.message = formats.clean(event.message, 160)
            link.hint = formats.clean(event.hint, 160)
            self.store.remembers = False  # the next one may be of another version
        self.refresh_bindings()
        if (screen := self.section_screen) is not None:
            screen.news(None)

    async def _recall(self, role: str) -> None:
        """Begin with the history that the service has; one of an older version has none."""
        try:
            traffic: schema.Traffic = await self.link.call("traffic")
        except ControlError:
            return
        if role != self.role:
            return
        self.store.recall(traffic, role == "client", self.now)
        if (screen := self.section_screen) is not None:
            screen.news(None)
            screen.rewatch()

    def on_news(self, event: News) -> None:
        if event.role != self.role:
            return
        topic = event.snapshot.topic
        self.store.put(topic, event.snapshot.data, self.now)
        if topic == "requests":
            is_new = self._waiting[self.role].put(self.store.requests, self.now)
            if is_new and self._bell:
                self.bell()
        elif topic == "events":
            self._banners[self.role].put(self.store.events, self.now, self.wall)
        # The snapshots of one turn come one right behind the other: they are drawn together.
        if not self._fresh:
            self.call_later(self._draw_news)
        self._fresh.add(topic)

    def _draw_news(self) -> None:
        topics, self._fresh = self._fresh, set()
        if (screen := self.section_screen) is not None:
            screen.news(topics)
        self._second()

    def _second(self) -> None:
        """Let countdowns and histories move, once a second.

        With the news where it comes as often: two repaints a second cost twice as much as
        one. The timer is there for when no news comes.
        """
        if not self.is_headless and terminal.gone():
            self.exit(0)
            return
        if self.now - self._moved < SECOND * 0.9:
            return
        self._moved = self.now
        self._place_messages()
        self.store.sample(self.now)
        self._follow_file()
        if (screen := self.section_screen) is not None:
            if self._undo.get(self.role) is not None and self.undo is None:
                del self._undo[self.role]
                screen.news(())
            screen.second()

    def want(self, section: Screen[None], topics: Topics) -> None:
        """Watch these topics for a section, while it is the one that is shown."""
        if self.section_screen is section:
            self.link.want({**ALWAYS[self.role], **topics})
            self._place_messages()

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

    # Calls

    def tell(self, text: str, severity: str = "information") -> None:
        """A sentence beside what is in use, for a few seconds. Never read as markup."""
        self.notify(
            formats.clean(text, 240),
            severity=severity,  # type: ignore[arg-type]
            markup=False,
            timeout=6 if severity == "information" else 10,
        )
        self.call_later(self._place_messages)  # behind the message itself

    def _place_messages(self) -> None:
        """Keep the messages off what is in use."""
        told = [each.message for each in self._notifications]
        if told and self.screen_stack:
            messages.place(self.screen, told, self.console)

    @on(RowTable.Highlighted)
    def _cursor_moved(self) -> None:
        self._place_messages()

    def start(self, method: str, done: str, **params: Any) -> None:
        """Call a method of the service and tell how it went."""
        self.run_worker(self.carry_out(method, done, **params), group="calls")

    async def carry_out(self, method: str, done: str, **params: Any) -> bool:
        """The same, for those who wait for it. Whether it succeeded."""
        try:
            answer = await self.link.call(method, **params)
        except ControlError as error:
            self.tell(" ".join(filter(None, (error.message, error.hint))), "error")
            return False
        self.tell(done)
        self.tell_unwritten(getattr(answer, "unwritten", []))
        return True

    def tell_unwritten(self, unwritten: list[schema.Unwritten]) -> None:
        """A change is in force and was not stored."""
        for each in unwritten:
            self.tell(f"{each.found} {each.advice}", "warning")

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        known = actions.BY_METHOD.get(action)
        if known is None or known.scope != actions.EVERYWHERE:
            return True
        store = self.store
        if self.role not in known.roles or (known.write and store.link.read_only):
            return False
        if known.id in ("request.approve", "request.rules", "request.deny"):
            return self.current_request is not None
        if known.id in ("code.agree", "code.refuse"):
            return self.shown_code is not None
        if known.id == "change.undo":
            return self.undo is not None and self._at_section
        if known.id == "banner.hide":
            return self._at_section and bool(self.banners)
        if known.id == "pair.open":
            return self.section != "pair"
        if known.id == "role.switch":
            return len(self.services) > 1
        if known.id == "link.retry":
            return store.link.state is LinkState.LOST
        if known.id == "item.copy":
            screen = self.section_screen
            if screen is None or not screen.is_mounted:
                return None
            return True if screen.copied() is not None else None
        return True

    @property
    def _at_section(self) -> bool:
        """Whether keys go to the section: no question is asked, and no letter is typed."""
        return isinstance(self.screen, SectionScreen) and not isinstance(self.focused, Input)

    def action_change_undo(self) -> None:
        if (undo := self.undo) is not None:
            del self._undo[self.role]
            self.start(undo.method, undo.undone, **undo.params)
            if (screen := self.section_screen) is not None:
                screen.news(())

    def action_banner_hide(self) -> None:
        if found := self.banners:
            self._banners[self.role].hide(found[0])
            if (screen := self.section_screen) is not None:
                screen.second()

    def select_request(self, id: str | None) -> None:
        """Make another request the one that the banner shows."""
        if id is None or not self._waiting[self.role].select(id, self.now):
            return
        if (screen := self.section_screen) is not None:
            screen.second()

    def action_request_approve(self) -> None:
        if (request := self._waiting[self.role].approvable(self.now)) is not None:
            label = formats.clean(request.label) or "The device"
            self.start("approve", f"{label} is approved.", id=request.id)

    def action_request_rules(self) -> None:
        if (request := self._waiting[self.role].approvable(self.now)) is not None:
            self.run_worker(approve_with_rules(self, request), group="ask", exclusive=True)

    def action_request_deny(self) -> None:
        if (request := self.current_request) is not None:
            label = formats.clean(request.label) or "The device"
            self.run_worker(self._deny(request, label), group="calls")

    async def _deny(self, request: schema.Request, label: str) -> None:
        done = f"{label} is denied."
        # The config of a WireGuard app is forgotten with the denial.
        if await self.carry_out("deny", done, id=request.id) and request.via != "wireguard":
            self.offer_undo(done, "undeny", f"{label} may ask again.", id=request.id)

    def action_share_toggle(self) -> None:
        status = self.store.gateway
        if status is None:
            return
        if status.sharing == "off":
            self.start("share", "Sharing is on.")
        elif status.connected == 0:
            self.run_worker(self._stop_sharing(), group="ask", exclusive=True)
        else:
            question = ConfirmScreen(
                f"Stop sharing “{formats.clean(status.name, 32)}”?",
                f"{formats.count(status.connected, 'device')} will lose the Internet at once.",
                "Stop",
            )
            self.run_worker(self._stop_sharing(question), group="ask", exclusive=True)

    async def _stop_sharing(self, question: ConfirmScreen | None = None) -> None:
        if question is not None and not await self.push_screen_wait(question):
            return
        if await self.carry_out("unshare", "Sharing is off."):
            self.offer_undo("Sharing is off.", "share", "Sharing is on.")

    def action_pair_open(self) -> None:
        self.open_section("pair")

    @property
    def shown_code(self) -> str | None:
        """The digits of a first contact that wait for this device's user."""
        status = self.store.client
        return status.code if status is not None and status.state == "asked" else None

    def action_code_agree(self) -> None:
        if (code := self.shown_code) is not None:
            self.start("confirm", "The digits are the same: the gateway is believed.", code=code)

    def action_code_refuse(self) -> None:
        if self.shown_code is not None:
            self.start("refuse", "Other digits: nothing was taken from what answered.")

    def action_tunnel_toggle(self) -> None:
        status = self.store.client
        if status is not None and status.state in ("connected", "reconnecting"):
            gateway = formats.clean(status.gateway or "the gateway", 32)
            question = ConfirmScreen(
                f"Disconnect from “{gateway}”?",
                "Connections through the tunnel end, and traffic leaves outside it again.",
                "Disconnect",
            )
            self.run_worker(self._disconnect(question), group="ask", exclusive=True)
        elif status is not None and status.state not in ("idle", "failed"):
            self.start("disconnect", "Disconnected.")
        else:
            self.start("connect", "Connecting.")

    async def _disconnect(self, question: ConfirmScreen) -> None:
        if await self.push_screen_wait(question):
            await self.carry_out("disconnect", "Disconnected.")

    def action_item_copy(self) -> None:
        screen = self.section_screen
        found = screen.copied() if screen is not None else None
        if found is not None:
            self.copy(found)

    def copy(self, copied: Copied) -> None:
        """Have the terminal put a text on its clipboard (OSC 52), and say what it is."""
        self.copy_to_clipboard("\n".join(copied.lines))
        self.tell(copied.told)

    def action_link_retry(self) -> None:
        self.link.retry()

    def action_role_switch(self) -> None:
        others = [role for role in self.services if role != self.role]
        if others:
            self.role = others[0]
            self._open_link()
            self.open_section(actions.sections(self.role)[0].id)

    def action_theme_pick(self) -> None:
        self.push_screen(self._theme_screen(), self._theme_picked)

    async def choose_theme(self) -> str | None:
        """Have a theme chosen, each tried on before."""
        return await self.push_screen_wait(self._theme_screen())

    def _theme_screen(self) -> ThemeScreen:
        """All themes to choose from, also those whose files came while the console was open."""
        self._read_themes()
        preview = partial(setattr, self, "theme")
        return ThemeScreen(list(self.themes.values()), self.theme, preview)

    def _theme_picked(self, name: str | None) -> None:
        if name is not None:
            self.keep_theme(name)

    def keep_theme(self, name: str) -> None:
        """Switch to a theme and say so to whoever remembers it."""
        self.theme = name
        if self._on_theme is not None:
            self._on_theme(name)

    def follow_setting(self, setting: schema.Setting) -> None:
        """Be as a changed setting of the console says, as far as that is possible now."""
        value = setting.value
        if setting.key == "console.theme":
            self._follow_theme(value or themes.DEFAULT_THEME)
        elif setting.key == "console.bell":
            self._bell = bool(value)
        elif setting.key == "console.refresh":
            self.interval = float(value)
            self.link.set_interval(self.interval)
        elif setting.key == "console.keys" and actions.usable(value) != self.user_keymap:
            for problem in actions.keymap_problems(value):
                self.tell(problem, "warning")
            self.user_keymap = actions.usable(value)
            self.set_keymap(self.user_keymap)
        elif setting.key == "console.ascii":
            self.glyphs = formats.ASCII if value else formats.UNICODE
            self.refresh_css(animate=False)
            for screen in self.screen_stack:
                if isinstance(screen, SectionScreen):
                    redraw_all(screen)

    def _follow_theme(self, name: str) -> None:
        """The theme, which may be a file that came while the console was open."""
        if name not in self.themes:
            self._read_themes()
        if name in self.themes:
            self.theme = name
        else:
            self.tell(f"There is no theme {formats.clean(name, 32)!r}.", "warning")

    def _follow_file(self) -> None:
        """See whether somebody has changed the console's settings elsewhere."""
        if self._changes is None:
            return
        found = self._changes()
        if found.problem:
            self.tell(f"Settings stay as they are. {found.problem}", "warning")
        for setting in found.settings:
            self.follow_setting(setting)

    def action_command_palette(self) -> None:
        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(id="--command-palette"))

    def action_palette_open(self) -> None:
        self.action_command_palette()

    def action_help_open(self) -> None:
        self.push_screen(HelpScreen(self.role, self.section, self.user_keymap))

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
