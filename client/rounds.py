"""Round after round toward one gateway: attempt, judge, wait, again, until somebody says no.

Theory of operation. Each turn pauses (`Backoff`; news cuts it short), sees that the outlet is
there, asks where the gateway may be reached now, and runs one round of connects, handshakes and,
if all goes well, a link that lives for days. How it ended is judged by the rules in `reconnect`,
after what this run can do about it by itself: make the port anew, ask for a fresh lease, use the
other right that it has, look who is there, or wait for the person at the phone. What was promised
is pursued through everything that will pass; a first contact is given up after a few rounds,
because somebody is watching the screen.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from client.history import CLOSED_HERE
from client.model import ClientError, TransportEndpoint
from client.parts import Parts
from client.plan import NOT_RESUMABLE, Plan, may_be_another, second_way
from client.reception import Reception
from client.reconnect import FIRST_ROUNDS, Backoff, Ending, Step, Verdict, judge
from client.round import Round
from client.search import Search
from client.sessions import Sessions
from client.standing import as_verdict
from client.ways import Ways
from eventloop.tasks import cancel, create_task

log = logging.getLogger(__name__)

CONNECT_STEP = 2.0
"""Seconds for a connect in the first round after a break; each further round has as much more."""
ALLOW_SECONDS = 60.0
"""For the person at a phone on the cable to let this device speak to it."""


@dataclass(slots=True)
class _Tried:
    """A round that is over."""

    ways: tuple[TransportEndpoint, ...]
    pursued: bool
    """Whether it was to be followed by others before it began."""
    ending: Ending
    granted: bool
    failure: ClientError | None
    """What this host would not take."""


class Rounds:
    """The rounds of one run."""

    def __init__(
        self,
        parts: Parts,
        plan: Plan,
        ways: Ways,
        search: Search,
        sessions: Callable[[Plan], Sessions],
    ) -> None:
        """`sessions` are those of a round."""
        self._parts = parts
        self._standing = parts.standing
        self._clock = parts.clock
        self._outlet = parts.outlet
        self._plan = plan
        self._ways = ways
        self._search = search
        self._sessions = sessions
        self._reception = Reception(parts, plan, ways)
        self._backoff = Backoff()
        self._leased = False
        self._allow_until: float | None = None
        self.current: Round | None = None
        """The one that is under way."""

    async def run(self) -> Verdict:
        """The final verdict. Raises ClientError when the host cannot be set up."""
        while True:
            await self._parts.nudge.pause(self._backoff.next(random.random()))
            tried = await self._attempt()
            if tried is None:
                continue
            verdict = await self._judge(tried)
            if verdict is None:
                continue
            if verdict.step is Step.REFUSED:
                log.info("%s: %s", verdict.error, verdict.sentence)
                return verdict
            if tried.granted:
                await self._lost(verdict)
            self._standing.broken(verdict)

    async def _attempt(self) -> _Tried | None:
        """One round; None where the host did not let it begin, which is told."""
        # A promise is pursued until somebody who may says no.
        pursued = self._leased or self._outlet.promised
        try:
            await self._outlet.keep()
            await self._outlet.prepare()
            quiet = self._backoff.quiet and self._parts.watch.hears
            ways = await self._ways.look(self._plan, quiet)
        except ClientError as error:
            if not pursued:
                raise
            self._standing.broken(as_verdict(error, Step.BROKEN))
            return None
        if pursued and self._ways.elsewhere:
            self._backoff.again()
        return await self._round(ways, pursued, quiet and not self._ways.elsewhere)

    async def _round(
        self, ways: tuple[TransportEndpoint, ...], pursued: bool, quiet: bool
    ) -> _Tried:
        """See `_attempt`."""
        plan, standing = self._plan, self._standing
        # While nothing is known of the path, short attempts find its return sooner.
        timeout = min(self._parts.config.connect_timeout, CONNECT_STEP * self._backoff.rounds)
        sessions = self._sessions(plan)
        current = self.current = Round(
            self._reception, plan, ways, self._outlet, sessions, timeout, self._parts.cable, quiet
        )
        searching = create_task(self._search.run(plan, current), "client-search")
        ended = CLOSED_HERE
        failure: ClientError | None = None
        try:
            ending = await current.run()
            ended = ending.reason
        except ClientError as error:
            failure, ended, ending = error, error.name, Ending(error.name)
            if not (pursued or current.granted):
                raise
        finally:
            # Before anything is awaited: the pause begins now.
            standing.history.ended(current.link, ended, self._clock.now())
            await cancel(searching)
            standing.report.add(current.link)
            self.current = None
        return _Tried(ways, pursued, ending, current.granted, failure)

    async def _judge(self, tried: _Tried) -> Verdict | None:
        """What follows; None when that is another attempt, with other means."""
        plan, ending, backoff = self._plan, tried.ending, self._backoff
        if tried.granted:
            self._leased = True
            backoff.reset()
            self._standing.all_new()
            plan.watched, plan.probed, plan.another = False, False, None
        elif plan.another is not None and ending.reason == "link_lost":
            ending = Ending("handshake_failed", plan.another, False)
        elif ending.reason == "unreachable":
            ending = self._ways.lack(plan, tried.ways) or ending
        leased, host_willing = self._leased, tried.failure is None
        if ending.reason == "nic_lost":
            await self._renew()
        elif ending.reason in NOT_RESUMABLE:
            plan.resume = None
        elif (
            host_willing
            and (not leased or backoff.rounds > FIRST_ROUNDS)
            and may_be_another(plan, ending)
        ):
            mark = self._outlet.mark
            ending = await self._parts.consent.who_is_there(plan, tried.ways, mark) or ending
        elif host_willing and not leased and second_way(plan, ending):
            log.info("%s: trying what else is known of the gateway", ending.reason)
            backoff.reset()
            return None
        elif (
            ending.reason == "phone_not_allowed"
            and not tried.pursued
            and await self._allowed_later(ending)
        ):
            return None
        if tried.failure is not None:
            return as_verdict(tried.failure, Step.BROKEN)
        retry = self._parts.config.reconnect or not leased
        return judge(ending, leased or tried.pursued, backoff.rounds, retry)

    async def _allowed_later(self, ending: Ending) -> bool:
        """Somebody has to find the phone, unlock it, and read what it asks: wait for that, or for
        news; False when the time for it is over."""
        now = self._clock.now()
        if self._allow_until is None:
            self._allow_until = now + ALLOW_SECONDS
        if now >= self._allow_until:
            return False
        self._standing.broken(judge(ending, True, 0))
        await self._parts.nudge.pause(self._allow_until - now)
        self._backoff.reset()
        return True

    async def _lost(self, verdict: Verdict) -> None:
        """A link that carried packets is gone; the outlet stays as it is, for a while."""
        report = self._standing.report
        report.broken()
        self._standing.events.lost(report.gateway, verdict.sentence, self._clock.now())
        await self._outlet.broken()
        self._parts.hold.begin()

    async def _renew(self) -> None:
        try:
            await self._outlet.renew()
        except ClientError as error:
            text = f"no virtual network interface yet: {error} {error.hint}"
            self._standing.say(logging.WARNING, text)
