"""The receiving side as one object: connect, stay connected, undo everything.

Theory of operation. Here the parts are put together, and here is what this device's owner may ask
of them. `connect` makes a plan (which gateway, where, by what right), has the outlet prepared, and
has the plan pursued (`pursuit`) until `disconnect`, `stop`, or a final refusal. How that goes is
in `standing`; what news of the host's network does is `host_news`.

Where packets leave the tunnel on this device is the outlet's affair (`client/outlet`): a NIC, a
namespace, a proxy. What keeps traffic in (`block`) belongs to the user's wish and not to the run:
a run that ends by a refusal or an error leaves the network closed. Only
`disconnect` and `stop` open it, which is when the wish ends.

A wish that was promised something is remembered by the store (`wish`), and by
the block itself in the kernel; a start that finds either goes on with it, for
as long as it takes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from client import nearby, suite
from client.consent import Consent
from client.endpoints import EndpointRecord
from client.history import LinkRecord
from client.hold import Hold
from client.host_news import HostNews
from client.hostnames import Ask, HostNames
from client.model import (
    ClientConfig,
    ClientError,
    ClientSnapshot,
    ClientState,
    ClientStore,
    fingerprint,
)
from client.nearby import Surroundings
from client.nudge import Nudge
from client.outlet.outlet import Outlet
from client.parts import Parts
from client.plan import Plan, find_gateway, make_plan
from client.pursuit import Pursuit
from client.reconnect import Step
from client.sessions import Sessions, hello_of
from client.standing import Standing, as_verdict
from client.system.watch import NetworkWatch
from client.trust import Trust
from client.wish import Wish
from eventloop.clock import SYSTEM, Clock
from eventloop.tasks import cancel, create_task
from reach import names
from reach.cable import LACKS, Cable, Phone
from reach.usb import system_cable
from sealing.happenings import Event
from sealing.identity import generate_identity, public_key
from vshp.config import Suite

log = logging.getLogger(__name__)

REFUSAL_SECONDS = 5.0
"""For an attempt to end whose digits were refused."""


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
        clock: Clock = SYSTEM,
    ) -> None:
        """`outlet` is stopped with the client; `on_event` is told what happens to the link
        (without it the log is). `cable` speaks to phones on USB, `ask` looks names up."""
        self.on_change: Callable[[], None] = lambda: None
        self.on_timed: Callable[[], None] = lambda: None
        """Called when the timer of a link was due: soon after anything has been sent, and now and
        then where nothing is."""
        self.clock = clock
        """What everybody here, and who serves it, knows the time by."""
        self._store = store
        self._config = config
        self.outlet = outlet
        """Where packets leave the tunnel on this device."""
        self._identity = b""
        self._suite = Suite.CHACHAPOLY_BLAKE2S
        self._cable = system_cable(config.state_dir) if cable is None else cable
        self._watch = NetworkWatch(lambda: self._host_news.told())
        self._names = HostNames(outlet, ask, lambda: self._pursuit.named_late())
        self._standing = standing = Standing(
            outlet, self._cable, clock, on_event, lambda: self.on_change()
        )
        standing.on_timed = lambda: self.on_timed()
        parts = Parts(
            clock=clock,
            store=store,
            config=config,
            outlet=outlet,
            cable=self._cable,
            watch=self._watch,
            standing=standing,
            consent=Consent(standing, self._cable, clock),
            trust=Trust(outlet, standing.count),
            names=self._names,
            hold=Hold(outlet, standing),
            nudge=Nudge(),
        )
        self._consent = parts.consent
        self._pursuit = Pursuit(parts, self._sessions)
        self._host_news = HostNews(parts, self._pursuit)
        self._around: asyncio.Task[Surroundings] | None = None
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
        self._standing.report.fingerprint = fingerprint(public_key(identity))
        self._standing.report.label = self._config.label
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
            self._standing.step(Step.CONNECT)
            self._standing.failed(as_verdict(error, Step.REFUSED))
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
        await self._host_news.close()
        await self._names.close()
        await cancel(self._around)
        if on_purpose:
            await self.disconnect()
        else:
            current = self._pursuit.round
            if current is not None and current.link is not None:
                # A goodbye would end the session, which the next run is to resume.
                current.link.drop()
            await self._pursuit.end()
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
            await self._pursuit.ways.check_name(plan)
        except BaseException:
            if not promised:
                await self.outlet.open()
            raise
        await self._pursuit.end()
        self._standing.given_up()
        try:
            await self.outlet.wish(plan.promised, weaker)
        except ClientError as error:
            if promised:
                await self.outlet.refuse()
                self._standing.step(Step.CONNECT)
                self._standing.failed(as_verdict(error, Step.REFUSED))
            else:
                await self.outlet.open()
            raise
        if plan.known is not None and self.outlet.promised:
            self._store.save_wanted(Wish(plan.known.fingerprint, weaker).text())
        self._begin(plan, self.outlet.name)

    def _begin(self, plan: Plan, interface: str) -> None:
        """Start the run."""
        self._standing.begin(plan, interface)
        self._pursuit.begin(plan)

    def _sessions(self, plan: Plan) -> Sessions:
        """Sessions for a round, each with what the plan holds at that moment."""
        hello = hello_of(self._config, self.outlet, plan)
        return Sessions(self._identity, plan, hello, self._suite)

    async def wait(self, timeout: float | None = None) -> ClientSnapshot:
        """The snapshot once the state is `connected`, `failed` or `idle`, or at time-out."""
        await self._standing.settled(timeout)
        return self.status()

    async def disconnect(self) -> None:
        """Close the session and undo every change to the system; state `idle`."""
        standing = self._standing
        await self._pursuit.end()
        await self.outlet.open()
        self._store.save_wanted(None)
        if standing.report.gateway and standing.state is not ClientState.IDLE:
            standing.events.disconnected(standing.report.gateway, self.clock.now())
        standing.given_up()

    async def confirm(self, code: str) -> None:
        """The user says that the gateway shows these digits: right ones let it go on, others
        end the attempt. Raises ClientError `code_unasked` when no digits are shown."""
        given = "".join(digit for digit in code if digit.isdecimal())
        standing, plan, current = self._standing, self._pursuit.plan, self._pursuit.round
        if standing.state is ClientState.WAITING and given == standing.report.code:
            return
        if standing.state is not ClientState.ASKED or plan is None or current is None:
            raise ClientError(*_NOTHING_ASKED)
        if given == standing.report.code:
            self._consent.agree(plan)
            current.agree(given)
        else:
            await self.refuse()

    async def refuse(self) -> None:
        """The user says that the gateway shows other digits: the attempt is over on return.

        Raises ClientError `code_unasked`.
        """
        current = self._pursuit.round
        if self._standing.state is not ClientState.ASKED or current is None:
            raise ClientError(*_NOTHING_ASKED)
        current.refuse()
        await self.wait(REFUSAL_SECONDS)

    def _asked_about(self, target: str | None) -> bool:
        """Whether digits are shown, or were agreed to, in the run toward `target`."""
        standing = self._standing
        plan = self._pursuit.plan if self._pursuit.begun else None
        asking = standing.state in (ClientState.ASKED, ClientState.WAITING)
        shown = asking and standing.report.code
        return plan is not None and bool(shown) and target in (None, plan.target)

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
        current = self._pursuit.round
        return self._standing.snapshot(None if current is None else current.link)

    def endpoints(self) -> tuple[EndpointRecord, ...]:
        """The endpoints of the present run, or of the last, the best first."""
        return self._standing.book.read()

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
        return self._standing.history.read(self.clock.now())


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
