"""What becomes of a round's news: who was met, what was asked and granted, what flows.

Theory of operation. A round (`round`) reaches the gateway and tells; here its news is carried to
whom it concerns. Who was met goes to `consent`, a lease to `trust` before anything is done with
it. A lease that came is written down before packets flow: its ticket is new, good once, and what
the client comes back with after a crash. A link that carries packets ends a pause, is a link of
the history, and makes the wish one that outlives the process.
"""

from __future__ import annotations

from client import resume as resuming
from client.driver import LinkDriver
from client.endpoints import Outcome
from client.history import MOVED
from client.model import ClientState, KnownGateway, TransportEndpoint
from client.parts import Parts
from client.plan import Plan, known_ways
from client.reconnect import Ending, Step
from client.strangers import Stranger
from client.ways import Ways
from client.wish import Wish
from eventloop.tasks import create_task
from vshp.config import GatewayStatus, LeaseConfig, Resume


class Reception:
    """Implements `RoundOwner` for the rounds of one run."""

    def __init__(self, parts: Parts, plan: Plan, ways: Ways) -> None:
        self._parts = parts
        self._standing = parts.standing
        self._clock = parts.clock
        self._plan = plan
        self._ways = ways

    def tried(
        self, endpoint: TransportEndpoint, outcome: Outcome, why: str, seconds: float | None
    ) -> None:
        self._standing.tried(endpoint, outcome, why, seconds)

    def stranger(self, endpoint: TransportEndpoint, stranger: Stranger) -> None:
        self._standing.count(f"router__{stranger.name}__refused")
        if stranger.name != "later":
            self._ways.met_stranger(endpoint.host)

    def met(self, gateway_key: bytes) -> Ending | None:
        return self._parts.consent.met(self._plan, gateway_key)

    def shown(self, code: str) -> bool:
        return self._parts.consent.shown(self._plan, code)

    def asked(self, code: str | None) -> None:
        standing = self._standing
        standing.report.code = code
        standing.events.asked(standing.report.gateway, code, self._clock.now())
        standing.step(Step.ASKED)

    async def judged(self, link: LinkDriver, lease: LeaseConfig) -> Ending | None:
        return await self._parts.trust.take(lease, link.endpoint)

    def leased(self, link: LinkDriver, lease: LeaseConfig) -> None:
        """Keep what coming back needs: the ticket is new, and good once."""
        plan, store = self._plan, self._parts.store
        plan.secret = None
        if plan.public_key is None:
            plan.public_key = plan.met
        assert plan.public_key is not None
        plan.resume = Resume(lease.session_id, lease.ticket, lease) if lease.ticket else None
        plan.name = lease.name or plan.name
        # The one seen last stays the one seen last, also where the clock was put back.
        others = [g.last_seen for g in store.gateways() if g.public_key != plan.public_key]
        seen = max([self._clock.wall(), *(each + 1e-3 for each in others)])
        known = KnownGateway(
            plan.public_key,
            plan.name,
            known_ways(self._parts.trust.told(lease), plan.endpoints),
            seen,
            resuming.encode(lease),
        ).seen_at(link.endpoint, seen)
        store.save_gateway(known)
        plan.endpoints, plan.known = known.endpoints, known

    def connected(self, link: LinkDriver, lease: LeaseConfig) -> None:
        standing, outlet = self._standing, self._parts.outlet
        self._ways.rest()
        self._parts.hold.over()
        assert self._plan.known is not None
        wish = Wish(self._plan.known.fingerprint, outlet.open_on_failure)
        self._parts.store.save_wanted(wish.text())
        now = self._clock.now()
        standing.report.leased(lease, outlet.name, now)
        gateway = standing.report.gateway
        fresh = standing.history.begun(link, gateway, lease.resumed, now, self._clock.wall())
        if fresh:
            standing.events.connected(gateway, str(link.endpoint), lease.resumed, now)
        if fresh and lease.resumed:
            create_task(self._count_kept(link), "client-flows-kept")
        if standing.state is ClientState.CONNECTED:
            standing.changed()
        else:
            standing.step(Step.GRANTED)

    async def _count_kept(self, link: LinkDriver) -> None:
        self._standing.history.kept(link, await self._parts.outlet.flows.count())

    def moved(self, link: LinkDriver) -> None:
        """A better way was found and is in use."""
        self._standing.report.add(link)
        self._standing.history.ended(link, MOVED, self._clock.now())
        self._standing.events.moves()

    def status_received(self, status: GatewayStatus) -> None:
        self._standing.told(status)

    def timed(self) -> None:
        self._standing.on_timed()

    def rtt(self, seconds: float) -> None:
        self._standing.report.rtt = seconds
