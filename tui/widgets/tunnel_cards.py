"""The receiving side's cards: the tunnel, the lease, the kill switch."""

from __future__ import annotations

from rich.text import Text

from control import schema, words
from tui import formats
from tui.widgets.bars import client_state, shown
from tui.widgets.cards import Card


class TunnelCard(Card):
    """The receiving side's state: where the tunnel goes and how well."""

    TITLE = "Tunnel"

    def lines(self, width: int) -> list[Text]:
        status = self.store.client
        if status is None:
            return [Text("…", self.tone("quiet"))]
        glyph, word, tone = client_state(status, self.console_app)
        made = [self.pair("State", self.span(f"{glyph} {word}", tone))]
        if status.connected_for is not None and status.state == "connected":
            since = f"  for {formats.duration(status.connected_for)}"
            if made[0].cell_len + len(since) <= width:
                made[0].append(since, self.tone("quiet"))
        if status.code and status.state in ("asked", "waiting"):
            asked = "  a: the same   d: other"
            words = asked if status.state == "asked" else "  the gateway shows the same"
            made.append(self.pair("Code", self.span(formats.code(status.code), "accent")))
            made[-1].append(formats.shorten(words, max(8, width - 16)), self.tone("quiet"))
        if status.reason and status.state != "asked":
            reason = Text(formats.clean(status.reason, 240), self.tone("bad"))
            made += list(reason.wrap(self.app.console, max(width, 10)))
        if status.gateway:
            made.append(self.pair("Gateway", self.span(formats.clean(status.gateway, 32))))
        if status.endpoint:
            address = without_transport(formats.clean(status.endpoint, 60))
            where = formats.shorten_middle(address, max(8, width - 14))
            made.append(self.pair("By", self.span(formats.clean(status.transport or "?", 8)),
                                  self.span(f" {where}", "quiet")))  # fmt: skip
        if status.rtt_ms is not None:
            made.append(self.pair("Quality", self.span(f"{status.rtt_ms:.0f} ms"), self.span(
                f"  {formats.count(status.reconnects, 'reconnect')}", "quiet")))  # fmt: skip
        return made


class LeaseCard(Card):
    """The lease the gateway gave us."""

    TITLE = "Lease"

    def lines(self, width: int) -> list[Text]:
        status = self.store.client
        if status is None or status.lease is None:
            return [Text("No lease: not connected.", self.tone("quiet"))]
        lease: schema.ClientLease = status.lease
        dns = ", ".join(formats.clean(server, 45) for server in lease.dns)
        return [
            self.pair("Proxy" if status.outlet == "proxy" else "Device",
                      self.span(formats.clean(status.proxy or status.interface or "?", 28)),
                      self.span(f"  MTU {lease.mtu}" + ("  offload" if lease.offload else ""),
                                "quiet")),
            self.pair("IPv4", self.span(formats.clean(lease.ipv4, 20))),
            self.pair("IPv6", self.span(formats.clean(lease.ipv6, 45))),
            self.pair("DNS", self.span(formats.shorten(dns, max(8, width - 9)))),
            self.pair("Kept for", self.span(
                formats.duration(self.store.left("status", lease.expires_in,
                                                 self.console_app.now)))),
        ]  # fmt: skip


class KillSwitchCard(Card):
    """Whether traffic can leave outside the tunnel, and what keeps it from that."""

    TITLE = "Kill switch"

    def lines(self, width: int) -> list[Text]:
        status = self.store.client
        if status is None:
            return [Text("…", self.tone("quiet"))]
        switch = status.kill_switch
        if status.outlet in words.ASIDE and not switch.rules:
            why = Text(f"Does not apply. {words.ASIDE[status.outlet]}", self.tone("quiet"))
            return list(why.wrap(self.app.console, max(width, 10)))
        glyph, word, tone = shown(words.kill_switch(switch), self.console_app)
        first = self.pair("State", self.span(f"{glyph} {word}", tone))
        if switch.open_on_failure:
            first.append("  opens on failure", self.tone("bad"))
        if switch.state == "off":
            first.append("  nothing is in force", self.tone("quiet"))
            return [first]
        if switch.since_at is not None:
            since = formats.duration(max(0.0, self.console_app.wall - switch.since_at))
            first.append(f"  for {since}", self.tone("quiet"))
        held = words.held_by(switch.strict)
        rules = formats.count(len(switch.rules), "rule")
        made = [first, self.pair("Holds by", self.span(held), self.span(f"  {rules}", "quiet"))]
        if switch.opened_by is not None:
            opener = formats.clean(switch.opened_by, 120)
            made.append(self.pair("Opens by", self.span(opener, "warn")))
        if switch.beside:
            named = f"{len(switch.beside)}: {', '.join(switch.beside)}"
            text = formats.shorten(formats.clean(named, 200), max(8, width - 9))
            made.append(self.pair("Beside", self.span(text)))
        if self.screen.has_class("-tall"):
            for rule in switch.rules[:MAX_RULES]:
                text = formats.shorten_middle(formats.clean(rule, 100), max(8, width - 9))
                made.append(self.pair("", self.span(text, "quiet")))
        return made


MAX_RULES = 6
"""Rules that the card lists: three for each family of addresses."""


def without_transport(endpoint: str) -> str:
    """The address of `tcp:192.0.2.1:47800`; its transport is shown beside it."""
    transport, colon, address = endpoint.partition(":")
    return address if colon and transport in ("tcp", "udp", "usb") else endpoint
