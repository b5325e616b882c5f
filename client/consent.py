"""Whether who answers is the gateway that is meant: by its key, or by a person's word.

Theory of operation. Once a gateway's key is known (from a QR code, from the store, or because the
user has agreed to it in this run) no other will do. On first contact by address any key may
answer: its digits are shown, and nothing is taken from it until the user says that the gateway's
screen shows the same, which vouches for the key and not for the session. Where somebody hangs up
without proving the known key, who is there is asked once which key it shows, so that another is
named.
"""

from __future__ import annotations

import asyncio
import logging

from client.endpoints import Outcome
from client.model import ClientError, TransportEndpoint, fingerprint
from client.plan import Plan
from client.probe import whose_key
from client.reconnect import Ending, Step
from client.round import PATIENCE
from client.standing import Standing
from eventloop.clock import Clock
from reach.cable import Cable

log = logging.getLogger(__name__)

MAX_LOOKED_AT = 4
"""Endpoints that are asked whose they are, at once."""

_COMPARE = (
    "Compare the digits with those on the gateway's screen. If they are the same, confirm them: "
    "vpnshare connect --code DIGITS, or a key in vpnshare console."
)
_ANSWERED = frozenset({Outcome.REFUSED, Outcome.TIMED_OUT})
"""What the book says where somebody is, or may be, who has not proven the key."""


class Consent:
    """Keeps in the plan whose key was met, shown and agreed to."""

    def __init__(self, standing: Standing, cable: Cable, clock: Clock) -> None:
        self._standing = standing
        self._cable = cable
        self._clock = clock

    def met(self, plan: Plan, gateway_key: bytes) -> Ending | None:
        """On first contact: note who is there; later: nobody else will do."""
        expected = plan.expected
        if expected is None:
            self._standing.report.met(fingerprint(gateway_key))
        elif expected != gateway_key:
            return _another(plan, expected, gateway_key)
        plan.met = gateway_key
        return None

    def shown(self, plan: Plan, code: str) -> bool:
        """The digits of the key that was met last; whether its holder is vouched for already."""
        standing = self._standing
        standing.report.code = code
        plan.shown = plan.met
        vouched = plan.met == plan.expected
        if plan.unseen and not vouched:
            log.warning("the digits %s are not compared: whoever answers is believed", code)
        elif not vouched:
            standing.report.error, standing.report.reason = "code_unconfirmed", _COMPARE
            standing.events.shown(standing.report.gateway, code, self._clock.now())
        standing.step(Step.SHOWN)
        if vouched or plan.unseen:
            self.agree(plan)
        return vouched or plan.unseen

    def agree(self, plan: Plan) -> None:
        """The user vouches for the key whose digits are shown, here and in later rounds."""
        plan.agreed = plan.shown
        self._standing.report.error = self._standing.report.reason = None
        self._standing.step(Step.AGREED)

    async def who_is_there(
        self, plan: Plan, ways: tuple[TransportEndpoint, ...], mark: int
    ) -> Ending | None:
        """Ask those who have not proven the known key which one they show; how it ends if it is
        another. Whoever is there learns nothing of us, and his owner is asked nothing."""
        log.info("what answered has not proven its key: looking which one it shows")
        expected = plan.public_key
        assert expected is not None
        records = self._standing.book.read()
        answered = {str(r.endpoint) for r in records if r.outcome in _ANSWERED}
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
        return _another(plan, expected, keys[0])


def _another(plan: Plan, expected: bytes, shown: bytes) -> Ending:
    """Somebody else is where the gateway was."""
    plan.another = f"known here: {fingerprint(expected)}; there now: {fingerprint(shown)}"
    return Ending("handshake_failed", plan.another, authenticated=plan.watched)
