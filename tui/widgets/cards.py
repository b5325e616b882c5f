"""The cards of the two overviews: one subject each, state as glyph, word and colour."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from rich.text import Text

from control import schema
from tui import formats
from tui.console import Console, InConsole
from tui.store import SAMPLE_EVERY, Store
from tui.widgets.bars import sharing_state, vpn_state
from tui.widgets.history import History
from tui.widgets.painted import Painted

_KINDS = {
    "tun": "tun device",
    "wireguard": "WireGuard",
    "ppp": "PPP",
    "ipsec": "IPsec",
    "named": "named by you",
    "bypass": "bypass",
}

_GUARDS = {
    "device": "sockets tied to device",
    "unicast-if": "sockets tied by index",
    "address": "sockets tied by address",
    "none": "sockets are not tied",
}


class Card(InConsole, Painted):
    """A titled box that shows one subject of the store."""

    TITLE: ClassVar[str] = ""

    def on_mount(self) -> None:
        self.border_title = self.TITLE

    @property
    def store(self) -> Store:
        return self.console_app.store

    def pair(self, name: str, *rest: tuple[str, Style]) -> Text:
        """A line that begins with the name of what it tells."""
        return Text.assemble(self.span(f"{name:<9}", "quiet"), *rest)


class NextCard(Card):
    """What to do next when something is missing; gone when nothing is."""

    TITLE = "What to do next"

    def lines(self, width: int) -> list[Text]:
        app = self.console_app
        hints = client_hints(app) if app.role == "client" else gateway_hints(app)
        made = []
        for key, words in hints:
            line = Text(no_wrap=False)
            line.append(f" {key} " if key else f" {app.glyphs.info} ", self.tone("key"))
            line.append(words)
            made += list(line.wrap(self.app.console, width)) if width > 0 else [line]
        return made

    def redraw(self) -> None:
        self.display = bool(self.lines(max(self.size.width, 40)))
        super().redraw()


def gateway_hints(app: Console) -> list[tuple[str, str]]:
    """Keys and sentences, the most urgent first."""
    status = app.store.gateway
    if status is None:
        return [("", "Waiting for the gateway service.")] if not app.store.link.hint else []
    hints: list[tuple[str, str]] = []
    if status.vpn.state != "active" and not status.bypass:
        hints.append(("", formats.clean(
            status.vpn.reason or "There is no VPN: connect one in your VPN app.", 160
        )))  # fmt: skip
    if status.sharing == "off":
        hints.append(("s", "Sharing is off: press s to start it."))
    if status.peers == 0:
        hints.append(("p", "No device is paired: p shows how another one gets in."))
    elif status.connected == 0 and status.sharing == "on":
        hints.append(("p", "No device is connected. A new one pairs with p."))
    return hints


def client_hints(app: Console) -> list[tuple[str, str]]:
    """The same for the receiving side."""
    status = app.store.client
    if status is None:
        return []
    if status.state == "idle":
        return _idle_hints(app.store)
    if status.state == "asked":
        return [
            ("a", "Press a if the gateway's screen shows the same digits, d if others: then "
             "somebody may be between the two."),
        ]  # fmt: skip
    if status.state == "waiting":
        words = "Approve this device on the gateway"
        return [("", f"{words}: compare the code first." if status.code else f"{words}.")]
    if status.state == "connected" and status.shut_out:
        return [("", formats.clean(status.shut_out, 160))]
    if status.state == "connected" and status.sharing in ("off", "unavailable"):
        why = "is not sharing" if status.sharing == "off" else "has no VPN at present"
        return [("", f"The gateway {why}: the tunnel stands, the Internet is not there.")]
    return []


def _idle_hints(store: Store) -> list[tuple[str, str]]:
    """How to connect; nothing of a gateway before it is known that there is one."""
    if not store.has("gateways"):
        return [("2", "Press 2 to choose a gateway or to enter a pairing URI.")]
    if not store.gateways:
        return [("2", "No gateway is known yet: press 2, then n to look for one nearby; or u, and "
                 "paste the pairing URI that it shows, or type its address.")]  # fmt: skip
    last = max(store.gateways, key=lambda gateway: gateway.last_seen_at)
    name = formats.clean(last.name, 32) or "the gateway"
    return [
        ("c", f"Press c to connect to {name}, which you used last."),
        ("2", "Press 2 to choose a gateway or to enter a pairing URI."),
    ]


class SharingCard(Card):
    """Whether the VPN is shared, with whom, and where devices reach us."""

    TITLE = "Sharing"

    def lines(self, width: int) -> list[Text]:
        status = self.store.gateway
        if status is None:
            return [Text("…", self.tone("quiet"))]
        glyph, word, tone = sharing_state(status, self.console_app)
        devices = f"{status.connected} connected of {status.peers} paired"
        addresses = [formats.clean(address, 40) for address in status.listen]
        listen = formats.listed(addresses, max(8, width - 9)) or "nowhere"
        return [
            self.pair("State", self.span(f"{glyph} {word}", tone)),
            self.pair("Devices", self.span(devices)),
            self.pair("Listens", self.span(listen)),
            self.pair("Name", self.span(formats.clean(status.name, 32)),
                      self.span(f"  up {formats.duration(status.uptime)}", "quiet")),
        ]  # fmt: skip


class VpnCard(Card):
    """The VPN, what holds our sockets to it, and which families it carries."""

    TITLE = "VPN"

    def lines(self, width: int) -> list[Text]:
        status = self.store.gateway
        if status is None:
            return [Text("…", self.tone("quiet"))]
        vpn = status.vpn
        glyphs = self.console_app.glyphs
        glyph, word, tone = vpn_state(status, self.console_app)
        kind = _KINDS.get(vpn.kind or "", "")
        first = self.pair("State", self.span(f"{glyph} {word}", tone))
        if kind and vpn.state == "active":
            first.append(f"  {kind}", self.tone("quiet"))
        if vpn.state != "active":
            reason = formats.clean(vpn.reason or "Sharing waits until there is one.", 200)
            rest = list(Text(reason, self.tone("quiet")).wrap(self.app.console, max(width, 10)))
            return [first, *rest[:3]]
        families = Text()
        for name, there in (("IPv4", vpn.ipv4), ("IPv6", vpn.ipv6)):
            families.append(f"{glyphs.ok if there else glyphs.off} {name}",
                            self.tone("ok" if there else "quiet"))  # fmt: skip
            families.append(" " if there else " no ", self.tone("quiet"))
        addresses = [formats.clean(address, 45) for address in vpn.addresses]
        held = vpn.guard != "none"
        made = [
            first,
            self.pair("Carries").append_text(families),
            self.pair("Address", self.span(formats.listed(addresses, max(8, width - 9)))),
            self.pair("Guard", self.span(
                f"{glyphs.ok if held else glyphs.warn} {_GUARDS.get(vpn.guard, vpn.guard)}",
                "ok" if held else "bad")),
            self.pair("Proof", self._proof(status.egress)),
        ]  # fmt: skip
        if status.egress.looks and self.screen.has_class("-tall"):
            egress = status.egress
            for whose, sent, received in (
                ("by the interface", egress.interface_sent, egress.interface_received),
                ("by our sockets", egress.sent, egress.received),
            ):
                made.append(self.pair("", self.span(
                    f"{glyphs.up} {formats.size(sent):<8} {glyphs.down} "
                    f"{formats.size(received):<8} {whose}", "quiet")))  # fmt: skip
        return made

    def _proof(self, egress: schema.Egress) -> tuple[str, Style]:
        """Whether the interface's counters bear out that all we sent went through it."""
        glyphs = self.console_app.glyphs
        if egress.alarms:
            return self.span(f"{glyphs.bad} what we sent did not go through it", "bad")
        if not egress.looks:
            return self.span(f"{glyphs.off} not measured yet", "quiet")
        words = "look agrees" if egress.looks == 1 else "looks agree"
        return self.span(f"{glyphs.ok} {egress.looks:,} {words}", "ok")


