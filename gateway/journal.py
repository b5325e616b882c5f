"""The journal: an event, and its line in the log, for each thing that happens to a device or
to sharing.

Theory of operation. The gateway's parts say what has happened; here it becomes one event, for
the owner and for whoever asks later who was let in and when. Its text is the line in the log.
Names are what devices call themselves, so they are cleaned and bounded. What devices can bring
about (asking, coming and going) is bounded in number, too: a bucket for all of them, and what
it did not take is counted and told with the next one. Those who are turned away have a bucket
of their own, so that their knocking leaves no gap in what is told of the others. What the
owner and the VPN do is always told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

from gateway.link import Link
from gateway.model import PairingRequest, PeerDevice, Via, VpnNetwork, peer_id
from rules.spelling import summary
from rules.value import Rules
from sealing.buckets import TokenBucket
from sealing.happenings import Event
from vshp.labels import clean_label

_log = logging.getLogger(__name__)

LINES_PER_SECOND = 0.5
LINE_BURST = 60
"""Lines that devices can bring about: a household's evening, and not a disk full of them."""
REFUSALS_PER_SECOND = 1 / 60
REFUSAL_BURST = 5
"""Lines about devices that are turned away by themselves."""
STRANGERS_PAUSE = 60.0
"""Seconds between two lines about strangers who are turned away."""
MAX_NAME = 40
MAX_REASON = 80
"""Characters of a device's name and of a reason."""

_VIA = {
    Via.QR: "by a pairing code",
    Via.LAN: "by the network",
    Via.USB: "by cable",
    Via.WIREGUARD: "by a WireGuard app",
}


class EventKind(StrEnum):
    """What can happen; see `control/events.py` for what each means to people."""

    ASKED = "asked"
    WAITS_NO_MORE = "waits_no_more"
    APPROVED = "approved"
    DENIED = "denied"
    DENIAL_UNDONE = "denial_undone"
    REVOKED = "revoked"
    REFUSED = "refused"
    STRANGERS = "strangers"
    CONNECTED = "connected"
    RESUMED = "resumed"
    MOVED = "moved"
    LINK_LOST = "link_lost"
    GIVEN_UP = "given_up"
    DISCONNECTED = "disconnected"
    RULES_CHANGED = "rules_changed"
    GATE_CLOSED = "gate_closed"
    GATE_OPENED = "gate_opened"
    SHARING_ON = "sharing_on"
    SHARING_OFF = "sharing_off"
    VPN_UP = "vpn_up"
    VPN_LOST = "vpn_lost"
    ALARM = "alarm"


