"""What a device gets once it is let in, and what it is told from then on.

A lease takes effect when its client has spoken under the session's keys, at once or a
moment later: then its link is no stranger's any more. How sharing stands, and whether the
device's own gate is open, it is told then and whenever either changes (STATUS).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gateway.gates import Gates
from gateway.link import Link, SessionLink
from gateway.open_links import OpenLinks
from gateway.pulse import Pulse
from gateway.sharing import Sharing
from gateway.tunnels import Tunnel, Tunnels
from gateway.vpn.guard import EgressGuard
from vshp.events import HelloReceived


class Grants:
    """To all devices."""

    def __init__(
        self,
        tunnels: Tunnels,
        gates: Gates,
        sharing: Sharing,
        guard: EgressGuard,
        links: OpenLinks,
        pulse: Pulse,
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called when something that the control API shows has changed."""
        self._tunnels = tunnels
        self._gates = gates
        self._sharing = sharing
        self._guard = guard
        self._links = links
        self._pulse = pulse
        self._changed = changed

    def grant(self, link: SessionLink, hello: HelloReceived, now: float) -> None:
        """Give a trusted device its lease (Admission's)."""
        if self._tunnels.grant(link, hello, self._guard.network.ipv6, now):
            self._took_effect(link, now)
        if not link.closed:
            self._pulse.mark(link)

    def confirmed(self, link: SessionLink, now: float) -> None:
        """The client has spoken under the session's keys: what it was given counts."""
        link.confirmed = True
        if self._tunnels.confirmed(link, now):
            self._took_effect(link, now)

    def sharing_changed(self, now: float) -> None:
        """Another wish of the owner's, or the VPN is there or is not (Sharing's)."""
        for tunnel in self._tunnels.all():
            if tunnel.link is not None:
                self._tell_status(tunnel.link, now)
        self._changed()

    def gate_changed(self, tunnel: Tunnel, now: float) -> None:
        """The device's own gate was opened or closed (Gates')."""
        if tunnel.link is not None:
            self._tell_status(tunnel.link, now)
        self._changed()

    def _took_effect(self, link: SessionLink, now: float) -> None:
        self._links.admitted(link)
        link.search_path(now)
        self._tell_status(link, now)
        self._changed()

    def _tell_status(self, link: Link, now: float) -> None:
        status = self._sharing.client_status()
        tunnel = self._tunnels.of_link(link)
        if tunnel is not None:
            verdict, shut_out = self._gates.read(tunnel)
            status = replace(
                status,
                quota_left=verdict.left,
                shut_out=f"This device {shut_out}." if shut_out else "",
            )
        link.tell_status(status, now)
        self._pulse.mark(link)
