"""Our end of all WireGuard tunnels: whose datagram this is, and what strangers may cost.

Theory of operation. The driver hands over runs of datagrams (`receive`), sends what
`take_messages` gives and what each peer's `take` gives, and calls `handle_timer` when
`get_timer` says so. Data is found by the index in its header; handshakes go through

    size -> mac1 -> (under load) mac2 or a cookie -> rates -> static key -> peer -> timestamp

in the order of what each step costs, and whatever is wrong gets no answer and a
counter. An initiation that is proven but of a key that nobody added is the owner's to
judge: he may add the peer there and then.
"""

from __future__ import annotations

import os
from typing import Protocol

from sealing.buckets import Buckets, TokenBucket
from sealing.errors import LocalMisuse, PeerViolation, ProtocolError
from wireguard.constants import (
    ALL_HANDSHAKE_BURST,
    ALL_HANDSHAKES_PER_SECOND,
    COOKIE_REPLY,
    DATA,
    DATA_OVERHEAD,
    HANDSHAKE_BURST,
    HANDSHAKES_PER_SECOND,
    INITIATION,
    MAX_JITTER,
    MAX_PEERS,
    MTU,
    NO_PSK,
)
from wireguard.keypairs import KeyPair
from wireguard.macs import CookieGuard, Random, mac1_good
from wireguard.messages import (
    kind_of,
    parse_cookie_reply,
    parse_initiation,
    parse_response,
    unpack_data_header,
)
from wireguard.noise import Identity, PeerKeys, open_static, open_timestamp
from wireguard.opener import Opener
from wireguard.peer import Outdated, Peer, Where
from wireguard.timers import NEVER

MAX_MESSAGES = 256
"""Answers that wait to be sent; more are dropped, as a full socket would."""


class Origin(Protocol):
    """What a driver's `Where` has."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


class DeviceOwner(Protocol):
    """What a device tells its driver, in the middle of a run. None of these may raise."""

    def confirmed(self, peer: Peer, now: float) -> None:
        """A new session carries what is sent; packets behind this are the session's."""

    def moved(self, peer: Peer, now: float) -> None:
        """The peer has another address."""

    def silent(self, peer: Peer, now: float) -> None:
        """Initiations were not answered for `REKEY_ATTEMPT_TIME`."""

    def unknown(self, public: bytes, where: Where, now: float) -> Peer | None:
        """Somebody proved to have a key that is no peer's; the peer, if it is one from now on.

        The address is hearsay: the message may be a replay.
        """

    def refused(self, reason: str, peer: Peer | None, where: Where, now: float) -> None:
        """A handshake message was dropped, for diagnosis."""


