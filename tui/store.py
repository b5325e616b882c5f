"""What the console knows: the newest snapshot of each topic, and how old it is.

Pure: the app feeds it and hands in the time (monotonic seconds). Countdowns
such as `expires_in` are true at the moment of their snapshot, so every reader
asks `left`, which takes the snapshot's age off.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Any

from control import schema
from control.traffic import INTERVAL, SAMPLES

RATE_HISTORY = SAMPLES
"""Samples of the rate lines: what a service remembers, ten minutes."""
SAMPLE_EVERY = INTERVAL
"""Seconds between two samples, as in a service. Each one moves the whole line, which is most of
what the overview sends over a slow link."""


class LinkState(Enum):
    """How the console stands with its service."""

    CONNECTING = "connecting"
    LIVE = "live"
    LOST = "lost"


@dataclass(slots=True)
class Link:
    """The connection to the service, for people."""

    state: LinkState = LinkState.CONNECTING
    since: float = 0.0
    message: str = ""
    hint: str = ""
    read_only: bool = False
    version: str = ""


class Store:
    """The newest data of one service."""

    def __init__(self) -> None:
        self.link = Link()
        self._data: dict[str, Any] = {}
        self._at: dict[str, float] = {}
        self.down: deque[float] = deque(maxlen=RATE_HISTORY)
        """Rates toward the devices (on a client: from the tunnel), oldest first."""
        self.up: deque[float] = deque(maxlen=RATE_HISTORY)
        self.newest = 0
        """The number of the newest of them: one more with each."""
        self._sampled = 0.0
        self.remembers = False
        """Whether the service has a history of its own."""

    def put(self, topic: str, data: Any, now: float) -> None:
        """Take a snapshot."""
        self._data[topic] = data
        self._at[topic] = now

    def recall(self, traffic: schema.Traffic, receives: bool, now: float) -> None:
        """Have the history be what the service remembers; `receives`: it is a client's."""
        self.remembers = True
        down, up = traffic.to_tunnel, traffic.from_tunnel
        if receives:
            down, up = up, down
        self.down = deque((count / traffic.interval for count in down), RATE_HISTORY)
        self.up = deque((count / traffic.interval for count in up), RATE_HISTORY)
        self.newest = traffic.newest
        self._sampled = now

    def sample(self, now: float) -> bool:
        """Add the present rates to the history, if it is time for it."""
        if self.link.state is not LinkState.LIVE or now - self._sampled < SAMPLE_EVERY * 0.9:
            return False
        status = self._data.get("status")
        if status is None:
            return False
        self._sampled = now
        if isinstance(status, schema.ClientStatus):
            down, up = status.from_tunnel_rate, status.to_tunnel_rate
        else:
            down, up = status.to_tunnel_rate, status.from_tunnel_rate
        self.down.append(down)
        self.up.append(up)
        self.newest += 1
        return True

    def has(self, topic: str) -> bool:
        return topic in self._data

    def age(self, topic: str, now: float) -> float:
        """Seconds since the topic's snapshot came."""
        return now - self._at[topic] if topic in self._at else 0.0

    def left(self, topic: str, expires_in: float, now: float) -> float:
        """What is left now of a countdown in the topic's snapshot; never below 0."""
        return max(0.0, expires_in - self.age(topic, now))

    @property
    def gateway(self) -> schema.GatewayStatus | None:
        status = self._data.get("status")
        return status if isinstance(status, schema.GatewayStatus) else None

    @property
    def client(self) -> schema.ClientStatus | None:
        status = self._data.get("status")
        return status if isinstance(status, schema.ClientStatus) else None

    @property
    def offers(self) -> list[schema.OfferState]:
        offers: list[schema.OfferState] = self._data.get("offers", [])
        return offers

    @property
    def requests(self) -> list[schema.Request]:
        requests: list[schema.Request] = self._data.get("requests", [])
        return requests

    @property
    def peers(self) -> list[schema.Peer]:
        peers: list[schema.Peer] = self._data.get("peers", [])
        return peers

    @property
    def traffic(self) -> schema.Traffic | None:
        """Of the device that Peers shows."""
        traffic: schema.Traffic | None = self._data.get("traffic")
        return traffic

    @property
    def usage(self) -> schema.Usage | None:
        """By hour, of the device whose page is open."""
        usage: schema.Usage | None = self._data.get("usage")
        return usage

    @property
    def leases(self) -> list[schema.Lease]:
        leases: list[schema.Lease] = self._data.get("leases", [])
        return leases

    @property
    def wireguard(self) -> schema.Wireguard | None:
        wireguard: schema.Wireguard | None = self._data.get("wireguard")
        return wireguard

    @property
    def flows(self) -> schema.Flows:
        flows: schema.Flows = self._data.get("flows", _NO_FLOWS)
        return flows

    @property
    def log(self) -> schema.LogPage:
        log: schema.LogPage = self._data.get("log", _NO_LOG)
        return log

    @property
    def events(self) -> schema.EventPage:
        events: schema.EventPage = self._data.get("events", _NO_EVENTS)
        return events

    @property
    def dns(self) -> schema.Dns | None:
        dns: schema.Dns | None = self._data.get("dns")
        return dns

    @property
    def settings(self) -> list[schema.Setting]:
        settings: list[schema.Setting] = self._data.get("settings", [])
        return settings

    @property
    def endpoints(self) -> list[schema.Endpoint]:
        endpoints: list[schema.Endpoint] = self._data.get("endpoints", [])
        return endpoints

    @property
    def history(self) -> list[schema.LinkRecord]:
        history: list[schema.LinkRecord] = self._data.get("history", [])
        return history

    @property
    def gateways(self) -> list[schema.KnownGateway]:
        gateways: list[schema.KnownGateway] = self._data.get("gateways", [])
        return gateways


_NO_LOG = schema.LogPage(lines=[], left_out=0, oldest=1, newest=0)
_NO_EVENTS = schema.EventPage(events=[], newest=0, began=0)
_NO_FLOWS = schema.Flows(total=0, flows=[])
