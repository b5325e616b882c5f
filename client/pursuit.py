"""The pursuit of one gateway after the other: a run, and what becomes known beside its rounds.

Theory of operation. A *run* is one task: `rounds`, from the user's wish to a final refusal, or
until the wish is given up. What else lives as long as a run (news of phones, a late name, a look
at the host) ends with it. How it ends tells the outlet; what is closed then stays closed, for a
run that ends by a refusal or an error opens nothing.

Where the gateway may be is looked for before each round (`ways`) and, while a link runs, beside it
(`search`). What becomes known in between goes into the round that is under way, where that still
helps, and otherwise cuts the pause after it short.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from client.endpoints import Outcome
from client.model import ClientError, TransportEndpoint
from client.parts import Parts
from client.plan import Plan
from client.reconnect import Step, Verdict
from client.round import Round
from client.rounds import Rounds
from client.search import Search
from client.sessions import Sessions
from client.standing import as_verdict
from client.ways import Ways
from eventloop.tasks import cancel, create_task

log = logging.getLogger(__name__)


class Pursuit:
    """At most one run at a time. Implements `WaysOwner`."""

    def __init__(self, parts: Parts, sessions: Callable[[Plan], Sessions]) -> None:
        """`sessions` are those of a round."""
        self._parts = parts
        self._sessions = sessions
        self.ways = Ways(
            self,
            parts.outlet,
            parts.trust,
            parts.names,
            parts.standing.book,
            parts.cable,
            parts.clock,
        )
        self.search = Search(self._look_for_ways)
        self.plan: Plan | None = None
        """Of the present run, or of the last."""
        self._rounds: Rounds | None = None
        self._run: asyncio.Task[None] | None = None
        self._beside: list[asyncio.Task[None]] = []
        self._joining: asyncio.Task[None] | None = None

    @property
    def begun(self) -> bool:
        """Whether there is a run, be it one that was refused."""
        return self._run is not None

    @property
    def round(self) -> Round | None:
        """The one that is under way."""
        return None if self._rounds is None else self._rounds.current

    def begin(self, plan: Plan) -> None:
        """Start a run; the one before is over (`end`)."""
        self.plan = plan
        self._rounds = Rounds(self._parts, plan, self.ways, self.search, self._sessions)
        self._run = create_task(self._stay_connected(plan, self._rounds), "client-run")

    async def end(self) -> None:
        """Stop connecting; what is in force stays."""
        run, self._run = self._run, None
        await cancel(run)

    def beside(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start what is to end with the run, at the latest."""
        task = create_task(work, name)
        self._beside = [*(each for each in self._beside if not each.done()), task]
        return task

    def hurry(self) -> None:
        """There is news: the next attempt, and the next look for a better way, are soon."""
        self._parts.nudge.tell()
        self.search.hurry()

    async def _stay_connected(self, plan: Plan, rounds: Rounds) -> None:
        """Rounds until a final refusal. Cancelling it ends the run, and opens nothing."""
        sentence = "The client failed unexpectedly. Try again: vpnshare connect"
        verdict = Verdict(Step.REFUSED, "internal_error", sentence)
        self.beside(self._watch_usb(plan), "client-usb-watch")
        try:
            verdict = await rounds.run()
        except ClientError as error:
            log.warning("%s %s", error, error.hint)
            verdict = as_verdict(error, Step.REFUSED)
        except Exception:
            # A fault of ours ends the run, not the service: the user is told, the log has the rest.
            log.exception("the client failed")
        finally:
            while self._beside:
                await cancel(self._beside.pop())
            await self._parts.hold.end()
            self.ways.rest()
            self._parts.trust.drop()
        outlet, standing = self._parts.outlet, self._parts.standing
        await outlet.refuse()
        if not outlet.promised:
            self._parts.store.save_wanted(None)
        standing.report.end()
        standing.failed(verdict)

    async def _look_for_ways(self, plan: Plan, quiet: bool) -> tuple[TransportEndpoint, ...]:
        """For the search: the host is looked at only where there may be news of it."""
        return await self.ways.look(plan, quiet and self._parts.watch.hears, at_ease=quiet)

    async def _watch_usb(self, plan: Plan) -> None:
        """News of phones on the cable, where something tells of them."""
        if plan.transport in ("auto", "usb"):
            with contextlib.suppress(OSError):
                await self._parts.cable.track(self._phone_news)

    def _phone_news(self) -> None:
        self.ways.phone_news()
        self.hurry()

    # --- news of ways (WaysOwner) ------------------------------------------------------------

    def linked(self) -> bool:
        """See `WaysOwner`."""
        return self.round is not None and self.round.granted

    def tried(
        self, endpoint: TransportEndpoint, outcome: Outcome, why: str, seconds: float | None
    ) -> None:
        """See `WaysOwner`."""
        self._parts.standing.tried(endpoint, outcome, why, seconds)

    def announced(self, further: tuple[TransportEndpoint, ...]) -> None:
        """See `WaysOwner`."""
        self._parts.standing.count("announcement__gateway__heard")
        self._join(further)

    def named_late(self) -> None:
        """A name has led somewhere after the ways were told: try there, too."""
        plan = self.plan
        if plan is None or self._run is None or self.linked():
            return
        if self._joining is None or self._joining.done():
            self._joining = self.beside(self._join_named(plan), "client-late-names")

    async def _join_named(self, plan: Plan) -> None:
        """Go where names have led."""
        ways = self.ways.named(plan)
        try:
            await self._parts.outlet.reach(ways)
        except ClientError as error:
            self._parts.standing.say(logging.WARNING, f"{error} {error.hint}")
        self._join(ways)

    def _join(self, ways: tuple[TransportEndpoint, ...]) -> None:
        """Have the round that is under way try there, or else the next, soon."""
        if self.round is None or not self.round.further(ways):
            self._parts.nudge.tell()
