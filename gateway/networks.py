"""The networks that this host is in outside the VPN, and what follows when they change.

Devices shall not reach them through the tunnel (`nat.policy`), and clients shall know by
which of our addresses to come back.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.endpoints import Endpoints
from gateway.listeners import spell_address
from gateway.nat.router import Nat
from gateway.pulse import Pulse
from gateway.tunnels import Tunnels
from gateway.vpn.snapshot import Attached
from vshp.constants import MAX_ENDPOINTS


class Networks:
    """Has everybody follow."""

    def __init__(
        self,
        nat: Nat,
        endpoints: Endpoints,
        tunnels: Tunnels,
        pulse: Pulse,
        clock: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called when something that the control API shows has changed."""
        self._nat = nat
        self._endpoints = endpoints
        self._tunnels = tunnels
        self._pulse = pulse
        self._clock = clock
        self._changed = changed

    def attached(self, attached: Attached) -> None:
        """The host is in these networks now (the detector's)."""
        now = self._clock()
        self._nat.policy.set_networks(
            [spell_address(address) for address in attached.own],
            [f"{spell_address(address)}/{prefix}" for address, prefix in attached.networks],
        )
        self._nat.policy_changed(now)
        self.tell_endpoints(now)
        self._pulse.settle_soon()
        # Whoever announces where we are has to know.
        self._changed()

    def tell_endpoints(self, now: float) -> None:
        """Clients shall know where to come back to."""
        self._tunnels.tell_endpoints(self._endpoints.likeliest(MAX_ENDPOINTS), now)
