"""Pairing: a QR code that is always fresh, and the devices that wait for approval.

The section asks the service for an offer when it is opened and whenever the
offer runs out while it is on the screen. An offer whose secret has been used, by
the word of the service, is not shown any longer: a dead code in a camera's view
would only confuse; who has used it stands there instead. On a small terminal the code
gets the whole screen but one line, and yields to the list when a device waits.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.css.query import NoMatches
from textual.geometry import Size

from control import calling, schema
from control.errors import ControlError
from tui import actions, formats
from tui.clipboard import Copied
from tui.console import Console
from tui.screens.modals import PromptScreen
from tui.screens.wireguard import ConfigMaker, How
from tui.store import LinkState
from tui.widgets.bars import Notices
from tui.widgets.columns import Cell, Column
from tui.widgets.painted import Painted, Tone
from tui.widgets.part import Part
from tui.widgets.qr import QrCode, cells
from tui.widgets.table import RowTable

MAX_NAME = 64
"""Characters of a device's name."""
SIDE_WIDTH = 34
"""The least width of the text beside the code."""


class Offer:
    """The pairing offer on the screen and what became of it."""

    def __init__(self) -> None:
        self.offer: schema.PairOffer | None = None
        self.until = 0.0
        self.used_by: str | None = None
        self.error = ""
        self.asking = False

    def left(self, now: float) -> float:
        return max(0.0, self.until - now) if self.offer else 0.0

    def usable(self, now: float) -> bool:
        return self.offer is not None and self.used_by is None and now < self.until


class PairText(Part["PairScreen"]):
    """The offer in words."""

    def lines(self, width: int) -> list[Text]:
        return offer_lines(self, self.shows.offer, self.console_app, width)


def offer_lines(card: Painted, state: Offer, app: Console, width: int) -> list[Text]:
    """The offer as lines of at most `width` cells."""
    glyphs = app.glyphs
    made = [Text("Pair a device", card.tone("strong"))]

    def prose(text: str, tone: Tone = "quiet") -> None:
        line = Text(text, card.tone(tone))
        made.extend(line.wrap(card.app.console, max(width, 10)))

    if state.error:
        prose(f"{glyphs.bad} {state.error}", "bad")
        return made
    if state.used_by is not None:
        prose(f"{glyphs.ok} The code was used by {state.used_by}.", "ok")
        prose("Press n for a new one.")
        return made
    offer = state.offer
    if offer is None:
        if app.store.link.read_only:
            prose("This console only looks: it cannot ask for a code.")
        else:
            prose("Asking the service for a code…")
        return made
    left = state.left(app.now)
    if offer.note:
        prose(f"{glyphs.bad} {formats.clean(offer.note, 300)}", "warn")
    if app.store.gateway is not None and app.store.gateway.sharing == "unavailable":
        prose(f"{glyphs.warn} No VPN is up: sharing waits for one, pairing does not.", "warn")
    address = formats.clean(offer.address, 60)
    if address:
        prose("On the other device, comparing a code:")
        made.append(Text(f"  {calling.command(f'join {address}')}", card.tone("accent")))
        prose("or without one, by the URI or the QR code:")
    else:
        prose("On the other device, with the URI or the QR code:")
    made.append(Text(f"  {calling.command('join -')}", card.tone("accent")))
    prose("With a WireGuard app: g here.")
    made.append(Text())
    made.append(Text.assemble(
        card.span("Expires  ", "quiet"),
        card.span(formats.countdown(left), "warn" if left < 15 else "strong"),
        card.span("  renews by itself", "quiet"),
    ))  # fmt: skip
    made.append(Text.assemble(card.span("Gateway  ", "quiet"), formats.clean(offer.name, 32)))
    made.append(Text.assemble(
        card.span("Key      ", "quiet"),
        formats.shorten_middle(formats.clean(offer.fingerprint, 80), max(8, width - 9)),
    ))  # fmt: skip
    for position, endpoint in enumerate(offer.endpoints[:3]):
        made.append(Text.assemble(
            card.span("Address  " if position == 0 else "         ", "quiet"),
            formats.shorten_middle(formats.clean(endpoint, 60), max(8, width - 9)),
        ))  # fmt: skip
    made.append(Text())
    made.append(Text.assemble(card.span("URI", "quiet"), card.span("  y copies it", "quiet")))
    uri = formats.clean(offer.uri, 1024)
    step = max(width, 10)
    for start in range(0, len(uri), step):
        made.append(Text(uri[start : start + step], card.tone("accent")))
    return made


class PairLine(Part["PairScreen"]):
    """The one line under a code that fills the screen."""

    DEFAULT_CSS = "PairLine { height: 1; dock: bottom; }"

    def lines(self, width: int) -> list[Text]:
        state = self.shows.offer
        left = state.left(self.console_app.now)
        offer = state.offer
        lonely = offer is not None and bool(offer.note)
        by_address = f"join {formats.clean(offer.address, 60)}" if offer and offer.address else ""
        line = Text.assemble(
            " ",
            self.span(formats.countdown(left), "warn" if left < 15 else "strong"),
            "  ",
            self.span("y", "key"), " copy  ",
            self.span("space", "key"), " text  ",
            self.span("no network", "warn") if lonely else self.span(by_address, "accent"),
        )  # fmt: skip
        line.truncate(width)
        return [line]


def _label(request: schema.Request) -> Cell:
    return formats.clean(request.label) or "(no name)", "strong"


def _proof(request: schema.Request) -> Cell:
    if request.code is not None:
        return formats.code(request.code), "accent"
    return "by QR" if request.via == "qr" else formats.clean(request.via, 8), "plain"