class AlarmCard(Card):
    """Alarms of the service; gone when there are none."""

    TITLE = "Alarms"

    def lines(self, width: int) -> list[Text]:
        status = self.store.gateway
        if status is None:
            return []
        glyph = self.console_app.glyphs.warn
        made: list[Text] = []
        for alarm in status.alarms:
            line = Text(f"{glyph} {formats.clean(alarm, 200)}", self.tone("bad"))
            made += list(line.wrap(self.app.console, max(width, 10)))
        return made

    def redraw(self) -> None:
        self.display = bool(self.store.gateway and self.store.gateway.alarms)
        super().redraw()


MAX_CHART_ROWS = 5
"""Lines of each of the two charts: every sample moves all of them."""
OTHER_LINES = 30
"""Of a tall screen, those that the charts leave to the rest."""


class TrafficCard(Card):
    """Rates now and lately, and the totals. One style to a line: that is what keeps it cheap."""

    TITLE = "Traffic"

    def lines(self, width: int) -> list[Text]:
        store, glyphs = self.store, self.console_app.glyphs
        gateway, client = store.gateway, store.client
        if gateway is not None:
            now = gateway.to_tunnel_rate, gateway.from_tunnel_rate
            total = gateway.to_tunnel_bytes, gateway.from_tunnel_bytes
            words = "to devices", "from devices"
        elif client is not None:
            now = client.from_tunnel_rate, client.to_tunnel_rate
            total = client.from_tunnel_bytes, client.to_tunnel_bytes
            words = "download", "upload"
        else:
            return [Text("…", self.tone("quiet"))]
        history = History(store.down, store.up, SAMPLE_EVERY, store.newest)
        if self.screen.has_class("-tall"):
            rows = max(3, min(MAX_CHART_ROWS, (self.screen.size.height - OTHER_LINES) // 2))
            made = history.lines(self, glyphs, now, width, rows)
            made.append(history.axis(self, width))
        else:
            made = history.lines(self, glyphs, now, width, 1)
            if not self.screen.has_class("-narrow"):
                made.append(history.axis(self, width))
                peaks = history.peaks(glyphs)
                made.append(Text.assemble(self.span(f"{'peak':<9}", "quiet"), self.span(peaks)))
        flows = None if gateway is None else formats.count(gateway.flows, "flow")
        return [*made, self._sums(total, words, flows, width)]

    def _sums(
        self, total: tuple[int, int], words: tuple[str, str], flows: str | None, width: int
    ) -> Text:
        """The totals; without words, and then without the flows, where there is no room."""
        down, up = self.console_app.glyphs.down, self.console_app.glyphs.up
        text = Text()
        for first, second, count in (
            (f" {words[0]}", f" {words[1]}", flows), (f" {words[0]}", f" {words[1]}", None),
            ("", "", flows), ("", "", None),
        ):  # fmt: skip
            text = Text.assemble(
                self.span(f"{down} {formats.size(total[0])}"), self.span(first, "quiet"),
                self.span(f"   {up} {formats.size(total[1])}"), self.span(second, "quiet"),
                self.span(f"   {count}" if count else "", "quiet"),
            )  # fmt: skip
            if text.cell_len <= width:
                break
        return text


class DevicesCard(Card):
    """Leases: who is here, how, how well, and what moves."""

    TITLE = "Devices"

    def lines(self, width: int) -> list[Text]:
        leases = sorted(
            self.store.leases, key=lambda lease: (not lease.connected, lease.label.lower())
        )
        if not leases:
            words = "No lease yet: press p to pair a device."
            return [Text(words if self.store.has("leases") else "…", self.tone("quiet"))]
        glyphs = self.console_app.glyphs
        made = []
        wide, roomy = width >= 66, width >= 84
        taken = 29 + (27 if wide else 0) + (11 if roomy else 0)
        gap = " " if wide else ""
        name_width = max(8, min(32, width - taken))
        for lease in leases:
            line = Text()
            if lease.connected:
                line.append(f"{glyphs.ok} ", self.tone("ok"))
            else:
                line.append(f"{glyphs.off} ", self.tone("quiet"))
            line.append(formats.fit(formats.clean(lease.label, name_width), name_width) + " ")
            if not lease.connected:
                away = "quiet"
                if lease.expires_in is not None:
                    away = f"away, lease kept {formats.duration(lease.expires_in)}"
                line.append(away, self.tone("quiet"))
                made.append(line)
                continue
            line.append(f"{formats.transport(lease.transport or '?'):<4}", self.tone("quiet"))
            if wide:
                rtt = f"{lease.rtt_ms:.0f} ms" if lease.rtt_ms is not None else ""
                line.append(f" {rtt:>7}", self.tone("quiet"))
                line.append(f"  {formats.clean(lease.ipv4, 15):<15}", self.tone("quiet"))
            down, up = formats.rate(lease.to_tunnel_rate), formats.rate(lease.from_tunnel_rate)
            line.append(f" {glyphs.down}{gap}{down:>9}", self.tone("down"))
            line.append(f" {glyphs.up}{gap}{up:>9}", self.tone("up"))
            if roomy:
                line.append(f" {formats.count(lease.flows, 'flow'):>10}", self.tone("quiet"))
            made.append(line)
        return made
