"""The journal: a line in the log for each thing that happens to a device or to sharing.

Theory of operation. The gateway's parts say what has happened; here it becomes one line, for
the owner and for whoever asks later who was let in and when. Names are what devices call
themselves, so they are cleaned and bounded. What devices can bring about (asking, coming and
going) is bounded in number, too: a bucket for all of them, and what it did not take is counted
and told with the next line. What the owner and the VPN do is always written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.link import Link
from gateway.model import PairingRequest, PeerDevice, Via, VpnNetwork
from sealing.buckets import TokenBucket
from vshp.labels import clean_label

_log = logging.getLogger(__name__)

LINES_PER_SECOND = 0.5
LINE_BURST = 60
"""Lines that devices can bring about: a household's evening, and not a disk full of them."""
STRANGERS_PAUSE = 60.0
"""Seconds between two lines about strangers who are turned away."""
MAX_NAME = 40
MAX_REASON = 80
"""Characters of a device's name and of a reason."""

_VIA = {Via.QR: "by a pairing code", Via.LAN: "by the network", Via.USB: "by cable"}


class Journal:
    """What happened, as lines. Times are the gateway's monotonic seconds."""

    def __init__(self, write: Callable[[str], None] = _log.info) -> None:
        self._write = write
        self._bucket = TokenBucket(LINES_PER_SECOND, LINE_BURST, 0.0)
        self._left_out = 0
        self._strangers_at = float("-inf")

    # --- devices: bounded --------------------------------------------------------------------

    def asked(self, request: PairingRequest, now: float) -> None:
        """A device waits for the owner."""
        who = f"{_name(request.label)} ({request.id})"
        self._device(f"{who} asks to join, {_VIA[request.via]} from {request.address}", now)

    def waits_no_more(self, request: PairingRequest, why: str, now: float) -> None:
        """The owner did not answer in time, or the device gave up."""
        self._device(f"{_name(request.label)} ({request.id}) waits no more: {why}", now)

    def connected(self, peer: PeerDevice, link: Link, now: float) -> None:
        self._device(f"{_who(peer)} connected, {_by(link)}", now)

    def resumed(self, peer: PeerDevice, link: Link, now: float) -> None:
        """It is back, with all its connections."""
        self._device(f"{_who(peer)} resumed, {_by(link)}", now)

    def moved(self, peer: PeerDevice, link: Link, now: float) -> None:
        """It has found a better link while the other still was there."""
        self._device(f"{_who(peer)} moved to another link, {_by(link)}", now)

    def lost(self, peer: PeerDevice, link: Link, reason: str, now: float) -> None:
        """Its link is gone, and it is waited for."""
        why = reason.rpartition("__")[2].replace("_", " ")[:MAX_REASON]
        self._device(f"{_who(peer)} lost its link, {_by(link)}: {why}", now)

    def left(self, peer: PeerDevice, now: float) -> None:
        """It said goodbye."""
        self._device(f"{_who(peer)} disconnected", now)

    def given_up(self, peer: PeerDevice, now: float) -> None:
        """Its grace time is over."""
        self._device(f"{_who(peer)} did not come back: its connections are closed", now)

    def strangers(self, now: float) -> None:
        """Strangers ask for more than all of them may have."""
        if now - self._strangers_at >= STRANGERS_PAUSE:
            self._strangers_at = now
            self._write("strangers are turned away: they ask for more than they may have")

    # --- the owner and the VPN: always -------------------------------------------------------

    def approved(self, peer: PeerDevice, by_code: bool = False) -> None:
        """Let in by the owner, or (the owner's setting) by the pairing code alone."""
        self._write(f"{_who(peer)} is approved{' by its pairing code' if by_code else ''}")

    def denied(self, request: PairingRequest) -> None:
        self._write(f"{_name(request.label)} ({request.id}) is denied")

    def revoked(self, peer: PeerDevice) -> None:
        self._write(f"{_who(peer)} is revoked")

    def sharing(self, on: bool) -> None:
        self._write(f"sharing is {'on' if on else 'off'}")

    def vpn(self, network: VpnNetwork) -> None:
        """The VPN can be used again, or no longer."""
        if network.usable:
            self._write(f"the VPN is there: {network.interface}")
        else:
            self._write(f"the VPN is lost: {network.reason or 'there is none'}")

    def _device(self, line: str, now: float) -> None:
        if not self._bucket.take(now):
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        more = "" if not left_out else f" ({left_out} lines like this were left out before)"
        self._write(line + more)


def _name(label: str) -> str:
    return clean_label(label, MAX_NAME) or "a device without a name"


def _who(peer: PeerDevice) -> str:
    return f"{_name(peer.label)} ({peer.id})"


def _by(link: Link) -> str:
    return f"by {link.via} from {link.host}"
