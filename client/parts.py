"""What every run of a client works with, whichever gateway it leads to."""

from __future__ import annotations

from dataclasses import dataclass

from client.consent import Consent
from client.hold import Hold
from client.hostnames import HostNames
from client.model import ClientConfig, ClientStore
from client.nudge import Nudge
from client.outlet.outlet import Outlet
from client.standing import Standing
from client.system.watch import NetworkWatch
from client.trust import Trust
from eventloop.clock import Clock
from reach.cable import Cable


@dataclass(frozen=True, slots=True)
class Parts:
    """Made once, by `Client`; each has one owner of what it keeps: itself."""

    clock: Clock
    store: ClientStore
    config: ClientConfig
    outlet: Outlet
    """Where packets leave the tunnel on this device."""
    cable: Cable
    """To phones on USB."""
    watch: NetworkWatch
    standing: Standing
    consent: Consent
    trust: Trust
    names: HostNames
    hold: Hold
    nudge: Nudge
