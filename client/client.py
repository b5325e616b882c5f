"""The receiving side as one object: connect, stay connected, undo everything.

Theory of operation. `connect` makes a plan (which gateway, where, by what
right), has the outlet prepared, and starts one task, the *run*, which lives until
`disconnect`, `stop`, or a final refusal. A run is rounds of: dial the
gateway's endpoints, shake hands over one, wait for the owner, apply the lease
to the outlet, carry packets until the link ends. Between rounds the outlet
stays as it is, so applications' connections only
pause; the next round resumes the session with the lease's ticket. What ends a
round is judged by the rules in `reconnect`.

Where packets leave the tunnel on this device is the outlet's affair (`client/outlet`): a NIC, a
namespace, a proxy. What keeps traffic in (`block`) belongs to the user's wish and not to the run:
a run that ends by a refusal or an error leaves the network closed. Only
`disconnect` and `stop` open it, which is when the wish ends.

A link that was silent for `HOLD_SECONDS` after it broke is no pause any more:
the outlet then tells applications at once that nothing is reachable, until a link
is back.

A wish that was promised something is remembered by the store (`wish`), and by
the block itself in the kernel; a start that finds either goes on with it, for
as long as it takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace

from client import nearby, suite
from client import resume as resuming
from client.driver import LinkDriver
from client.endpoints import EndpointBook, EndpointRecord, Outcome
from client.events import Events
from client.guard import GuardSnapshot, GuardWatch
from client.history import CLOSED_HERE, MOVED, History, LinkRecord
from client.hostnames import Ask, HostNames
from client.model import (
    ClientConfig,
    ClientError,
    ClientSnapshot,
    ClientState,
    ClientStore,
    KnownGateway,
    TransportEndpoint,
    fingerprint,
)
from client.nearby import Surroundings
from client.nudge import Nudge
from client.outlet.outlet import Outlet, OutletKind
from client.plan import (
    NOT_RESUMABLE,
    Plan,
    find_gateway,
    known_ways,
    make_plan,
    may_be_another,
    second_way,
)
from client.probe import whose_key
from client.reconnect import (
    FIRST_ROUNDS,
    Backoff,
    Ending,
    Step,
    Verdict,
    after,
    judge,
)
from client.repeats import Repeats
from client.report import Report
from client.round import PATIENCE, Round
from client.search import Search
from client.sessions import Sessions
from client.strangers import Stranger
from client.system.watch import NetworkWatch
from client.tasks import cancel, create_task
from client.trust import Trust
from client.ways import Ways
from client.wish import Wish
from reach import names
from reach.cable import LACKS, Cable, Phone
from reach.usb import system_cable
from sealing.happenings import Event
from sealing.identity import generate_identity, public_key
from vshp.config import Capability, GatewayStatus, Hello, LeaseConfig, Resume, Route, Suite

log = logging.getLogger(__name__)

HOLD_SECONDS = 10.0
"""A broken link is a pause for this long; afterwards applications are told."""
CONNECT_STEP = 2.0
"""Seconds for a connect in the first round after a break; each further round has as much more."""
REFUSAL_SECONDS = 5.0
"""For an attempt to end whose digits were refused."""
PING_PAUSE = 1.0
"""Seconds between pings for news of the network, however much of it there is."""
ALLOW_SECONDS = 60.0
"""For the person at a phone on the cable to let this device speak to it."""
MAX_LOOKED_AT = 4
"""Endpoints that are asked whose they are, at once."""
FOLLOW_PAUSE = 1.0
"""Seconds until what keeps traffic in is tried again, where the host did not take it."""


class Client:
    """One outlet over one session with one gateway at a time.

    `on_change` is called on the loop whenever the snapshot's state, reason,
    code, lease or sharing changed (not for counters).
    """

    def __init__(
        self,
        store: ClientStore,
        config: ClientConfig,
        outlet: Outlet,
        on_event: Callable[[Event], None] | None = None,
        cable: Cable | None = None,
        ask: Ask = names.ask,
    ) -> None:
        """`outlet` is stopped with the client; `on_event` is told what happens to the link
        (without it the log is). `cable` speaks to phones on USB, `ask` looks names up."""
        self.on_change: Callable[[], None] = lambda: None
        self._store = store
        self._config = config
        self.outlet = outlet
        """Where packets leave the tunnel on this device."""
        self._trust = Trust(self.outlet, lambda name: self._report.count(name))
        self._names = HostNames(self.outlet, ask, self._named_late)
        self._joining: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._look_due = False
        self._watch = NetworkWatch(self._network_changed)
        self._identity = b""
        self._suite = Suite.CHACHAPOLY_BLAKE2S
        self._state = ClientState.IDLE
        self._report = Report()
        self._book = EndpointBook()
        self._history = History()
        self._guard = GuardWatch()
        self._events = Events(on_event)
        self._repeats = Repeats()
        self._cable = system_cable(config.state_dir) if cable is None else cable
        self._ways = Ways(self, outlet, self._trust, self._names, self._book, self._cable)
        self._run: asyncio.Task[None] | None = None
        self._around: asyncio.Task[Surroundings] | None = None
        self._round: Round | None = None
        self._plan: Plan | None = None
        self._hold: asyncio.Task[None] | None = None
        self._nudge = Nudge()
        self._settled = asyncio.Event()
        self._search = Search(self._ways.look)
        self._pinged = 0.0
        self._following: asyncio.Task[None] | None = None
        self._host_changed = False
        self._stopped = False

    # --- verbs -----------------------------------------------------------------------------

    async def start(self) -> None:
        """Create the identity if there is none; go on with the wish of an earlier run, if any.

        Raises ClientError when the state folder cannot be used.
        """
        identity = self._store.identity()
        if identity is None:
            identity = generate_identity()
            self._store.save_identity(identity)
        self._identity = identity
        self._report.fingerprint = fingerprint(public_key(identity))
        self._report.label = self._config.label
        self._suite = suite.choose(self._config.suite)
        wish = Wish.parse(self._store.wanted())
        if await self.outlet.found() and wish is None:
            # It could not be written down, but what it promised stands.
            wish = Wish(open_on_failure=self._config.open_on_failure)
        self._watch.start()
        await self.outlet.start()
        if wish is None:
            await self.outlet.open()
        else:
            await self._go_on(wish)

    async def _go_on(self, wish: Wish) -> None:
        """Take over what an earlier run left in force, and pursue its wish."""
        log.info("an earlier run was connected: going on")
        try:
            await self.outlet.wish(True, wish.open_on_failure)
        except ClientError as error:
            log.warning("%s %s", error, error.hint)
        try:
            plan = make_plan(self._store, wish.gateway, "auto")
        except ClientError as error:
            if error.name == "gateway_unknown":
                error = ClientError(*_FORGOTTEN)
            await self.outlet.refuse()
            self._step(Step.CONNECT)
            self._fail(_failed(error, Step.REFUSED))
            return
        self._begin(plan, "")

    async def stop(self, on_purpose: bool = True) -> None:
        """End. On purpose the wish ends, too, and every change to the system is undone.

        Otherwise the network stays as closed as it is, and the session is left to be resumed.
        Safe to call twice.
        """
        if self._stopped:
            return
        self._stopped = True
        self._watch.stop()
        await cancel(self._following)
        await self._names.close()
        await cancel(self._around)
        if on_purpose:
            await self.disconnect()
        else:
            if self._round is not None and self._round.link is not None:
                # A goodbye would end the session, which the next run is to resume.
                self._round.link.drop()
            await self._end_run()
        await self._cable.close()
        await self.outlet.stop()

    async def connect(
        self,
        target: str | None = None,
        transport: str = "auto",
        code: str | None = None,
        unseen: bool = False,
        open_on_failure: bool | None = None,
    ) -> None:
        """Begin connecting; returns as soon as the attempt runs.

        `target` is a pairing URI, a gateway's address or its host's name (`HOST:PORT`,
        or `usb` for the phone on the cable), a known gateway's name or fingerprint (or
        a unique prefix of it), or None for the gateway seen last. A running
        connection is given up first, and what it kept closed stays closed. To
        a known gateway the network is closed when this returns.
        `open_on_failure`: the weaker promise, or as configured. Raises
        ClientError for what cannot be tried at all: `uri_invalid`,
        `gateway_unknown`, `gateway_ambiguous`, `transport_unavailable`,
        `nic_unavailable`, and, where a host's name is the only way, `name_unknown`,
        `name_unanswered`, `name_unaskable`, `name_refused`. What goes wrong later is in the
        snapshot.

        A first contact without a URI waits in state `asked` until `confirm` is called with the
        digits that the gateway shows. A `code` given here is that call, for the attempt
        at `target` that waits (`code_unasked` if none does); with `unseen` whoever answers
        is believed, without a look at the digits.
        """
        if code is not None and self._asked_about(target):
            await self.confirm(code)
            return
        plan = make_plan(self._store, target, transport)
        plan.unseen, plan.watched = unseen, True
        if code is not None and plan.expected is None:
            raise ClientError(*_NOTHING_ASKED)
        weaker = self._config.open_on_failure if open_on_failure is None else open_on_failure
        promised = self.outlet.promised
        try:
            await self.outlet.prepare()
            await self._ways.check_name(plan)
        except BaseException:
            if not promised:
                await self.outlet.open()
            raise
        await self._end_run()
        self._report.end()
        self._step(Step.DISCONNECT)
        try:
            await self.outlet.wish(plan.promised, weaker)
        except ClientError as error:
            if promised:
                await self.outlet.refuse()
                self._step(Step.CONNECT)
                self._fail(_failed(error, Step.REFUSED))
            else:
                await self.outlet.open()
            raise
        if plan.known is not None and self.outlet.promised:
            self._store.save_wanted(Wish(plan.known.fingerprint, weaker).text())
        self._begin(plan, self.outlet.name)

    def _begin(self, plan: Plan, interface: str) -> None:
        """Start the run."""
        key = plan.public_key
        self._report = self._report.begin(
            plan.name or (str(plan.endpoints[0]) if plan.endpoints else "the phone"),
            None if key is None else fingerprint(key),
            interface,
        )
        self._book.clear()
        self._repeats.clear()
        self._history.run_begins()
        self._step(Step.CONNECT)
        self._run = create_task(self._stay_connected(plan), "client-run")

    async def wait(self, timeout: float | None = None) -> ClientSnapshot:
        """The snapshot once the state is `connected`, `failed` or `idle`, or at time-out."""
        try:
            async with asyncio.timeout(timeout):
                while self._state not in _SETTLED:
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            pass
        return self.status()

    async def disconnect(self) -> None:
        """Close the session and undo every change to the system; state `idle`."""
        await self._end_run()
        await self.outlet.open()
        self._store.save_wanted(None)
        if self._report.gateway and self._state is not ClientState.IDLE:
            self._events.disconnected(self._report.gateway, time.monotonic())
        self._report.end()
        self._step(Step.DISCONNECT)

    async def confirm(self, code: str) -> None:
        """The user says that the gateway shows these digits: right ones let it go on, others
        end the attempt. Raises ClientError `code_unasked` when no digits are shown."""
        given = "".join(digit for digit in code if digit.isdecimal())
        if self._state is ClientState.WAITING and given == self._report.code:
            return
        if self._state is not ClientState.ASKED or self._round is None:
            raise ClientError(*_NOTHING_ASKED)
        if given == self._report.code:
            self._agree()
            self._round.agree(given)
        else:
            await self.refuse()

    async def refuse(self) -> None:
        """The user says that the gateway shows other digits: the attempt is over on return.

        Raises ClientError `code_unasked`.
        """
        if self._state is not ClientState.ASKED or self._round is None:
            raise ClientError(*_NOTHING_ASKED)
        self._round.refuse()
        await self.wait(REFUSAL_SECONDS)

    def _asked_about(self, target: str | None) -> bool:
        """Whether digits are shown, or were agreed to, in the run toward `target`."""
        plan = self._plan if self._run is not None else None
        shown = self._state in (ClientState.ASKED, ClientState.WAITING) and self._report.code
        return plan is not None and bool(shown) and target in (None, plan.target)

    async def _end_run(self) -> None:
        """Stop connecting; what is in force stays."""
        run, self._run = self._run, None
        await cancel(run)

    def forget(self, target: str) -> None:
        """Remove a known gateway by name or fingerprint; ClientError `gateway_unknown`."""
        self._store.forget_gateway(find_gateway(self._store, target).public_key)

    async def phones(self) -> list[Phone]:
        """Phones on the cable. Raises ClientError `usb_absent` when nothing here speaks to any."""
        try:
            return await self._cable.phones()
        except OSError as error:
            raise ClientError("usb_absent", LACKS["usb_absent"]) from error

    async def forget_usb_key(self) -> None:
        """Remove the key that phones know this device by. Raises ClientError `usb_key`."""
        try:
            await self._cable.forget()
        except OSError as error:
            raise ClientError("usb_key", f"The key could not be removed: {error}.") from error

    def status(self) -> ClientSnapshot:
        """The state at this moment."""
        link = self._round.link if self._round is not None else None
        now = self._report.snapshot(self._state, link, self._guarded(), time.monotonic())
        counters = now.counters | dict(self.outlet.counters) | self._cable.counted()
        if self.outlet.kind is not OutletKind.PROXY:
            return replace(now, outlet=self.outlet.kind, counters=counters)
        return replace(
            now,
            outlet=self.outlet.kind,
            proxy=self.outlet.name,
            interface=None,
            counters=counters,
        )

    def endpoints(self) -> tuple[EndpointRecord, ...]:
        """The endpoints of the present run, or of the last, the best first."""
        return self._book.read()

    async def nearby(self) -> Surroundings:
        """What gateways there are near this device; takes some seconds. Nobody is bothered.

        Two who ask at the same time get the same answer.
        """
        if self._around is None or self._around.done():
            self._around = create_task(self._look_around(), "client-nearby")
        return await asyncio.shield(self._around)

    async def _look_around(self) -> Surroundings:
        facts = await self.outlet.look()
        return await nearby.look(facts, self._cable, self.outlet.mark)

    def history(self) -> tuple[LinkRecord, ...]:
        """The links since the service began, the newest first."""
        return self._history.read(time.monotonic())

    def _guarded(self) -> GuardSnapshot:
        linked = self._state is ClientState.CONNECTED
        tunnel = self.outlet
        guard = self._guard.look(tunnel.guards, linked, time.time(), tunnel.open_on_failure)
        self._events.guard(guard.state, time.monotonic())
        return guard

    # --- the run -----------------------------------------------------------------------------

    async def _stay_connected(self, plan: Plan) -> None:
        """Rounds until a final refusal. Cancelling it ends the run, and opens nothing."""
        sentence = "The client failed unexpectedly. Try again: vpnshare connect"
        verdict = Verdict(Step.REFUSED, "internal_error", sentence)
        watching = create_task(self._watch_usb(plan), "client-usb-watch")
        try:
            verdict = await self._rounds(plan)
        except ClientError as error:
            log.warning("%s %s", error, error.hint)
            verdict = _failed(error, Step.REFUSED)
        except Exception:
            log.exception("the client failed")
        finally:
            await cancel(watching)
            await cancel(self._hold)
            await cancel(self._looking)
            await cancel(self._joining)
            self._ways.rest()
            self._trust.drop()
        await self.outlet.refuse()
        if not self.outlet.promised:
            self._store.save_wanted(None)
        self._report.end()
        self._fail(verdict)

    async def _rounds(self, plan: Plan) -> Verdict:
        """Attempt, judge, wait, again; returns the final verdict."""
        backoff = Backoff()
        leased = False
        allow_until: float | None = None
        while True:
            await self._nudge.pause(backoff.next(random.random()))
            # A promise is pursued until somebody who may says no.
            pursued = leased or self.outlet.promised
            try:
                await self.outlet.keep()
                await self.outlet.prepare()
                quiet = backoff.quiet and self._watch.hears
                ways = await self._ways.look(plan, quiet)
            except ClientError as error:
                if not pursued:
                    raise
                self._broken(_failed(error, Step.BROKEN))
                continue
            if pursued and self._ways.elsewhere:
                backoff.again()
            # While nothing is known of the path, short attempts find its return sooner.
            timeout = min(self._config.connect_timeout, CONNECT_STEP * backoff.rounds)
            sessions = self._session_maker(plan)
            quiet = quiet and not self._ways.elsewhere
            current = Round(self, plan, ways, self.outlet, sessions, timeout, self._cable, quiet)
            self._plan, self._round = plan, current
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
                self._history.ended(current.link, ended, time.monotonic())
                await cancel(searching)
                self._report.add(current.link)
                self._round = None
            granted = current.granted
            if granted:
                leased = True
                backoff.reset()
                self._repeats.clear()
                plan.watched, plan.probed, plan.another = False, False, None
            elif plan.another is not None and ending.reason == "link_lost":
                ending = Ending("handshake_failed", plan.another, False)
            elif ending.reason == "unreachable":
                ending = self._ways.lack(plan, ways) or ending
            if ending.reason == "nic_lost":
                await self._renew()
            elif ending.reason in NOT_RESUMABLE:
                plan.resume = None
            elif (
                failure is None
                and (not leased or backoff.rounds > FIRST_ROUNDS)
                and may_be_another(plan, ending)
            ):
                ending = await self._who_is_there(plan, ways) or ending
            elif failure is None and not leased and second_way(plan, ending):
                log.info("%s: trying what else is known of the gateway", ending.reason)
                backoff.reset()
                continue
            elif ending.reason == "phone_not_allowed" and not pursued:
                # Somebody has to find the phone, unlock it, and read what it asks.
                now = time.monotonic()
                allow_until = now + ALLOW_SECONDS if allow_until is None else allow_until
                if now < allow_until:
                    self._broken(judge(ending, True, 0))
                    await self._nudge.pause(allow_until - now)
                    backoff.reset()
                    continue
            retry = self._config.reconnect or not leased
            verdict = judge(ending, leased or pursued, backoff.rounds, retry)
            if failure is not None:
                verdict = _failed(failure, Step.BROKEN)
            if verdict.step is Step.REFUSED:
                log.info("%s: %s", verdict.error, verdict.sentence)
                return verdict
            if granted:
                self._report.broken()
                gateway, now = self._report.gateway, time.monotonic()
                self._events.lost(gateway, verdict.sentence, now)
                await self.outlet.broken()
                self._hold = create_task(self._hold_later(), "client-hold")
            self._broken(verdict)

    def _broken(self, verdict: Verdict) -> None:
        """The attempt or the link has ended; another follows."""
        self._say(logging.INFO, f"{verdict.error}: {verdict.sentence}")
        self._report.error, self._report.reason = verdict.error, verdict.sentence
        self._report.code = None
        self._step(verdict.step)

    def _say(self, level: int, text: str) -> None:
        """A line in the log of what may be the same at every attempt."""
        if line := self._repeats.take(text, time.monotonic()):
            log.log(level, "%s", line)

    async def _renew(self) -> None:
        try:
            await self.outlet.renew()
        except ClientError as error:
            text = f"no virtual network interface yet: {error} {error.hint}"
            self._say(logging.WARNING, text)

    async def _hold_later(self) -> None:
        """The link has been broken for long: let applications know."""
        await asyncio.sleep(HOLD_SECONDS)
        try:
            await self.outlet.hold()
            self._changed()
        except ClientError as error:
            log.warning("traffic still goes to the broken link: %s", error)

    async def _watch_usb(self, plan: Plan) -> None:
        """News of phones on the cable, where something tells of them."""
        if plan.transport in ("auto", "usb"):
            with contextlib.suppress(OSError):
                await self._cable.track(self._usb_changed)

    def _usb_changed(self) -> None:
        self._nudge.tell()
        self._search.hurry()

    def _session_maker(self, plan: Plan) -> Sessions:
        """Sessions for a round, each with what the plan holds at that moment."""
        config, terms = self._config, self.outlet.terms
        capabilities = Capability.IPV6
        if terms.offload:
            capabilities |= Capability.OFFLOAD
        if terms.offload_udp:
            capabilities |= Capability.OFFLOAD_UDP
        # Whoever answers at first contact is told no more of this device than its name.
        told = self.outlet.facts.told() if plan.public_key is not None else ()
        networks = tuple(Route(n.network_address.packed, n.prefixlen) for n in told)
        hello = Hello(config.label, config.platform, capabilities, terms.mtu, networks=networks)
        return Sessions(self._identity, plan, hello, self._suite)

    # --- news of ways (WaysOwner) ------------------------------------------------------------

    def linked(self) -> bool:
        """See `WaysOwner`."""
        return self._round is not None and self._round.granted

    def announced(self, further: tuple[TransportEndpoint, ...]) -> None:
        """See `WaysOwner`."""
        self._report.count("announcement__gateway__heard")
        if self._round is None or not self._round.further(further):
            self._nudge.tell()

    def _named_late(self) -> None:
        """A name has led somewhere after the ways were told: try there, too."""
        plan = self._plan
        if plan is None or self._run is None or self.linked():
            return
        if self._joining is None or self._joining.done():
            self._joining = create_task(self._join(plan), "client-late-names")

    async def _join(self, plan: Plan) -> None:
        """Have the round that is under way try where names have led, or else the next."""
        ways = self._ways.named(plan)
        try:
            await self.outlet.reach(ways)
        except ClientError as error:
            self._say(logging.WARNING, f"{error} {error.hint}")
        if self._round is None or not self._round.further(ways):
            self._nudge.tell()

    # --- news of the round (RoundOwner) ------------------------------------------------------

    def tried(
        self, endpoint: TransportEndpoint, outcome: Outcome, why: str, seconds: float | None
    ) -> None:
        self._book.note(endpoint, outcome, why, seconds, time.time())

    def stranger(self, endpoint: TransportEndpoint, stranger: Stranger) -> None:
        self._report.count(f"router__{stranger.name}__refused")
        if stranger.name != "later":
            self._ways.met_stranger(endpoint.host)

    def met(self, gateway_key: bytes) -> Ending | None:
        """On first contact: note who is there; later: nobody else will do."""
        plan = self._plan
        assert plan is not None
        expected = plan.expected
        if expected is None:
            self._report.met(fingerprint(gateway_key))
        elif expected != gateway_key:
            return self._another(plan, expected, gateway_key)
        plan.met = gateway_key
        return None

    def _another(self, plan: Plan, expected: bytes, shown: bytes) -> Ending:
        """Somebody else is where the gateway was."""
        plan.another = f"known here: {fingerprint(expected)}; there now: {fingerprint(shown)}"
        return Ending("handshake_failed", plan.another, authenticated=plan.watched)

    async def _who_is_there(self, plan: Plan, ways: tuple[TransportEndpoint, ...]) -> Ending | None:
        """Ask those who have not proven the known key which one they show; how it ends if it is
        another. Whoever is there learns nothing of us, and his owner is asked nothing."""
        log.info("what answered has not proven its key: looking which one it shows")
        expected, mark = plan.public_key, self.outlet.mark
        assert expected is not None
        answered = {str(r.endpoint) for r in self._book.read() if r.outcome in _ANSWERED}
        asked = [e for e in ways if not e.guessed and str(e) in answered][:MAX_LOOKED_AT]
        found = await asyncio.gather(
            *(whose_key(e, mark, PATIENCE, self._cable) for e in asked), return_exceptions=True
        )
        keys = [each for each in found if isinstance(each, bytes)]
        for error in found:
            if not isinstance(error, bytes | OSError | ClientError):
                raise error
        if not keys or expected in keys:
            return None
        return self._another(plan, expected, keys[0])

    def shown(self, code: str) -> bool:
        plan = self._plan
        assert plan is not None
        self._report.code = code
        plan.shown = plan.met
        vouched = plan.met == plan.expected
        if plan.unseen and not vouched:
            log.warning("the digits %s are not compared: whoever answers is believed", code)
        elif not vouched:
            self._report.error, self._report.reason = "code_unconfirmed", _COMPARE
            self._events.shown(self._report.gateway, code, time.monotonic())
        self._step(Step.SHOWN)
        if vouched or plan.unseen:
            self._agree()
        return vouched or plan.unseen

    def _agree(self) -> None:
        """The user vouches for the key that is met, here and in later rounds of this run."""
        assert self._plan is not None
        self._plan.agreed = self._plan.shown
        self._report.error = self._report.reason = None
        self._step(Step.AGREED)

    def asked(self, code: str | None) -> None:
        self._report.code = code
        self._events.asked(self._report.gateway, code, time.monotonic())
        self._step(Step.ASKED)

    async def judged(self, link: LinkDriver, lease: LeaseConfig) -> Ending | None:
        return await self._trust.take(lease, link.endpoint)

    def leased(self, link: LinkDriver, lease: LeaseConfig) -> None:
        """Keep what coming back needs: the ticket is new, and good once."""
        plan = self._plan
        assert plan is not None
        plan.secret = None
        if plan.public_key is None:
            plan.public_key = plan.met
        assert plan.public_key is not None
        plan.resume = Resume(lease.session_id, lease.ticket, lease) if lease.ticket else None
        plan.name = lease.name or plan.name
        # The one seen last stays the one seen last, also where the clock was put back.
        others = [g.last_seen for g in self._store.gateways() if g.public_key != plan.public_key]
        seen = max([time.time(), *(each + 1e-3 for each in others)])
        known = KnownGateway(
            plan.public_key,
            plan.name,
            known_ways(self._trust.told(lease), plan.endpoints),
            seen,
            resuming.encode(lease),
        ).seen_at(link.endpoint, seen)
        self._store.save_gateway(known)
        plan.endpoints, plan.known = known.endpoints, known

    def connected(self, link: LinkDriver, lease: LeaseConfig) -> None:
        self._ways.rest()
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.cancel()
        assert self._plan is not None and self._plan.known is not None
        wish = Wish(self._plan.known.fingerprint, self.outlet.open_on_failure)
        self._store.save_wanted(wish.text())
        now = time.monotonic()
        self._report.leased(lease, self.outlet.name, now)
        fresh = self._history.begun(link, self._report.gateway, lease.resumed, now, time.time())
        if fresh:
            self._events.connected(self._report.gateway, str(link.endpoint), lease.resumed, now)
        if fresh and lease.resumed:
            create_task(self._count_kept(link), "client-flows-kept")
        if self._state is ClientState.CONNECTED:
            self._changed()
        else:
            self._step(Step.GRANTED)

    async def _count_kept(self, link: LinkDriver) -> None:
        self._history.kept(link, await self.outlet.flows.count())

    def moved(self, link: LinkDriver) -> None:
        """A better way was found and is in use."""
        self._report.add(link)
        self._history.ended(link, MOVED, time.monotonic())
        self._events.moves()

    def status_received(self, status: GatewayStatus) -> None:
        before, shut_out = self._report.sharing, self._report.shut_out
        if self._report.status(status):
            now = time.monotonic()
            self._events.sharing(self._report.gateway, before, self._report.sharing, now)
            self._events.gate(self._report.gateway, shut_out, self._report.shut_out, now)
            self._changed()

    def rtt(self, seconds: float) -> None:
        self._report.rtt = seconds

    # --- news of the network -------------------------------------------------------------------

    def _network_changed(self) -> None:
        """Do not wait for time-outs: try again now, or see whether the link still works."""
        self._host_changed = True
        self._ways.news()
        if self._following is None or self._following.done():
            self._following = create_task(self._follow(), "client-follow")
        self._nudge.tell()
        self._search.hurry()
        self._look_due = True
        if self._run is not None and (self._looking is None or self._looking.done()):
            self._looking = create_task(self._look_at_host(), "client-look-at-host")
        if self._round is None:
            return
        self._round.look_again()
        link = self._round.link
        if link is None:
            return
        now = time.monotonic()
        before = link.local_address
        if not link.follow():
            link.fail(Ending("link_lost", "this device's address has changed", False))
        elif link.local_address != before or now - self._pinged >= PING_PAUSE:
            # The gateway learns a new address from what comes from it.
            self._pinged = now
            link.ping()

    async def _look_at_host(self) -> None:
        """What the gateway named may be this host's own by now."""
        while self._look_due:
            self._look_due = False
            refused = await self._trust.look_again()
            self._round_elsewhere()
            link = self._round.link if self._round is not None else None
            if refused is not None and link is not None:
                link.fail(refused)

    def _round_elsewhere(self) -> None:
        """A round that looks where this device is no more is of no use. One that pairs goes on,
        for its secret may be spent."""
        plan = self._plan
        elsewhere = self._ways.changed()
        if self._round is not None and plan is not None and plan.promised and elsewhere:
            self._round.begin_anew()

    async def _follow(self) -> None:
        """What keeps traffic in follows what the host becomes."""
        while self._host_changed:
            self._host_changed = False
            try:
                await self.outlet.follow()
            except ClientError as error:
                self._say(logging.WARNING, f"{error} {error.hint}")
                self._host_changed = True
                await asyncio.sleep(FOLLOW_PAUSE)
        self._changed()

    # --- state ---------------------------------------------------------------------------------

    def _step(self, step: Step) -> None:
        before, self._state = self._state, after(self._state, step)
        if before is not self._state:
            log.info("%s", self._state)
        self._changed()

    def _changed(self) -> None:
        # Also while nobody asks: the kill switch is shown with the time of its change.
        self._guarded()
        if self._state in _SETTLED:
            self._settled.set()
        self.on_change()

    def _fail(self, verdict: Verdict) -> None:
        self._report.error, self._report.reason = verdict.error, verdict.sentence
        self._events.failed(self._report.gateway, verdict.sentence, time.monotonic())
        self._step(Step.REFUSED)


def _failed(error: ClientError, step: Step) -> Verdict:
    """The host could not be set up."""
    return Verdict(step, error.name, f"{error.message} {error.hint}".strip())


_COMPARE = (
    "Compare the digits with those on the gateway's screen. If they are the same, confirm them: "
    "vpnshare connect --code DIGITS, or a key in vpnshare console."
)
_FORGOTTEN = (
    "gateway_unknown",
    "This device was connected, to a gateway that it does not know any more.",
    "Pair again: vpnshare connect -, with the URI that is shown there by: vpnshare pair",
)
_NOTHING_ASKED = (
    "code_unasked",
    "No first contact waits for its digits here.",
    "Begin one: vpnshare connect ADDRESS. Then give what the gateway's screen shows: "
    "vpnshare connect ADDRESS --code DIGITS.",
)
_SETTLED = frozenset({ClientState.CONNECTED, ClientState.FAILED, ClientState.IDLE})
_ANSWERED = frozenset({Outcome.REFUSED, Outcome.TIMED_OUT})
"""What the book says where somebody is, or may be, who has not proven the key."""
