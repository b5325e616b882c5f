"""The desk where pairing requests wait for the owner.

Theory of operation. A request is made by a stranger, so each thing he can grow
is bounded. The places are shared by neighbourhood (`neighbours`). When they are
taken, a newcomer gets one of those who hold several, or whose requests have come
to nothing again and again, the newest of the worst first; nobody who is here
once and for the first time is ever pushed out, and if there is no other the
newcomer is turned away. Requests that proved a QR secret have places of
their own, so a flood over the LAN (where anyone may ask) cannot fill the desk
against someone who stands beside the owner and has just scanned the code.

A request is keyed by the device's public key. A device that asks again while it
waits keeps its place and its id, only its connection is new. Requests expire.
A device that was denied is turned away for a while, twice as long each time,
and so is a LAN address whose requests keep being denied.

Times are monotonic seconds and come in as `now`; nothing here has a clock.
"""

from __future__ import annotations

import secrets
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gateway.model import PairingRequest, Via
from gateway.neighbours import Visitors, neighbourhood

REQUEST_SECONDS = 120.0
"""How long a request waits: as long as a QR code is valid."""

MAX_LAN_REQUESTS = 32
"""Requests without a QR secret that may wait at once, from all addresses. The owner who looks
at a device finds its request among them by its code."""

MAX_PER_ADDRESS = 2
"""Of these, from one address: a household behind one router is still served."""

VAIN_SECONDS = 3600.0
"""How long it is remembered that an address has had the owner asked in vain."""

MAX_QR_REQUESTS = 8
"""Requests with a QR secret that may wait at once; secrets are one-time and few."""

DENIAL_SECONDS = 30.0
MAX_DENIAL_SECONDS = 3600.0
"""A first denial keeps the device away this long; each further one twice as long, up to here."""

MAX_UNDONE = 16
"""Denials that the owner can take back: the latest."""

MAX_DENIALS = 256
"""Denials remembered; the oldest is forgotten first."""


_PROVEN = frozenset({Via.QR, Via.WIREGUARD})
"""These devices hold something that the owner has handed out."""


_AT_HAND = _PROVEN | {Via.USB}
"""A denial is of the device alone: all cables come from this machine's own address."""


def _place(via: Via, address: str) -> str:
    """With whom a request is counted: cables with each other, not with what runs here."""
    return str(via) if via is Via.USB else neighbourhood(address)


def _denied_keys(request: PairingRequest) -> list[bytes | str]:
    """What a denial of this request keeps away."""
    if request.via in _AT_HAND or not request.address:
        return [request.public_key]
    return [request.public_key, neighbourhood(request.address)]


