"""Who gets in: from a session's HELLO to a lease or a refusal.

A trusted key gets its lease at once. A device that proved a one-time secret, or
that shows a pairing code, waits at the desk until the owner answers, gives up,
or time runs out. A key that claims to be paired and is not, or is revoked, is
told so. Secrets are spent by their first use, whatever comes of it.

At a first contact without a QR code the device's own user has to say yes to the digits
as well. Who of the two is first does not matter; the lease is given when both have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.journal import Journal
from gateway.link import Link, SessionLink
from gateway.model import PairingRequest, PeerDevice, Via
from gateway.nat.counters import Counters
from gateway.offers import OfferBook
from gateway.pairing import REQUEST_SECONDS, PairingDesk, RequestRefused
from gateway.peers import PeerRegistry
from vshp.config import CloseReason
from vshp.constants import CONSENT_SECONDS
from vshp.events import HelloReceived
from vshp.pairing import OneTimeSecrets

Grant = Callable[[SessionLink, HelloReceived, float], None]
"""Gives a trusted device, whose HELLO came by this link, its lease."""


@dataclass(slots=True)
class _Waiting:
    """For the owner; or, where the registry trusts it, for its own user's yes."""

    link: SessionLink
    hello: HelloReceived


class Admission:
    """Judges HELLOs and carries out the owner's answers."""

    def __init__(
        self,
        registry: PeerRegistry,
        secrets: OneTimeSecrets,
        offers: OfferBook,
        counters: Counters,
        grant: Grant,
        auto_approve_qr: bool,
        journal: Journal,
    ) -> None:
        self.desk = PairingDesk()
        self.auto_approve_qr = auto_approve_qr
        self._registry = registry
        self._secrets = secrets
        self._offers = offers
        self._counters = counters
        self._grant = grant
        self._journal = journal
        self._waiting: dict[bytes, _Waiting] = {}

    def hello(self, link: SessionLink, hello: HelloReceived, now: float) -> bool:
        """Judge; True when a request now waits or a device was newly approved."""
        key = hello.public_key
        link.public_key = key
        if hello.secret_id is not None:
            self._secrets.consume(hello.secret_id, now)
        peer = self._registry.trusted(key)
        if hello.secret_id is not None:
            self._offers.used(hello.secret_id, hello.label if peer is None else peer.label)
        if peer is not None:
            self._registry.seen(key, hello.platform)
            return self._trust(link, hello, now)
        if hello.proof == "known":
            revoked = self._registry.is_revoked(key)
            self._refuse(link, CloseReason.REVOKED if revoked else CloseReason.NOT_PAIRED, now)
            why = "it is revoked" if revoked else "it says that it is paired, and is not"
            self._journal.refused(key, hello.label, link, why, now)
            return False
        cable = Via.USB if link.via == "usb" else Via.LAN
        via = Via.QR if hello.proof == "secret" else cable
        if via is Via.QR and self.auto_approve_qr:
            peer = self._registry.approve(key, hello.label, hello.platform)
            self._journal.approved(peer, by_code=True)
            self._grant(link, hello, now)
            return True
        return self._ask_owner(link, hello, via, now)

    def agreed(self, link: SessionLink, now: float) -> None:
        """The user of the device at this link says that both sides show the same digits."""
        key = link.public_key
        waiting = None if key is None else self._waiting.get(key)
        if key is None or waiting is None or waiting.link is not link:
            return
        if self._registry.trusted(key) is not None:
            del self._waiting[key]
            self._grant(link, waiting.hello, now)

    def approve(self, request_id: str, now: float) -> PeerDevice:
        """Trust the device that waits, and give it its lease. Raises NoSuchRequest."""
        request = self.desk.approve(request_id)
        peer = self._registry.approve(request.public_key, request.label, request.platform)
        self._journal.approved(peer)
        waiting = self._waiting.pop(request.public_key, None)
        if waiting is not None and not waiting.link.closed:
            self._trust(waiting.link, waiting.hello, now)
        return peer

    def deny(self, request_id: str, now: float) -> PairingRequest:
        """Turn the device away. Raises NoSuchRequest."""
        request = self.desk.deny(request_id, now)
        self._journal.denied(request)
        self._turn_away(request.public_key, CloseReason.DENIED, now)
        return request

    def undeny(self, request_id: str | None, now: float) -> PairingRequest:
        """Take a denial back, the latest or the one of this request: its device may ask again.

        Raises NoSuchRequest.
        """
        request = self.desk.undeny(request_id, now)
        self._journal.denial_undone(request)
        return request

    def get_timer(self) -> float | None:
        """When the next request expires."""
        return self.desk.get_timer()

    def handle_timer(self, now: float) -> bool:
        """Turn away those whose time is over; True when there were any."""
        over = self.desk.expire(now)
        for request in over:
            self._journal.waits_no_more(request, "nobody answered in time", now)
            self._turn_away(request.public_key, CloseReason.APPROVAL_EXPIRED, now)
        return bool(over)

    def other_digits(self, link: Link, now: float) -> None:
        """The device's user says that it does not show the digits that we show."""
        self._counters.counts["pairing__code__refused_by_device"] += 1
        self.link_gone(link, now, "other digits are shown there. Somebody may be in between")

    def link_gone(self, link: Link, now: float, why: str = "it has gone") -> bool:
        """The link closed; True when its device was waiting."""
        key = link.public_key
        waiting = None if key is None else self._waiting.get(key)
        if key is None or waiting is None or waiting.link is not link:
            return False
        del self._waiting[key]
        request = self.desk.withdraw(key, now)
        if request is not None:
            self._journal.waits_no_more(request, why, now)
        return True

    def _ask_owner(self, link: SessionLink, hello: HelloReceived, via: Via, now: float) -> bool:
        key = hello.public_key
        try:
            request = self.desk.submit(
                key, hello.label, hello.platform, via, link.host, hello.code, now
            )
        except RequestRefused as refused:
            self._counters.counts[f"pairing__{refused.reason}__refused"] += 1
            again = "" if refused.retry_in is None else f"try again in {refused.retry_in:.0f} s"
            denied = refused.reason == "denied_recently"
            self._refuse(link, CloseReason.DENIED if denied else CloseReason.BUSY, now, again)
            why = "it was denied a moment ago" if denied else "too many wait already"
            self._journal.refused(key, hello.label, link, why, now)
            return False
        self._journal.asked(request, now)
        for gone in self.desk.given_way():
            self._journal.waits_no_more(gone, "it made way for others", now)
            self._counters.counts["pairing__desk_full__gave_way"] += 1
            self._turn_away(gone.public_key, CloseReason.BUSY, now)
        earlier = self._waiting.pop(key, None)
        self._waiting[key] = _Waiting(link, hello)
        if earlier is not None:
            earlier.link.close(CloseReason.REPLACED, now)
        link.wait_for_owner(REQUEST_SECONDS, now)
        return True

    def _trust(self, link: SessionLink, hello: HelloReceived, now: float) -> bool:
        """Grant, or have the device's user asked; True when that is waited for."""
        if link.agreed:
            self._grant(link, hello, now)
            return False
        earlier = self._waiting.get(hello.public_key)
        self._waiting[hello.public_key] = _Waiting(link, hello)
        if earlier is not None:
            earlier.link.close(CloseReason.REPLACED, now)
        link.wait_for_user(CONSENT_SECONDS, now)
        return True

    def _turn_away(self, public_key: bytes, reason: CloseReason, now: float) -> None:
        waiting = self._waiting.pop(public_key, None)
        if waiting is not None:
            waiting.link.close(reason, now)

    def _refuse(self, link: SessionLink, reason: CloseReason, now: float, detail: str = "") -> None:
        self._counters.counts[f"session__{reason}__refused"] += 1
        link.close(reason, now, detail)
