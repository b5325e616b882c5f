"""What links have to tell, and who is to know: the gateway's `LinkOwner`.

A session's news goes to `admission` (who asks, who has said yes) and to `tunnels` (whose
lease, how it fares); a link that is closed is taken leave of by everybody that knew it.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.admission import Admission
from gateway.grants import Grants
from gateway.journal import Journal
from gateway.link import Link, SessionLink
from gateway.nat.counters import Counters
from gateway.open_links import OpenLinks
from gateway.peers import PeerRegistry
from gateway.pulse import Pulse
from gateway.timing import Timing
from gateway.tunnels import Tunnels
from vshp import events as ev
from vshp.config import CloseReason


class Reception:
    """The `LinkOwner` of all links; WireGuard's come here when they are closed."""

    def __init__(
        self,
        registry: PeerRegistry,
        admission: Admission,
        grants: Grants,
        tunnels: Tunnels,
        links: OpenLinks,
        counters: Counters,
        journal: Journal,
        pulse: Pulse,
        timing: Timing,
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called when something that the control API shows has changed."""
        self._registry = registry
        self._admission = admission
        self._grants = grants
        self._tunnels = tunnels
        self._links = links
        self._counters = counters
        self._journal = journal
        self._timing = timing
        self._changed = changed
        # As they are, and no calls between: each batch of packets has them.
        self.link_again: Callable[[Link], None] = pulse.mark
        self.link_stirred: Callable[[SessionLink], None] = timing.stirred

    def link_event(self, link: SessionLink, event: ev.Event, now: float) -> None:
        """A session's news."""
        match event:
            case ev.HelloReceived():
                link.carrier = event.carrier
                if self._admission.hello(link, event, now):
                    self._links.admitted(link)
                    self._changed()
            case ev.CodeAgreed():
                self._admission.agreed(link, now)
            case ev.Confirmed():
                self._grants.confirmed(link, now)
            case ev.RttMeasured():
                tunnel = self._tunnels.of_link(link)
                if tunnel is not None:
                    tunnel.rtt = event.smoothed
            case ev.PathPayloadFound():
                self._tunnels.path_found(link, event.payload, now)
            case ev.PeerClosed(reason=CloseReason.CODE_REFUSED):
                self._admission.other_digits(link, now)
                self._changed()
            case ev.PeerClosed(reason=CloseReason.DISCONNECTED):
                # It said goodbye: no grace for what it no longer wants.
                tunnel = self._tunnels.of_link(link)
                if tunnel is not None:
                    self._tunnels.end(tunnel, now)
                    self._journal.left(self._registry.device(tunnel.public_key), now)
                    self._changed()
            case _:
                pass

    def link_broken(self, link: Link, reason: str, now: float) -> None:
        """The link's socket is closed: a tunnel it carried waits for another."""
        self._links.left(link)
        self._timing.forget(link)
        tunnel = self._tunnels.of_link(link)
        counters = self._counters if tunnel is None else tunnel.nat_peer.counters
        counts = counters.counts
        counts[reason] += 1
        for name, n in link.counters.items():
            counts[name] += n
        waited = self._admission.link_gone(link, now)
        carried = self._tunnels.link_gone(link, now)
        if tunnel is not None:
            device = self._registry.device(tunnel.public_key)
            self._journal.lost(device, link, reason, now)
        link.detach()
        if waited or carried:
            self._changed()