class Journal:
    """What happened. Times are the gateway's monotonic seconds."""

    def __init__(self, on_event: Callable[[Event], None] | None = None) -> None:
        """`on_event`: told each event, at once; without it an event is a line in the log."""
        self.on_event = on_event or _to_log
        self._bucket = TokenBucket(LINES_PER_SECOND, LINE_BURST, 0.0)
        self._refusals = TokenBucket(REFUSALS_PER_SECOND, REFUSAL_BURST, 0.0)
        self._left_out = 0
        self._strangers_at = float("-inf")

    # --- devices: bounded --------------------------------------------------------------------

    def asked(self, request: PairingRequest, now: float) -> None:
        """A device waits for the owner."""
        self._asking(
            EventKind.ASKED, request, f"asks to join, {_VIA[request.via]} from {request.address}",
            now,
        )  # fmt: skip

    def waits_no_more(self, request: PairingRequest, why: str, now: float) -> None:
        """The owner did not answer in time, or the device gave up."""
        self._asking(EventKind.WAITS_NO_MORE, request, f"waits no more: {why}", now)

    def connected(self, peer: PeerDevice, link: Link, now: float) -> None:
        self._device(EventKind.CONNECTED, peer, f"connected, {_by(link)}", now)

    def resumed(self, peer: PeerDevice, link: Link, now: float) -> None:
        """It is back, with all its connections."""
        self._device(EventKind.RESUMED, peer, f"resumed, {_by(link)}", now)

    def moved(self, peer: PeerDevice, link: Link, now: float) -> None:
        """It has found a better link while the other still was there."""
        self._device(EventKind.MOVED, peer, f"moved to another link, {_by(link)}", now)

    def lost(self, peer: PeerDevice, link: Link, reason: str, now: float) -> None:
        """Its link is gone, and it is waited for."""
        why = reason.rpartition("__")[2].replace("_", " ")[:MAX_REASON]
        self._device(EventKind.LINK_LOST, peer, f"lost its link, {_by(link)}: {why}", now)

    def left(self, peer: PeerDevice, now: float) -> None:
        """It said goodbye."""
        self._device(EventKind.DISCONNECTED, peer, "disconnected", now)

    def given_up(self, peer: PeerDevice, now: float) -> None:
        """Its grace time is over."""
        self._device(EventKind.GIVEN_UP, peer, "did not come back: its connections are closed", now)

    def gate(self, peer: PeerDevice, open: bool, what: str, now: float) -> None:
        """By the owner's rules it may use the tunnel again, or not now; `what` says why."""
        self._device(EventKind.GATE_OPENED if open else EventKind.GATE_CLOSED, peer, what, now)

    def refused(self, key: bytes, label: str, link: Link, why: str, now: float) -> None:
        """Somebody with a key of his own was turned away without the owner."""
        if self._refusals.take(now):
            name, id = _name(label), peer_id(key)
            text = f"{name} ({id}) is turned away, {_by(link)}: {why}"
            self._tell(EventKind.REFUSED, text, id, name)

    def strangers(self, now: float) -> None:
        """Strangers ask for more than all of them may have."""
        if now - self._strangers_at >= STRANGERS_PAUSE:
            self._strangers_at = now
            self._tell(
                EventKind.STRANGERS,
                "strangers are turned away: they ask for more than they may have",
            )

    # --- the owner and the VPN: always -------------------------------------------------------

    def approved(self, peer: PeerDevice, by_code: bool = False) -> None:
        """Let in by the owner, or (the owner's setting) by the pairing code alone."""
        how = " by its pairing code" if by_code else ""
        self._always(EventKind.APPROVED, peer, f"is approved{how}")

    def denied(self, request: PairingRequest) -> None:
        self._always(EventKind.DENIED, request, "is denied")

    def denial_undone(self, request: PairingRequest) -> None:
        """The owner thought better of it: the device may ask again at once."""
        self._always(EventKind.DENIAL_UNDONE, request, "may ask again")

    def revoked(self, peer: PeerDevice) -> None:
        self._always(EventKind.REVOKED, peer, "is revoked")

    def ruled(self, peer: PeerDevice, rules: Rules) -> None:
        """The owner has said what the device may do."""
        line = summary(rules, datetime.fromtimestamp)
        what = f"has these rules now: {line}" if line else "may do everything now: it has no rules"
        self._always(EventKind.RULES_CHANGED, peer, what)

    def sharing(self, on: bool) -> None:
        kind = EventKind.SHARING_ON if on else EventKind.SHARING_OFF
        self._tell(kind, f"sharing is {'on' if on else 'off'}")

    def vpn(self, network: VpnNetwork) -> None:
        """The VPN can be used again, or no longer."""
        if network.usable:
            self._tell(EventKind.VPN_UP, f"the VPN is there: {network.interface}")
        else:
            reason = network.reason or "there is none"
            self._tell(EventKind.VPN_LOST, f"the VPN is lost: {reason}")

    def alarm(self, sentence: str) -> None:
        """The egress proof failed; sharing was stopped."""
        self._tell(EventKind.ALARM, sentence)

    # --- how -----------------------------------------------------------------------------------

    def _device(self, kind: EventKind, peer: PeerDevice, what: str, now: float) -> None:
        self._bounded(kind, peer.id, _name(peer.label), what, now)

    def _asking(self, kind: EventKind, request: PairingRequest, what: str, now: float) -> None:
        self._bounded(kind, request.id, _name(request.label), what, now)

    def _bounded(self, kind: EventKind, id: str, name: str, what: str, now: float) -> None:
        if not self._bucket.take(now):
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        more = "" if not left_out else f" ({left_out} lines like this were left out before)"
        self._tell(kind, f"{name} ({id}) {what}{more}", id, name)

    def _always(self, kind: EventKind, whom: PeerDevice | PairingRequest, what: str) -> None:
        name = _name(whom.label)
        self._tell(kind, f"{name} ({whom.id}) {what}", whom.id, name)

    def _tell(self, kind: EventKind, text: str, id: str = "", name: str = "") -> None:
        self.on_event(Event(kind, text, id, name))


def _to_log(event: Event) -> None:
    _log.info("%s", event.text)


def _name(label: str) -> str:
    return clean_label(label, MAX_NAME) or "a device without a name"


def _by(link: Link) -> str:
    return f"by {link.via} from {link.host}"
