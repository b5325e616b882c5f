"""How the client stands, and what is shown of it: its state, the report, what happened.

Theory of operation. All that a person may see of the client is kept here, and whoever brings
something about says so here: a step moves the state (by the table in `reconnect` and in no other
way), what failed gets its sentence, and each change is told once (`on_change`), wakes who waits
for an end, and has the kill switch looked at, so that it is shown with the time of its change also
while nobody asks. Nothing here decides what is done next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from client.driver import LinkDriver
from client.endpoints import EndpointBook, Outcome
from client.events import Events
from client.guard import GuardSnapshot, GuardWatch
from client.history import History
from client.model import (
    ClientError,
    ClientSnapshot,
    ClientState,
    TransportEndpoint,
    fingerprint,
)
from client.outlet.outlet import Outlet, OutletKind
from client.plan import Plan
from client.reconnect import Step, Verdict, after
from client.repeats import Repeats
from client.report import Report
from eventloop.clock import Clock
from reach.cable import Cable
from sealing.happenings import Event
from vshp.config import GatewayStatus

log = logging.getLogger(__name__)

_SETTLED = frozenset({ClientState.CONNECTED, ClientState.FAILED, ClientState.IDLE})


class Standing:
    """What is true of the client now, and what was."""

    def __init__(
        self,
        outlet: Outlet,
        cable: Cable,
        clock: Clock,
        on_event: Callable[[Event], None] | None,
        on_change: Callable[[], None],
    ) -> None:
        """`on_event`: see `Events`; `on_change` is told that the snapshot has changed."""
        self._outlet = outlet
        self._cable = cable
        self._clock = clock
        self._on_change = on_change
        self.on_timed: Callable[[], None] = lambda: None
        """Called when the timer of a link was due."""
        self.state = ClientState.IDLE
        self.report = Report()
        self.book = EndpointBook()
        """The endpoints of the present run, or of the last."""
        self.history = History()
        self.events = Events(on_event)
        self._guard = GuardWatch()
        self._repeats = Repeats()
        self._settled = asyncio.Event()

    # --- what is brought about ---------------------------------------------------------------

    def begin(self, plan: Plan, interface: str) -> None:
        """A run toward the plan's gateway begins."""
        key = plan.public_key
        self.report = self.report.begin(
            plan.name or (str(plan.endpoints[0]) if plan.endpoints else "the phone"),
            None if key is None else fingerprint(key),
            interface,
        )
        self.book.clear()
        self.all_new()
        self.history.run_begins()
        self.step(Step.CONNECT)

    def step(self, step: Step) -> None:
        """Move the state. Raises IllegalStep."""
        before, self.state = self.state, after(self.state, step)
        if before is not self.state:
            log.info("%s", self.state)
        self.changed()

    def changed(self) -> None:
        """Something that is shown has changed."""
        self._guarded()
        if self.state in _SETTLED:
            self._settled.set()
        self._on_change()

    def broken(self, verdict: Verdict) -> None:
        """The attempt or the link has ended; another follows."""
        self.say(logging.INFO, f"{verdict.error}: {verdict.sentence}")
        self.report.error, self.report.reason = verdict.error, verdict.sentence
        self.report.code = None
        self.step(verdict.step)

    def failed(self, verdict: Verdict) -> None:
        """... and none follows."""
        self.report.error, self.report.reason = verdict.error, verdict.sentence
        self.events.failed(self.report.gateway, verdict.sentence, self._clock.now())
        self.step(Step.REFUSED)

    def given_up(self) -> None:
        """There is no run any more, and no wish."""
        self.report.end()
        self.step(Step.DISCONNECT)

    def told(self, status: GatewayStatus) -> None:
        """The gateway spoke of itself."""
        report = self.report
        before, shut_out = report.sharing, report.shut_out
        if report.status(status):
            now = self._clock.now()
            self.events.sharing(report.gateway, before, report.sharing, now)
            self.events.gate(report.gateway, shut_out, report.shut_out, now)
            self.changed()

    def tried(
        self, endpoint: TransportEndpoint, outcome: Outcome, why: str, seconds: float | None
    ) -> None:
        """What became of an endpoint (see `endpoints.Tell`)."""
        self.book.note(endpoint, outcome, why, seconds, self._clock.wall())

    def count(self, name: str) -> None:
        """Something happened that no link counts."""
        self.report.count(name)

    def say(self, level: int, text: str) -> None:
        """A line in the log of what may be the same at every attempt."""
        if line := self._repeats.take(text, self._clock.now()):
            log.log(level, "%s", line)

    def all_new(self) -> None:
        """What is said from here on was not said before."""
        self._repeats.clear()

    # --- what is shown -----------------------------------------------------------------------

    def snapshot(self, link: LinkDriver | None) -> ClientSnapshot:
        """All at this moment; `link` is the running one."""
        outlet = self._outlet
        now = self.report.snapshot(self.state, link, self._guarded(), self._clock.now())
        counters = now.counters | dict(outlet.counters) | self._cable.counted()
        if outlet.kind is not OutletKind.PROXY:
            return replace(now, outlet=outlet.kind, counters=counters)
        return replace(
            now, outlet=outlet.kind, proxy=outlet.name, interface=None, counters=counters
        )

    async def settled(self, timeout: float | None) -> None:
        """Until the state is `connected`, `failed` or `idle`, or for so many seconds."""
        try:
            async with asyncio.timeout(timeout):
                while self.state not in _SETTLED:
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            pass

    def _guarded(self) -> GuardSnapshot:
        linked = self.state is ClientState.CONNECTED
        outlet = self._outlet
        guard = self._guard.look(outlet.guards, linked, self._clock.wall(), outlet.open_on_failure)
        self.events.guard(guard.state, self._clock.now())
        return guard


def as_verdict(error: ClientError, step: Step) -> Verdict:
    """The host could not be set up."""
    return Verdict(step, error.name, f"{error.message} {error.hint}".strip())