REQUEST_COLUMNS = (
    Column[schema.Request]("label", "Waiting", 12, _label, flex=1),
    Column[schema.Request]("code", "Code", 8, _proof),
    Column[schema.Request]("via", "Via", 4, lambda row: (formats.clean(row.via, 4), "quiet")),
    Column[schema.Request](
        "address", "Address", 20, lambda row: (formats.clean(row.address, 45), "quiet"), tier=2
    ),
)


class PairScreen(ConfigMaker):
    """The section."""

    SECTION: ClassVar[str] = "pair"
    BINDINGS = actions.bindings("pair")

    def __init__(self) -> None:
        super().__init__()
        self.offer = Offer()
        self.text_mode = False

    def topics(self) -> dict[str, dict[str, Any]]:
        return {"offers": {}} if self.made is None else {"offers": {}, "wireguard": {}}

    def body(self) -> ComposeResult:
        with Container(id="pair"):
            with Container(id="qr-side"):
                yield QrCode(id="qr")
            with Vertical(id="text-side"):
                yield PairText(self, id="pair-text")
                yield RowTable[schema.Request](
                    REQUEST_COLUMNS, lambda row: row.id, id="requests",
                    empty="No device is waiting.",
                )  # fmt: skip
        yield PairLine(self)

    # News

    def update(self, topic: str | None) -> None:
        super().update(topic)
        if topic in (None, "requests"):
            table = self.query_one("#requests", RowTable)
            shown = self.console_app.current_request
            if shown is not None:
                table.cursor_id = shown.id
            table.show(self.store.requests)
        self._notice_use()
        self._renew_if_due()
        self.fit_in()

    def tick(self) -> None:
        super().tick()
        self._renew_if_due()
        self.fit_in()

    def on_resize(self) -> None:
        self.call_after_refresh(self.fit_in)

    def _notice_use(self) -> None:
        """See whether the secret on the screen has been spent."""
        state = self.offer
        if state.offer is None or state.used_by is not None:
            return
        for each in self.store.offers:
            if each.id == state.offer.id and each.used_by is not None:
                state.used_by = formats.clean(each.used_by, 24) or "a device without a name"

    def _renew_if_due(self) -> None:
        state = self.offer
        live = self.store.link.state is LinkState.LIVE
        if not live or self.store.link.read_only or state.asking or not self.is_current:
            return
        now = self.console_app.now
        spent = state.used_by is not None
        if not spent and not state.error and not state.usable(now):
            self.ask()

    def ask(self) -> None:
        """Get a new offer from the service."""
        self.offer.asking = True
        self.run_worker(self._ask(), group="pair", exclusive=True)

    async def _ask(self) -> None:
        fresh = Offer()
        app = self.console_app
        try:
            fresh.offer = await app.link.call("pair")
            fresh.until = app.now + fresh.offer.expires_in
        except ControlError as error:
            fresh.error = " ".join(filter(None, (error.message, error.hint)))
        self.offer = fresh
        self._notice_use()
        self.fit_in()
        self.refresh_bindings()

    # Layout

    def fit_in(self) -> None:
        """Decide what fits, show it, and redraw what changed."""
        try:
            notices = self.query_one(Notices)
            code = self.query_one("#qr", QrCode)
        except NoMatches:
            return
        app = self.console_app
        width, height = self.size
        waiting = bool(self.store.requests)
        text = self.offer.offer.uri if self.offer.offer and self.offer.usable(app.now) else ""
        ascii = app.glyphs is formats.ASCII
        need = cells(text, ascii) if text else Size(0, 0)
        beside = width >= need.width + SIDE_WIDTH
        noted = len(notices.lines(width))
        taken = 2 + noted + (0 if beside else 1)
        roomy = need.height + taken <= height
        bare = need.height + 1 <= height and need.width <= width
        with_code = bool(text) and (beside or not self.text_mode)
        # A code that takes the place of the bars as well would hide what they have to say.
        with_code = with_code and ((roomy and need.width <= width) or (bare and not noted))
        code.show(text if with_code else "", ascii)
        self.set_class(with_code, "-with-code")
        self.set_class(with_code and not roomy, "-cramped")
        self.set_class(beside or not with_code, "-with-text")
        table = self.query_one("#requests", RowTable)
        table.display = waiting or not with_code or height >= 30
        if table.display and self.focused is None and self.is_current:
            table.focus()
        for painted in (self.query_one(PairText), self.query_one(PairLine)):
            painted.redraw()

    # Actions

    def may(self, action: actions.Action) -> bool | None:
        if action.id == "pair.details":
            return True if self.offer.offer is not None else None
        return True

    def copied(self) -> Copied | None:
        offer = self.offer.offer
        return None if offer is None else Copied("the pairing URI", offer.uri, secret=True)

    def action_pair_renew(self) -> None:
        self.ask()

    def action_pair_wireguard(self) -> None:
        self.run_worker(self._make_device("add", "phone"), group="make", exclusive=True)

    def action_pair_invite(self) -> None:
        self.run_worker(self._make_device("invite", "router"), group="make", exclusive=True)

    async def _make_device(self, how: How, example: str) -> None:
        name = await self.console_app.push_screen_wait(
            PromptScreen("The WireGuard device's name", placeholder=example)
        )
        if name:
            await self.make_config(how, label=formats.clean(name, MAX_NAME))

    def action_pair_details(self) -> None:
        self.text_mode = not self.text_mode
        self.fit_in()

    @on(RowTable.Highlighted, "#requests")
    def _selected(self, event: RowTable.Highlighted) -> None:
        self.console_app.select_request(str(event.row_id) if event.row_id else None)
