"""A WireGuard device that was made just now: its code, or the ways to it where it does not fit.

The code is larger than most terminals of phones are (61 columns and 31 lines, say), so this has
the whole screen, shows the code as soon as the terminal is large enough, and says until
then how large that is. It closes by itself once the device knocks, for then the code has
done its work and the owner is asked. What it shows cannot be had again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.geometry import Size

from services.control import schema
from services.lacking import install
from services.pictures import Fresh, missing_for_pictures, opener, picture, refusal
from services.programs import run
from tui import formats
from tui.screens.dialog import Dialog
from tui.screens.modals import PromptScreen
from tui.screens.section import Copied
from tui.widgets.painted import Painted, Tone
from tui.widgets.qr import QrCode, cells

if TYPE_CHECKING:
    from tui.app import ConsoleApp


class WireguardText(Painted):
    """The device in words; one line under a code."""

    def lines(self, width: int) -> list[Text]:
        screen = cast("WireguardScreen", self.screen)
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
        app = cast("ConsoleApp", self.app)
        made = screen.made
        lines: list[Text] = []

        def prose(text: str, tone: Tone = "plain") -> None:
            lines.extend(Text(text, self.tone(tone)).wrap(app.console, max(width, 10)))

        def key(name: str, does: str) -> None:
            lines.append(Text.assemble(self.span(f"  {name:<5}", "key"), does))

        prose(f"{formats.clean(made.label)}, by a WireGuard app", "strong")
        lines.append(Text())
        if not screen.fits:
            need, here = screen.need, screen.size
            prose(
                f"Its code needs {need.width} columns and {need.height + 1} lines; here are "
                f"{here.width} and {here.height}. Zoom out until it shows (in Termux: pinch), or:",
                "warn",
            )
        key("s", "save a picture of it" + (", and open it" if opener() else ""))
        key("y", "copy the config as text")
        if screen.fits:
            key("t", "show the code")
        key("esc", "done")
        lines.append(Text())
        prose(
            "It holds the device's private key, is for one device only, and is not shown again.",
            "quiet",
        )
        lines.append(Text())
        prose(f"Looks for  {formats.clean(made.endpoint, 80)}")
        trouble = screen.trouble
        if trouble is None:
            prose(f"Turn the tunnel on there: it then asks here. It {screen.waits()}.")
        else:
            prose(f"{app.glyphs.warn} {formats.clean(trouble.found, 400)}", "warn")
            prose(formats.clean(trouble.advice, 600))
        return lines


class WireguardScreen(Dialog[None]):
    """Shows a config until the device has it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "close", "Done"),
        Binding("s", "save", "Picture"),
        Binding("y", "copy", "Copy"),
        Binding("t,space", "turn", "Code/text"),
    ]

    def __init__(self, made: schema.WireguardConfig, now: float) -> None:
        super().__init__()
        self.made = made
        self.until = now + made.expires_in
        self.text_mode = False
        self.fits = self.with_code = False
        self.need = Size(0, 0)

    @property
    def console_app(self) -> ConsoleApp:
        return cast("ConsoleApp", self.app)

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
            yield WireguardText(id="config-text")

    def on_mount(self) -> None:
        self.call_after_refresh(self.fit_in)

    def on_resize(self) -> None:
        self.call_after_refresh(self.fit_in)

    def news(self) -> None:
        """Something changed, or a second passed."""
        known = self.console_app.store.wireguard
        states = {} if known is None else {each.id: each.state for each in known.devices}
        if states.get(self.made.id, "offered") != "offered":
            self.leave(None)
            return
        self.query_one(WireguardText).redraw()

    def fit_in(self) -> None:
        """Show the code if there is room for it."""
        ascii = self.console_app.glyphs is formats.ASCII
        self.need = cells(self.made.text, ascii)
        width, height = self.size
        self.fits = self.need.width <= width and self.need.height < height
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
        missing = missing_for_pictures()
        if missing:
            self.console_app.tell(f"{missing} is not installed: {install(missing)}", "error")
            return
        self.run_worker(self._save(), group="ask", exclusive=True)

    async def _save(self) -> None:
        app = self.console_app
        name = await app.push_screen_wait(
            PromptScreen("Write the picture to this new file", f"{self.made.tunnel}.png")
        )
        if not name:
            return
        path = self._write(name)
        if path is None:
            return
        app.tell(f"{path} is written. Delete it once the device has it.")
        program = opener()
        if program is not None:
            try:
                await run(program, path)
            except (OSError, TimeoutError) as error:
                app.tell(f"It could not be opened: {error}", "warning")

    def _write(self, name: str) -> str | None:
        """The path of the picture; None when it could not be written, which was told."""
        path = os.path.abspath(os.path.expanduser(name))
        try:
            with Fresh(path) as file:
                file.keep(picture(self.made.text))
        except OSError as error:
            self.console_app.tell(" ".join(refusal(error)), "error")
            return None
        return path