class Device:
    """One identity and its peers."""

    def __init__(
        self,
        identity: bytes,
        owner: DeviceOwner,
        epoch: float,
        now: float,
        rng: Random = os.urandom,
    ) -> None:
        """`epoch` is the Unix time at which `now` would be 0."""
        self.identity = Identity(identity)
        self.owner = owner
        self.epoch = epoch
        self.counters: dict[str, int] = {}
        self.peers: dict[bytes, Peer] = {}
        """By public key."""
        self.pairs: dict[int, KeyPair] = {}
        """All key pairs, by our index."""
        self.pending: dict[int, Peer] = {}
        """Whose initiation of ours waits for a response, by our index."""
        self.alarm = NEVER
        """Not later than any peer's deadline."""
        self.behind = 0.0
        """Seconds by which the timestamp that was refused last was too early."""
        self.indices = 0
        """How many were given out: others than those that somebody was told of, if it has grown."""
        self._rng = rng
        self._cookies = CookieGuard(self.identity.cookie_key, now, rng)
        self._all = TokenBucket(ALL_HANDSHAKES_PER_SECOND, ALL_HANDSHAKE_BURST, now)
        self._addresses = Buckets(HANDSHAKES_PER_SECOND, HANDSHAKE_BURST)
        self._messages: list[tuple[bytes, Where]] = []
        self._opener = Opener(self.pairs, self.counters)

    # --- peers -------------------------------------------------------------------------------

    def add(
        self, public: bytes, ipv4: bytes, ipv6: bytes, psk: bytes = NO_PSK, mtu: int = MTU
    ) -> Peer:
        """Let a key in. Raises LocalMisuse when it is known, unusable, or one too many."""
        if public in self.peers or public == self.identity.public:
            raise LocalMisuse("peer_known")
        if len(self.peers) >= MAX_PEERS:
            raise LocalMisuse("peers_full")
        peer = Peer(self, PeerKeys(self.identity, public, psk), ipv4, ipv6, mtu)
        self.peers[public] = peer
        return peer

    def remove(self, peer: Peer) -> None:
        """Shut a key out: its sessions are gone, it gets no answer."""
        del self.peers[peer.keys.public]
        peer.wipe()

    # --- receiving ---------------------------------------------------------------------------

    def names(self, data: memoryview) -> bool:
        """Whether a run of datagrams begins with data of a session that there is."""
        if len(data) < DATA_OVERHEAD:
            return False
        kind, index, _ = unpack_data_header(data, 0)
        return kind == DATA and index in self.pairs

    def receive(self, data: memoryview, segment: int, where: Where, now: float) -> set[Peer]:
        """Datagrams of `segment` bytes (the last one less); the peers that were heard."""
        heard: dict[Peer, bool] = {}
        opener = self._opener
        at, end = 0, len(data)
        while at < end:
            begin = at
            if end - at > segment:
                at = opener.row(data, at, segment, where, now, heard)
            if at == begin:
                one = data[at : at + segment]
                if not opener.datagram(one, where, now, heard):
                    self._handshake(bytes(one), where, now)
                at += segment
        for peer, with_data in heard.items():
            if peer.keys.public in self.peers:
                peer.heard(with_data, now)
        return set(heard)

    # --- handshakes --------------------------------------------------------------------------

    def _handshake(self, message: bytes, where: Where, now: float) -> None:
        try:
            kind = kind_of(message)
            if kind == COOKIE_REPLY:
                self._cookie_reply(message, now)
                return
            if not mac1_good(message, self.identity.mac1_key):
                self._refuse("handshake_mac1_wrong", None, where, now)
                return
            if kind == INITIATION:
                self._initiation(message, where, now)
            else:
                self._response(message, where, now)
        except ProtocolError as error:
            self._refuse(error.reason, None, where, now)

    def _initiation(self, message: bytes, where: Origin, now: float) -> None:
        initiation = parse_initiation(message)
        if not self._admitted(message, initiation.sender, where, now):
            return
        opened = open_static(self.identity, initiation)
        peer = self.peers.get(opened.static)
        shared = self.identity.exchange(opened.static) if peer is None else peer.keys.static_static
        accepted = open_timestamp(opened, initiation, shared)
        if peer is None:
            peer = self.owner.unknown(opened.static, where, now)
        if peer is None:
            self._refuse("initiation_unknown_key", None, where, now)
            return
        try:
            peer.answer(initiation, accepted, where, now)
        except PeerViolation as error:
            if isinstance(error, Outdated):
                self.behind = error.seconds
            self._refuse(error.reason, peer, where, now)
        else:
            self.count("initiation__answered")

    def _response(self, message: bytes, where: Origin, now: float) -> None:
        response = parse_response(message)
        peer = self.pending.get(response.receiver)
        if peer is None:
            raise PeerViolation("response_unasked")
        if self._admitted(message, response.sender, where, now):
            peer.complete(response, where, now)
            peer.received_bytes += len(message)
            peer.heard(False, now)
            self.count("response__accepted")

    def _cookie_reply(self, message: bytes, now: float) -> None:
        reply = parse_cookie_reply(message)
        peer = self.pending.get(reply.receiver)
        if peer is None:
            raise PeerViolation("cookie_unasked")
        peer.cookie_came(reply, now)
        self.count("cookie__accepted")

    def _admitted(self, message: bytes, sender: int, where: Origin, now: float) -> bool:
        """Whether a message with a good mac1 may cost us a Diffie-Hellman."""
        if self._all.level(now) < ALL_HANDSHAKE_BURST / 2:
            address = f"{where.host}%{where.port}".encode()
            if not self._cookies.mac2_good(message, address, now):
                self.count("handshake__under_load__cookie_sent")
                self.send(self._cookies.reply(message, sender, address, now), where)
                return False
            # He hears us there: what others forge does not use up what he may have.
            self.count("handshake__under_load__cookie_good")
            admitted = self._addresses.take(where.host, now)
        else:
            admitted = self._addresses.take(where.host, now) and self._all.take(now)
        if not admitted:
            self.count("handshake__rate__dropped")
        return admitted

    def _refuse(self, reason: str, peer: Peer | None, where: Where, now: float) -> None:
        self.count(f"{reason}__dropped")
        self.owner.refused(reason, peer, where, now)

    # --- output and time -----------------------------------------------------------------------

    def take_messages(self) -> list[tuple[bytes, Where]]:
        """Handshake messages and keepalives to be sent, each with its address."""
        messages, self._messages = self._messages, []
        return messages

    def get_timer(self) -> float | None:
        """When `handle_timer` is to be called; sometimes for nothing."""
        return None if self.alarm == NEVER else self.alarm

    def handle_timer(self, now: float) -> None:
        if self.alarm > now:
            return
        self.alarm = NEVER
        for peer in list(self.peers.values()):
            if peer.timers.earliest <= now:
                peer.handle_timer(now)
            self.alarm = min(self.alarm, peer.timers.earliest)

    # --- for peers ---------------------------------------------------------------------------

    def send(self, message: bytes, where: Where) -> None:
        if len(self._messages) < MAX_MESSAGES:
            self._messages.append((message, where))
        else:
            self.count("message__queue_full__dropped")

    def fresh_index(self) -> int:
        """A random index that is not in use."""
        while True:
            index = int.from_bytes(self._rng(4), "little")
            if index not in self.pairs and index not in self.pending:
                self.indices += 1
                return index

    def forget_pair(self, pair: KeyPair) -> None:
        del self.pairs[pair.index]

    def jitter(self) -> float:
        return int.from_bytes(self._rng(2), "little") / 65536 * MAX_JITTER

    def count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
