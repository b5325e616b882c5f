"""The lease's resolver: caches, joining of equal questions, limits, and a relay behind.

Theory of operation. The NAT hands over each DNS message that a client sent to
its gateway address. What the cache holds is answered at once, in the call.
Otherwise the question goes to the relay (the VPN's resolvers, or Android's
netd), and equal questions of that client that arrive meanwhile wait for the
same answer. Any type and class is relayed, EDNS and DNSSEC bits included, but
only the bits that may change an answer (`message.canonical_query`): what goes
upstream is what cache and flights are keyed by, so that no question has its
answer spoiled by bits that its key does not show. What has more than a question
and an EDNS record (a signed one) goes as it is, and is neither kept nor joined.

Clients share nothing but the resolvers and what all may have under way
(`flights`): caches and flights are each client's own.

An answer is judged before it is kept or told (`judging`): one that gives a public name a private
address is withheld (`rebinding`). What a client's rules refuse by name is REFUSED whatever is
asked about it, and so is what would lead there by an alias (`aliases`); the cache holds nothing
that was judged by other rules.

When a flight fails, who joined it is asked for once more: what was left of
another's time is not his.

Every question gets an answer: the resolvers', or FORMERR, NOTIMP, REFUSED or
SERVFAIL of our own, with a counter that says why. A UDP answer longer than its
asker takes is cut to nothing with TC, and its full form waits in the cache for
the question over TCP.

When the VPN changes (the guard's `generation`), everything remembered is
forgotten, since another network may know other names, and questions under way
are asked anew. When there is none, nothing is asked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from gateway.dns import android
from gateway.dns.aliases import judge_names
from gateway.dns.cache import MAX_BYTES, MAX_ENTRIES, Cache, Key, cache_key
from gateway.dns.flights import Asking, Flight, Flights, Place, Reply, Waiter
from gateway.dns.judging import Fault, Judge, judge_answer
from gateway.dns.limits import BURST, MAX_TOTAL, RATE, Limits
from gateway.dns.names import Names
from gateway.dns.rebinding import Exemptions, judge_addresses
from gateway.dns.relay import Done, Relay
from gateway.dns.upstreams import Server, Upstreams
from gateway.vpn.guard import EgressGuard
from netstack.dns import (
    ADDRESS_SIZES,
    BLOCKED,
    FILTERED,
    FORMERR,
    HEADER_SIZE,
    NOERROR,
    NOTIMP,
    NXDOMAIN,
    OPCODE_MASK,
    REFUSED,
    SERVFAIL,
    TYPE_AXFR,
    TYPE_IXFR,
    TYPE_TKEY,
    Answer,
    MalformedMessage,
    Query,
    canonical_query,
    error_reply,
    name_text,
    parse_query,
    truncated_reply,
)
from rules.destinations import NameRules

MIN_UDP = 512
"""What every asker takes over UDP (RFC 1035 4.2.1)."""
MAX_UDP = 4096
"""What we send at most over UDP, whatever the asker says it takes."""
MAX_WAITERS = 64
"""Equal questions of one client that may wait for one answer."""
FAILURE_TTL = 1.0
"""Seconds that a failure of all resolvers is remembered (RFC 9520 3.2: at least one)."""
MAX_FAILURES = 1024
STALE_TIMER = 1.8
"""Seconds after which a stale answer is given if there is one (RFC 8767 5)."""
WITHHELD = "a private address for a public name; dns.rebinding_exempt on the gateway allows it"
"""What the asker is told of an answer that is withheld (RFC 8914's text for people)."""
REFUSED_BY_RULES = "the gateway's owner has refused this name to this device"
"""Likewise of a name that rules refuse."""


@dataclass(frozen=True, slots=True)
class DnsConfig:
    """The owner's settings."""

    servers: tuple[Server, ...] = ()
    """Resolvers to ask instead of the VPN's own; all but loopback ones through the VPN."""
    stale: float = 0.0
    """Seconds past their end that answers may serve while no resolver does; 0: never."""
    names: bool = True
    """Remember which names devices ask for, as long as this runs; else nothing of it."""
    recent: int = 0
    """How many of the last questions are kept for the owner to see, with `names`; 0: none."""
    rebinding_protection: bool = True
    """Withhold private addresses of public names."""
    rebinding_exempt: tuple[str, ...] = ()
    """Names that may have them, with all below."""
    rate: float = RATE
    burst: float = BURST
    max_udp: int = MAX_UDP
    cache_entries: int = MAX_ENTRIES
    cache_bytes: int = MAX_BYTES

    @property
    def kept(self) -> int:
        """How many of the last questions are kept."""
        return self.recent if self.names else 0


class Backend(Protocol):
    """Who asks: `relay.Relay` or `android.NetdRelay`."""

    def ask(self, wire: bytes, query: Query, done: Done) -> Asking | None:
        """Ask; None when nobody can be asked. `done` is called later, once."""

    def describe(self) -> tuple[str, ...]:
        """The resolvers, for people."""


@dataclass(frozen=True, slots=True)
class RecentQuestion:
    """One of the last questions, when the owner has asked to see them."""

    at: float
    """The loop's clock."""
    client: str
    name: str
    type: int
    outcome: str
    """`hit`, `asked`, `joined`, or why it was not answered."""


class DnsForwarder:
    """Implements the NAT's `DnsPort`. All calls from the event loop's thread."""

    def __init__(
        self, guard: EgressGuard, config: DnsConfig | None = None, backend: Backend | None = None
    ) -> None:
        self.config = config or DnsConfig()
        self.counters: dict[str, int] = {}
        """`dns__query__<outcome>` for each question, `dns__...` for what happened on the way."""
        self._guard = guard
        self._generation = guard.generation
        self._cache = Cache(
            self.config.cache_entries, self.config.cache_bytes, stale=self.config.stale
        )
        self._limits = Limits(self.config.rate, self.config.burst)
        self._flights = Flights(MAX_TOTAL)
        self._exempt = Exemptions(self.config.rebinding_exempt)
        self._failures: dict[Place, float] = {}
        self._recent: deque[RecentQuestion] = deque(maxlen=max(1, self.config.kept))
        self._names = Names()
        self._rules: dict[str, NameRules] = {}
        """Of the clients whose rules refuse names."""
        self._backend = backend if backend is not None else self._choose_backend()

    def _choose_backend(self) -> Backend:
        if not self.config.servers and android.present():
            return android.NetdRelay(self._guard.detector, self.counters)
        upstreams = Upstreams(self._guard.detector, self.config.servers)
        return Relay(self._guard, upstreams, self.counters)

    def query(self, wire: bytes, over_tcp: bool, client: str, reply: Reply) -> None:
        """Answer a DNS message by `reply`, within this call or later, once.

        Not called at all for what is no question (an answer, or a fragment of one).
        """
        now = asyncio.get_running_loop().time()
        self.vpn_changed()
        try:
            query = parse_query(wire)
        except MalformedMessage:
            self._refuse(wire, FORMERR, "malformed", reply)
            return
        if query.flags & OPCODE_MASK:
            self._refuse(wire, NOTIMP, "opcode", reply)
            return
        if query.type in (TYPE_AXFR, TYPE_IXFR, TYPE_TKEY):
            self._refuse(wire, REFUSED, "type", reply)
            return
        name = wire[HEADER_SIZE : query.name_end]
        rules = self._rules.get(client)
        if rules is not None and rules.refuse(name):
            self._count("dns__query__refused_rules")
            self._refuse_by_rules(client, wire, query, reply, now)
            return
        key = cache_key(client, wire, query)
        if query.plain:
            answer = self._cache.fetch(key, query, name, now)
            if answer is not None:
                self._count("dns__query__hit")
                if self.config.kept:
                    self._note(client, wire, query, "hit", now)
                reply(self._fit(answer, query, over_tcp))
                return
        self._miss(Waiter(client, query, name, over_tcp, reply, wire), key, now)

    def set_rules(self, client: str, rules: NameRules | None) -> None:
        """Which names a client may ask for from now on, questions under way included."""
        before = self._rules.pop(client, None)
        if rules is not None:
            self._rules[client] = rules
        if rules is not before:
            self._cache.forget(client)  # What an alias leads to was judged by the rules before.

    def vpn_changed(self) -> None:
        """If the VPN is another one, or gone: forget answers, ask anew what is under way."""
        if self._guard.generation == self._generation:
            return
        self._generation = self._guard.generation
        self._cache.clear()
        self._failures.clear()
        for flight in self._flights.all():
            if flight.asking is not None:
                flight.asking.close()
                flight.asking = None
            self._ask(flight)

    def configure(self, config: DnsConfig) -> None:
        """Take new settings. Questions under way go on as they began.

        Other resolvers may know other names, so a change of them forgets every answer.
        Bounds of the cache and of clients stay as they were at the start.
        """
        before, self.config = self.config, config
        self._cache.stale = config.stale
        if config.kept != before.kept:
            self._recent = deque(self._recent, maxlen=max(1, config.kept))
            if not config.kept:
                self._recent.clear()
        if not config.names:
            self._names.clear()
        exempt = config.rebinding_exempt
        if (config.rebinding_protection, exempt) != (
            before.rebinding_protection,
            before.rebinding_exempt,
        ):
            self._exempt = Exemptions(exempt)
            self._cache.clear()  # It holds what was judged by the rules until now.
        if config.servers != before.servers:
            self._cache.clear()
            self._failures.clear()
            self._backend = self._choose_backend()

    def close(self) -> None:
        """Give up all questions under way; nobody is answered any more."""
        self._flights.close()

    def resolvers(self) -> tuple[str, ...]:
        """Whom questions go to now, for people; empty when the VPN names nobody."""
        return self._backend.describe()

    def recent(self) -> list[RecentQuestion]:
        """The last questions, newest last; always empty unless `config.kept` is above 0."""
        return list(self._recent) if self.config.kept else []

    def name_of(self, client: str, address: bytes, began: float) -> str:
        """The name that a client asked for when it was told an address to which it opened a
        connection then (the loop's clock); always empty unless `config.names` is set.
        """
        return self._names.of(client, address, began)

    def sizes(self) -> dict[str, int]:
        """Gauges: answers and bytes in the cache, questions under way."""
        return {
            "dns_cache_entries": len(self._cache),
            "dns_cache_bytes": self._cache.size,
            "dns_in_flight": len(self._flights),
        }

    def _miss(self, waiter: Waiter, key: Key, now: float) -> None:
        query, client = waiter.query, waiter.client
        place = (key, query.edns is not None)
        failed = self._failures.get(place) if query.plain else None
        if failed is not None and now < failed:
            self._refuse(waiter.wire, SERVFAIL, "failed_before", waiter.reply)
            return
        limit = self._limits.take(client, now)
        if limit is not None:
            self._refuse(waiter.wire, REFUSED, f"limit_{limit}", waiter.reply)
            return
        flight = self._flights.get(place) if query.plain else None
        if flight is not None and len(flight.waiters) < MAX_WAITERS:
            flight.waiters.append(waiter)
            self._outcome(waiter, "joined", now)
            return
        if flight is not None or not self._room_for(client):
            self._limits.give_back(client)
            self._refuse(waiter.wire, SERVFAIL, "busy", waiter.reply)
            return
        wire = waiter.wire
        if query.plain:
            wire = canonical_query(wire, query)
        else:
            # It must not be joined: a key of its own.
            place = ((client, b"\xff" + id(waiter).to_bytes(8, "big")), True)
        self._outcome(waiter, "asked", now)
        self._ask(self._flights.take_off(Flight(place, wire, query, [waiter])))

    def _room_for(self, client: str) -> bool:
        """Whether a question more of the client's may be asked, after who holds most has given
        back its oldest if need be."""
        if not self._flights.full:
            return True
        oldest = self._flights.gives_way_to(client)
        if oldest is None:
            return False
        self._flights.land(oldest)
        self._turn_away(oldest, "taken_back")
        return True

    def _ask(self, flight: Flight) -> None:
        flight.asking = self._backend.ask(
            flight.wire, flight.query, lambda wire, answer: self._answered(flight, wire, answer)
        )
        if flight.asking is None:
            self._answered(flight, None, None)
        elif self.config.stale and flight.stale_timer is None:
            loop = asyncio.get_running_loop()
            flight.stale_timer = loop.call_later(STALE_TIMER, self._serve_stale, flight)

    def _answered(self, flight: Flight, wire: bytes | None, answer: Answer | None) -> None:
        self._flights.land(flight)
        now = asyncio.get_running_loop().time()
        failed = wire is None or answer is None or answer.rcode not in (NOERROR, NXDOMAIN)
        joined = flight.waiters[1:] if failed and not flight.last else []
        if wire is None or answer is None:
            self._serve_stale(flight)
            joined = [waiter for waiter in joined if waiter in flight.waiters]
        if joined and flight.asking is not None:
            del flight.waiters[-len(joined) :]
            again = Flight(flight.place, flight.wire, joined[0].query, joined, last=True)
            self._ask(self._flights.take_off(again))
        if wire is None or answer is None:
            if flight.waiters:
                self._fail(flight, now)
            return
        name = flight.wire[HEADER_SIZE : flight.query.name_end]
        judged = judge_answer(wire, answer, self._judges(flight.client, name))
        if judged.cuts:
            self._count("dns__reply__additional_cut", judged.cuts)
        match judged.fault:
            case Fault.RULES:
                self._refuse_answer(flight, now)
                return
            case Fault.PRIVATE:
                self._withhold(flight, now)
                return
        wire, answer = judged.wire, judged.answer
        if flight.query.plain:
            self._cache.store(flight.place[0], wire, answer, now)
        if self.config.names:
            self._note_names(flight, wire, answer, now)
        for waiter in flight.waiters:
            self._limits.give_back(waiter.client)
            message = waiter.wire[0:2] + wire[2:HEADER_SIZE] + waiter.name
            message += wire[waiter.query.name_end :]
            waiter.reply(self._fit(message, waiter.query, waiter.over_tcp))

    def _judges(self, client: str, name: bytes) -> Iterator[tuple[Fault, Judge]]:
        """Who judges the answer to a name that a client has asked for."""
        rules = self._rules.get(client)
        if rules is not None:
            yield Fault.RULES, partial(judge_names, rules, name)
        if self.config.rebinding_protection and not self._exempt.cover(name):
            yield Fault.PRIVATE, judge_addresses

    def _note_names(self, flight: Flight, wire: bytes, answer: Answer, now: float) -> None:
        name = name_text(flight.wire)
        for beside, type_, start, end in answer.addresses:
            if not beside and end - start == ADDRESS_SIZES.get(type_):
                for client in {waiter.client for waiter in flight.waiters}:
                    self._names.note(client, wire[start:end], name, now, answer.ttl)

    def _withhold(self, flight: Flight, now: float) -> None:
        """Tell those who wait that there is no such address, and why to who understands."""
        for waiter in flight.waiters:
            self._limits.give_back(waiter.client)
            self._count("dns__reply__private_withheld")
            if self.config.kept:
                self._note(waiter.client, waiter.wire, waiter.query, "private", now)
            reply = error_reply(waiter.wire, NOERROR, FILTERED, WITHHELD)
            if reply is not None:
                waiter.reply(reply)

    def _refuse_answer(self, flight: Flight, now: float) -> None:
        """Tell those who wait that their rules refuse what the name leads to."""
        for waiter in flight.waiters:
            self._limits.give_back(waiter.client)
            self._count("dns__reply__refused_rules")
            self._refuse_by_rules(waiter.client, waiter.wire, waiter.query, waiter.reply, now)

    def _refuse_by_rules(
        self, client: str, wire: bytes, query: Query, reply: Reply, now: float
    ) -> None:
        if self.config.kept:
            self._note(client, wire, query, "refused", now)
        answer = error_reply(wire, REFUSED, BLOCKED, REFUSED_BY_RULES)
        if answer is not None:
            reply(answer)

    def _fail(self, flight: Flight, now: float) -> None:
        if len(self._failures) >= MAX_FAILURES:
            self._failures.clear()
        known = flight.query.plain and flight.place not in self._flights
        if self._guard.network.usable and known:
            self._failures[flight.place] = now + FAILURE_TTL
        self._turn_away(flight, "unanswered")

    def _turn_away(self, flight: Flight, why: str) -> None:
        for waiter in flight.waiters:
            self._limits.give_back(waiter.client)
            self._refuse(waiter.wire, SERVFAIL, why, waiter.reply)

    def _serve_stale(self, flight: Flight) -> None:
        """Give those who wait an answer past its end, if one is kept; the question goes on."""
        if not self.config.stale:
            return
        now = asyncio.get_running_loop().time()
        waiting, flight.waiters = flight.waiters, []
        for waiter in waiting:
            answer = self._cache.fetch_stale(flight.place[0], waiter.query, waiter.name, now)
            if answer is None:
                flight.waiters.append(waiter)
                continue
            self._count("dns__query__stale")
            self._limits.give_back(waiter.client)
            waiter.reply(self._fit(answer, waiter.query, waiter.over_tcp))

    def _fit(self, answer: bytes | bytearray, query: Query, over_tcp: bool) -> bytes:
        """The answer, or over UDP its truncated form if the asker cannot take it."""
        edns = query.edns
        if not over_tcp and len(answer) > MIN_UDP:
            asked = MIN_UDP if edns is None else edns.size
            if len(answer) > max(MIN_UDP, min(asked, self.config.max_udp)):
                self._count("dns__reply__truncated")
                return truncated_reply(answer, query.question_end, edns is not None)
        return bytes(answer)

    def _refuse(self, wire: bytes, rcode: int, why: str, reply: Reply) -> None:
        self._count(f"dns__query__{why}")
        answer = error_reply(wire, rcode)
        if answer is not None:
            reply(answer)

    def _outcome(self, waiter: Waiter, outcome: str, now: float) -> None:
        self._count(f"dns__query__{outcome}")
        if self.config.kept:
            self._note(waiter.client, waiter.wire, waiter.query, outcome, now)

    def _note(self, client: str, wire: bytes, query: Query, outcome: str, now: float) -> None:
        self._recent.append(RecentQuestion(now, client, name_text(wire), query.type, outcome))

    def _count(self, name: str, times: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + times
