"""Which screen shows which section of which service."""

from __future__ import annotations

from collections.abc import Mapping

from tui.screens.connect import ConnectScreen
from tui.screens.dns import DnsScreen
from tui.screens.doctor import DoctorScreen
from tui.screens.flows import FlowsScreen
from tui.screens.links import LinksScreen
from tui.screens.log import LogScreen
from tui.screens.overview import OverviewScreen, TunnelScreen
from tui.screens.pair import PairScreen
from tui.screens.peers import PeersScreen
from tui.screens.section import SectionScreen
from tui.screens.settings import SettingsScreen
from tui.screens.tunnel_flows import TunnelFlowsScreen

SCREENS: Mapping[tuple[str, str], type[SectionScreen]] = {
    ("gateway", "overview"): OverviewScreen,
    ("gateway", "pair"): PairScreen,
    ("gateway", "peers"): PeersScreen,
    ("gateway", "flows"): FlowsScreen,
    ("gateway", "dns"): DnsScreen,
    ("gateway", "log"): LogScreen,
    ("gateway", "doctor"): DoctorScreen,
    ("gateway", "settings"): SettingsScreen,
    ("client", "tunnel"): TunnelScreen,
    ("client", "connect"): ConnectScreen,
    ("client", "links"): LinksScreen,
    ("client", "flows"): TunnelFlowsScreen,
    ("client", "log"): LogScreen,
    ("client", "doctor"): DoctorScreen,
    ("client", "settings"): SettingsScreen,
}
