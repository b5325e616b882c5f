"""The first sections: the gateway's overview and the client's tunnel."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.containers import Container, VerticalScroll

from tui.clipboard import Copied
from tui.screens.section import SectionScreen
from tui.widgets.cards import (
    AlarmCard,
    Card,
    DevicesCard,
    NextCard,
    SharingCard,
    TrafficCard,
    VpnCard,
)
from tui.widgets.tunnel_cards import KillSwitchCard, LeaseCard, TunnelCard, without_transport


class _Cards(SectionScreen):
    """A section made of cards, which are the same for as long as it is there."""

    def __init__(self) -> None:
        super().__init__()
        self._cards: list[Card] = []

    def on_mount(self) -> None:
        self._cards = list(self.query(Card))

    def updates(self, topics: Collection[str] | None) -> None:
        for card in self._cards:
            card.redraw()

    def tick(self) -> None:
        for card in self._cards:
            if isinstance(card, TrafficCard | KillSwitchCard):
                card.redraw()


class OverviewScreen(_Cards):
    """Sharing, VPN, alarms, traffic, devices; what to do next when something is missing."""

    SECTION: ClassVar[str] = "overview"

    def topics(self) -> dict[str, dict[str, Any]]:
        return {"leases": {}}

    def body(self) -> ComposeResult:
        with VerticalScroll(id="cards", can_focus=False):
            yield AlarmCard()
            yield NextCard()
            with Container(classes="pair"):
                yield SharingCard()
                yield VpnCard()
            yield TrafficCard()
            yield DevicesCard()

    def copied(self) -> Copied | None:
        status = self.store.gateway
        if status is None or not status.listen:
            return None
        return Copied("the gateway's address", without_transport(status.listen[0]))


class TunnelScreen(_Cards):
    """The receiving side: state, code while waiting, lease, traffic, kill switch."""

    SECTION: ClassVar[str] = "tunnel"

    def topics(self) -> dict[str, dict[str, Any]]:
        return {"gateways": {}}

    def body(self) -> ComposeResult:
        with VerticalScroll(id="cards", can_focus=False):
            yield NextCard()
            with Container(classes="pair"):
                yield TunnelCard()
                yield LeaseCard()
            yield TrafficCard()
            yield KillSwitchCard()

    def copied(self) -> Copied | None:
        status = self.store.client
        if status is None or status.lease is None:
            return None
        return Copied("this device's address", status.lease.ipv4)
