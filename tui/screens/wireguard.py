"""A config for a WireGuard app that was made just now: its code, or the ways to it.

The code is larger than most terminals of phones are (61 columns and 31 lines, say), so this has
the whole screen, shows the code as soon as the terminal is large enough, and says until
then how large that is. It closes by itself once the device knocks, for then the code has
done its work and the owner is asked. What it shows cannot be had again. An invitation
has no code: it lacks the private key, which the device has; its file or its text is edited there.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar, Literal

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.geometry import Size

from control import schema
from control.errors import ControlError
from control.lacking import install
from control.pictures import Fresh, missing_for_pictures, opener, picture, refusal
from control.programs import run
from tui import formats
from tui.clipboard import Copied
from tui.console import InConsole
from tui.screens.dialog import Dialog
from tui.screens.modals import PromptScreen
from tui.screens.section import SectionScreen
from tui.widgets.painted import Tone
from tui.widgets.part import Part
from tui.widgets.qr import QrCode, cells

How = Literal["add", "invite", "renew"]
"""A new device, one that brings its own key, another key for one that there is."""


class WireguardText(Part["WireguardScreen"]):
    """The device in words; one line under a code."""

    def lines(self, width: int) -> list[Text]:
        screen = self.shows
        if not screen.need:
            return []
        if screen.with_code:
            return [self._line(screen, width)]
        return self._page(screen, width)

    def _line(self, screen: WireguardScreen, width: int) -> Text:
        line = Text(" ")
        for key, label in (("s", "picture"), ("t", "text"), ("esc", "done")):
            line.append(key, self.tone("key"))
            line.append(f" {label}  ")
        trouble = screen.trouble
        if trouble is None:
            line.append(screen.waits(), self.tone("quiet"))
        else:
            line.append("! t tells why it is not there", self.tone("warn"))
        line.truncate(width)
        return line

    def _page(self, screen: WireguardScreen, width: int) -> list[Text]:
        app = self.console_app
        made = screen.made
        lines: list[Text] = []

        def prose(text: str, tone: Tone = "plain") -> None:
            lines.extend(Text(text, self.tone(tone)).wrap(self.app.console, max(width, 10)))

        def key(name: str, does: str) -> None:
            lines.append(Text.assemble(self.span(f"  {name:<5}", "key"), does))

        prose(f"{formats.clean(made.label)}, by a WireGuard app", "strong")
        lines.append(Text())
        if not screen.fits and screen.scanned:
            need, here = screen.need, screen.size
            prose(
                f"Its code needs {need.width} columns and {need.height + 1} lines; here are "
                f"{here.width} and {here.height}. Zoom out until it shows (in Termux: pinch), or:",
                "warn",
            )
        if screen.scanned:
            key("s", "save a picture of it" + (", and open it" if opener() else ""))
        else:
            key("s", "save the config as a file")
        key("y", "copy the config as text")
        if screen.fits:
            key("t", "show the code")
        key("esc", "done")
        lines.append(Text())
        prose(_WARNINGS[screen.how], "quiet")
        lines.append(Text())
        prose(f"Looks for  {formats.clean(made.endpoint, 80)}")
        trouble = screen.trouble
        if trouble is None:
            prose(f"Turn the tunnel on there: it then asks here. It {screen.waits()}.")
            if not screen.scanned:
                prose("Anybody may knock: compare the code of who asks with its public key.")
        else:
            prose(f"{app.glyphs.warn} {formats.clean(trouble.found, 400)}", "warn")
            prose(formats.clean(trouble.advice, 600))
        return lines


_WARNINGS: dict[How, str] = {
    "add": "It holds the device's private key, is for one device only, and is not shown again.",
    "invite": "Put the device's own private key behind PrivateKey= there: it lacks one.",
    "renew": "It holds a new private key, is for this device only, and is not shown again. The "
    "present key is good until this one is used.",
}


class WireguardScreen(InConsole, Dialog[None]):
    """Shows a config until the device has it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "close", "Done"),
        Binding("s", "save", "Save"),
        Binding("y", "copy", "Copy"),
        Binding("t,space", "turn", "Code/text"),
    ]

    def __init__(self, made: schema.WireguardConfig, now: float, how: How = "add") -> None:
        super().__init__()
        self.made = made
        self.how = how
        self.scanned = how != "invite"
        """Whether it is whole, so that a camera may take it over."""
        self.until = now + made.expires_in
        self.text_mode = False
        self.fits = self.with_code = False
        self.need = Size(0, 0)

    @property
    def trouble(self) -> schema.WireguardTrouble | None:
        """Why it does not come: its own trouble, or a stranger's that may well be its."""
        known = self.console_app.store.wireguard
        found = [] if known is None else known.troubles
        mine = [each for each in found if each.device == self.made.id]
        knocks = [each for each in found if each.cause in ("gateway_key", "unknown_key")]
        return next(iter(mine + knocks), None)

    def waits(self) -> str:
        """How long the config is good for, unless it is used."""
        left = max(0.0, self.until - self.console_app.now)
        return f"waits {formats.countdown(left)}"

    def compose(self) -> ComposeResult:
        with Vertical(id="wireguard"):
            yield QrCode(id="config")
            yield WireguardText(self, id="config-text")

    def on_mount(self) -> None:
        self.call_after_refresh(self.fit_in)

    def on_resize(self) -> None:
        self.call_after_refresh(self.fit_in)

    def news(self) -> None:
        """Something changed, or a second passed."""
        if self._used:
            self.leave(None)
            return
        self.query_one(WireguardText).redraw()

    @property
    def _used(self) -> bool:
        """Whether somebody has come with the config."""
        known = self.console_app.store.wireguard
        devices = [] if known is None else known.devices
        if self.how == "invite":  # it has no id before it has a key
            return any(each.state == "invited" and each.asking for each in devices)
        return any(each.id == self.made.id and each.state != "offered" for each in devices)

    def fit_in(self) -> None:
        """Show the code if there is room for it."""
        ascii = self.console_app.glyphs is formats.ASCII
        self.need = cells(self.made.text, ascii)
        width, height = self.size
        self.fits = self.scanned and self.need.width <= width and self.need.height < height
        self.with_code = self.fits and not self.text_mode
        self.query_one("#config", QrCode).show(self.made.text if self.with_code else "", ascii)
        self.set_class(self.with_code, "-with-code")
        self.query_one(WireguardText).redraw()

    def action_close(self) -> None:
        self.leave(None)

    def action_turn(self) -> None:
        self.text_mode = not self.text_mode
        self.fit_in()

    def action_copy(self) -> None:
        self.console_app.copy(Copied("the config", self.made.text, secret=True))

    def action_save(self) -> None:
        missing = missing_for_pictures() if self.scanned else ""
        if missing:
            self.console_app.tell(f"{missing} is not installed: {install(missing)}", "error")
            return
        self.run_worker(self._save(), group="ask", exclusive=True)

    async def _save(self) -> None:
        app = self.console_app
        what, suffix = ("picture", "png") if self.scanned else ("config", "conf")
        name = await app.push_screen_wait(
            PromptScreen(f"Write the {what} to this new file", f"{self.made.tunnel}.{suffix}")
        )
        if not name:
            return
        path = self._write(name)
        if path is None:
            return
        app.tell(f"{path} is written. Delete it once the device has it.")
        program = opener()
        if program is not None and self.scanned:
            try:
                await run(program, path)
            except (OSError, TimeoutError) as error:
                app.tell(f"It could not be opened: {error}", "warning")

    def _write(self, name: str) -> str | None:
        """The path of the file; None when it could not be written, which was told."""
        path = os.path.abspath(os.path.expanduser(name))
        try:
            with Fresh(path) as file:
                text = self.made.text
                file.keep(picture(text) if self.scanned else f"{text}\n".encode())
        except OSError as error:
            self.console_app.tell(" ".join(refusal(error)), "error")
            return None
        return path


class ConfigMaker(SectionScreen):
    """A section in which configs for WireGuard apps are made. It watches `wireguard` then."""

    made: WireguardScreen | None = None
    """The config that is being shown."""

    def update(self, topic: str | None) -> None:
        if topic == "wireguard" and self.made is not None:
            self.made.news()

    def tick(self) -> None:
        if self.made is not None:
            self.made.news()

    async def make_config(self, how: How, **params: Any) -> None:
        """Have the service make one, and show it until the device has it."""
        app = self.console_app
        try:
            config = await app.link.call(f"wireguard_{how}", **params)
        except ControlError as error:
            app.tell(" ".join(filter(None, (error.message, error.hint))), "error")
            return
        self.made = WireguardScreen(config, app.now, how)
        self.want()
        try:
            await app.push_screen_wait(self.made)
        finally:
            self.made = None
            self.rewatch()
