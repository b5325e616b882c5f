"""The client's second section: connect to a gateway that is known, near, or named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult

from control import schema
from control.errors import ControlError
from tui import actions, formats
from tui.clipboard import Copied
from tui.screens.edit import Choice, ChoiceScreen
from tui.screens.listing import FilterLine, ListScreen
from tui.screens.modals import ConfirmScreen, PromptScreen
from tui.widgets.columns import Cell, Column
from tui.widgets.table import RowTable
from tui.widgets.tunnel_cards import TunnelCard


@dataclass(frozen=True, slots=True)
class GatewayRow:
    """A known gateway, and whether it is the one in use."""

    gateway: schema.KnownGateway
    in_use: bool
    wall: float


def _name(row: GatewayRow) -> Cell:
    return formats.clean(row.gateway.name) or "(no name)", "strong"


COLUMNS = (
    Column[GatewayRow]("name", "Gateway", 12, _name, flex=1),
    Column[GatewayRow]("state", "", 8, lambda row: (
        "● in use" if row.in_use else "", "ok")),
    Column[GatewayRow]("seen", "Seen", 9, lambda row: (
        formats.ago(row.wall - row.gateway.last_seen_at), "quiet"), right=True,
                       by=lambda row: row.wall - row.gateway.last_seen_at),
    Column[GatewayRow]("key", "Key", 16, lambda row: (
        formats.clean(row.gateway.fingerprint, 60), "quiet"), tier=1),
    Column[GatewayRow]("endpoints", "Addresses", 20, lambda row: (
        formats.clean(", ".join(row.gateway.endpoints), 120), "quiet"), flex=2, tier=1),
)  # fmt: skip


_WAYS = {
    "cable": "on the cable",
    "router": "this network's router",
    "announced": "announced on this network",
}
_ROUTERS = {"hotspot": "the hotspot we are on", "usb": "the phone's USB tethering"}


def _described(gateway: schema.NearbyGateway) -> tuple[str, str]:
    """A gateway that was found: its name, and how and where."""
    name = formats.clean(gateway.name, 40)
    if not name:
        name = "a phone" if gateway.way == "cable" else "a gateway"
    how = _WAYS.get(gateway.way, gateway.way)
    if gateway.way == "router":
        how = _ROUTERS.get(gateway.kind, how)
    key = f", key {formats.clean(gateway.fingerprint, 60)}" if gateway.fingerprint else ""
    return name, f"{how}, {formats.clean(gateway.target, 60)}{key}"


class ConnectScreen(ListScreen):
    """The section."""

    SECTION: ClassVar[str] = "connect"
    BINDINGS = actions.bindings("connect")
    FILTER_HINT: ClassVar[str] = "words in name, key, address"

    def topics(self) -> dict[str, dict[str, Any]]:
        return {"gateways": {}}

    def body(self) -> ComposeResult:
        yield TunnelCard()
        yield FilterLine(self)
        yield RowTable[GatewayRow](
            COLUMNS, lambda row: row.gateway.fingerprint, id="gateways",
            empty="No gateway is known. Press n to look for one nearby; or u, then paste the "
                  "pairing URI that the gateway shows, or type its address or name.",
        )  # fmt: skip

    def on_mount(self) -> None:
        self.table.focus()

    @property
    def table(self) -> RowTable[GatewayRow]:
        return self.query_one("#gateways", RowTable)

    @property
    def current(self) -> GatewayRow | None:
        return self.table.current

    def update(self, topic: str | None) -> None:
        status = self.store.client
        used = status.gateway_fingerprint if status and status.state != "idle" else None
        wall = self.console_app.wall
        known = sorted(self.store.gateways, key=lambda gateway: -gateway.last_seen_at)
        found = [GatewayRow(gateway, gateway.fingerprint == used, wall) for gateway in known]
        self.table.show(found if self.store.has("gateways") else None)
        self.query_one(TunnelCard).redraw()

    def may_here(self, action: actions.Action) -> bool | None:
        if action.id in ("gateway.connect", "gateway.forget"):
            return True if self.current is not None else None
        return True

    def copied(self) -> Copied | None:
        row = self.current
        if row is None:
            return None
        if row.gateway.endpoints:
            return Copied("the gateway's address", row.gateway.endpoints[0])
        return Copied("the gateway's key", row.gateway.fingerprint)

    @on(RowTable.Selected, "#gateways")
    def action_gateway_connect(self) -> None:
        if (row := self.current) is not None:
            name = formats.clean(row.gateway.name) or "the gateway"
            self.console_app.start(
                "connect", f"Connecting to {name}.", gateway=row.gateway.fingerprint
            )

    def action_gateway_near(self) -> None:
        self.run_worker(self._near(), group="ask", exclusive=True)

    async def _near(self) -> None:
        """Look around, and let the user choose of what is there."""
        self.console_app.tell(
            "Looking for gateways: on the cable, at this network's router, by announcement."
        )
        try:
            around: schema.Nearby = await self.console_app.link.call("nearby")
        except ControlError as error:
            self.console_app.tell(" ".join(filter(None, (error.message, error.hint))), "error")
            return
        for each in around.gateways:
            if each.advice:
                self.console_app.tell(each.advice, "warning")
        usable = [each for each in around.gateways if not each.advice]
        if not usable:
            self.console_app.tell(
                "Nothing was found. Have the phone share; then join its hotspot or its Wi-Fi, or "
                f"plug in the cable. {around.advice}",
                "warning",
            )
            return
        choices = [Choice(each.target, *_described(each)) for each in usable]
        chosen = await self.app.push_screen_wait(
            ChoiceScreen("Connect to", choices, "", verb="connect")
        )
        if chosen is not None:
            await self.console_app.carry_out(
                "connect",
                f"Connecting to {chosen.label}: compare the digits with the phone's.",
                gateway=chosen.value,
            )

    def action_gateway_uri(self) -> None:
        self.run_worker(self._uri(), group="ask", exclusive=True)

    async def _uri(self) -> None:
        uri = await self.app.push_screen_wait(
            PromptScreen(
                "Pairing URI, address or name", placeholder="VSHP:… as the gateway shows it"
            )
        )
        if uri:
            named = "uri" if uri.upper().startswith("VSHP:") else "gateway"
            await self.console_app.carry_out("connect", "Connecting.", **{named: uri})

    def action_gateway_forget(self) -> None:
        if self.current is not None:
            self.run_worker(self._forget(self.current.gateway), group="ask", exclusive=True)

    async def _forget(self, gateway: schema.KnownGateway) -> None:
        name = formats.clean(gateway.name) or formats.clean(gateway.fingerprint, 16)
        sure = await self.app.push_screen_wait(ConfirmScreen(
            f"Forget “{name}”?",
            "This device must be paired with it again before it can connect.",
            "Forget",
        ))  # fmt: skip
        if sure:
            await self.console_app.carry_out(
                "forget", f"{name} is forgotten.", id=gateway.fingerprint
            )
