"""The client's second section: connect by a pairing URI or to a gateway it knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult

from services.control import schema
from tui import actions, formats
from tui.screens.listing import FilterLine, ListScreen
from tui.screens.modals import ConfirmScreen, PromptScreen
from tui.screens.section import Copied
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


class ConnectScreen(ListScreen):
    """The section."""

    SECTION: ClassVar[str] = "connect"
    BINDINGS = actions.bindings("connect")
    FILTER_HINT: ClassVar[str] = "words in name, key, address"

    def topics(self) -> dict[str, dict[str, Any]]:
        return {"gateways": {}}

    def body(self) -> ComposeResult:
        yield TunnelCard()
        yield FilterLine()
        yield RowTable[GatewayRow](
            COLUMNS, lambda row: row.gateway.fingerprint, id="gateways",
            empty="No gateway is known. Press u, then paste the pairing URI that the gateway "
                  "shows, or type its address.",
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

    def action_gateway_uri(self) -> None:
        self.run_worker(self._uri(), group="ask", exclusive=True)

    async def _uri(self) -> None:
        uri = await self.app.push_screen_wait(
            PromptScreen("Pairing URI, or address", placeholder="VSHP:… as the gateway shows it")
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
