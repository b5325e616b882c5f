"""The approved devices: who may have a lease without asking again.

A thin registry in front of the store. A change takes effect here first and is then
given to the store, which keeps what it cannot write (`gateway.model.GatewayStore`):
who may come in never waits for a disk. What they have used is in `books`.

A record is never changed, it is replaced, and this is the only place that keeps it. Whoever has
to do with a device for longer than a call keeps its public key, and asks: so what the owner calls
it, and when it was seen, is the same wherever it is shown.

What the owner allows a device is kept by its public key, as long as there is one: rules may
be given before the device is approved, so that it has them from its first packet; they go over
to a new key, and a revocation leaves them, since a device that is let in again was limited for a
reason. Only an end that has passed is over then: who approves a device means it to come in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from eventloop.clock import Clock
from gateway.books import Books
from gateway.model import GatewayStore, Kind, PeerDevice, peer_id
from rules.value import NO_RULES, Rules


class NoSuchPeer(LookupError):
    """The id names no approved device, or more than one."""


class PeerRegistry:
    """PeerDevices by public key."""

    def __init__(self, store: GatewayStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.books = Books(store)
        """What each device has used, those that are not trusted any more included."""
        self._peers = {peer.public_key: peer for peer in store.peers()}
        self._rules = store.rules()
        self.on_rules: list[Callable[[bytes, Rules], None]] = []
        """Called with a device's public key and its rules after each change of them."""

    def all(self) -> list[PeerDevice]:
        return sorted(self._peers.values(), key=lambda peer: -peer.last_seen)

    def device(self, public_key: bytes) -> PeerDevice:
        """The device of a key that was approved, as it is now. Raises NoSuchPeer."""
        peer = self._peers.get(public_key)
        if peer is None:
            raise NoSuchPeer(peer_id(public_key))
        return peer

    def trusted(self, public_key: bytes, kind: Kind = Kind.VSHP) -> PeerDevice | None:
        """The device, if it was approved for what it speaks, and not revoked since."""
        peer = self._peers.get(public_key)
        return None if peer is None or peer.revoked or peer.kind is not kind else peer

    def all_trusted(self, kind: Kind) -> list[PeerDevice]:
        """Those that speak it and are not revoked."""
        return [peer for peer in self._peers.values() if peer.kind is kind and not peer.revoked]

    def revoked_label(self, public_key: bytes) -> str:
        """What a device is called that was trusted; empty for others."""
        peer = self._peers.get(public_key)
        return peer.label if peer is not None and peer.revoked else ""

    def is_revoked(self, public_key: bytes) -> bool:
        peer = self._peers.get(public_key)
        return peer is not None and peer.revoked

    def find(self, id: str) -> PeerDevice:
        """The device of an id, of an id's unique beginning, or of a label: the only one, or, where
        all that fit bear that label, the only one that is not revoked.

        Labels are what devices call themselves: one that looks like the beginning of another's
        id is no more than ambiguous.
        """
        peers = self._peers.values()
        found = [p for p in peers if p.id == id]
        if not found and id:
            found = [p for p in peers if p.id.startswith(id) or p.label == id]
        if len(found) > 1 and all(p.label == id for p in found):
            # A device may have had other keys under its name.
            found = [p for p in found if not p.revoked]
        if len(found) != 1:
            raise NoSuchPeer(id)
        return found[0]

    def approve(
        self, public_key: bytes, label: str, platform: str, kind: Kind = Kind.VSHP
    ) -> PeerDevice:
        """Trust a device from now on (again, if it was revoked)."""
        now = self._clock.wall()
        rules = self.rules(public_key)
        if rules.until is not None and rules.until <= now:
            self.set_rules(public_key, replace(rules, until=None))
        known = self._peers.get(public_key)
        if known is None:
            peer = PeerDevice(public_key, label, platform, now, now, kind=kind)
        else:
            peer = replace(
                known, label=label, platform=platform, last_seen=now, revoked=False, kind=kind
            )
        return self._save(peer)

    def seen(self, public_key: bytes, platform: str) -> PeerDevice:
        """Note that a device came back. Its label stays the one the owner knows. Like the next
        two it raises NoSuchPeer where the key was never approved."""
        peer = self.device(public_key)
        return self._save(replace(peer, platform=platform, last_seen=self._clock.wall()))

    def rename(self, public_key: bytes, label: str) -> PeerDevice:
        return self._save(replace(self.device(public_key), label=label))

    def revoke(self, public_key: bytes) -> PeerDevice:
        return self._save(replace(self.device(public_key), revoked=True))

    def succeed(self, old: bytes, new: bytes) -> PeerDevice:
        """A trusted device has another key: what it had is the new one's, and the old is out."""
        peer = self._save(replace(self.device(old), public_key=new))
        self._store.move_lease_number(old, new)
        self.books.succeed(old, new, self._clock.wall())
        self.books.save()
        if new not in self._rules:  # else they were given with the approval of the new key
            self.set_rules(new, self.rules(old))
        self.set_rules(old, NO_RULES)
        self.revoke(old)
        return peer

    def rules(self, public_key: bytes) -> Rules:
        """What the owner allows the device: everything, where nothing was said."""
        return self._rules.get(public_key, NO_RULES)

    def set_rules(self, public_key: bytes, rules: Rules) -> None:
        """Have other rules from now on, which were judged (`rules.encoding.changed`)."""
        if rules == self.rules(public_key):
            return
        self._rules[public_key] = rules
        if rules == NO_RULES:
            del self._rules[public_key]
        self._store.save_rules(public_key, rules)
        for told in self.on_rules:
            told(public_key, rules)

    def lease_number(self, public_key: bytes) -> int:
        return self._store.lease_number(public_key)

    def _save(self, peer: PeerDevice) -> PeerDevice:
        self._peers[peer.public_key] = peer
        self._store.save_peer(peer)
        return peer
