"""Where a plan's gateway may be reached now, from all that may know of it.

Theory of operation. A look asks in turn what is known of the gateway (its addresses, and where its
names lead), where it may be though nobody has named the place (the routers of this device's links,
and what announcements say), and which phones are on the cable. What comes of it is judged
(`trust`), put in order, and written into the book. Without a link this device also hears where
the gateway says that it is; what it hears between two looks goes to the owner at once.

A quiet look (`Backoff.quiet`) is for the same host as the last: nothing of it is looked at again,
unless there was news.

What was announced, and who was met as a stranger, is true on the networks of now: elsewhere the
same addresses are other hosts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from client.endpoints import EndpointBook, Outcome
from client.hostnames import HostNames, explain
from client.kinds import Phones, classify, usb_phones
from client.listening import Listener, ears
from client.model import TransportEndpoint, fingerprint
from client.outlet.outlet import Outlet
from client.plan import Plan
from client.reconnect import Ending, in_order
from client.routers import router_endpoints
from client.strangers import Strangers
from client.trust import Trust
from eventloop.clock import Clock
from reach.announced import Place
from reach.cable import Cable

MAX_ANNOUNCED = 4
"""Places that are remembered of what the gateway, or somebody in its name, has announced."""

LOOK_AGAIN = 600.0
"""Seconds for which a look at the host is good while there is no news of it."""


class WaysOwner(Protocol):
    """What is told of ways between two looks. None of these may raise."""

    def linked(self) -> bool:
        """Whether there is a link, so that none is looked for."""

    def tried(
        self, endpoint: TransportEndpoint, outcome: Outcome, why: str, seconds: float | None
    ) -> None:
        """What became of an endpoint (see `endpoints.Tell`)."""

    def announced(self, further: tuple[TransportEndpoint, ...]) -> None:
        """The gateway has said that it is there."""


class Ways:
    """Knows what was found at the last look."""

    def __init__(
        self,
        owner: WaysOwner,
        outlet: Outlet,
        trust: Trust,
        names: HostNames,
        book: EndpointBook,
        cable: Cable,
        clock: Clock,
    ) -> None:
        self._owner = owner
        self._outlet = outlet
        self._trust = trust
        self._names = names
        self._book = book
        self._cable = cable
        self._clock = clock
        self._plan: Plan | None = None
        self._strangers = Strangers()
        self._announced: dict[str, TransportEndpoint] = {}
        """Where the gateway has said that it is, on the networks of now."""
        self._listener = Listener(self._heard)
        self._phones = Phones()
        """What was on the cable when last looked at."""
        self._name_lack: Ending | None = None
        """Why a name has led nowhere, where there is one."""
        self._looked_at = -LOOK_AGAIN
        """When the host was looked at, if it has not changed since."""
        self._phones_at = -LOOK_AGAIN
        """When phones were looked for, if none is known to have come or gone since."""
        self._reached: tuple[TransportEndpoint, ...] = ()
        """Ways that the outlet lets links go since then."""
        self.elsewhere = False
        """Whether this device was on other networks when ways were looked for before."""

    async def look(
        self, plan: Plan, quiet: bool = False, at_ease: bool = False
    ) -> tuple[TransportEndpoint, ...]:
        """Where the gateway may be reached now, the best first. Raises ClientError.

        `quiet`: there have been such looks before, and `news` is told of all news since.
        `at_ease`: a link runs, and `phone_news` was told of what came to the cable or went: so
        phones are not looked for either. (What nobody tells, as that another program has let one
        go, has time until `LOOK_AGAIN` then.)
        """
        self._plan = plan
        now = self._clock.now()
        if not quiet or now - self._looked_at >= LOOK_AGAIN:
            self._looked_at, self._reached = now, ()
            await self._outlet.look()
        facts = self._outlet.facts
        self.elsewhere = self._strangers.look(facts)
        addresses = await self._names.look(plan.endpoints, all(e.named for e in plan.endpoints))
        dialled = self._trust.dialled(plan, addresses)
        self._name_lack = self._lack_of_names(plan, addresses)
        # A phone that was on the cable once is believed to be there when it is seen.
        found = [e for e in dialled if plan.by_address or e.transport != "usb"]
        # What was used last goes first, if it is as near as a guess is.
        if self.elsewhere:
            self._announced.clear()
        self._listen(plan)
        guesses = self._guesses(plan)
        found[1:1] = self._strangers.without(guesses, self._clock.now())
        if plan.transport in ("auto", "usb"):
            if not at_ease or now - self._phones_at >= LOOK_AGAIN:
                self._phones_at = now
                self._phones = await usb_phones(self._cable, plan.port)
            found += self._phones.endpoints
        ways = in_order(classify(found, facts), plan.transport)
        kept = (e for e in plan.endpoints if e.host not in addresses)
        self._book.know((*ways, *kept, *guesses))
        if ways != self._reached:
            await self._outlet.reach(ways)
            self._reached = ways
        return ways

    def news(self) -> None:
        """The host has changed."""
        self._looked_at = -LOOK_AGAIN

    def phone_news(self) -> None:
        """A phone has come to the cable, or gone, or changed."""
        self._phones_at = -LOOK_AGAIN

    def named(self, plan: Plan) -> tuple[TransportEndpoint, ...]:
        """Where the plan's names have led by now; the best first."""
        addresses = self._names.found(e.host for e in plan.endpoints if e.named)
        led = {address for each in addresses.values() for address in each}
        ways = tuple(
            e
            for e in in_order(self._trust.dialled(plan, addresses), plan.transport)
            if e.host.partition("%")[0] in led
        )
        return classify(ways, self._outlet.facts)

    async def check_name(self, plan: Plan) -> None:
        """Where nothing but a name leads to the gateway: see that it does. Raises ClientError."""
        if plan.known is not None or not all(e.named for e in plan.endpoints):
            return
        for endpoint in plan.endpoints[:1]:
            await self._outlet.look()
            addresses = await self._names.look(plan.endpoints, True)
            problem = self._names.problem(endpoint.host)
            if problem is not None:
                raise explain(endpoint.host, problem.name, str(problem))
            if not self._trust.dialled(plan, addresses):
                raise explain(endpoint.host, "name_refused", self._trust.misled)

    def lack(self, plan: Plan, ways: tuple[TransportEndpoint, ...]) -> Ending | None:
        """Nothing was reached by these: what was missing, where that is known."""
        if plan.only_usb and self._phones.lack:
            return Ending(self._phones.lack, self._phones.detail, authenticated=False)
        if all(way.guessed for way in ways):
            return self._name_lack
        return None

    def met_stranger(self, host: str) -> None:
        """Somebody there took a connection, and did not prove the gateway's key."""
        self._strangers.met(host, self._clock.now())

    def changed(self) -> bool:
        """Whether this device is on other networks than at the last look for ways."""
        return self._strangers.elsewhere(self._outlet.facts)

    def rest(self) -> None:
        """There is a link, or no run: announcements are not listened for."""
        self._listener.stop()

    def _guesses(self, plan: Plan) -> tuple[TransportEndpoint, ...]:
        """Where the gateway may be though nobody has named the place.

        Only for a gateway that has granted before: whoever is there instead can then learn
        nothing (see `routers`).
        """
        if not plan.guessable:
            return ()
        routers = router_endpoints(self._outlet.facts, plan.port, plan.transport)
        return routers + classify(self._announced.values(), self._outlet.facts)

    def _listen(self, plan: Plan) -> None:
        """Without a link, hear where the gateway says that it is."""
        if plan.guessable and not self._owner.linked():
            self._listener.listen(ears(self._outlet.facts), self._outlet.mark)
        else:
            self._listener.stop()

    def _heard(self, place: Place, sender: str) -> None:
        """An announcement: try there, if it is our gateway's and from a network on the link."""
        plan = self._plan
        if plan is None or plan.public_key is None or not plan.guessable or self._owner.linked():
            return
        if place.fingerprint != fingerprint(plan.public_key).replace(":", ""):
            return
        endpoint = self._trust.announced(place.host, sender, place.port, plan.transport)
        if endpoint is None or not self._strangers.without((endpoint,), self._clock.now()):
            return
        if str(endpoint) not in self._announced and len(self._announced) >= MAX_ANNOUNCED:
            del self._announced[next(iter(self._announced))]
        self._announced[str(endpoint)] = endpoint
        self._owner.announced(classify((endpoint,), self._outlet.facts))

    def _lack_of_names(self, plan: Plan, addresses: Mapping[str, tuple[str, ...]]) -> Ending | None:
        """Tell of names that led nowhere; the last one's ending."""
        lack = None
        for endpoint in plan.endpoints:
            problem = self._names.problem(endpoint.host)
            if problem is not None and endpoint.host not in addresses:
                why = f"{endpoint.host}: {problem}"
                self._book.know((*(r.endpoint for r in self._book.read()), endpoint))
                self._owner.tried(endpoint, Outcome.UNREACHABLE, str(problem), None)
                lack = Ending(problem.name, why, authenticated=False)
        if lack is None and self._trust.misled:
            lack = Ending("name_refused", self._trust.misled, authenticated=False)
        return lack
