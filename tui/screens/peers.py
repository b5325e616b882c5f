"""Paired devices: leases, usage, quality; rename, revoke, look at their flows."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Container

from control import schema
from control.errors import ControlError
from control.methods import MAX_TEXT
from tui import actions, formats
from tui.clipboard import Copied
from tui.console import Console
from tui.screens.device import DAYS, DAYS_EVERY, DeviceScreen
from tui.screens.listing import FilterLine, ListScreen
from tui.screens.modals import ConfirmScreen, PromptScreen
from tui.screens.peer_rows import COLUMNS, PeerRow, row_text, rows
from tui.screens.rules import change_rules
from tui.screens.wireguard import ConfigMaker
from tui.widgets.history import History
from tui.widgets.painted import Painted, Tone
from tui.widgets.part import Part
from tui.widgets.table import RowTable

MAX_CHART_ROWS = 6
"""Lines of each of the two charts, where the details stand beside the list."""
MAX_CHART_ROWS_BELOW = 3
"""The same where they stand below it and take from it."""
DETAILS_SHARE = 0.6
"""Of the body's lines, what the details take at most when they stand below the list (as in
console.tcss)."""


class PeerDetails(Part["PeersScreen"]):
    """All about the device under the cursor, with what it moved lately."""

    def lines(self, width: int) -> list[Text]:
        screen = self.shows
        row = screen.current
        if row is None:
            return []
        app = self.console_app
        history = device_history(row, app.store.traffic)
        made = peer_lines(self, row, app, width, history)
        if history is not None:
            now = (0.0, 0.0)
            if row.lease is not None:
                now = row.lease.to_tunnel_rate, row.lease.from_tunnel_rate
            made += history.lines(self, app.glyphs, now, width, self._chart_rows(len(made)))
            made.append(history.axis(self, width))
        return made

    def _chart_rows(self, facts: int) -> int:
        """How many lines each chart has: three or more tell the scale, else one does."""
        body = self.screen.size.height - 2
        beside = self.screen.has_class("-wide")
        free = (body if beside else int(body * DETAILS_SHARE) - 1) - facts - 1
        rows = min(MAX_CHART_ROWS if beside else MAX_CHART_ROWS_BELOW, free // 2)
        return rows if rows >= 3 else 1


def device_history(row: PeerRow, traffic: schema.Traffic | None) -> History | None:
    """What the service remembers of the device; None when it never moved a byte."""
    if traffic is None or traffic.peer != row.peer.id:
        return None
    if not (row.peer.connected or any(traffic.to_tunnel) or any(traffic.from_tunnel)):
        return None
    return History(
        [count / traffic.interval for count in traffic.to_tunnel],
        [count / traffic.interval for count in traffic.from_tunnel],
        traffic.interval,
        traffic.newest,
    )


def peer_lines(
    card: Painted, row: PeerRow, app: Console, width: int, history: History | None = None
) -> list[Text]:
    """The device in full; rates stand beside the charts of a history, if there is one."""
    peer, lease, glyphs = row.peer, row.lease, app.glyphs

    def fact(name: str, value: str, tone: Tone = "plain") -> Text:
        shown = formats.shorten(value, max(6, width - 10))
        return Text.assemble(
            card.span(f"{name:<10}", "quiet"),
            card.span(shown, tone),
        )

    made = [
        fact("Device", f"{formats.clean(peer.label)}  {formats.clean(peer.platform, 16)}",
             "strong"),
        fact("Key", formats.clean(peer.fingerprint, 80)),
        fact("Today", f"{glyphs.down} {formats.size(peer.to_tunnel_today)}  "
                      f"{glyphs.up} {formats.size(peer.from_tunnel_today)}"),
        fact("In all", f"{glyphs.down} {formats.size(peer.to_tunnel_bytes)}  "
                       f"{glyphs.up} {formats.size(peer.from_tunnel_bytes)}"),
        fact("Paired", formats.ago(row.wall - peer.first_seen_at)),
    ]  # fmt: skip
    if peer.rules:
        made.insert(1, fact("Rules", formats.clean(peer.rules, 400)))
    if peer.quota_left is not None:
        made.insert(2, fact("Quota", f"{formats.size(peer.quota_left)} left"))
    if peer.shut_out and not peer.revoked:
        said = formats.clean(peer.shut_out, 200)
        made.insert(1, fact("Access", said, "warn"))
    # What is wrong comes first: a phone has no room for all of it.
    made[1:1] = _trouble(card, row, app, width)
    device = row.wireguard
    if device is not None:
        age = device.handshake_age
        if age is None:
            made.append(fact("Handshake", "none since the start", "quiet"))
        else:
            made.append(fact("Handshake", formats.ago(age + app.store.age("wireguard", app.now))))
        if device.endpoint is not None and not peer.connected:
            made.append(fact("Was at", formats.clean(device.endpoint, 60), "quiet"))
    if lease is None:
        made.append(fact("Lease", "none"))
        if history is not None:
            made.append(fact("Peak", history.peaks(glyphs)))
        return made
    made.append(fact("Lease", f"{formats.clean(lease.ipv4, 20)}  {formats.clean(lease.ipv6, 45)}"))
    kept = "as in its config"
    if lease.expires_in is not None:
        left = app.store.left("leases", lease.expires_in, app.now)
        kept = f"kept for {formats.duration(left)}"
    made.append(fact("", f"MTU {lease.mtu}{'  offload' if lease.offload else ''}  {kept}",
                     "quiet"))  # fmt: skip
    if lease.connected:
        where = formats.clean(lease.endpoint or "", 60)
        made.append(fact("Link", f"{row.transport} {row.rtt}  {where}"))
        name, moved = "Rates", (f"{glyphs.down} {formats.rate(lease.to_tunnel_rate)}  "
                                f"{glyphs.up} {formats.rate(lease.from_tunnel_rate)}")  # fmt: skip
        if history is not None:
            name, moved = "Peak", history.peaks(glyphs)
        made.append(fact(name, f"{moved}  {formats.count(lease.flows, 'flow')}"))
    elif history is not None:
        made.append(fact("Peak", history.peaks(glyphs)))
    return made


def _trouble(card: Painted, row: PeerRow, app: Console, width: int) -> list[Text]:
    """Why a device with a WireGuard app is not there, and what to do."""
    if row.trouble is None:
        return []
    found = f"{app.glyphs.warn} {formats.clean(row.trouble.found, 400)}"
    texts = (
        Text(found, card.tone("warn")),
        Text(formats.clean(row.trouble.advice, 600), card.tone("strong")),
    )
    return [line for text in texts for line in text.wrap(card.app.console, max(width, 10))]


class PeersScreen(ListScreen, ConfigMaker):
    """The section."""

    SECTION: ClassVar[str] = "peers"
    BINDINGS = actions.bindings("peers")
    FILTER_HINT: ClassVar[str] = "words in name, state, platform, key, address"

    def __init__(self) -> None:
        super().__init__()
        self._page_open: DeviceScreen | None = None
        """The page of a device that stands in front of the list."""
        self._days_at = 0.0
        """When its days were asked for last."""

    def topics(self) -> dict[str, dict[str, Any]]:
        watched: dict[str, dict[str, Any]] = {"peers": {}, "leases": {}, "wireguard": {}}
        if self._page_open is not None:
            watched["usage"] = {"peer": self._page_open.peer, "by": "hour"}
        if self.store.remembers and self.is_mounted and self.current is not None:
            watched["traffic"] = {"peer": self.current.peer.id}
        return watched

    def body(self) -> ComposeResult:
        yield FilterLine(self)
        with Container(classes="list-and-details"):
            yield RowTable[PeerRow](
                COLUMNS, lambda row: row.peer.id, id="peers", text_of=row_text,
                empty="No device is paired. Press p to pair one.",
            )  # fmt: skip
            yield PeerDetails(self, classes="details")

    @property
    def table(self) -> RowTable[PeerRow]:
        return self.query_one("#peers", RowTable)

    @property
    def current(self) -> PeerRow | None:
        return self.table.current

    def update(self, topic: str | None) -> None:
        super().update(topic)
        if topic in (None, "peers", "leases", "wireguard"):
            store, wall = self.store, self.console_app.wall
            found = rows(store.peers, store.leases, wall, store.wireguard)
            self.table.show(found if store.has("peers") else None)
            self._follow_page(found)
            self.rewatch()
        used, page = self.store.usage, self._page_open
        if topic == "usage" and page is not None and used is not None:
            page.page.show_used(used)
            if self.console_app.now - self._days_at >= DAYS_EVERY:
                self.run_worker(self._follow_days(page), group="days", exclusive=True)
        if topic in (None, "peers", "leases", "wireguard", "traffic"):
            self.query_one(PeerDetails).redraw()

    def tick(self) -> None:
        if self._page_open is not None:
            store = self.store
            self._follow_page(
                rows(store.peers, store.leases, self.console_app.wall, store.wireguard)
            )

    def _follow_page(self, found: list[PeerRow]) -> None:
        """Have the open page show what is known of its device."""
        page = self._page_open
        for row in found:
            if page is not None and row.peer.id == page.peer:
                page.show(row)

    @on(RowTable.Highlighted, "#peers")
    def _moved(self) -> None:
        self.rewatch()
        self.query_one(PeerDetails).redraw()
        self.follow_keys()

    @on(RowTable.Selected, "#peers")
    def _entered(self) -> None:
        self.action_peer_page()

    def may_here(self, action: actions.Action) -> bool | None:
        row = self.current
        if action.id == "peer.renew" and (row is None or row.peer.kind != "wireguard"):
            return False
        of_trusted = action.id in ("peer.revoke", "peer.renew", "peer.rules")
        if row is None or (of_trusted and row.peer.revoked):
            return None
        return True

    def copied(self) -> Copied | None:
        row = self.current
        if row is None:
            return None
        if row.lease is not None:
            return Copied("the device's address", row.lease.ipv4)
        return Copied("the device's key", row.peer.fingerprint)

    def action_peer_page(self) -> None:
        if self.current is not None:
            self.run_worker(self._page(self.current), group="ask", exclusive=True)

    async def _page(self, row: PeerRow) -> None:
        app, peer = self.console_app, row.peer
        try:
            hours = await app.link.call("usage", peer=peer.id, by="hour")
            days = await app.link.call("usage", peer=peer.id, by="day", limit=DAYS)
            refused = await self._refused(peer.id)
        except ControlError as error:
            app.tell(" ".join(filter(None, (error.message, error.hint))), "error")
            return
        self._days_at = app.now
        page = self._page_open = DeviceScreen(row, hours, days, app.glyphs)
        page.page.show_refused(refused)
        self.want()
        try:
            to_flows = await app.push_screen_wait(page)
        finally:
            self._page_open = None
        self.want()
        if to_flows:
            app.show_flows(peer.id, formats.clean(peer.label))

    async def _follow_days(self, page: DeviceScreen) -> None:
        app = self.console_app
        self._days_at = app.now
        with suppress(ControlError):  # a lost line is told by the bars
            used = await app.link.call("usage", peer=page.peer, by="day", limit=DAYS)
            page.page.show_used(used)
            page.page.show_refused(await self._refused(page.peer))

    async def _refused(self, id: str) -> list[schema.Refusal]:
        """What the device was refused; nothing where its gateway does not tell."""
        with suppress(ControlError):
            counted: schema.DeviceCounters = await self.console_app.link.call("counters", id=id)
            return counted.refused
        return []

    def action_peer_flows(self) -> None:
        if self.current is not None:
            peer = self.current.peer
            self.console_app.show_flows(peer.id, formats.clean(peer.label))

    def action_peer_revoke(self) -> None:
        if self.current is not None:
            self.run_worker(self._revoke(self.current.peer), group="ask", exclusive=True)

    async def _revoke(self, peer: schema.Peer) -> None:
        label = formats.clean(peer.label) or formats.clean(peer.fingerprint, 16)
        sure = await self.app.push_screen_wait(ConfirmScreen(
            f"Revoke “{label}”?",
            "Its lease ends, its connections are closed, and it "
            f"{'needs a new config' if peer.kind == 'wireguard' else 'must pair again'}.",
            "Revoke",
        ))  # fmt: skip
        if sure:
            await self.console_app.carry_out("revoke", f"{label} is revoked.", id=peer.id)

    def action_peer_renew(self) -> None:
        if self.current is not None:
            # Its name would do, unless two have the same.
            renewing = self.make_config("renew", id=self.current.peer.id)
            self.run_worker(renewing, group="make", exclusive=True)

    def action_peer_rules(self) -> None:
        if self.current is not None:
            ruling = change_rules(self.console_app, self.current.peer)
            self.run_worker(ruling, group="ask", exclusive=True)

    def action_peer_rename(self) -> None:
        if self.current is not None:
            self.run_worker(self._rename(self.current.peer), group="ask", exclusive=True)

    async def _rename(self, peer: schema.Peer) -> None:
        label = formats.clean(peer.label)
        name = await self.app.push_screen_wait(PromptScreen(f"New name of “{label}”", label))
        if name and name != label:
            name = formats.clean(name[:MAX_TEXT])
            await self.console_app.carry_out(
                "rename", f"{label} is now {name}.", id=peer.id, label=name
            )