class RequestRefused(Exception):
    """A request that may not wait. `reason` is a stable name, `retry_in` seconds or None."""

    def __init__(self, reason: str, retry_in: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_in = retry_in


class NoSuchRequest(LookupError):
    """The id names no waiting request (it may have expired, or been answered)."""


@dataclass(slots=True)
class _Denial:
    count: int
    until: float


@dataclass(slots=True, eq=False)
class _Undone:
    """What taking a denial back needs: by key, what was remembered before and what since."""

    request: PairingRequest
    before: dict[bytes | str, tuple[_Denial | None, _Denial]] = field(default_factory=dict)


class PairingDesk:
    """Waiting requests, oldest first."""

    def __init__(self) -> None:
        self._requests: OrderedDict[bytes, PairingRequest] = OrderedDict()
        self._denials: OrderedDict[bytes | str, _Denial] = OrderedDict()
        self._in_vain = Visitors(VAIN_SECONDS, MAX_DENIALS)
        """Requests that nobody has answered."""
        self._gone: list[PairingRequest] = []
        self._denied: deque[_Undone] = deque(maxlen=MAX_UNDONE)
        self.wake_by: Callable[[float], None] = lambda at: None
        """Called with a moment at which `expire` is to be called at the latest."""

    def __len__(self) -> int:
        return len(self._requests)

    def waiting(self) -> list[PairingRequest]:
        return list(self._requests.values())

    def submit(
        self,
        public_key: bytes,
        label: str,
        platform: str,
        via: Via,
        address: str,
        code: str | None,
        now: float,
    ) -> PairingRequest:
        """Let a device wait; raises RequestRefused (`denied_recently`, `desk_full`).

        Who had to give way is then in `given_way`.
        """
        self.expire(now)
        neighbours = _place(via, address)
        keys: tuple[bytes | str, ...] = (public_key,)
        if via not in _AT_HAND:
            keys = (public_key, neighbours)
        for key in keys:
            denial = self._denials.get(key)
            if denial is not None and now < denial.until:
                raise RequestRefused("denied_recently", denial.until - now)
        known = self._requests.get(public_key)
        if known is not None:
            again = replace(
                known, label=label, platform=platform, via=via, address=address, code=code
            )
            self._requests[public_key] = again
            return again
        proven = via in _PROVEN
        same_kind = [r for r in self._requests.values() if (r.via in _PROVEN) == proven]
        if proven:
            if len(same_kind) >= MAX_QR_REQUESTS:
                raise RequestRefused("desk_full", self._next_expiry(now))
        elif sum(_place(r.via, r.address) == neighbours for r in same_kind) >= MAX_PER_ADDRESS:
            raise RequestRefused("desk_full", self._next_expiry(now))
        elif len(same_kind) >= MAX_LAN_REQUESTS:
            self._make_room(same_kind, neighbours, now)
        request = PairingRequest(
            id=self._new_id(),
            public_key=public_key,
            label=label,
            platform=platform,
            via=via,
            address=address,
            created=now,
            expires=now + REQUEST_SECONDS,
            code=code,
        )
        self._requests[public_key] = request
        self.wake_by(request.expires)
        return request

    def find(self, request_id: str) -> PairingRequest:
        """The request of an id, of the digits that a device shows, or of an id's unique
        beginning; raises NoSuchRequest."""
        digits = request_id.replace(" ", "")
        found = [r for r in self._requests.values() if request_id == r.id or digits == r.code]
        if not found and request_id:
            found = [r for r in self._requests.values() if r.id.startswith(request_id)]
        if len(found) != 1:
            raise NoSuchRequest(request_id)
        return found[0]

    def approve(self, request_id: str) -> PairingRequest:
        """Take a request off the desk, and forget that its device was ever denied."""
        request = self.find(request_id)
        del self._requests[request.public_key]
        self._denials.pop(request.public_key, None)
        self._in_vain.forgive(_place(request.via, request.address))
        return request

    def deny(self, request_id: str, now: float) -> PairingRequest:
        """Take a request off the desk and keep its device away for a while."""
        request = self.find(request_id)
        del self._requests[request.public_key]
        undone = _Undone(request)
        for key in _denied_keys(request):
            before = self._denials.get(key)
            undone.before[key] = before, self._remember_denial(key, now)
        if request.via is not Via.WIREGUARD:  # its config is forgotten with the denial
            self._denied.append(undone)
        return request

    def undeny(self, request_id: str | None, now: float) -> PairingRequest:
        """Take back a denial that still keeps its device away: the latest, or that of a
        request's id (or its unique beginning). Raises NoSuchRequest.

        What was denied since, at the same address for instance, stays denied.
        """
        fitting = [
            each
            for each in self._denied
            if (request_id is None or each.request.id.startswith(request_id))
            and any(now < denial.until for _, denial in each.before.values())
        ]
        if not fitting or (request_id is not None and len(fitting) > 1):
            raise NoSuchRequest(request_id or "")
        undone = fitting[-1]
        self._denied.remove(undone)
        for key, (before, denial) in undone.before.items():
            if self._denials.get(key) is not denial:
                continue
            if before is None:
                del self._denials[key]
            else:
                self._denials[key] = before
        return undone.request

    def withdraw(self, public_key: bytes, now: float) -> PairingRequest | None:
        """The device gave up (its connection closed); its request, if it had one."""
        request = self._requests.pop(public_key, None)
        if request is not None:
            self._in_vain.note(_place(request.via, request.address), now)
        return request

    def expire(self, now: float) -> list[PairingRequest]:
        """Drop and return the requests whose time is over."""
        over = [r for r in self._requests.values() if r.expires <= now]
        for request in over:
            del self._requests[request.public_key]
            self._in_vain.note(_place(request.via, request.address), now)
        return over

    def given_way(self) -> list[PairingRequest]:
        """Requests that have made room for another; taken."""
        gone, self._gone = self._gone, []
        return gone

    def get_timer(self) -> float | None:
        """When the next request expires."""
        if not self._requests:
            return None
        return min(r.expires for r in self._requests.values())

    def _make_room(self, waiting: list[PairingRequest], newcomer: str, now: float) -> None:
        """One who deserves his place less gives it up; raises RequestRefused if nobody does."""
        held = Counter(_place(r.via, r.address) for r in waiting)

        def claims(neighbours: str) -> tuple[int, int]:
            """Places held, and the owner asked in vain: the more, the worse."""
            return held[neighbours], self._in_vain.times(neighbours, now)

        # The first of equals is the newest, since the list is turned.
        worst = max(reversed(waiting), key=lambda r: claims(_place(r.via, r.address)))
        places, vain = claims(_place(worst.via, worst.address))
        if (places, vain) <= (held[newcomer] + 1, self._in_vain.times(newcomer, now)):
            raise RequestRefused("desk_full", self._next_expiry(now))
        del self._requests[worst.public_key]
        self._in_vain.note(_place(worst.via, worst.address), now)
        self._gone.append(worst)

    def _next_expiry(self, now: float) -> float:
        expiry = self.get_timer()
        return 0.0 if expiry is None else max(0.0, expiry - now)

    def _remember_denial(self, key: bytes | str, now: float) -> _Denial:
        denial = self._denials.pop(key, None)
        count = 1 if denial is None else denial.count + 1
        seconds = min(DENIAL_SECONDS * 2 ** min(count - 1, 16), MAX_DENIAL_SECONDS)
        made = self._denials[key] = _Denial(count, now + seconds)
        while len(self._denials) > MAX_DENIALS:
            self._denials.popitem(last=False)
        return made

    def _new_id(self) -> str:
        taken = {r.id for r in self._requests.values()}
        while True:
            request_id = secrets.token_hex(3)
            if request_id not in taken:
                return request_id
